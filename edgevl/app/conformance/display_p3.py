"""An ICC profile of Display P3, as phones tag their photos: written from its published numbers."""

import struct

# Colorants of Display P3 adapted to D50, and the white of the profile's own space (ICC.1, D50).
COLORANTS = {
    b"rXYZ": (0.51512, 0.2412, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.1571, 0.06657, 0.78407),
}
WHITE = (0.9642, 1.0, 0.8249)
CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # of sRGB: g, a, b, c, d


def display_p3() -> bytes:
    """Return the bytes of a small display profile, version 4."""
    tags = {b"desc": text("Display P3"), b"cprt": text("CC0"), b"wtpt": xyz(WHITE)}
    tags |= {name: xyz(value) for name, value in COLORANTS.items()}
    curve = b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(map(fixed, CURVE))
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    place, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += struct.pack(">4sII", name, place + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    return header(place + len(data)) + table + data


def header(size: int) -> bytes:
    made = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    begin = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x04000000, b"mntr", b"RGB ", b"XYZ ") + made + b"acsp"
    return (begin + bytes(28) + b"".join(map(fixed, WHITE))).ljust(128, b"\0")


def fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def xyz(value: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(fixed, value))


def text(value: str) -> bytes:
    """Return a text in one language."""
    data = value.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(data), 28) + data
