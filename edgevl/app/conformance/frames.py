"""Camera frames: planes with strides, and the RGB that must come out of them. docs/conformance.md is the format."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgevl.pictures.frames import COLORS, Frame

FRAMES = "frames.json"
LAYOUTS = ("i420", "nv12", "nv21", "padded")
SIZES = ((7, 5), (16, 12), (1, 1), (2, 1), (1, 4), (33, 18))  # width, height
TURNS = (0, 90, 180, 270)


def write_frames(folder: Path) -> int:
    """Write frames/NAME.bin, what must come out of it, frames/NAME.rgb, and the list of all; return their number."""
    (folder / "frames").mkdir()
    listed = list(_frames(folder))
    lines = ",\n".join(json.dumps(each) for each in listed)
    (folder / FRAMES).write_text(f'{{"version": 1,\n"frames": [\n{lines}\n]}}\n', encoding="utf-8", newline="\n")
    return len(listed)


def _frames(folder: Path) -> Iterator[dict[str, Any]]:
    """Every layout with every coding of color; sizes and turns go round, so that each meets each of the others."""
    for number, (layout, colors) in enumerate((layout, colors) for layout in LAYOUTS for colors in COLORS):
        for turn_number, size in enumerate((SIZES[number % len(SIZES)], SIZES[(number + 3) % len(SIZES)])):
            turn = TURNS[(number + number // 4 + 2 * turn_number) % len(TURNS)]
            name = f"{layout}-{colors}-{size[0]}x{size[1]}-{turn}"
            yield _frame(folder, name, layout, colors, size, turn)


def _frame(folder: Path, name: str, layout: str, colors: str, size: tuple[int, int], turn: int) -> dict[str, Any]:
    width, height = size
    random = np.random.default_rng(list(name.encode()))
    half = (height + 1) // 2, (width + 1) // 2
    y, u, v = (random.integers(0, 256, shape, np.uint8) for shape in ((height, width), half, half))
    data, planes = packed(y, u, v, layout)
    rgb = upright(y, u, v, colors, turn)
    (folder / f"frames/{name}.bin").write_bytes(data)
    (folder / f"frames/{name}.rgb").write_bytes(rgb.tobytes())
    return {
        "id": name, "file": f"frames/{name}.bin", "width": width, "height": height, "planes": planes,
        "colors": colors, "turn": turn, "rgb": f"frames/{name}.rgb", "rgb_width": rgb.shape[1],
        "rgb_height": rgb.shape[0], "sha256": hashlib.sha256(rgb.tobytes()).hexdigest(),
    }  # fmt: skip


def upright(y: np.ndarray, u: np.ndarray, v: np.ndarray, colors: str, turn: int) -> np.ndarray:
    """Return uint8 [H, W, 3] of planes, turned clockwise: EdgeVL's own reader takes NV12."""
    data = y.tobytes() + np.stack([u, v], -1).tobytes()
    picture = Frame("nv12", y.shape[1], y.shape[0], data, colors).picture()
    return np.ascontiguousarray(np.rot90(np.asarray(picture), -turn // 90))  # rot90 turns to the left


def packed(y: np.ndarray, u: np.ndarray, v: np.ndarray, layout: str) -> tuple[bytes, dict[str, dict[str, int]]]:
    """Return the bytes of a frame, and where each plane begins in them, with its strides."""
    height, width = y.shape
    rows, columns = u.shape
    if layout == "i420":
        places = {"y": (0, width, 1), "u": (y.size, columns, 1), "v": (y.size + u.size, columns, 1)}
    elif layout == "padded":  # as hardware aligns rows; the last one ends with its last sample
        start, stride = 5 + height * (width + 9), 2 * columns + 11
        places = {"y": (5, width + 9, 1), "u": (start, stride, 2), "v": (start + rows * stride, stride, 2)}
    else:
        first, second = ("u", "v") if layout == "nv12" else ("v", "u")
        places = {"y": (0, width, 1), first: (y.size, 2 * columns, 2), second: (y.size + 1, 2 * columns, 2)}
    samples = {"y": y, "u": u, "v": v}
    data = np.zeros(max(start + last(samples[name], *steps) for name, (start, *steps) in places.items()), np.uint8)
    for name, (start, row, pixel) in places.items():
        for index, line in enumerate(samples[name]):
            data[start + index * row :][: (len(line) - 1) * pixel + 1 : pixel] = line
    planes = {name: {"offset": s, "row_stride": row, "pixel_stride": pixel} for name, (s, row, pixel) in places.items()}
    return data.tobytes(), planes


def last(samples: np.ndarray, row: int, pixel: int) -> int:
    """Bytes from the first sample of a plane to behind its last."""
    return (samples.shape[0] - 1) * row + (samples.shape[1] - 1) * pixel + 1
