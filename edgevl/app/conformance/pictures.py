"""Pictures that go wrong on platforms, each as a file and as the samples that the file holds.

Shapes: H height, W width, C channels.
"""

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from edgevl.app.conformance.display_p3 import display_p3
from edgevl.app.conformance.encoders import bmp, chunk, exif, gif, packed, png, pnm, tiff

Samples = np.ndarray


@dataclass(frozen=True)
class Picture:
    """A file, and its samples [H, W, C] before anything is done to them: uint8 or uint16; C is 1, 3 or 4."""

    name: str
    format: str
    data: bytes
    raw: Samples | None  # None: no reader may accept it
    orientation: int = 1
    lossless: bool = True

    @property
    def depth(self) -> int:
        return 8 * self.raw.dtype.itemsize if self.raw is not None else 8


def every_picture() -> list[Picture]:
    """Return all pictures; the names are unique."""
    return [*sizes(), *kinds(), *transparent(), *turned(), *tagged(), *lossy(), *other_formats(), *refused()]


def noise(seed: int, height: int, width: int, channels: int = 3, bits: int = 8) -> Samples:
    """Return random samples, as integers."""
    return np.random.default_rng(seed).integers(0, 2**bits, (height, width, channels))


def photo(height: int, width: int) -> Samples:
    """Return something smooth with hard edges, uint8 [H, W, 3]: gradients, a disc and a few bars."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    disc = (x / width - 0.6) ** 2 + (y / height - 0.4) ** 2 < 0.07
    bars = (x // max(width // 9, 1)) % 2 == 0
    channels = [255 * x / width, 255 * y / height, 255 * (x + y) / (width + height)]
    channels = [np.where(disc, value, each) for each, value in zip(channels, (230, 40, 60))]
    channels = [np.where(bars & (y > 0.8 * height), value, each) for each, value in zip(channels, (0, 255, 10))]
    return np.stack(channels, -1).astype(np.uint8)


def rgb(name: str, samples: Samples, **how) -> Picture:
    return Picture(name, "png", png(samples, 8, 2, **how), samples.astype(np.uint8))


def sizes() -> Iterator[Picture]:
    """Yield sides of one pixel, the very size that a model takes, pictures to enlarge, to shrink, and panoramas."""
    shapes = {"dot": (1, 1), "column": (97, 1), "row": (1, 97), "tiny": (2, 3), "odd": (37, 53), "square": (32, 32),
              "same-width": (50, 32), "same-height": (32, 50), "panorama": (4, 640), "tower": (640, 4)}  # fmt: skip
    for number, (name, (height, width)) in enumerate(shapes.items()):
        yield rgb(name, noise(number, height, width))
    yield rgb("long", noise(20, 1, 201))  # shortest-edge refuses more than 200 times
    yield rgb("photo", photo(301, 203))
    yield rgb("photo-wide", photo(203, 640))
    yield rgb("hard-edges", (np.indices((61, 47)).sum(0) % 2 * 255)[:, :, None].repeat(3, 2))


def kinds() -> Iterator[Picture]:
    """Yield gray of every depth, 16 bits, palettes, and rows in Adam7's order."""
    for bits in (1, 2, 4, 8):
        samples = noise(bits, 19, 23, 1, bits)
        eight = (samples * 255 // (2**bits - 1)).astype(np.uint8)
        yield Picture(f"gray{bits}", "png", png(samples, bits, 0), eight)
    gray, color = noise(16, 19, 23, 1, 16), noise(17, 19, 23, 3, 16)
    yield Picture("gray16", "png", png(gray, 16, 0), gray.astype(np.uint16))
    yield Picture("rgb16", "png", png(color, 16, 2), color.astype(np.uint16))
    for bits in (1, 4, 8):
        table, samples = noise(bits, 1, 2**bits)[0], noise(30 + bits, 19, 23, 1, bits)
        looked_up = table[samples[..., 0]].astype(np.uint8)
        yield Picture(
            f"palette{bits}", "png", png(samples, bits, 3, palette=table.astype(np.uint8).tobytes()), looked_up
        )
    yield rgb("interlaced", noise(40, 19, 23), interlaced=True)
    yield rgb("many-pieces", noise(41, 19, 23), pieces=30)


def transparent() -> Iterator[Picture]:
    """Yield alpha of 8 and 16 bits, colors below full transparency, and colors that a file calls transparent."""
    color, alpha = noise(50, 19, 23), noise(51, 19, 23, 1)
    alpha[:5], alpha[5:9] = 0, 255
    rgba = np.concatenate([color, alpha], -1)
    yield Picture("rgba", "png", png(rgba, 8, 6), rgba.astype(np.uint8))
    opaque = np.concatenate([color, np.full_like(alpha, 255)], -1)
    yield Picture("opaque", "png", png(opaque, 8, 6), opaque.astype(np.uint8))
    deep = noise(52, 19, 23, 4, 16)
    yield Picture("rgba16", "png", png(deep, 16, 6), deep.astype(np.uint16))
    gray = np.concatenate([color[..., :1], alpha], -1)
    yield Picture("gray-alpha", "png", png(gray, 8, 4), spread(gray))
    key = color[3, 4]
    color[7:9] = key
    keyed = np.where((color == key).all(-1, keepdims=True), 0, 255)
    yield Picture("rgb-key", "png", png(color, 8, 2, transparent=packed(key, 16)),
                  np.concatenate([color, keyed], -1).astype(np.uint8))  # fmt: skip
    table, indices = noise(53, 1, 16)[0], noise(54, 19, 23, 1, 4)
    clear = np.arange(16) * 17
    both = np.concatenate([table, clear[:, None]], -1)[indices[..., 0]].astype(np.uint8)
    palette = png(indices, 4, 3, palette=table.astype(np.uint8).tobytes(), transparent=clear.astype(np.uint8).tobytes())
    yield Picture("palette-alpha", "png", palette, both)


def spread(gray_alpha: Samples) -> Samples:
    """Return RGBA [H, W, 4] of gray and alpha [H, W, 2]."""
    return gray_alpha[..., [0, 0, 0, 1]].astype(np.uint8)


def turned() -> Iterator[Picture]:
    """Yield every orientation, of RGB and of pictures with alpha and gray."""
    samples, rgba, gray = noise(60, 9, 14), noise(61, 9, 14, 4), noise(62, 9, 14, 1)
    for orientation in range(1, 9):
        tag = chunk(b"eXIf", exif(orientation, "<" if orientation % 2 else ">"))
        raw = samples.astype(np.uint8)
        yield Picture(f"turned{orientation}", "png", png(samples, 8, 2, before=tag), raw, orientation)
    tag = chunk(b"eXIf", exif(6))
    yield Picture("turned-rgba", "png", png(rgba, 8, 6, before=tag), rgba.astype(np.uint8), 6)
    yield Picture("turned-gray", "png", png(gray, 8, 0, after=tag), gray.astype(np.uint8), 6)
    yield Picture("turned-nowhere", "png", png(samples, 8, 2, before=chunk(b"eXIf", exif(9))), samples.astype(np.uint8))


def tagged() -> Iterator[Picture]:
    """Yield pictures with a profile or gamma, which the contract ignores and platforms convert silently."""
    samples = photo(40, 56)
    profile = chunk(b"iCCP", b"Display P3\0\0" + zlib.compress(display_p3()))
    yield rgb("display-p3", samples, before=profile)
    yield rgb("gamma", samples, before=chunk(b"gAMA", (100_000).to_bytes(4, "big")))
    yield jpeg("jpeg-display-p3", samples, icc_profile=display_p3())


def lossy() -> Iterator[Picture]:
    """Yield JPEG and WebP as cameras and sites write them."""
    samples = photo(123, 87)
    yield jpeg("jpeg", samples, quality=90)
    yield jpeg("jpeg-444", samples, quality=95, subsampling=0)
    yield jpeg("jpeg-progressive", samples, quality=80, progressive=True)
    yield jpeg("jpeg-gray", samples[..., 1], quality=85)
    tag = Image.Exif()
    tag[274] = 6
    yield jpeg("jpeg-turned", samples, 6, quality=85, exif=tag)
    yield saved("webp-lossy", "webp", samples, lossless=False, quality=85)


def jpeg(name: str, samples: Samples, orientation: int = 1, **how) -> Picture:
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "JPEG", **how)
    raw = np.asarray(Image.open(file))
    return Picture(name, "jpeg", file.getvalue(), raw.reshape(*raw.shape[:2], -1), orientation, lossless=False)


def saved(name: str, format: str, samples: Samples, lossless: bool, **how) -> Picture:
    file = io.BytesIO()
    Image.fromarray(samples).save(file, format.upper(), lossless=lossless, **how)
    return Picture(name, format, file.getvalue(), np.asarray(Image.open(file)), lossless=lossless)


def other_formats() -> Iterator[Picture]:
    """Yield one picture of each other format."""
    samples, rgba = noise(70, 19, 23), noise(71, 19, 23, 4).astype(np.uint8)
    yield saved("webp", "webp", samples.astype(np.uint8), lossless=True)
    yield saved("webp-alpha", "webp", rgba, lossless=True, exact=True)
    table, indices = noise(72, 1, 16)[0], noise(73, 19, 23, 1, 4)
    yield Picture("gif", "gif", gif(indices, table.astype(np.uint8).tobytes()), table[indices[..., 0]].astype(np.uint8))
    pixels = (samples * [65536, 256, 1]).sum(-1, keepdims=True)
    yield Picture("bmp", "bmp", bmp(pixels, 24), samples.astype(np.uint8))
    deep = noise(74, 19, 23, 3, 16)
    yield Picture("tiff16", "tiff", tiff(deep, 16, 2, compression=8), deep.astype(np.uint16))
    yield Picture("ppm", "pnm", pnm(samples, 6), samples.astype(np.uint8))


def refused() -> Iterator[Picture]:
    """Yield files that are no whole picture, or of a format that the contract does not have."""
    whole = png(noise(80, 19, 23), 8, 2)
    yield Picture("truncated", "png", whole[: len(whole) // 2], None)
    yield Picture("damaged", "png", whole[:60] + bytes([whole[60] ^ 1]) + whole[61:], None)
    end = len(whole) - len(chunk(b"IEND", b""))  # of the pixels, whose checksum are the last four bytes
    yield Picture("checksum", "png", whole[: end - 1] + bytes([whole[end - 1] ^ 1]) + whole[end:], None)
    yield Picture("svg", "svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', None)
    yield Picture("empty", "png", b"", None)
