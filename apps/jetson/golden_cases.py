"""Golden cases: what a bundle says of its own pictures and texts, replayed along the recorded decisions.

Shapes: N texts, P pictures or steps, A scores.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from problems import REFUSED, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bundle_reader import Bundle
    from decodings import Answer, Arrays
    from PIL import Image

MOST_VALUES = 2**24  # of an output of one case
CLOSE = 1e-4  # of a recorded margin, beside the one that follows from the values


def recorded_values(values: dict[str, Any]) -> np.ndarray:
    """Return float64 of the recorded shape; what is not stored is minus infinity. Raises ValueError if none fits."""
    data, top, shape = values.get("data"), values.get("top"), values["shape"]
    if (data is None) == (top is None):
        raise ValueError("must have either data or top")
    if data is not None:
        return np.array(data, np.float64).reshape(shape)
    if len(shape) != 2 or len(top) != shape[0] or math.prod(shape) > MOST_VALUES:
        raise ValueError(f"the largest values of {len(top)} rows do not fit {shape}")
    array = np.full(shape, -np.inf)
    for row, pairs in zip(array, top):
        for index, value in pairs:
            if index >= len(row):
                raise ValueError(f"the index {index} is beyond {shape}")
            row[index] = value
    return array


class Case:
    """A golden case of an opened bundle. Every method raises `Problem` (4) that names the case."""

    def __init__(self, bundle: Bundle, case: dict[str, Any]):
        self.bundle, self.case = bundle, case
        self.texts: list[str] = case["texts"]
        self.name = case["pictures"][0] if case["pictures"] else (self.texts or [""])[0][:60]

    def fails(self, what: object) -> Problem:
        return Problem(REFUSED, f"golden case {self.name}: {what}")

    def pictures(self) -> list[Image.Image]:
        """Return the upright RGB pictures."""
        try:
            return [self.bundle.picture(name) for name in self.case["pictures"]]
        except Problem as problem:
            raise self.fails(problem) from None

    def check_inputs(self, pictures: list[Image.Image]) -> None:
        """Hold the pixels of each image processing and the token ids of each text processing against the recorded."""
        bundle = self.bundle
        try:
            pixels = {name: [digest(bundle.pixels(picture, name)) for picture in pictures]
                      for name in bundle.manifest["image_processing"]}  # fmt: skip
            ids = {name: [codec.encode(text).tolist() for text in self.texts] for name, codec in bundle.texts.items()}
        except Problem as problem:
            raise self.fails(problem) from None
        if pixels != self.case["pixels_sha256"]:
            raise self.fails("other pixels than recorded (Pillow's resize)")
        if any(self.case["input_ids"].get(name) != own for name, own in ids.items()):
            raise self.fails("other token ids than recorded")

    def recorded(self) -> tuple[Arrays, Answer]:
        """Return the recorded values, and the recorded result, which follows from them, with its margins."""
        decoding, case = self.bundle.decoding, self.case
        try:
            values = {name: recorded_values(entry) for name, entry in case["values"].items()}
            plan = decoding.plan(len(case["pictures"]), len(self.texts))
            if set(values) != set(plan.outputs):
                raise ValueError(f"it records {', '.join(values)}, the decoding reads {', '.join(plan.outputs)}")
            answer = decoding.answer(values)
        except (ValueError, Problem) as error:
            raise self.fails(error) from None
        result = case["result"]
        if len(result) != len(answer.result) or not all(map(decoding.equal, answer.result, result)):
            raise self.fails("the recorded result does not follow from the recorded values")
        margins = case["margins"]
        if len(margins) != len(answer.margins) or not np.allclose(answer.margins, margins, rtol=0, atol=CLOSE):
            raise self.fails("the recorded margins do not follow from the recorded values")
        return values, answer

    def check_answer(self, own: Arrays, values: Arrays, recorded: Answer, tolerance: Mapping[str, float]) -> None:
        """Hold what a runtime gave against what is recorded: each stored value, then the decisions that are clear."""
        for name, wanted in values.items():
            allowed, worst = tolerance.get(name, 0), largest_difference(own[name], wanted)
            if not worst <= allowed:  # a NaN is not within it
                raise self.fails(f"{name} differs by {worst:.4g}, at most {allowed:.4g} is allowed")
        try:
            answer = self.bundle.decoding.answer(own)
        except ValueError as error:
            raise self.fails(error) from None
        if not self.bundle.decoding.same(answer, recorded, tolerance):
            raise self.fails(f"the result is {shown(answer.result)}, recorded is {shown(recorded.result)}")


def check(bundle: Bundle) -> None:
    """Hold every golden case against its own pictures, texts and result, before anything of the bundle runs.

    Raises `Problem` (4) with the first case that fails.
    """
    for each in bundle.golden["cases"]:
        case = Case(bundle, each)
        case.check_inputs(case.pictures())
        case.recorded()


def replay(bundle: Bundle, run: Callable[[list[Image.Image], list[str], Any], Arrays]) -> int:
    """Replay every golden case and return how many there are; `run(pictures, texts, along)` gives values by output.

    `along` is the recorded result: a sequence follows its tokens, so that each step can be compared. Raises `Problem`
    (4) with the first case that fails: the pixels, the token ids, a value or the result.
    """
    for each in bundle.golden["cases"]:
        case = Case(bundle, each)
        pictures = case.pictures()
        case.check_inputs(pictures)
        values, recorded = case.recorded()
        try:
            own = run(pictures, case.texts, recorded.result)
        except Problem as problem:
            raise Problem(problem.exit_code, f"golden case {case.name}: {problem}") from None
        case.check_answer(own, values, recorded, bundle.golden["tolerance"])
    return len(bundle.golden["cases"])


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def largest_difference(own: np.ndarray, wanted: np.ndarray) -> float:
    """Return the largest difference where a value is recorded; infinity for another shape."""
    if own.shape != wanted.shape:
        return math.inf
    stored = np.isfinite(wanted)
    return float(np.abs(own.astype(np.float64)[stored] - wanted[stored]).max())


def shown(result: list[Any]) -> str:
    text = ", ".join(f'"{each}"' if isinstance(each, str) else str(each) for each in result)
    return text if len(text) <= 80 else text[:79] + "…"
