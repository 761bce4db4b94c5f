"""PNG, GIF, BMP, TIFF and PNM to upright RGB, from docs/bundle.md and the specifications of the formats: no Pillow.

Everything is lists of integers: `Rows` is H rows of W pixels, a pixel (r, g, b) or (r, g, b, a).
"""

import struct
import zlib

Rows = list[list[tuple[int, ...]]]


def read_picture(data: bytes) -> Rows:
    """Decode, composite, turn. Raises whatever comes of a file that is not as it should be."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        rows, orientation = read_png(data)
    elif data[:3] == b"GIF":
        rows, orientation = read_gif(data), 1
    elif data[:2] == b"BM":
        rows, orientation = read_bmp(data), 1
    elif data[:2] in (b"II", b"MM"):
        rows, orientation = read_tiff(data)
    else:
        assert data[:1] == b"P" and data[1:2] in b"123456"
        rows, orientation = read_pnm(data), 1
    return turned([[on_white(*pixel) for pixel in row] for row in rows], orientation)


def on_white(r: int, g: int, b: int, a: int = 255) -> tuple[int, ...]:
    return tuple((c * a + 255 * (255 - a) + 127) // 255 for c in (r, g, b))


def turned(rows: Rows, orientation: int) -> Rows:
    """Put the first row and the first column as stored where the table of the document wants them."""
    sides = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "lt", 6: "rt", 7: "rb", 8: "lb"}[orientation]
    if sides[0] in "lr":  # the first row becomes a column
        rows, sides = [list(column) for column in zip(*rows, strict=True)], sides[::-1]
    rows = rows if sides[0] == "t" else rows[::-1]
    return rows if sides[1] == "l" else [row[::-1] for row in rows]


def rounded(x: int, y: int) -> int:
    return (2 * x + y) // (2 * y)


def gray8(value: int, bits: int) -> int:
    return rounded(value * 255, 2**bits - 1)


def exif_orientation(block: bytes) -> int:
    block = block[6:] if block[:6] == b"Exif\0\0" else block
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    try:
        assert order
        (at,) = struct.unpack(order + "I", block[4:8])
        (count,) = struct.unpack(order + "H", block[at : at + 2])
        for entry in range(count):
            tag, kind, _, value = struct.unpack(order + "HHI4s", block[at + 2 + 12 * entry : at + 14 + 12 * entry])
            if tag == 274:
                size = {1: 1, 3: 2, 4: 4}[kind]
                found = int.from_bytes(value[:size], "little" if order == "<" else "big")
                return found if found in range(1, 9) else 1
    except (struct.error, KeyError, AssertionError):
        pass
    return 1


def unpack_bits(line: bytes, bits: int) -> list[int]:
    """Samples of a row, the first in the highest bits."""
    if bits == 8:
        return list(line)
    whole = int.from_bytes(line, "big")
    count = len(line) * 8 // bits
    rest = len(line) * 8 - count * bits
    return [whole >> rest + bits * (count - 1 - x) & 2**bits - 1 for x in range(count)]


# PNG


def read_png(data: bytes) -> tuple[Rows, int]:
    chunks, place = [], 8
    while place + 8 <= len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        checksum = data[place + 8 + size : place + 12 + size]
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT"):
            assert checksum == struct.pack(">I", zlib.crc32(kind + content)), kind
        chunks.append((kind, content))
        place += size + 12
    kinds = [kind for kind, _ in chunks]
    first = kinds.index(b"IDAT")
    last = next((at for at in range(first, len(kinds)) if kinds[at] != b"IDAT"), len(kinds))
    before = dict(chunks[:first])
    width, height, depth, color, method, filters, interlaced = struct.unpack(">IIBBBBB", before[b"IHDR"])
    assert (method, filters) == (0, 0) and interlaced in (0, 1)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    raw = zlib.decompress(b"".join(content for _, content in chunks[first:last]))
    rows: Rows = [[()] * width for _ in range(height)]
    place = 0
    adam7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for x0, y0, dx, dy in adam7 if interlaced else [(0, 0, 1, 1)]:
        xs, ys = range(x0, width, dx), range(y0, height, dy)
        length, distance = (len(xs) * channels * depth + 7) // 8, max(channels * depth // 8, 1)
        above = [0] * length
        for y in ys if xs else ():
            above = unfilter(raw[place], raw[place + 1 : place + 1 + length], above, distance)
            place += 1 + length
            samples = unpack_bits(bytes(above), depth)
            for index, x in enumerate(xs):
                rows[y][x] = tuple(samples[index * channels : (index + 1) * channels])
    look = png_look(depth, color, before.get(b"PLTE", b""), before.get(b"tRNS"))
    return [[look(pixel) for pixel in row] for row in rows], exif_orientation(png_exif(chunks))


def png_exif(chunks: list[tuple[bytes, bytes]]) -> bytes:
    for kind, content in chunks:
        if kind == b"eXIf":
            return content
    for kind, content in chunks:
        if kind in (b"tEXt", b"zTXt") and content.startswith(b"Raw profile type exif\0"):
            text = content[22:] if kind == b"tEXt" else zlib.decompress(content[23:])
            return bytes.fromhex("".join(text.decode("ascii").split("\n")[3:]))
    return b""


def unfilter(kind: int, line: bytes, above: list[int], distance: int = 3) -> list[int]:
    result: list[int] = []
    for x, value in enumerate(line):
        left, corner = (result[x - distance], above[x - distance]) if x >= distance else (0, 0)
        up = above[x]
        guess = (0, left, up, (left + up) // 2, paeth(left, up, corner))[kind]
        result.append((value + guess) % 256)
    return result


def paeth(left: int, up: int, corner: int) -> int:
    estimate = left + up - corner
    return min((left, up, corner), key=lambda value: abs(estimate - value))  # of equal ones the first, as PNG says


def png_look(depth: int, color: int, palette: bytes, transparent: bytes | None):
    """The function from a pixel's samples to (r, g, b, a)."""

    def look(samples: tuple[int, ...]) -> tuple[int, ...]:
        alpha = 255
        if color == 3:
            entry = (*palette[3 * samples[0] : 3 * samples[0] + 3], 0, 0, 0)[:3]
            alphas = transparent or b""
            return (*entry, alphas[samples[0]] if samples[0] < len(alphas) else 255)
        if transparent is not None and color in (0, 2):
            key = struct.unpack(f">{len(transparent) // 2}H", transparent)
            alpha = 0 if samples == tuple(value % 2**depth for value in key) else 255
        if color in (4, 6):
            alpha, samples = samples[-1] >> depth - 8, samples[:-1]
        if len(samples) == 1:
            return (*[gray8(samples[0], depth)] * 3, alpha)
        return (*(value >> depth - 8 for value in samples), alpha)

    return look


# GIF


def read_gif(data: bytes) -> Rows:
    width, height, flags = struct.unpack("<HHB", data[6:11])
    place, palette, clear = 13, b"", None
    if flags & 128:
        palette = data[13 : 13 + 3 * 2 ** (flags % 8 + 1)]
        place += len(palette)
    while data[place] == 0x21:
        label, place, blocks = data[place + 1], place + 2, []
        while data[place]:
            blocks.append(data[place + 1 : place + 1 + data[place]])
            place += 1 + data[place]
        place += 1
        if label == 0xF9:
            clear = blocks[0][3] if blocks[0][0] & 1 else None
    assert data[place] == 0x2C
    left, top, columns, lines, local = struct.unpack("<HHHHB", data[place + 1 : place + 10])
    place += 10
    if local & 128:
        palette = data[place : place + 3 * 2 ** (local % 8 + 1)]
        place += len(palette)
    indices = lzw_of_gif(data, place, columns * lines)
    order = range(lines)
    if local & 64:
        order = [*range(0, lines, 8), *range(4, lines, 8), *range(2, lines, 4), *range(1, lines, 2)]
    rows: Rows = [[(0, 0, 0, 0)] * max(width, left + columns) for _ in range(max(height, top + lines))]
    for line, y in enumerate(order):
        for x in range(columns):
            index = indices[line * columns + x]
            color = (*palette[3 * index : 3 * index + 3], 0, 0, 0)[:3] if palette else (index,) * 3
            rows[top + y][left + x] = (*color, 0 if index == clear else 255)
    return rows


def lzw_of_gif(data: bytes, place: int, count: int) -> list[int]:
    least, place, packed = data[place], place + 1, b""
    while data[place]:
        packed += data[place + 1 : place + 1 + data[place]]
        place += 1 + data[place]
    stream, have, at = int.from_bytes(packed, "little"), len(packed) * 8, 0
    clear = 2**least
    table: list[list[int]] = []
    bits, last, found = least + 1, None, []
    while len(found) < count:
        assert at + bits <= have, "truncated"
        code, at = stream >> at & 2**bits - 1, at + bits
        if code == clear:
            table, bits, last = [[value] for value in range(clear)] + [[], []], least + 1, None
            continue
        assert code != clear + 1, "truncated"
        if last is None:
            entry = table[code]
        else:
            entry = table[code] if code < len(table) else table[last] + table[last][:1]
            if len(table) < 4096:
                table.append(table[last] + entry[:1])
        bits = bits + 1 if len(table) == 2**bits and bits < 12 else bits
        found, last = found + entry, code
    return found


# BMP


def read_bmp(data: bytes) -> Rows:
    (offset,) = struct.unpack("<I", data[10:14])
    (size,) = struct.unpack("<I", data[14:18])
    if size == 12:
        width, height, _, bits = struct.unpack("<HHHH", data[18:26])
        compression = colors = 0
    else:
        width, height, _, bits, compression, _, _, _, colors = struct.unpack("<iiHHIIiiI", data[18:50])
    behind = 14 + size
    masks = {16: (0x7C00, 0x3E0, 0x1F, 0)}.get(bits, (0xFF0000, 0xFF00, 0xFF, 0))
    if compression == 3:
        masks = struct.unpack("<4I", (data[54:70] if size >= 56 else data[54:66]).ljust(16, b"\0"))
        masks = masks if any(masks) else (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        behind += 12 if size == 40 else 0
    palette, entry = b"", 3 if size == 12 else 4
    if bits <= 8:
        palette = data[behind : behind + entry * (colors or 2**bits)]
        if offset in (0, behind):
            offset = behind + entry * (colors or 2**bits)
    offset = offset or behind
    if compression in (1, 2):
        lines = runs_of_bmp(data, offset, width, abs(height), bits)
    else:
        length = (width * bits + 31) // 32 * 4
        lines = [data[offset + y * length : offset + (y + 1) * length] for y in range(abs(height))]
        assert len(lines[-1]) == length
        step = bits // 8
        if bits <= 8:
            lines = [unpack_bits(line, bits)[:width] for line in lines]
        else:
            lines = [
                [int.from_bytes(line[x * step : (x + 1) * step], "little") for x in range(width)] for line in lines
            ]

    def look(value: int) -> tuple[int, ...]:
        if bits <= 8:
            b, g, r = (*palette[entry * value : entry * value + 3], 0, 0, 0)[:3]
            return r, g, b
        return tuple(field(value, mask) for mask in masks if mask)

    rows = [[look(value) for value in line] for line in lines]
    return rows[::-1] if height > 0 else rows


def field(value: int, mask: int) -> int:
    shift = bin(mask)[::-1].index("1")
    return (value >> shift & mask >> shift) * 255 // (mask >> shift)


def runs_of_bmp(data: bytes, at: int, width: int, height: int, bits: int) -> list[list[int]]:
    lines = [[0] * width for _ in range(height)]
    x = y = 0
    while y < height:
        count, value = data[at], data[at + 1]
        at += 2
        if count or value > 2:
            if count:
                run = [value] * count if bits == 8 else [(value >> 4, value & 15)[i % 2] for i in range(count)]
            else:
                size = value if bits == 8 else (value + 1) // 2
                run, at = unpack_bits(data[at : at + size], bits)[:value], at + size + size % 2
            for index in run:
                if x < width:
                    lines[y][x] = index
                x += 1
        elif value == 0:
            x, y = 0, y + 1
        elif value == 1:
            break
        else:
            x, y, at = x + data[at], y + data[at + 1], at + 2
    return lines


# PBM, PGM, PPM


def read_pnm(data: bytes) -> Rows:
    kind, place, numbers = int(data[1:2]), 2, []
    while len(numbers) < (2 if kind in (1, 4) else 3):
        while data[place : place + 1].isspace() or data[place : place + 1] == b"#":
            place = place + 1 if data[place] != 35 else place + len(data[place:].splitlines()[0])
        end = place
        while data[end : end + 1].isdigit():
            end += 1
        numbers.append(int(data[place:end]))
        place = end
    width, height, most = [*numbers, 1][:3]
    raster, channels = data[place + 1 :], 3 if kind in (3, 6) else 1
    count = width * height * channels
    if kind == 4:
        length = (width + 7) // 8
        lines = [unpack_bits(raster[y * length : (y + 1) * length], 1)[:width] for y in range(height)]
        values = [value for line in lines for value in line]
    elif kind >= 5:
        size = 1 if most < 256 else 2
        values = [int.from_bytes(raster[i : i + size], "big") for i in range(0, count * size, size)]
    else:
        text = b" ".join(line.split(b"#")[0] for line in raster.splitlines())
        digits = "".join(text.decode().split()) if kind == 1 else text.decode().split()
        values = [int(digit) for digit in digits[:count]]
    assert len(values) >= count
    values = [pnm_value(min(value, most), most, kind) for value in values[:count]]
    pixels = [tuple(values[i : i + channels] * (3 // channels)) for i in range(0, count, channels)]
    return [pixels[y * width : (y + 1) * width] for y in range(height)]


def pnm_value(value: int, most: int, kind: int) -> int:
    if kind in (1, 4):
        return 255 * (1 - value)
    if most > 255 and kind in (2, 5):
        return gray8(round(value / most * 65535), 16)
    return value // 256 if most == 65535 else round(value / most * 255)  # Python rounds a tie to the even one


# TIFF


def read_tiff(data: bytes) -> tuple[Rows, int]:
    order = "<" if data[:2] == b"II" else ">"
    tags = tiff_tags(data, order)

    def one(tag: int, default: int) -> int:
        return tags.get(tag, (default,))[0]

    width, height, bits, samples = one(256, 0), one(257, 0), one(258, 1), one(277, 1)
    planes = samples if one(284, 1) == 2 else 1
    predictor = one(317, 1) if one(259, 1) in (5, 8, 32946) else 1
    tiled = 324 in tags
    columns, lines = (one(322, 0), one(323, 0)) if tiled else (width, min(one(278, height), height))
    offsets, counts = (tags[324], tags[325]) if tiled else (tags[273], tags[279])
    across, down = -(-width // columns), -(-height // lines)
    stored = [[[0] * samples for _ in range(width)] for _ in range(height)]
    for chunk in range(across * down * planes):
        plane, place = divmod(chunk, across * down)
        y0, x0 = place // across * lines, place % across * columns
        packed = data[offsets[chunk] : offsets[chunk] + counts[chunk]]
        packed = bytes(int(f"{byte:08b}"[::-1], 2) for byte in packed) if one(266, 1) == 2 else packed
        raw, each = tiff_unpacked(packed, one(259, 1)), samples // planes
        length = (columns * each * bits + 7) // 8
        for y in range(lines if tiled else min(lines, height - y0)):
            line = raw[y * length : (y + 1) * length]
            assert len(line) == length, "truncated"
            values = tiff_line(line, bits, order, one(339, 1), each, predictor)
            for x in range(min(columns, width - x0) if y0 + y < height else 0):
                for c in range(each):
                    stored[y0 + y][x0 + x][plane + c] = values[x * each + c]
    look = tiff_look(one(262, 0), bits, samples, tags.get(338, ()), tags.get(320, ()), one(339, 1))
    orientation = one(274, 1) if one(274, 1) in range(1, 9) else 1
    return [[look(pixel) for pixel in row] for row in stored], orientation


def tiff_tags(data: bytes, order: str) -> dict[int, tuple[int, ...]]:
    big = 43 in data[2:4]
    head, entry, count = ("Q", "HHQ", "Q") if big else ("I", "HHI", "H")
    size = struct.calcsize("<" + entry)
    (at,) = struct.unpack_from(order + head, data, 8 if big else 4)
    (many,) = struct.unpack_from(order + count, data, at)
    at += struct.calcsize("<" + count)
    tags = {}
    for place in range(at, at + many * (size + (8 if big else 4)), size + (8 if big else 4)):
        tag, kind, values = struct.unpack_from(order + entry, data, place)
        letter = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
        if letter:
            form = f"{order}{values}{letter}"
            inline = struct.calcsize(form) <= (8 if big else 4)
            where = place + size if inline else struct.unpack_from(order + head, data, place + size)[0]
            tags.setdefault(tag, struct.unpack_from(form, data, where))
    return tags


def tiff_unpacked(packed: bytes, compression: int) -> bytes:
    if compression in (8, 32946):
        return zlib.decompress(packed)
    if compression == 32773:
        found, at = b"", 0
        while at < len(packed):
            head = packed[at]
            if head < 128:
                found, at = found + packed[at + 1 : at + 2 + head], at + 2 + head
            else:
                found, at = (
                    found + packed[at + 1 : at + 2] * (257 - head if head > 128 else 0),
                    at + (2 if head > 128 else 1),
                )
        return found
    if compression == 5:
        return lzw_of_tiff(packed)
    assert compression == 1
    return packed


def lzw_of_tiff(packed: bytes) -> bytes:
    stream, have, at, bits = int.from_bytes(packed, "big"), len(packed) * 8, 0, 9
    table: list[bytes] = []
    last, found = b"", b""
    while True:
        code, at = stream >> have - at - bits & 2**bits - 1, at + bits
        if code == 257:
            return found
        if code == 256:
            table, bits, last = [bytes([value]) for value in range(256)] + [b"", b""], 9, b""
            continue
        entry = table[code] if code < len(table) else last + last[:1]
        if last:
            table.append(last + entry[:1])
        found, last = found + entry, entry
        bits = 9 if len(table) < 511 else 10 if len(table) < 1023 else 11 if len(table) < 2047 else 12


def tiff_line(line: bytes, bits: int, order: str, form: int, each: int, predictor: int) -> list[int]:
    if bits in (16, 32):
        letter = {16: "h", 32: "i"}[bits]
        count = len(line) * 8 // bits
        values = list(struct.unpack(f"{order}{count}{letter if form == 2 else letter.upper()}", line))
    else:
        values = unpack_bits(line, bits)
        values = [value - 256 if form == 2 and value > 127 else value for value in values]
    if predictor == 2:
        for x in range(each, len(values)):
            values[x] = (values[x] + values[x - each]) % 2**bits
    return values


def tiff_look(photometric: int, bits: int, samples: int, extra: tuple[int, ...], palette: tuple[int, ...], form: int):
    """The function from a pixel's samples to (r, g, b, a)."""
    colors = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4}[photometric]
    kind = extra[0] if extra else 2 if samples == colors + 1 else 0
    kind = 0 if samples == colors else 2 if kind == 999 else kind

    def eight(value: int) -> int:
        return value // 256 if bits == 16 else gray8(value, bits)

    def color_of(values: list[int]) -> tuple[int, ...]:
        if photometric <= 1:
            value = values[0] if photometric else 2**bits - 1 - values[0]
            assert 0 <= value <= 65535
            return (gray8(value, min(bits, 16)),) * 3
        if photometric == 3:
            third = 2**bits
            return tuple(palette[values[0] + third * c] // 256 for c in range(3))
        if photometric == 2:
            return tuple(eight(value) for value in values)
        c, m, y, k = map(eight, values)
        return tuple(255 - k - rounded(value * (255 - k), 255) for value in (c, m, y))

    def look(values: list[int]) -> tuple[int, ...]:
        color = color_of(values[:colors])
        if kind not in (1, 2):
            return color
        alpha = eight(values[colors])
        return (*color, alpha) if kind == 2 else tuple(min(c + 255 - alpha, 255) for c in color)

    return look
