"""What the readers share: which values reach an output, which are constant, how many multiply-adds an operator does.

A side of a shape that is not fixed is -1 and counts as 1, so the count is that of one sample or one position.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO

from edgevl.errors import VerificationFailed
from edgevl.formats import bits_of

Shape = tuple[int, ...]
MOST_SIDES = 256  # of a shape: 64 bits times as many are a number that takes a while
SMALLEST_DIGEST = 1024  # bytes: smaller tensors are not worth sharing, and many of them are equal by nature


@dataclasses.dataclass(frozen=True)
class Step:
    """An operator as names of values. What its subgraphs read belongs to `reads`."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


def live_values(steps: Iterable[Step], outputs: Iterable[str]) -> set[str]:
    """Names of the values that at least one of `outputs` depends on, the outputs among them."""
    producers: dict[str, list[Step]] = {}
    for step in steps:
        for name in step.writes:
            producers.setdefault(name, []).append(step)
    waiting, live, done = list(outputs), set[str](), set[int]()
    while waiting:
        name = waiting.pop()
        if name in live:
            continue
        live.add(name)
        for step in producers.get(name, ()):
            if id(step) not in done:  # it may write a thousand values and read a thousand
                done.add(id(step))
                waiting += step.reads
    return live


def constant_values(steps: Iterable[Step], known: Iterable[str]) -> set[str]:
    """Names of the values that follow from `known` (the weights) alone. `steps` in the order of the file."""
    constant = set(known)
    for step in steps:
        if step.reads and constant.issuperset(step.reads):
            constant.update(step.writes)
    return constant


class Once:
    """The bytes of a file that were hashed: those of a whole one at most twice, however often its parts name them."""

    def __init__(self, size: int, what: str):
        self._left, self._what = 2 * size + 2**16, what

    def add(self, count: int) -> None:
        """Raise `VerificationFailed` if that is too much: then parts overlap."""
        self._left -= count
        if self._left < 0:
            raise VerificationFailed(f"{self._what} names the same bytes as many weights: they overlap")


class Parts:
    """Digests of parts of one file, each read once, in blocks."""

    def __init__(self, file: Path):
        self._file, self.size = file, file.stat().st_size
        self._hashed, self._known = Once(self.size, file.name), dict[tuple[int, int], str]()

    def digest(self, start: int, length: int) -> str:
        """Of `length` bytes from `start`; "" for few. Raises `VerificationFailed` if parts overlap again and again."""
        if length < SMALLEST_DIGEST:
            return ""
        if (start, length) not in self._known:
            self._hashed.add(length)
            with self._file.open("rb") as stream:
                stream.seek(start)
                self._known[start, length] = _digest_of(stream, length)
        return self._known[start, length]


def _digest_of(stream: IO[bytes], length: int) -> str:
    found = hashlib.sha256()
    while length and (block := stream.read(min(length, 2**20))):
        found.update(block)
        length -= len(block)
    return found.hexdigest()


class Backwards:
    """Follow values back through operators that only move numbers, and remember where each led.

    Many products may read the same long chain, and a damaged file may hold a circle.
    """

    def __init__(self, step: Callable[[str], tuple[str, str]]):
        """step: from a value to (what it is, "") where its origin says so, or ("", the value that it is moved from)."""
        self._step, self._known = step, dict[str, str]()

    def __call__(self, name: str) -> str:
        passed, found = [], ""
        while name and name not in self._known:
            self._known[name] = ""
            passed.append(name)
            found, name = self._step(name)
        found = self._known.get(name, found)
        self._known.update(dict.fromkeys(passed, found))
        return found


def size(shape: Iterable[int]) -> int:
    """Number of elements, of which a side that is not fixed counts as one."""
    return elements([max(1, side) for side in shape])


def elements(shape: Sequence[int]) -> int:
    """Number of elements. Raises `VerificationFailed` for a shape of more sides than any format has."""
    if len(shape) > MOST_SIDES:
        raise VerificationFailed(f"a value has {len(shape):,} dimensions")
    return math.prod(shape)


def convolution_macs(output: Shape, weight: Shape) -> int:
    """Of a convolution with weight [out channels, in channels / groups, kernel...], whatever its strides."""
    return size(output) * size(weight[1:])


def transposed_convolution_macs(data: Shape, weight: Shape) -> int:
    """Of a transposed convolution with weight [in channels, out channels / groups, kernel...]."""
    return size(data) * size(weight[1:])


def product_macs(output: Shape, depth: int) -> int:
    """Of a matrix product whose sums run over `depth` terms."""
    return size(output) * max(1, depth)


def attention_macs(query: Shape, key: Shape, output: Shape) -> int:
    """Of scaled dot-product attention: query by key, then the weights by value. [..., tokens, channels]"""
    return (size(query) + size(output)) * max(1, key[-2])


def einsum_macs(equation: str, operands: Sequence[Shape]) -> int:
    """Of an Einstein sum of two operands: one multiply-add for each combination of its indices. 0 for other counts."""
    terms = equation.replace(" ", "").split("->")[0].split(",")
    if len(terms) != 2 or len(operands) != 2:
        return 0
    sides: dict[str, int] = {}
    for term, shape in zip(terms, operands):
        before, dots, after = term.partition("...")
        head, tail = shape[: len(before)], shape[len(shape) - len(after) :]
        labels = [*zip(before, head), *zip(after, tail)]
        if dots:  # broadcast sides line up at their ends
            middle = shape[len(before) : len(shape) - len(after)]
            labels += [(f".{index}", side) for index, side in enumerate(reversed(middle))]
        for label, side in labels:
            sides[label] = max(sides.get(label, 1), side)
    return size(sides.values())


def digest(data: bytes | memoryview) -> str:
    """Of the stored bytes of a tensor; "" for a small one."""
    return hashlib.sha256(data).hexdigest() if len(data) >= SMALLEST_DIGEST else ""


def integer_compute(data: str, weight: str) -> str:
    """What a kernel multiplies in whose operands are both quantized: the wider of the two, at least int8."""
    return f"int{max(8, bits_of(data), bits_of(weight))}"
