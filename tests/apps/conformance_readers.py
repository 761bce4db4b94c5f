"""Readers of bundles that the suite is replayed with: EdgeVL, the board's script, and the second implementation."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import second_implementation as second  # pyright: ignore[reportMissingImports]  of tests/bundle
import second_texts  # pyright: ignore[reportMissingImports]  of tests/bundle
from second_pictures import read_picture  # pyright: ignore[reportMissingImports]  of tests/bundle
from second_resize import to_square  # pyright: ignore[reportMissingImports]  of tests/bundle

from edgevl.bundle.folder import Bundle
from edgevl.contracts import Answer, Query
from edgevl.errors import EdgeVLError
from edgevl.inputs.images import to_tensor

Values = dict[str, np.ndarray]


class Refused(Exception):
    """The reader does not take it."""


class Reader(Protocol):
    """A bundle as one implementation reads it. Every method raises `Refused` for what must not be read."""

    def pixels(self, processing: str, picture: Path) -> bytes: ...
    def ids(self, processing: str, text: str) -> list[int]: ...
    def words(self, processing: str, ids: Sequence[int]) -> str: ...
    def answer(self, pictures: Sequence[Path], texts: Sequence[str], along: Any) -> tuple[Values, list[Any]]: ...


class Own:
    """EdgeVL's own line."""

    def __init__(self, path: Path):
        try:
            self.model = Bundle.open(path).checked().opened(threads=1)
            if problems := self.model.problems():
                raise Refused(problems[0])
        except EdgeVLError as error:
            raise Refused(str(error)) from error

    def pixels(self, processing: str, picture: Path) -> bytes:
        try:
            return to_tensor(picture, self.model.images[processing], self.model.images.values()).tobytes()
        except EdgeVLError as error:
            raise Refused(str(error)) from error

    def ids(self, processing: str, text: str) -> list[int]:
        try:
            return self.model.texts[processing].encode(text).tolist()
        except EdgeVLError as error:
            raise Refused(str(error)) from error

    def words(self, processing: str, ids: Sequence[int]) -> str:
        return self.model.texts[processing].decode(ids)

    def answer(self, pictures: Sequence[Path], texts: Sequence[str], along: Any) -> tuple[Values, list[Any]]:
        follow = [Answer({}, along)] if along is not None else None
        (answer,) = self.model.answer([Query(tuple(pictures), tuple(texts))], follow)
        return dict(answer.values), list(answer.result)


class Board:
    """The board's script. `modules`: those of apps/jetson."""

    def __init__(self, modules: SimpleNamespace, path: Path):
        self.modules = modules
        try:
            self.bundle = modules.bundle_reader.Bundle(path)
            runner = modules.onnx_runner.OnnxRunner(self.bundle, 1)
        except modules.problems.Problem as problem:
            raise Refused(str(problem)) from problem
        self.pipeline = modules.pipeline.Pipeline(self.bundle, runner, (), ())

    def pixels(self, processing: str, picture: Path) -> bytes:
        try:
            return self.bundle.pixels(self.bundle.decode(picture.read_bytes()), processing).tobytes()
        except self.modules.problems.Problem as problem:
            raise Refused(str(problem)) from problem

    def ids(self, processing: str, text: str) -> list[int]:
        try:
            return self.bundle.texts[processing].encode(text).tolist()
        except self.modules.problems.Problem as problem:
            raise Refused(str(problem)) from problem

    def words(self, processing: str, ids: Sequence[int]) -> str:
        return self.bundle.texts[processing].decode(ids)

    def answer(self, pictures: Sequence[Path], texts: Sequence[str], along: Any) -> tuple[Values, list[Any]]:
        decoded = [self.modules.bundle_reader.decode(picture.read_bytes()) for picture in pictures]
        values = self.pipeline.values(decoded, texts, along)
        return values, list(self.bundle.decoding.answer(values).result)


class Second:
    """The reader that was written from docs/bundle.md alone. It checks digests, and few of the rules."""

    def __init__(self, path: Path):
        self.bundle = second.SecondBundle(path)

    def pixels(self, processing: str, picture: Path) -> bytes:
        try:
            rows = to_square(read_picture(picture.read_bytes()), self.bundle.manifest["image_processing"][processing])
        except (ValueError, AssertionError, IndexError, KeyError) as error:  # it asserts, and knows few formats
            raise Refused(str(error)) from error
        return bytes(value for row in rows for pixel in row for value in pixel)

    def ids(self, processing: str, text: str) -> list[int]:
        try:
            return second_texts.encode(text, *self._tokenizer(processing))
        except ValueError as error:
            raise Refused(str(error)) from error

    def words(self, processing: str, ids: Sequence[int]) -> str:
        return second_texts.decode(list(ids), *self._tokenizer(processing))

    def _tokenizer(self, processing: str) -> tuple[dict[str, Any], dict[str, Any]]:
        spec = self.bundle.manifest["text_processing"][processing]
        return spec, json.loads((self.bundle.folder / spec["file"]).read_text("utf-8"))

    def answer(self, pictures: Sequence[Path], texts: Sequence[str], along: Any) -> tuple[Values, list[Any]]:
        for picture in pictures:  # it knows pictures by their names in the bundle
            self.bundle.manifest["files"][str(picture)] = {"sha256": str(picture)}
        values, result = self.bundle.answer(second.Query(tuple(map(str, pictures)), tuple(texts)), along)
        return {name: np.array(rows) for name, rows in values.items()}, result
