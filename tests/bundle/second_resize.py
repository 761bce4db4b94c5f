"""Decoded pictures to squares of S pixels, from docs/bundle.md alone: every geometry and kernel, in plain Python."""

from collections.abc import Callable
from typing import Any

from second_pictures import Rows

Kernel = tuple[int, Callable[[float], float]]  # how far it reaches, and its weight at a distance


def triangle(x: float) -> float:
    return max(0, 1 - abs(x))


def cubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * -0.5 if x < 2 else 0.0


KERNELS: dict[str, Kernel] = {"triangle": (1, triangle), "cubic": (2, cubic)}


def weights(n: int, m: int, kernel: Kernel) -> list[tuple[int, list[int]]]:
    reach, weight = kernel
    scale = n / m
    widened = max(scale, 1)
    support = reach * widened
    found = []
    for out in range(m):
        center = (out + 0.5) * scale
        first = max(int(center - support + 0.5), 0)
        last = min(int(center + support + 0.5), n)
        w = [weight((x - center + 0.5) * (1 / widened)) for x in range(first, last)]
        total = 0.0
        for value in w:
            total += value
        shares = [value / total for value in w]
        found.append((first, [int((-0.5 if share < 0 else 0.5) + share * 2**22) for share in shares]))
    return found


def resize_line(line: list[tuple[int, ...]], factors: list[tuple[int, list[int]]]) -> list[tuple[int, ...]]:
    result = []
    for first, k in factors:
        sums = [2**21] * 3
        for offset, factor in enumerate(k):
            for channel in range(3):
                sums[channel] += line[first + offset][channel] * factor
        result.append(tuple(min(max(value >> 22, 0), 255) for value in sums))
    return result


def resize(rows: Rows, width: int, height: int, kernel: Kernel) -> Rows:
    """Horizontal pass over all rows, then the vertical one. A pass between equal lengths changes nothing."""
    if len(rows[0]) != width:
        factors = weights(len(rows[0]), width, kernel)
        rows = [resize_line(row, factors) for row in rows]
    if len(rows) != height:
        factors = weights(len(rows), height, kernel)
        columns = [resize_line(list(column), factors) for column in zip(*rows, strict=True)]
        rows = [list(row) for row in zip(*columns, strict=True)]
    return rows


def squash(rows: Rows, processing: dict[str, Any], kernel: Kernel) -> Rows:
    return resize(rows, processing["size"], processing["size"], kernel)


def shortest_edge(rows: Rows, processing: dict[str, Any], kernel: Kernel) -> Rows:
    size, width, height = processing["size"], len(rows[0]), len(rows)
    edge, short, long = processing.get("shortest_edge") or size, min(width, height), max(width, height)
    if long > 200 * short:
        raise ValueError("a picture that is too long")
    other = edge * long // short
    rows = resize(rows, *((edge, other) if width <= height else (other, edge)), kernel)
    top, left = (len(rows) - size) // 2, (len(rows[0]) - size) // 2
    return [row[left : left + size] for row in rows[top : top + size]]


def letterbox(rows: Rows, processing: dict[str, Any], kernel: Kernel) -> Rows:
    size, long = processing["size"], max(len(rows[0]), len(rows))
    width, height = (max(1, (2 * size * side + long) // (2 * long)) for side in (len(rows[0]), len(rows)))
    inner = resize(rows, width, height, kernel)
    top, left = (size - height) // 2, (size - width) // 2
    square: Rows = [[(114, 114, 114)] * size for _ in range(size)]
    for y, row in enumerate(inner):
        square[top + y][left : left + width] = row
    return square


GEOMETRIES = {"squash": squash, "shortest-edge": shortest_edge, "letterbox": letterbox}


def to_square(rows: Rows, processing: dict[str, Any]) -> Rows:
    """S rows of S pixels. KeyError for a geometry or a kernel that is not known."""
    return GEOMETRIES[processing["geometry"]](rows, processing, KERNELS[processing["kernel"]])
