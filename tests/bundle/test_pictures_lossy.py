"""JPEG and WebP: what their specifications make of files written bit by bit, and what EXIF makes of a picture."""

import contextlib
import io
import struct

import numpy as np
import pytest
from made_lossy import ANIM, EXIF, JFIF, TABLES, adobe, anmf, jpeg, riff, segment, vp8l, vp8x, webp_chunk
from PIL import Image
from second_pictures import turned

from edgevl.app.conformance.encoders import exif, tiff, tiff_file
from edgevl.errors import InputError
from edgevl.inputs.preprocess import load_image

RNG = np.random.default_rng(5)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(load_image(data)).astype(int)


def rgb_of_ycc(ycc: np.ndarray) -> np.ndarray:
    """JFIF's conversion, [..., 3] to [..., 3]."""
    y, cb, cr = np.moveaxis(ycc.astype(float) - [0, 128, 128], -1, 0)
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    return np.clip(np.floor(rgb + 0.5), 0, 255).astype(int)


def rgb_of_cmyk(cmyk: np.ndarray) -> np.ndarray:
    n = 255 - cmyk[..., 3:]
    return n - (2 * cmyk[..., :3] * n + 255) // 510


def large(blocks: np.ndarray) -> np.ndarray:
    return blocks.repeat(8, axis=0).repeat(8, axis=1)


def blocks(channels: int) -> np.ndarray:
    return RNG.integers(0, 256, (4, 8, channels))


@pytest.mark.parametrize("progressive", [False, True])
def test_gray(progressive):
    stored = blocks(1)
    expected = large(stored).repeat(3, axis=2)
    assert np.array_equal(pixels(jpeg(stored, progressive=progressive)), expected)
    assert np.array_equal(pixels(jpeg(stored, before=JFIF + adobe(1), cut=(3, 5))), expected[:-5, :-3])


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    ("before", "names", "kind"),
    [
        (JFIF, b"\1\2\3", "ycc"),
        (b"", b"\1\2\3", "ycc"),
        (b"", b"RGB", "rgb"),
        (adobe(0), b"\1\2\3", "rgb"),
        (adobe(1), b"RGB", "ycc"),
        (JFIF + adobe(0), b"RGB", "ycc"),
        (b"", b"\0\1\2", "ycc"),
    ],
)
def test_three_components(before, names, kind, progressive):
    stored = blocks(3)
    expected = large(rgb_of_ycc(stored) if kind == "ycc" else stored)
    assert np.array_equal(pixels(jpeg(stored, before=before, names=names, progressive=progressive)), expected)


@pytest.mark.parametrize("transform", [None, 0, 2])
def test_four_components_are_stored_inverted(transform):
    stored = blocks(4)
    before = b"" if transform is None else adobe(transform)
    first = rgb_of_ycc(stored[..., :3]) if transform == 2 else 255 - stored[..., :3]
    cmyk = np.concatenate([first, 255 - stored[..., 3:]], axis=2)
    assert np.array_equal(pixels(jpeg(stored, before=before)), large(rgb_of_cmyk(cmyk)))
    red = np.full((1, 1, 4), [255, 0, 0, 255])  # no cyan, all magenta and yellow, no black
    assert pixels(jpeg(red, before=adobe(0)))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("sampling", [(2, 1), (2, 2), (4, 1), (1, 2), (4, 2)])
def test_chroma_that_is_sampled_less(sampling):
    """4:2:2, 4:2:0, 4:1:1, 4:4:0, 4:1:0: chroma is the same everywhere, as decoders differ in how it grows."""
    stored = blocks(3)
    stored[..., 1:] = [90, 170]
    data = jpeg(stored, (sampling, (1, 1), (1, 1)), before=JFIF)
    assert np.array_equal(pixels(data), large(rgb_of_ycc(stored)))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("order", "<>")
def test_exif_of_jpeg_and_webp(orientation, order):
    stored, block = blocks(1), EXIF + exif(orientation, order)
    value = orientation if orientation in range(1, 9) else 1
    expected = np.array(turned(large(stored).repeat(3, axis=2).tolist(), value))
    later = segment(0xE1, EXIF + exif(3))  # only the first counts
    for before in (segment(0xE1, block), JFIF + segment(0xE1, block), segment(0xE1, block) + later):
        assert np.array_equal(pixels(jpeg(stored, before=before)), expected)
    lossless = RNG.choice([3, 200], (5, 7, 4))
    lossless[..., 3] = 255
    expected = np.array(turned(lossless[..., :3].tolist(), value))
    for content in (block, block[6:]):
        data = riff(vp8x(7, 5, 0x08), vp8l(lossless, alpha=False), webp_chunk(b"EXIF", content))
        assert np.array_equal(pixels(data), expected)


XMP = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/">'
XMP += b'<rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
BROKEN = [
    b"", b"MM", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"not a TIFF at all", exif(6)[:-8],
    struct.pack(">4sIHHHIHH", b"MM\0*", 8, 1, 274, 5, 1, 6, 0), exif(6).replace(b"MM\0*", b"MM*\0"),
]  # fmt: skip


@pytest.mark.parametrize("block", BROKEN)
def test_broken_exif_is_no_orientation(block):
    stored = blocks(1)
    expected = large(stored).repeat(3, axis=2)
    assert np.array_equal(pixels(jpeg(stored, before=segment(0xE1, EXIF + block))), expected)
    lossless = RNG.choice([3, 200], (5, 7, 4))
    data = riff(vp8x(7, 5, 0x08), vp8l(lossless, alpha=False), webp_chunk(b"EXIF", block))
    assert np.array_equal(pixels(data), lossless[..., :3])


def test_only_exif_turns_a_picture():
    """Not XMP, and not the segments of other programs, whatever is in them: Pillow would read some of them."""
    stored = blocks(1)
    others = segment(0xE1, XMP) + segment(0xE2, b"MPF\0broken") + segment(0xE2, b"ICC_PROFILE\0\1\2broken")
    others += segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0\0\0\xff\xff" + b"x") + segment(0xFE, b"\xff" * 40)
    assert np.array_equal(pixels(jpeg(stored, before=others)), large(stored).repeat(3, axis=2))
    lossless = RNG.choice([3, 200], (5, 7, 4))
    data = riff(vp8x(7, 5, 0x04), vp8l(lossless, alpha=False), webp_chunk(b"XMP ", XMP))
    assert np.array_equal(pixels(data), lossless[..., :3])
    for kind in ("PNG", "JPEG", "WEBP", "TIFF"):
        file = io.BytesIO()
        Image.new("RGB", (7, 5)).save(
            file, kind, **({"xmp": XMP[29:]} if kind != "TIFF" else {"tiffinfo": {700: XMP[29:]}})
        )
        assert load_image(file.getvalue()).size == (7, 5), kind
        if kind != "TIFF":  # Pillow turns that one itself, while it decodes
            assert load_image(Image.open(file)).size == (7, 5), kind


@pytest.mark.parametrize(("colors", "tag"), [("ycc", 6), ("rgb", 2), ("gray", 1), ("white is zero", 0), ("cmyk", 5)])
@pytest.mark.parametrize("way", ["strips", "tiles", "planes", "tables apart"])
def test_jpeg_inside_a_tiff(colors, tag, way):
    """What its colors are, the TIFF says, whatever markers the JPEG holds."""
    count = {"ycc": 3, "rgb": 3, "cmyk": 4}.get(colors, 1)
    stored = blocks(count)
    before = JFIF if colors == "rgb" else adobe(0) if colors == "ycc" else b""
    apart = way == "tables apart"
    columns = 4 if way == "tiles" else 8
    cut = [stored[y : y + 2, x : x + columns] for y in (0, 2) for x in range(0, 8, columns)]
    if way == "planes":
        cut = [part[..., c : c + 1] for c in range(count) for part in cut]
    files = [jpeg(part, before=before if part.shape[2] == 3 else b"", tables=not apart) for part in cut]
    entries: dict[int, tuple[int, ...]] = {
        256: (64,), 257: (32,), 258: (8,) * count, 259: (7,), 262: (tag,), 277: (count,),
        284: (2 if way == "planes" else 1,),
    }  # fmt: skip
    entries |= {322: (32,), 323: (16,)} if way == "tiles" else {278: (16,)}
    offsets = tuple(8 + sum(map(len, files[:at])) for at in range(len(files)))
    entries |= {324 if way == "tiles" else 273: offsets, 325 if way == "tiles" else 279: tuple(map(len, files))}
    if apart:
        entries[347] = tuple(b"\xff\xd8" + TABLES + b"\xff\xd9")
    data = tiff_file(b"".join(files), entries, ">", big=False)
    expected = {
        "ycc": lambda: rgb_of_ycc(stored), "rgb": lambda: stored, "gray": lambda: stored.repeat(3, axis=2),
        "white is zero": lambda: 255 - stored.repeat(3, axis=2), "cmyk": lambda: rgb_of_cmyk(stored),
    }[colors]()  # fmt: skip
    if way == "planes" and colors == "ycc":
        with pytest.raises(InputError, match="not read"):  # each plane would be decoded alone, and never become RGB
            load_image(data)
    else:
        assert np.array_equal(pixels(data), large(expected))


def on_white(rgba: np.ndarray) -> np.ndarray:
    color, a = rgba[..., :3], rgba[..., 3:]
    return (color * a + 255 * (255 - a) + 127) // 255


def test_lossless_webp():
    rgba = np.stack([RNG.choice(pair, (9, 11)) for pair in ([0, 200], [17, 255], [40, 41], [0, 128])], axis=-1)
    assert np.array_equal(pixels(riff(vp8l(rgba))), on_white(rgba))
    assert np.array_equal(pixels(riff(vp8x(11, 9, 0x10), vp8l(rgba))), on_white(rgba))
    assert np.array_equal(pixels(riff(vp8l(rgba, alpha=False))), rgba[..., :3])
    assert np.array_equal(pixels(riff(vp8x(11, 9, 0), vp8l(rgba))), rgba[..., :3]), (
        "the flag says that alpha is not used"
    )
    profile = webp_chunk(b"ICCP", b"broken") + webp_chunk(b"abcd", b"unknown")
    assert np.array_equal(pixels(riff(vp8x(11, 9, 0x30), profile, vp8l(rgba)) + b"more"), on_white(rgba))


@pytest.mark.parametrize("flag", [0x02, 0x12])
def test_the_first_frame_of_an_animation_lies_on_a_transparent_canvas(flag):
    rgba = np.stack([RNG.choice(pair, (3, 5)) for pair in ([0, 200], [17, 255], [40, 41], [0, 128])], axis=-1)
    other = np.full((9, 11, 4), [1, 2, 3, 255])
    data = riff(vp8x(11, 9, flag), ANIM, anmf(vp8l(rgba), (4, 2), (5, 3)), anmf(vp8l(other), (0, 0), (11, 9)))
    expected = np.full((9, 11, 3), 255)
    expected[2:5, 4:9] = on_white(rgba) if flag & 0x10 else rgba[..., :3]
    assert np.array_equal(pixels(data), expected)


def test_lossy_webp_with_alpha():
    rgba = np.zeros((16, 24, 4), np.uint8) + np.array([200, 30, 40, 255], np.uint8)
    rgba[:, 12:, 3] = 0
    for options in ({"quality": 90}, {"quality": 90, "save_all": True, "append_images": [Image.new("RGBA", (24, 16))]}):
        file = io.BytesIO()
        Image.fromarray(rgba).save(file, "WEBP", **options)
        found = pixels(file.getvalue())
        assert np.abs(found[:, :12] - [200, 30, 40]).max() < 6 and (found[:, 12:] == 255).all(), options


def test_scans_are_counted_before_libjpeg_takes_each_through_all_pixels():
    """Not those behind the end of the picture, where phones put films, nor what a segment between them holds."""
    whole = jpeg(blocks(1), progressive=True)  # two scans
    scan = segment(0xFE, b"\xff\xd9" * 4) + whole[whole.rfind(b"\xff\xda") : -2]
    end = b"\xff\xd9" + whole[2:] * 101
    assert load_image(whole[:-2] + 98 * scan + end).size == load_image(whole).size
    for file in (whole[:-2] + 99 * scan + end, whole[:-2] + 3000 * scan):
        with pytest.raises(InputError, match="more than 100 scans"):
            load_image(file)
        entries = {256: (64,), 257: (32,), 258: (8,), 259: (7,), 262: (1,), 277: (1,), 278: (32,)}
        entries |= {273: (8,), 279: (len(file),)}
        with pytest.raises(InputError, match="more than 100 scans"):
            load_image(tiff_file(file, entries, ">", big=False))


def test_scans_are_counted_to_the_end_of_a_file_that_ends_with_a_marker():
    whole = jpeg(blocks(1))
    assert load_image(whole[:-2] + b"\xff\xe1\xff\xd9").size == load_image(whole).size  # a length beyond the end
    for end in (b"\xff\xe1", b"\xff\xe1\0", b"\xff\xda", b"\xff\xff"):
        with contextlib.suppress(InputError):
            load_image(whole[:-2] + end)


def test_damaged_ones_are_refused():
    rgba = np.zeros((9, 11, 4), int)
    whole = riff(vp8x(11, 9, 0x10), vp8l(rgba))
    wrong = [
        whole[:-3], riff(vp8x(11, 9, 0x10)), riff(vp8x(12, 9, 0x10), vp8l(rgba)), riff(vp8x(11, 9, 0x12), ANIM),
        riff(vp8x(11, 9, 0x12), ANIM, anmf(vp8l(rgba), (2, 0), (11, 9))), riff(webp_chunk(b"VP8X", b"")), riff(),
        riff(vp8x(11, 9, 0x12), ANIM, anmf(vp8l(rgba), (0, 0), (10, 9))), riff(webp_chunk(b"VP8 ", bytes(20))),
        jpeg(blocks(3))[:-60], jpeg(blocks(3))[:30], b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\0",
        jpeg(blocks(1), cut=(64, 0)),
        tiff(blocks(3), 8, 2)[:-9], tiff(blocks(3), 8, 2)[:60],
    ]  # fmt: skip
    for data in wrong:
        with pytest.raises(InputError) as caught:
            load_image(data)
        assert "\n" not in str(caught.value)
