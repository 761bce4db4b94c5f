"""PNG, TIFF, GIF, BMP and PNM written byte by byte from samples, in every kind that docs/bundle.md names. No Pillow.

`samples` is an array of integers [H, W, C], as the file stores them.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of PNG's color types
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def packed(values: Iterable[int], bits: int, order: str = ">") -> bytes:
    """Samples of one row, the first in the highest bits; of 16 and 32 bits in an order of bytes."""
    values = [int(value) for value in values]
    if bits in (16, 32):
        return b"".join((value % 2**bits).to_bytes(bits // 8, "big" if order == ">" else "little") for value in values)
    text = "".join(f"{value % 2**bits:0{bits}b}" for value in values)
    return int(text + "0" * (-len(text) % 8) or "0", 2).to_bytes((len(text) + 7) // 8, "big")


def exif(orientation: int, order: str = ">", kind: int = 3) -> bytes:
    """A block of EXIF that holds an orientation only."""
    value = struct.pack(order + {1: "B3x", 3: "H2x", 4: "I"}[kind], orientation)
    magic = b"MM\0*" if order == ">" else b"II*\0"
    return magic + struct.pack(order + "IHHHI", 8, 1, 274, kind, 1) + value + bytes(4)


# PNG


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    samples: np.ndarray,
    depth: int,
    color: int,
    palette: bytes = b"",
    transparent: bytes | None = None,
    interlaced: bool = False,
    before: bytes = b"",
    after: bytes = b"",
    pieces: int = 1,
) -> bytes:
    """`before` and `after`: whole chunks around those of the pixels, which are cut into `pieces`."""
    height, width, _ = samples.shape
    raw = b""
    for x, y, dx, dy in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        part = samples[y::dy, x::dx]
        if part.size:
            raw += filtered([packed(row.reshape(-1), depth) for row in part], max(CHANNELS[color] * depth // 8, 1))
    data = zlib.compress(raw)
    step = -(-len(data) // pieces)
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + (chunk(b"PLTE", palette) if palette else b"")
    file += chunk(b"tRNS", transparent) if transparent is not None else b""
    file += before + b"".join(chunk(b"IDAT", data[at : at + step]) for at in range(0, len(data), step))
    return file + after + chunk(b"IEND", b"")


def filtered(rows: list[bytes], distance: int) -> bytes:
    """Every filter in turn."""
    out, above = b"", bytes(len(rows[0]))
    for y, row in enumerate(rows):
        kind = (y + 4) % 5
        line = bytearray()
        for x, value in enumerate(row):
            left, corner = (row[x - distance], above[x - distance]) if x >= distance else (0, 0)
            estimate = left + above[x] - corner
            nearest = min((left, above[x], corner), key=lambda v: abs(estimate - v))
            line.append((value - (0, left, above[x], (left + above[x]) // 2, nearest)[kind]) % 256)
        out, above = out + bytes([kind]) + bytes(line), row
    return out


# LZW of GIF and TIFF


def lzw(data: bytes, least: int, tiff: bool) -> bytes:
    """Pack with a dictionary. TIFF puts the first bit highest and widens its codes one entry earlier than GIF."""
    clear = 2**least
    codes: list[tuple[int, int]] = [(clear, least + 1)]
    table, bits, begin = {bytes([value]): value for value in range(clear)}, least + 1, b""
    following = clear + 2
    for value in data:
        grown = begin + bytes([value])
        if grown in table:
            begin = grown
            continue
        codes.append((table[begin], bits))
        table[grown], following, begin = following, following + 1, bytes([value])
        if following > 2**bits - tiff:
            bits += 1
        if following >= 4094:
            codes.append((clear, bits))
            table, bits, following = {bytes([v]): v for v in range(clear)}, least + 1, clear + 2
    codes.append((table[begin], bits))
    following += 1
    bits += bits < 12 and following > 2**bits - tiff
    codes.append((clear + 1, bits))
    if tiff:
        return packed_text("".join(f"{code:0{width}b}" for code, width in codes))
    text = "".join(f"{code:0{width}b}" for code, width in reversed(codes))
    return int(text, 2).to_bytes((len(text) + 7) // 8, "little")


def packed_text(text: str) -> bytes:
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


# GIF


def blocks(data: bytes) -> bytes:
    parts = [data[at : at + 255] for at in range(0, len(data), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def gif(
    samples: np.ndarray,
    palette: bytes,
    screen: tuple[int, int] | None = None,
    at: tuple[int, int] = (0, 0),
    clear: int | None = None,
    interlaced: bool = False,
    local: bytes = b"",
    version: bytes = b"GIF89a",
    after: bytes = b"",
) -> bytes:
    """`palette` of 2 to 256 entries of three bytes, a power of two, or none."""
    height, width, _ = samples.shape
    size = len(palette).bit_length() - 3  # 3 * 2**(size + 1) bytes
    flags = 0x80 | size if palette else 0
    file = (
        version + struct.pack("<HHBBB", *(screen or (width, height)), flags, 7 % max(len(palette) // 3, 1), 0) + palette
    )
    if clear is not None:
        file += b"!\xf9\x04" + struct.pack("<BHBB", 1, 0, clear, 0)
    local_flags = (0x80 | len(local).bit_length() - 3 if local else 0) | (0x40 if interlaced else 0)
    file += struct.pack("<BHHHHB", 0x2C, *at, width, height, local_flags) + local
    rows = list(range(height))
    if interlaced:
        rows = [*rows[::8], *rows[4::8], *rows[2::4], *rows[1::2]]
    least = max(2, (max(len(palette), len(local), 3 * (int(samples.max()) + 1)) // 3 - 1).bit_length())
    data = bytes(int(value) for row in rows for value in samples[row].reshape(-1))
    return file + bytes([least]) + blocks(lzw(data, least, tiff=False)) + after + b";"


# BMP


def bmp(
    samples: np.ndarray,
    bits: int,
    palette: bytes = b"",
    header: int = 40,
    masks: tuple[int, ...] = (),
    downwards: bool = False,
    compression: int | None = None,
    body: bytes | None = None,
    offset: int | None = None,
) -> bytes:
    """`samples` [H, W, 1]: whole pixels as integers. `masks` make it one with bit fields."""
    height, width, _ = samples.shape
    compression = (3 if masks else 0) if compression is None else compression
    entry = 3 if header == 12 else 4
    if header == 12:
        head = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        colors = len(palette) // 4 if len(palette) // 4 != 2**bits else 0
        size = -height if downwards else height
        head = struct.pack("<IiiHHIIiiII", header, width, size, 1, bits, compression, 0, 2835, 2835, colors, 0)
        fields = b"".join(struct.pack("<I", mask) for mask in masks)
        head += fields if header == 40 else fields.ljust(header - 40, b"\0")
    assert len(palette) % entry == 0
    rows = []
    for row in samples.reshape(height, width):
        line = packed(row, bits) if bits <= 8 else b"".join(int(v).to_bytes(bits // 8, "little") for v in row)
        rows.append(line + bytes(-len(line) % 4))
    data = body if body is not None else b"".join(rows if downwards else rows[::-1])
    begin = 14 + len(head) + len(palette) if offset is None else offset
    return struct.pack("<2sIII", b"BM", 14 + len(head) + len(palette) + len(data), 0, begin) + head + palette + data


# PBM, PGM, PPM


def pnm(samples: np.ndarray, kind: int, most: int = 255, comment: bytes = b"") -> bytes:
    height, width, _ = samples.shape
    head = b"P%d\n%s%d %d\n" % (kind, comment, width, height) + (b"" if kind in (1, 4) else b"%d\n" % most)
    if kind in (1, 2, 3):
        lines = [b" ".join(b"%d" % value for value in row.reshape(-1)) for row in samples]
        return head + (b"\n" + comment).join(lines) + b"\n"
    bits = 1 if kind == 4 else 8 if most < 256 else 16
    return head + b"".join(packed(row.reshape(-1), bits) for row in samples)


# TIFF


def tiff(
    samples: np.ndarray,
    bits: int,
    photometric: int,
    order: str = "<",
    compression: int = 1,
    planar: bool = False,
    tile: tuple[int, int] | None = None,
    rows: int | None = None,
    fill: int = 1,
    predictor: int = 1,
    big: bool = False,
    **tags: tuple[int, ...],
) -> bytes:
    """`tile`: (width, height). `tags`: more of them by number, as t338=(2,)."""
    height, width, channels = samples.shape
    cut = list(cut_up(samples, planar, tile, rows or height))
    data, offsets, counts = b"", [], []
    for piece in cut:
        raw = tiff_packed(piece, bits, order, compression, predictor)
        raw = bytes(int(f"{byte:08b}"[::-1], 2) for byte in raw) if fill == 2 else raw
        offsets.append(len(data) + (16 if big else 8))
        counts.append(len(raw))
        data += raw + bytes(len(raw) % 2)
    entries: dict[int, tuple[int, ...]] = {
        256: (width,), 257: (height,), 258: (bits,) * channels, 259: (compression,), 262: (photometric,),
        277: (channels,), 284: (2 if planar else 1,),
        (324 if tile else 273): tuple(offsets), (325 if tile else 279): tuple(counts),
    }  # fmt: skip
    entries |= {322: (tile[0],), 323: (tile[1],)} if tile else {278: (rows or height,)}
    entries |= {266: (fill,)} if fill != 1 else {}
    entries |= {317: (predictor,)} if predictor != 1 else {}
    entries |= {int(name[1:]): values for name, values in tags.items()}
    return tiff_file(data, entries, order, big)


def cut_up(samples: np.ndarray, planar: bool, tile: tuple[int, int] | None, rows: int) -> Iterator[np.ndarray]:
    height, width, channels = samples.shape
    for part in [samples[..., c : c + 1] for c in range(channels)] if planar else [samples]:
        if not tile:
            yield from (part[y : y + rows] for y in range(0, height, rows))
            continue
        for y in range(0, height, tile[1]):
            for x in range(0, width, tile[0]):
                piece = part[y : y + tile[1], x : x + tile[0]]
                yield np.pad(piece, ((0, tile[1] - piece.shape[0]), (0, tile[0] - piece.shape[1]), (0, 0)), mode="edge")


def tiff_packed(piece: np.ndarray, bits: int, order: str, compression: int, predictor: int) -> bytes:
    if predictor == 2:
        piece = piece.astype(np.int64)
        piece = np.concatenate([piece[:, :1], np.diff(piece, axis=1)], axis=1) % 2**bits
    lines = [packed(row.reshape(-1), bits, order) for row in piece]
    if compression in (8, 32946):
        return zlib.compress(b"".join(lines))
    if compression == 5:
        return lzw(b"".join(lines), 8, tiff=True)
    if compression == 32773:
        return b"".join(packbits(line) for line in lines)
    return b"".join(lines)


def packbits(line: bytes) -> bytes:
    """Runs of equal bytes and stretches of others, each row by itself; with a code that means nothing at the end."""
    out, at = b"", 0
    while at < len(line):
        run = 1
        while run < 128 and line[at + run : at + run + 1] == line[at : at + 1]:
            run += 1
        if run > 1:
            out, at = out + bytes([257 - run, line[at]]), at + run
        else:
            out, at = out + bytes([0, line[at]]), at + 1
    return out + b"\x80"


def tiff_file(data: bytes, entries: dict[int, tuple[int, ...]], order: str, big: bool) -> bytes:
    """Numbers of 32 bits are LONG, those of fewer SHORT, tables of JPEG bytes; lists stand behind the pixels."""
    head, inline, letter = (16, 8, "Q") if big else (8, 4, "I")
    extra, table = b"", b""
    place = head + len(data)
    for tag, values in sorted(entries.items()):
        kind = 7 if tag == 347 else 4 if max(values) > 65535 or tag in (273, 279, 324, 325) else 3
        value = struct.pack(order + {3: "H", 4: "I", 7: "B"}[kind] * len(values), *values)
        if len(value) > inline:
            extra, value = extra + value + bytes(len(value) % 2), struct.pack(order + letter, place + len(extra))
        table += struct.pack(order + "HH" + letter, tag, kind, len(values)) + value.ljust(inline, b"\0")
    begin = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    begin += (
        struct.pack(order + "HHQ", 8, 0, place + len(extra)) if big else struct.pack(order + "I", place + len(extra))
    )
    count = struct.pack(order + ("Q" if big else "H"), len(entries))
    return begin + data + extra + count + table + bytes(8 if big else 4)
