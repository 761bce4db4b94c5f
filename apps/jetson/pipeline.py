"""One query, stage by stage: decode or convert, resize, tokenize, upload, model, download, answer.

Python 3.8 and numpy.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import measuring
from pictures import Frame
from problems import REFUSED, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from bundle_reader import Bundle
    from calls import Plan


class Pipeline:
    """One query from files of pictures, or frames in memory, and from texts to the answer in words, stage by stage."""

    def __init__(self, bundle: Bundle, runner: Any, pictures: Sequence[bytes | Frame], texts: Sequence[str]):
        self._bundle, self._runner, self._query = bundle, runner, (pictures, texts)
        self.stages = measuring.Stages()

    def __call__(self) -> float:
        """Seconds of a query, on the host's clock."""
        started = time.perf_counter()
        self.answer(*self._query)
        return time.perf_counter() - started

    def answer(self, pictures: Sequence[bytes | Frame], texts: Sequence[str]) -> list[str]:
        bundle, runner, stage = self._bundle, self._runner, self.stages
        plan = bundle.decoding.plan(len(pictures), len(texts))
        leaves: dict[Any, np.ndarray] = {}
        if pictures:
            with stage("convert" if isinstance(pictures[0], Frame) else "decode"):
                images = [each.picture() if isinstance(each, Frame) else bundle.decode(each) for each in pictures]
            with stage("resize"):
                leaves.update(self._pixels(plan, images))
        if texts:
            with stage("tokenize"):
                leaves.update(self._ids(plan, texts))
        with stage("upload"):
            runner.put(plan, leaves)
        with stage("model"):
            runner.run()
        with stage("download"):
            values = runner.get()
        with stage("answer"):
            return self._words(values, texts)

    def values(self, pictures: Sequence[Any], texts: Sequence[str], along: Any) -> dict[str, np.ndarray]:
        """The values of a query with decoded pictures, along the recorded result. See `golden_cases.replay`."""
        plan = self._bundle.decoding.plan(len(pictures), len(texts))
        self._runner.put(plan, {**self._pixels(plan, pictures), **self._ids(plan, texts)})
        self._runner.run(along)
        return self._runner.get()

    def _pixels(self, plan: Plan, images: Sequence[Any]) -> dict[Any, np.ndarray]:
        pixels = self._bundle.pixels
        return {leaf: pixels(images[leaf.index], leaf.processing) for leaf in plan.leaves("picture")}

    def _ids(self, plan: Plan, texts: Sequence[str]) -> dict[Any, np.ndarray]:
        codecs = self._bundle.texts
        return {leaf: codecs[leaf.processing].part(texts[leaf.index], leaf.part) for leaf in plan.leaves("text")}

    def _words(self, values: dict[str, np.ndarray], texts: Sequence[str]) -> list[str]:
        decoding = self._bundle.decoding
        try:
            return decoding.words(decoding.answer(values), texts)
        except ValueError as error:
            raise Problem(REFUSED, f"the artifact answers with values that no answer follows from: {error}") from None
