"""Damage pictures of every kind at random and read them: pixels or one line, nothing else, within a limit of memory.

    python tests/bundle/picture_fuzz.py SEED COUNT

Exit code 1 with the file's bytes at the first other outcome: another exception, more than 20 seconds, no memory.
"""

import io
import random
import resource
import signal
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from types import FrameType

import numpy as np
from every_picture import every_picture
from made_lossy import ANIM, EXIF, JFIF, TABLES, adobe, anmf, jpeg, riff, segment, vp8l, vp8x, webp_chunk
from PIL import Image

from edgevl.app.conformance.encoders import chunk, exif, png, tiff_file
from edgevl.errors import InputError
from edgevl.inputs.preprocess import load_image, to_pixels

SECONDS = 20
MEMORY = (
    3 * 2**29
)  # bytes of addresses beyond what the process has at the start: 1 GiB, and what allocators leave unused


def lossy() -> list[bytes]:
    """Seeds beside those that are written byte by byte for other tests."""
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (6, 7, 4), dtype=np.uint8)).resize((70, 60))
    files = []
    for kind, mode, options in (
        ("JPEG", "RGB", {"progressive": True}), ("JPEG", "L", {}), ("JPEG", "CMYK", {"quality": 95}),
        ("WEBP", "RGBA", {}), ("WEBP", "RGB", {}), ("WEBP", "RGBA", {"lossless": True}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "1", {"compression": "group4"}), ("TIFF", "1", {"compression": "group3"}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("TIFF", "1", {"compression": "tiff_ccitt"}),
    ):  # fmt: skip
        file = io.BytesIO()
        photo.convert("RGB" if mode == "CMYK" else mode).convert(mode).save(file, kind, **options)
        files.append(file.getvalue())
    rgba = rng.choice([3, 200], (6, 8, 4))
    block = EXIF + exif(6)
    files += [
        riff(vp8l(rgba)), riff(vp8x(8, 6, 0x18), vp8l(rgba), webp_chunk(b"EXIF", block)),
        riff(vp8x(20, 16, 0x12), ANIM, anmf(vp8l(rgba), (4, 2), (8, 6)), anmf(vp8l(rgba), (0, 0), (8, 6))),
        jpeg(rng.integers(0, 256, (4, 4, 3)), ((2, 2), (1, 1), (1, 1)), JFIF + segment(0xE1, block)),
        jpeg(rng.integers(0, 256, (2, 2, 4)), before=adobe(2)),
        png(rgba, 8, 6, before=chunk(b"eXIf", exif(5))),
        png(rgba, 8, 6, before=chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 9\n" + b"00" * 9)),
    ]  # fmt: skip
    part = jpeg(rng.integers(0, 256, (2, 2, 3)), tables=False)
    entries: dict[int, tuple[int, ...]] = {
        256: (16,), 257: (16,), 258: (8, 8, 8), 259: (7,), 262: (6,), 277: (3,), 278: (16,),
        273: (8,), 279: (len(part),), 347: tuple(b"\xff\xd8" + TABLES + b"\xff\xd9"),
    }  # fmt: skip
    return [*files, tiff_file(part, entries, "<", big=False)]


def damaged(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to four changes: bytes, numbers, pieces left out, doubled, or of another file; the end cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, end = rng.randrange(len(changed) + 1), rng.randrange(len(changed) + 1)
        early = rng.randrange(min(len(changed), 64) + 1)  # headers stand at the start
        at = rng.choice((at, early))
        how = rng.randrange(8)
        if how <= 2:
            changed[at : at + 1] = bytes([rng.choice((0, 1, 2, 3, 8, 127, 128, 255, rng.randrange(256)))])
        elif how <= 4:
            size = rng.choice((2, 4, 8))
            value = rng.choice(
                (0, 1, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**64 - 1, rng.randrange(2**20))
            )
            changed[at : at + size] = (value % 2 ** (8 * size)).to_bytes(size, rng.choice(("big", "little")))
        elif how == 5:
            del changed[at : at + rng.choice((1, 4, abs(end - at)))]
        elif how == 6:
            changed = changed[: max(end, 12)]
        else:
            other = rng.choice(others)
            begin = rng.randrange(len(other))
            changed[at:at] = other[begin : begin + rng.choice((1, 12, 200))]
    return with_checksums(bytes(changed)) if rng.random() < 0.7 else bytes(changed)


def with_checksums(data: bytes) -> bytes:
    """Of a PNG, what lies behind its checksums: otherwise every change would end there."""
    place = 8
    while data[:8] == b"\x89PNG\r\n\x1a\n" and place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        checksum = zlib.crc32(data[place + 4 : end]).to_bytes(4, "big")
        data = data[:end] + checksum + data[end + 4 :] if end + 4 <= len(data) else data
        place = end + 4
    return data


def alarm(signum: int, frame: FrameType | None) -> None:
    raise BaseException(f"more than {SECONDS} seconds")


def outcome(data: bytes, file: Path | None = None) -> str:
    signal.alarm(SECONDS)
    try:
        if file:
            file.write_bytes(data)
        to_pixels(load_image(file or data), 16)
        return "pixels"
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 400, error
        return "more memory" if "more memory" in str(error) else "refused"
    finally:
        signal.alarm(0)


def main(seed: int, count: int) -> int:
    seeds = [*every_picture().values(), *lossy() * 20]
    rng, outcomes, started = random.Random(seed), Counter(), time.time()
    signal.signal(signal.SIGALRM, alarm)
    outcome(seeds[0])
    with open("/proc/self/statm", encoding="utf-8") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            data = damaged(rng.choice(seeds), seeds, rng)
            try:
                outcomes[outcome(data, Path(folder, "x") if number % 2 else None)] += 1
            except BaseException as error:
                print(f"number {number} of seed {seed}: {type(error).__name__}: {error}\n{data!r}")
                return 1
    print(f"{count} damaged pictures in {time.time() - started:.0f} s: {dict(outcomes)}")
    return 0 if not outcomes["more memory"] else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
