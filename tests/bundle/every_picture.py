"""One small file of each kind that docs/bundle.md names, but for JPEG and WebP: {name: bytes}."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgevl.app.conformance.encoders import CHANNELS, bmp, chunk, exif, gif, packed, png, pnm, tiff

PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # of each color type


def random(seed: int, height: int, width: int, channels: int, bits: int) -> np.ndarray:
    """Random samples, with the smallest, the largest and one value that comes again among them."""
    samples = np.random.default_rng(seed).integers(0, 2**bits, (height, width, channels))
    samples[0, 0], samples[0, -1], samples[-1] = 0, 2**bits - 1, samples[-1, -1]
    return samples


def colors(seed: int, count: int) -> bytes:
    return np.random.default_rng(seed).bytes(3 * count)


def every_picture() -> dict[str, bytes]:
    return {name: data for part in (pngs(), tiffs(), gifs(), bmps(), pnms()) for name, data in part}


def pngs() -> Iterator[tuple[str, bytes]]:
    for number, (depth, color) in enumerate((depth, color) for color, depths in PNG_DEPTHS.items() for depth in depths):
        samples = random(number, 11, 13, CHANNELS[color], depth)
        count = min(2**depth, 200) if color == 3 else 0  # of 256 indices some lie beyond the palette
        palette = colors(number, count)
        kinds: dict[str, bytes | None] = {"": None}
        if color == 3:
            kinds["tRNS"] = bytes(range(0, 256, 5))[: count - 1 or 1]
        elif color in (0, 2):
            kinds["tRNS"] = packed(samples[-1, -1], 16)
            kinds["tRNS that matches nowhere"] = packed((samples[-1, -1] + 1) % 2**depth, 16)
            kinds["tRNS with bits too many"] = packed(samples[-1, -1] + (2**depth if depth < 16 else 0), 16)
        for name, transparent in kinds.items():
            for interlaced in (False, True):
                yield (
                    f"png {depth} bits, color type {color}, {name}, {'Adam7' if interlaced else 'rows'}",
                    png(samples, depth, color, palette, transparent, interlaced),
                )
    gray, rgb = random(0, 5, 7, 1, 8), random(0, 5, 7, 3, 8)
    for width in range(1, 9):  # of small pictures some passes are empty
        yield f"png Adam7, {width} wide", png(random(width, 9 - width, width, 3, 8), 8, 2, interlaced=True)
    for orientation in range(10):
        yield f"png orientation {orientation}", png(rgb, 8, 2, before=chunk(b"eXIf", exif(orientation)))
        yield f"png gray, orientation {orientation}", png(gray, 8, 0, after=chunk(b"eXIf", exif(orientation, "<", 4)))
    yield "png in many pieces", png(rgb, 8, 2, pieces=40)
    yield "png without an end", png(rgb, 8, 2)[:-12]
    yield "png and more behind it", png(rgb, 8, 2) + b"more" * 9
    yield "png with a palette for a screen of few colors", png(rgb, 8, 2, palette=colors(1, 4))
    gamma = (
        chunk(b"gAMA", b"\0\0\xb1\x8f") + chunk(b"sRGB", b"\0") + chunk(b"cHRM", bytes(32)) + chunk(b"bKGD", bytes(6))
    )
    yield "png with gamma", png(rgb, 8, 2, before=gamma)
    yield "png with a broken profile", png(rgb, 8, 2, before=chunk(b"iCCP", b"x\0\0broken"))


def tiffs() -> Iterator[tuple[str, bytes]]:
    grays = [(bits, white, order) for bits in (1, 2, 4, 8, 12, 16) for white in (0, 1) for order in "<>"]
    for number, (bits, photometric, order) in enumerate(grays):
        samples = random(number, 9, 11, 1, bits)
        yield f"tiff gray of {bits} bits, {photometric=}, {order}", tiff(samples, bits, photometric, order)
    kinds = {  # photometric, channels, bits, tags
        "RGB": (2, 3, 8, {}), "RGB of 16 bits": (2, 3, 16, {}), "CMYK": (5, 4, 8, {}),
        "CMYK of 16 bits": (5, 4, 16, {}), "RGB and one without a kind": (2, 4, 8, {}),
        "RGBA": (2, 4, 8, {"t338": (2,)}), "RGBA of 16 bits": (2, 4, 16, {"t338": (2,)}),
        "RGB and something": (2, 4, 8, {"t338": (0,)}), "RGB, associated": (2, 4, 8, {"t338": (1,)}),
        "RGB of 16 bits, associated": (2, 4, 16, {"t338": (1,)}), "RGBA and something": (2, 5, 8, {"t338": (2, 0)}),
        "gray and alpha": (1, 2, 8, {"t338": (2,)}), "gray and alpha of 16 bits": (1, 2, 16, {"t338": (2,)}),
        "gray and alpha of 4 bits, white is zero": (0, 2, 4, {"t338": (2,)}),
        "gray, associated": (1, 2, 8, {"t338": (1,)}),
        "CMYK and alpha": (5, 5, 8, {"t338": (2,)}), "Corel": (2, 4, 8, {"t338": (999,)}),
        **{f"palette of {bits} bits": (3, 1, bits, {"t320": tuple(random(bits, 1, 1, 3 * 2**bits, 16)[0, 0])})
           for bits in (1, 2, 4, 8)},
        "palette and alpha": (3, 2, 8, {"t338": (2,), "t320": tuple(random(5, 1, 1, 768, 16)[0, 0])}),
    }  # fmt: skip
    for number, (name, (photometric, channels, bits, tags)) in enumerate(kinds.items()):
        samples = random(number, 9, 11, channels, bits)
        for order, planar in (("<", False), (">", True)):
            yield f"tiff {name}, {order}, {planar=}", tiff(samples, bits, photometric, order, planar=planar, **tags)
    ways: list[dict[str, Any]] = [
        {}, {"rows": 5}, {"tile": (16, 16)}, {"rows": 7, "planar": True}, {"tile": (32, 16), "planar": True},
        {"fill": 2}, {"order": ">", "rows": 36}, {"big": True, "rows": 3}, {"big": True, "order": ">"},
    ]  # fmt: skip
    differences: list[dict[str, Any]] = [
        {"predictor": 2},
        {"predictor": 2, "planar": True, "order": ">", "tile": (16, 32)},
    ]
    for compression in (1, 5, 8, 32946, 32773):
        for bits, channels, photometric in ((8, 3, 2), (16, 3, 2), (1, 1, 0), (4, 1, 1)):
            samples = random(bits, 37, 41, channels, bits) // (1 + np.arange(41)[None, :, None] % 3)
            for number, how in enumerate(ways + (differences if bits > 4 and compression in (5, 8, 32946) else [])):
                data = tiff(samples, bits, photometric, compression=compression, **how)
                yield f"tiff {compression=}, {bits} bits, way {number} of lying", data
    for orientation in range(10):
        yield f"tiff orientation {orientation}", tiff(random(3, 5, 7, 3, 8), 8, 2, rows=2, t274=(orientation,))
    long = random(1, 9, 11, 1, 16)
    yield "tiff with a predictor that does not count", tiff(random(3, 5, 7, 3, 8), 8, 2, t317=(2,))
    yield "tiff integers of 32 bits", tiff(long, 32, 1)
    yield "tiff signed of 32 bits", tiff(long, 32, 1, ">", t339=(2,))
    yield "tiff signed of 16 bits", tiff(long // 2, 16, 1, t339=(2,))
    yield "tiff signed of 8 bits", tiff(random(1, 9, 11, 1, 7), 8, 1, t339=(2,))


def gifs() -> Iterator[tuple[str, bytes]]:
    for bits in range(1, 9):
        samples, table = random(bits, 19, 17, 1, bits), colors(bits, 2**bits)
        yield f"gif of {bits} bits", gif(samples, table)
        yield f"gif of {bits} bits, transparent", gif(samples, table, clear=int(samples[-1, -1, 0]))
        yield f"gif of {bits} bits, interlaced", gif(samples, table, interlaced=True, version=b"GIF87a")
        yield f"gif of {bits} bits, its own table", gif(samples, colors(9, 2), local=table)
    samples, table = random(1, 3, 4, 1, 3), colors(3, 8)
    for name, screen, at in (("small", (9, 8), (3, 2)), ("outside", (3, 3), (5, 4)), ("no screen", (0, 0), (0, 0))):
        yield f"gif frame {name}", gif(samples, table, screen, at)
        yield f"gif frame {name}, transparent", gif(samples, table, screen, at, clear=0)
    yield "gif without a table", gif(random(1, 3, 4, 1, 8), b"")
    yield "gif with indices beyond its table", gif(random(1, 30, 40, 1, 8), table)
    yield "gif of long codes", gif(random(2, 90, 90, 1, 8), colors(2, 256))
    second = gif(samples, table)[13 + len(table) : -1]
    yield "gif of two frames", gif(samples, table, after=second)


def bmps() -> Iterator[tuple[str, bytes]]:
    for bits in (1, 4, 8):
        samples, table = random(bits, 7, 9, 1, bits), np.random.default_rng(bits).bytes(4 * 2**bits)
        triples = colors(bits, 2**bits)
        for header in (40, 52, 56, 64, 108, 124):
            yield f"bmp of {bits} bits, header {header}", bmp(samples, bits, table, header)
        yield f"bmp of {bits} bits, header 12", bmp(samples, bits, triples, 12)
        yield f"bmp of {bits} bits, few colors", bmp(samples, bits, table[:8])
        yield f"bmp of {bits} bits, downwards", bmp(samples, bits, table, downwards=True)
        yield f"bmp of {bits} bits, offset 0", bmp(samples, bits, table, offset=0)
        yield f"bmp of {bits} bits, offset behind the header", bmp(samples, bits, table, offset=54)
        ramp = b"".join(bytes([v, v, v, 0]) for v in range(2**bits))
        yield f"bmp of {bits} bits, a ramp of grays", bmp(samples, bits, ramp)
    for bits in (16, 24, 32):
        samples = random(bits, 7, 9, 1, bits)
        yield f"bmp of {bits} bits", bmp(samples, bits)
        yield f"bmp of {bits} bits, downwards", bmp(samples, bits, downwards=True, header=124)
    for number, (bits, masks) in enumerate((
        (16, (0xF800, 0x7E0, 0x1F)), (16, (0x7C00, 0x3E0, 0x1F)), (16, (0xF00, 0xF0, 0xF, 0xF000)),
        (16, (0x1F, 0x7E0, 0xF800)),
        (24, (0xFF0000, 0xFF00, 0xFF)), (32, (0xFF0000, 0xFF00, 0xFF)), (32, (0xFF000000, 0xFF0000, 0xFF00)),
        (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)), (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
        (32, (0x3FF00000, 0xFFC00, 0x3FF)), (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)), (32, (0, 0, 0, 0)),
    )):  # fmt: skip
        samples = random(number, 7, 9, 1, bits)
        for header in (40, 56, 124) if len(masks) == 3 else (56, 108):
            yield f"bmp fields {number}, header {header}", bmp(samples, bits, masks=masks, header=header)
    picture, table = np.zeros((4, 9, 1), int), np.random.default_rng(0).bytes(1024)
    ends = b"\x00\x00", b"\x00\x02\x03\x01", b"\x00\x01"  # of a line, a jump, of the picture
    runs = {
        8: b"\x05\x07\x03\x02\x03\x01%b\x00\x05\x01\x02\x03\x04\x05\x00\x04\x09%b%b\x02\x06%b",
        4: b"\x05\x71\x04\x2f%b\x00\x05\x12\x34\x50\x00\x04\x9a%b%b\x02\x61%b",
    }
    for bits, form in runs.items():
        body, kind = form % (ends[0], *ends), 1 if bits == 8 else 2
        for downwards in (False, True):
            yield (
                f"bmp runs of {bits} bits, {downwards=}",
                bmp(picture, bits, table[: 4 * 2**bits], compression=kind, body=body, downwards=downwards),
            )


def pnms() -> Iterator[tuple[str, bytes]]:
    for most in (1, 2, 3, 6, 15, 30, 31, 100, 254, 255, 256, 510, 1000, 1023, 4095, 65534, 65535):
        for kind, channels in ((2, 1), (3, 3), (5, 1), (6, 3)):
            samples = random(most, 40, 30, channels, 16) % (most + 1)
            samples[0, 0], samples[0, 1] = 0, most
            yield f"pnm P{kind}, up to {most}", pnm(samples, kind, most)
    for kind in (1, 4):
        yield f"pnm P{kind}", pnm(random(1, 9, 13, 1, 1), kind)
    yield "pnm P1 without blanks", b"P1 3 2 011100"
    for kind, channels in ((1, 1), (2, 1), (3, 3), (5, 1), (6, 3)):
        samples = random(1, 5, 7, channels, 1)
        yield f"pnm P{kind} with comments", pnm(samples, kind, comment=b"# 7 of 1\n#\n")
        yield f"pnm P{kind} and another picture", pnm(samples, kind) + pnm(samples, kind)
    yield "pnm values above the largest", pnm(random(1, 5, 7, 3, 8), 6, 100)
    yield "pnm values above the largest, of 16 bits", pnm(random(1, 5, 7, 1, 16), 2, 1000)
