"""The orientation in a block of EXIF. Nothing else of it is read, and nothing in it can fail."""

from __future__ import annotations

import struct

ORIENTATION = 0x0112
RAW_PROFILE = "Raw profile type exif"  # the text of a PNG in which ImageMagick wrote EXIF before PNG had a chunk for it
TYPES = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT (what EXIF says), LONG


def orientation_of(block: bytes) -> int:
    """1 to 8, from a block with or without "Exif" before its TIFF header; 1 where it cannot be read.

    Only the first directory counts: the second describes the thumbnail.
    """
    block = block[6:] if block[:6] == b"Exif\0\0" else block
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (place,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, place)
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", block, entry)
            if tag == ORIENTATION:
                (value,) = struct.unpack_from(order + TYPES[kind], block, entry + 8)
                return value if 1 <= value <= 8 else 1
    except (struct.error, KeyError):
        pass
    return 1


def exif_of_text(text: bytes) -> bytes:
    """The block in such a text: lines with a name, a length, and hexadecimal digits. Empty if it cannot be read."""
    try:
        return bytes.fromhex("".join(text.decode("ascii").split("\n")[3:]))
    except ValueError:
        return b""
