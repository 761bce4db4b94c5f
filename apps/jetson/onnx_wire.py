"""Does an ONNX file keep weights in other files? Read from its bytes alone: no package is needed, nothing is run.

ONNX Runtime opens the files that a model names; versions before 1.2x open any path. The bundle's format has the
weights inside. Python 3.8, the standard library only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Fields of onnx.proto that lead to a tensor: message -> number of the field -> message that it holds.
_LEADS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
}
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5  # wire types


def keeps_weights_elsewhere(data: bytes) -> bool:
    """Is a tensor's data in another file? Raises ValueError where the bytes are no message of protobuf at all."""
    waiting, view = [("model", 0, len(data))], memoryview(data)
    while waiting:
        kind, start, end = waiting.pop()
        for number, first, last in _fields(view, start, end):
            inner = _LEADS[kind].get(number)
            if inner == "external":
                return True
            if inner:
                waiting.append((inner, first, last))
    return False


def _fields(data: memoryview, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, first byte, behind the last) of the fields of one message that have a length."""
    while place < end:
        tag, place = _varint(data, place, end)
        kind, size = tag & 7, 0
        if kind == _VARINT:
            _, place = _varint(data, place, end)
        elif kind == _LENGTH:
            size, place = _varint(data, place, end)
        elif kind in (_EIGHT, _FOUR):
            place += 8 if kind == _EIGHT else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if place + size > end:
            raise ValueError("a field ends behind its message")
        if kind == _LENGTH:
            yield tag >> 3, place, place + size
        place += size


def _varint(data: memoryview, place: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while place < end and shift < 70:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError("a number that does not end")
