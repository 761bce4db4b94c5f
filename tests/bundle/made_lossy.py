"""JPEG of blocks of one value each, which every decoder gives back exactly, and lossless WebP, written bit by bit."""

import struct

import numpy as np


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def adobe(transform: int) -> bytes:
    return segment(0xEE, struct.pack(">5sHHHB", b"Adobe", 100, 0, 0, transform))


JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
EXIF = b"Exif\0\0"


def jpeg(
    blocks: np.ndarray,
    sampling: tuple[tuple[int, int], ...] = ((1, 1), (1, 1), (1, 1), (1, 1)),
    before: bytes = b"",
    progressive: bool = False,
    names: bytes = b"\1\2\3\4",
    cut: tuple[int, int] = (0, 0),
    tables: bool = True,
) -> bytes:
    """`blocks` [rows, columns, C]: the value of every 8 x 8 block of each component as stored; of a component that is
    sampled less, that of the upper left one counts. `cut`: columns and rows that the picture lacks of its last blocks.
    """
    rows, columns, count = blocks.shape
    sampling = sampling[:count]
    most = max(h for h, _ in sampling), max(v for _, v in sampling)
    assert columns % most[0] == 0 and rows % most[1] == 0
    bits, last = "", [0] * count
    for y in range(0, rows, most[1]):
        for x in range(0, columns, most[0]):
            for c, (h, v) in enumerate(sampling):
                for unit in range(h * v):
                    dy, dx = unit // h * (most[1] // v), unit % h * (most[0] // h)
                    value = int(blocks[y + dy, x + dx, c]) - 128
                    bits += dc_code(value - last[c]) + ("" if progressive else "0")  # 0: the block ends
                    last[c] = value
    parts = b"".join(bytes([names[c], h << 4 | v, 0]) for c, (h, v) in enumerate(sampling))
    frame = struct.pack(">BHHB", 8, 8 * rows - cut[1], 8 * columns - cut[0], count) + parts
    spectrum = b"\0\0\0" if progressive else b"\0\x3f\0"
    selectors = b"".join(bytes([names[c], 0]) for c in range(count))
    file = b"\xff\xd8" + before + (TABLES if tables else b"") + segment(0xC2 if progressive else 0xC0, frame)
    file += segment(0xDA, bytes([count]) + selectors + spectrum) + scan_of(bits)
    for c in range(count if progressive else 0):  # without these scans libjpeg would smooth
        file += segment(0xDA, bytes([1, names[c], 0, 1, 63, 0])) + scan_of("0" * (rows * columns))
    return file + b"\xff\xd9"


def scan_of(bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


# Steps of 8 make the first coefficient the value itself. 12 codes of 4 bits for its length; the only other code is a 0.
TABLES = segment(0xDB, bytes([0]) + bytes([8] * 64))
TABLES += segment(0xC4, bytes([0, 0, 0, 0, 12] + [0] * 12) + bytes(range(12)))
TABLES += segment(0xC4, bytes([0x10, 1] + [0] * 15) + bytes([0]))


def dc_code(difference: int) -> str:
    length = abs(difference).bit_length()
    value = difference if difference > 0 else difference + 2**length - 1
    return f"{length:04b}" + (f"{value:0{length}b}" if length else "")


# WebP


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def number(value: int) -> bytes:
    return value.to_bytes(3, "little")


def vp8x(width: int, height: int, flags: int) -> bytes:
    return webp_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + number(width - 1) + number(height - 1))


def vp8l(pixels: np.ndarray, alpha: bool = True) -> bytes:
    """Lossless pixels [H, W, 4]: red, green, blue, alpha, of which each takes at most two values."""
    height, width, _ = pixels.shape
    channels = [pixels[..., c] for c in (1, 0, 2, 3)]  # green comes first
    values = [sorted(set(channel.reshape(-1).tolist())) for channel in channels]
    bits = "".join(f"{n:0{k}b}"[::-1] for n, k in ((width - 1, 14), (height - 1, 14), (int(alpha), 1), (0, 3)))
    bits += "000"  # no transform, no cache of colors, one group of codes
    for found in values:
        bits += "1" + str(len(found) - 1) + "1" + "".join(f"{value:08b}"[::-1] for value in found)
    bits += "1000"  # distances back: none
    choices = [channel == found[-1] for channel, found in zip(channels, values, strict=True) if len(found) == 2]
    for choice in np.stack(choices, axis=-1).reshape(-1) if choices else ():
        bits += "1" if choice else "0"
    bits += "0" * (-len(bits) % 8)
    return webp_chunk(b"VP8L", b"\x2f" + bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8)))


def anmf(frame: bytes, at: tuple[int, int], size: tuple[int, int]) -> bytes:
    """One frame of an animation, at even coordinates."""
    head = number(at[0] // 2) + number(at[1] // 2) + number(size[0] - 1) + number(size[1] - 1) + number(100) + b"\0"
    return webp_chunk(b"ANMF", head + frame)


ANIM = webp_chunk(b"ANIM", struct.pack("<IH", 0xFF00FF00, 0))  # an opaque background color, which nothing may use
