"""The tags of the first picture in a TIFF or BigTIFF, and how its samples lie in the file."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .stored import PictureError, check_size, damaged, take

if TYPE_CHECKING:
    from typing import BinaryIO

NONE, HUFFMAN, GROUP3, GROUP4, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 2, 3, 4, 5, 7, 8, 32946, 32773
FAX = (HUFFMAN, GROUP3, GROUP4)
COMPRESSIONS = (NONE, *FAX, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS)
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
COLORS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
TYPES = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
NAMES = {
    256: "width", 257: "height", 258: "bits", 259: "compression", 262: "photometric", 266: "fill", 273: "offsets",
    274: "orientation", 277: "samples", 278: "rows", 279: "counts", 284: "planar", 292: "fax3", 293: "fax4",
    317: "predictor", 320: "palette", 322: "columns", 323: "lines", 324: "tiles", 325: "tile_counts",
    338: "extra", 339: "format", 347: "tables",
}  # fmt: skip
MAX_CHUNK = 2**27  # bytes of one strip or tile when it is unpacked
LEAST_CHUNK = 2**22  # where nothing has to be unpacked, a strip is read in parts of this size


class Layout(NamedTuple):
    """How the picture is stored: in chunks, which are strips or tiles, of each plane one after the other."""

    order: str  # of bytes: < or >
    width: int
    height: int
    bits: int
    format: int
    samples: int  # a pixel
    planes: int  # 1, or one for each sample
    compression: int
    predictor: int
    photometric: int
    extra: tuple[int, ...]
    fill: int
    fax: tuple[int, int]
    orientation: int
    palette: Any
    tables: bytes
    tiled: bool
    columns: int  # of a chunk
    rows: int
    offsets: Any
    counts: Any

    @property
    def across(self) -> int:
        """Chunks beside each other."""
        return -(-self.width // self.columns)

    @property
    def chunks(self) -> int:
        """Chunks of one plane."""
        return self.across * -(-self.height // self.rows)

    def rows_of(self, chunk: int) -> int:
        """Rows that a chunk holds: the last strip ends with the picture, the last tile does not."""
        if self.tiled:
            return self.rows
        return min(self.rows, self.height - chunk % self.chunks * self.rows)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of an unpacked chunk."""
        return (self.columns * (self.samples // self.planes) * self.bits + 7) // 8


def read_layout(stream: BinaryIO) -> Layout:
    """Raises `PictureError` for what the document does not list, and for tags that contradict each other."""
    order, tags = read_tags(stream)

    def one(name: str, default: int) -> int:
        value = tags.get(name, ())
        return int(value[0]) if len(value) else default

    width, height = one("width", 0), one("height", 0)
    check_size(width, height)
    samples, photometric = one("samples", 1), one("photometric", WHITE_IS_ZERO)
    planes = samples if one("planar", 1) == 2 else 1
    tiled = "tiles" in tags
    compression = one("compression", NONE)
    predictor = one("predictor", 1) if compression in (LZW, DEFLATE, OLD_DEFLATE) else 1
    columns = one("columns", 0) if tiled else width
    rows = one("lines", 0) if tiled else min(one("rows", height) or height, height)
    layout = Layout(
        order, width, height, one("bits", 1), one("format", UNSIGNED), samples, planes, compression,
        predictor, photometric, tuple(int(kind) for kind in tags.get("extra", ())), one("fill", 1),
        (one("fax3", 0), one("fax4", 0)), one("orientation", 1), tags.get("palette", np.zeros(0, np.uint16)),
        bytes(tags.get("tables", b"")), tiled, columns, rows, tags.get("tiles" if tiled else "offsets", ()),
        tags.get("tile_counts" if tiled else "counts", ()),
    )  # fmt: skip
    check_kind(layout, tags)
    check_chunks(layout)
    return counted(layout) if tiled or layout.compression != NONE else in_parts(layout)


def check_kind(layout: Layout, tags: dict[str, Any]) -> None:
    if layout.compression not in COMPRESSIONS:
        kind = f"compression {layout.compression}"
        raise PictureError(f"is a TIFF of a kind that is not read ({kind}): save it with LZW or Deflate")
    if layout.format == FLOAT:
        raise PictureError("holds floating-point values of unknown range: save it with 8 or 16 bits")
    same = all(len(set(map(int, tags.get(name, ())))) < 2 for name in ("bits", "format"))
    if not (same and colors_are_read(layout) and unpacking_is_read(layout)):
        kind = f"photometric interpretation {layout.photometric}, {layout.samples} samples of {layout.bits} bits"
        raise PictureError(f"is a TIFF of a kind that is not read ({kind}): save it as gray or RGB with 8 bits")


def colors_are_read(layout: Layout) -> bool:
    """What samples there may be, and how large they may be."""
    kind, bits = layout.photometric, layout.bits
    if kind not in COLORS or not COLORS[kind] <= layout.samples <= 16:
        return False
    if kind == BLACK_IS_ZERO and layout.samples == 1 and (bits == 32 or layout.format == SIGNED):
        return bits in (8, 16, 32) and layout.format in (UNSIGNED, SIGNED)
    if layout.format != UNSIGNED:
        return False
    if kind == PALETTE:
        return bits in (1, 2, 4, 8) and layout.palette.size >= 3 * 2**bits
    return bits in ((1, 2, 4, 8, 12, 16) if kind in (WHITE_IS_ZERO, BLACK_IS_ZERO) else (8, 16))


def unpacking_is_read(layout: Layout) -> bool:
    if layout.photometric == YCBCR:
        return (layout.compression, layout.bits, layout.samples, layout.planes) == (JPEG, 8, 3, 1)
    if layout.compression == JPEG:
        return layout.bits == 8 and layout.samples // layout.planes in (1, 3, 4)
    if layout.compression in FAX:
        return (layout.bits, layout.samples) == (1, 1)
    return layout.predictor == 1 or (layout.predictor == 2 and layout.bits in (8, 16, 32))


def check_chunks(layout: Layout) -> None:
    if layout.columns < 1 or layout.rows < 1:
        raise damaged("its tiles have no pixels")
    if (layout.compression != NONE and layout.row_bytes * layout.rows > MAX_CHUNK) or layout.row_bytes > MAX_CHUNK:
        raise PictureError(f"has strips or tiles of more than {MAX_CHUNK // 2**20} MiB: save it with smaller ones")
    if len(layout.offsets) < layout.chunks * layout.planes:
        raise damaged("it has fewer strips or tiles than its size needs")


def counted(layout: Layout) -> Layout:
    """Limit each chunk's length in the file: nothing needs eight times the unpacked bytes, some files say nothing."""
    most = layout.row_bytes * layout.rows
    most = most if layout.compression == NONE else 8 * most + 2**16
    counts = [min(int(count), most) for count in layout.counts]
    return layout._replace(counts=counts if len(counts) >= len(layout.offsets) else [most] * len(layout.offsets))


def in_parts(layout: Layout) -> Layout:
    """Cut long strips that are not packed into shorter ones, so that no more than a few MiB are read at once."""
    rows = max(1, min(layout.rows, LEAST_CHUNK // layout.row_bytes))
    while layout.rows < layout.height and layout.rows % rows:  # parts of one length, across the ends of strips
        rows -= 1
    offsets, counts = [], []
    for plane in range(layout.planes):
        for strip in range(layout.chunks):
            begin = int(layout.offsets[plane * layout.chunks + strip])
            end = min(layout.rows, layout.height - strip * layout.rows)
            for row in range(0, end, rows):
                offsets.append(begin + row * layout.row_bytes)
                counts.append(min(rows, end - row) * layout.row_bytes)
    return layout._replace(rows=rows, offsets=offsets, counts=counts)


def read_tags(stream: BinaryIO) -> tuple[str, dict[str, Any]]:
    """(order of bytes, values of the tags that have a name here). Numbers only; an array for each."""
    size = stream.seek(0, 2)
    stream.seek(0)
    begin = take(stream, 8)
    order = "<" if begin[:2] == b"II" else ">"
    big = 43 in begin[2:4]
    place = struct.unpack(order + "Q", take(stream, 8))[0] if big else struct.unpack(order + "I", begin[4:])[0]
    stream.seek(min(place, size))
    (count,) = struct.unpack(order + ("Q" if big else "H"), take(stream, 8 if big else 2))
    length = 20 if big else 12
    entries = take(stream, min(count, 65536) * length)
    tags = {}
    for at in range(0, len(entries), length):
        number, kind, many = struct.unpack_from(order + ("HHQ" if big else "HHI"), entries, at)
        if number in NAMES and kind in TYPES:
            dtype = np.dtype(order + TYPES[kind])
            inline = entries[at + length - (8 if big else 4) : at + length]
            tags.setdefault(NAMES[number], tag_values(stream, inline, dtype, many, order, size))
    return order, tags


def tag_values(stream: BinaryIO, inline: bytes, dtype: Any, count: int, order: str, size: int) -> Any:
    length = count * dtype.itemsize
    if length > len(inline):
        place = int.from_bytes(inline, "little" if order == "<" else "big")
        if length > size or place > size:
            raise damaged("a tag lies outside the file")
        stream.seek(place)
        inline = take(stream, length)
    return np.frombuffer(inline[:length], dtype)
