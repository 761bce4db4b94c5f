"""Golden cases: pictures and texts with the exact tensors, token ids and values that belong to them.

Every app in every language replays them, so that its decoding, resizing and tokenizing are known to be those of
training. The values are those of the float PyTorch model; `tolerance` says how far the artifact's may be from them.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from edgevl.apps.jetson import schema_1
from edgevl.bundle.fields import Name, Part, Real, RelativePath, Sha256, Text
from edgevl.bundle.folder import Bundle
from edgevl.bundle.manifest import check_schema, parse_json, read_text, validate
from edgevl.contracts import Answer, Arrays, Decoding, Query
from edgevl.errors import InputError, VerificationFailed
from edgevl.inputs.images import to_tensor
from edgevl.inputs.preprocess import load_image
from edgevl.precisions import PRECISIONS

if TYPE_CHECKING:
    from edgevl.contracts import Dataset, Sample
    from edgevl.opened import Opened

GOLDEN = "golden.json"
PLAIN_CASES = 4
_CANDIDATES = 16  # records looked at for the plain cases
_FIRST_RECORD = 1_000_000  # of an endless data set: far from the samples that accuracy is measured on
_DIGITS = 6  # behind the point, of a value
_CLOSE = 1e-4  # of a margin, beside the one that follows from the values

TokenId = Annotated[int, Field(ge=0, le=2**22)]
Index = Annotated[int, Field(ge=0, le=2**22)]


class Values(Part):
    """An output of a query: all of its numbers, or the largest of each row, with their places in it."""

    shape: Annotated[tuple[Annotated[int, Field(ge=1, le=2**20)], ...], Field(min_length=1, max_length=4)]
    data: Annotated[tuple[Real, ...], Field(min_length=1, max_length=2**20)] | None = None  # in C order
    top: (
        Annotated[
            tuple[Annotated[tuple[tuple[Index, Real], ...], Field(min_length=2, max_length=64)], ...],
            Field(min_length=1, max_length=4096),
        ]
        | None
    ) = None

    def array(self) -> np.ndarray:
        """Return float64 of `shape`; what is not stored is minus infinity. Raises ValueError if they do not fit."""
        if (self.data is None) == (self.top is None):
            raise ValueError("must have either data or top")
        if self.data is not None:
            return np.array(self.data).reshape(self.shape)
        if len(self.shape) != 2 or len(self.top or ()) != self.shape[0] or math.prod(self.shape) > 2**24:
            raise ValueError(f"the largest values of {len(self.top or ())} rows do not fit {list(self.shape)}")
        array = np.full(self.shape, -np.inf)
        for row, pairs in zip(array, self.top or ()):
            for index, value in pairs:
                if index >= len(row):
                    raise ValueError(f"the index {index} is beyond {list(self.shape)}")
                row[index] = value
        return array

    @classmethod
    def of(cls, array: np.ndarray, largest: int | None) -> "Values":
        """Store an array [N, A]: all, or `largest` of each row."""
        rounded = array.astype(np.float64).round(_DIGITS)
        if largest is None or largest >= array.shape[-1]:
            return cls(shape=array.shape, data=tuple(rounded.flatten().tolist()))
        places = np.argsort(-rounded, axis=-1, kind="stable")[:, :largest]
        top = [[(int(place), float(row[place])) for place in chosen] for row, chosen in zip(rounded, places)]
        return cls(shape=array.shape, top=tuple(map(tuple, top)))


class GoldenCase(Part):
    """A query, what goes into the programs for it, and what comes out."""

    pictures: Annotated[tuple[RelativePath, ...], Field(max_length=64)]
    texts: Annotated[tuple[Text, ...], Field(max_length=64)]
    # Of each picture by each image processing: of the uint8 [S, S, 3] tensor's bytes in C order.
    pixels_sha256: Annotated[dict[Name, tuple[Sha256, ...]], Field(max_length=8)]
    # Of each text by each text processing.
    input_ids: Annotated[
        dict[Name, tuple[Annotated[tuple[TokenId, ...], Field(min_length=2, max_length=4096)], ...]],
        Field(max_length=8),
    ]
    values: Annotated[dict[Name, Values], Field(min_length=1, max_length=16)]
    result: Annotated[tuple[Any, ...], Field(max_length=4096)]  # what the decoding makes of the values
    margins: Annotated[
        tuple[Real, ...], Field(max_length=4096)
    ]  # of each decision, as it follows from the values; below twice the tolerance it is free

    @property
    def name(self) -> str:
        """What a message calls it."""
        return self.pictures[0] if self.pictures else (self.texts or ("",))[0][:60]


class GoldenFile(Part):
    schema_version: Literal[2] = 2
    # Output -> the largest absolute difference of a value.
    tolerance: Annotated[dict[Name, Annotated[float, Field(gt=0, le=1e6)]], Field(min_length=1, max_length=16)]
    cases: Annotated[tuple[GoldenCase, ...], Field(min_length=1, max_length=64)]


@dataclasses.dataclass(frozen=True)
class Replay:
    """What became of the golden cases. `problems` has one sentence for each one that failed."""

    passed: int
    total: int
    problems: tuple[str, ...]


# ---- writing ---------------------------------------------------------------------------------------------------------
def write_golden(model: "Opened", folder: Path, precisions: Mapping[str, str], data: str | Sequence[Query]) -> None:
    """Write `golden.json` and the pictures `golden/*.png` into a bundle's folder.

    Args:
        model: the float model.
        folder: of the bundle.
        precisions: output -> precision of the program that gives it.
        data: that pictures and texts are from, or the queries themselves.

    Raises `InputError` for a model whose values are not finite.
    """
    (folder / "golden").mkdir()
    chosen = _choose(model, data) if isinstance(data, str) else ((f"{n}-query", query) for n, query in enumerate(data))
    cases = [_write_case(model, folder, name, query) for name, query in chosen]
    tolerance = {}
    for output in cases[0].values:
        stored = np.concatenate([case.values[output].array().ravel() for case in cases])
        largest = float(np.abs(stored[np.isfinite(stored)]).max())
        tolerance[output] = float(f"{PRECISIONS[precisions[output]].golden * max(largest, 1e-6):.3g}")
    golden = GoldenFile(tolerance=tolerance, cases=tuple(cases))
    text = json.dumps(golden.model_dump(mode="json", exclude_none=True), indent=1, ensure_ascii=False)
    (folder / GOLDEN).write_text(text + "\n", encoding="utf-8")


def _choose(model: "Opened", data: str) -> Iterator[tuple[str, Query]]:
    """Yield (name, query): samples of different kinds that the model is sure of, then a wide and a tall picture."""
    from edgevl.data import open_dataset

    dataset = open_dataset(data, size=max([32, *(processing.size for processing in model.images.values())]))
    samples = list(_candidates(dataset, model))
    if not samples:
        raise InputError(f'"{data}" holds nothing that the task {model.task_name} can ask')
    chosen = _surest(model, samples)
    queries = _together(model, [sample.query for sample in (*chosen, samples[0], samples[-1])])
    for index, (sample, query) in enumerate(zip(chosen, queries)):
        yield f"{index}-{sample.kind.replace(' ', '_')}", query
    pictures = [np.asarray(load_image(picture)) for sample in samples for picture in sample.query.pictures]
    if pictures:
        yield "wide", _with_picture(queries[-2], _wide(pictures))
        yield "tall", _with_picture(queries[-1], _tall(pictures))


def _together(model: "Opened", queries: Sequence[Query]) -> list[Query]:
    """Ask all texts of each query where texts are answered together, so that a wrong order of texts is seen."""
    texts = tuple(dict.fromkeys(text for query in queries for text in query.texts))
    if len(model.decoder.apart(Query(queries[0].pictures, texts))) > 1:
        return list(queries)
    return [dataclasses.replace(query, texts=texts) for query in queries]


def _candidates(dataset: "Dataset", model: "Opened") -> Iterator["Sample"]:
    first = min(_FIRST_RECORD, max(0, len(dataset) - _CANDIDATES))
    for index in range(first, min(first + _CANDIDATES, len(dataset))):
        yield from model.task.samples(dataset[index], 1)


def _with_picture(query: Query, picture: np.ndarray) -> Query:
    return dataclasses.replace(query, pictures=(picture, *query.pictures[1:]))


def _wide(pictures: Sequence[np.ndarray]) -> np.ndarray:
    first, second = _of_one_size(pictures[0], pictures[1 % len(pictures)])
    side = first.shape[0]
    return np.concatenate([first, second], axis=1)[: side - side // 7, : 2 * side - side // 5]


def _tall(pictures: Sequence[np.ndarray]) -> np.ndarray:
    first, second = _of_one_size(pictures[0], pictures[1 % len(pictures)])
    side = first.shape[1]
    return np.concatenate([second, first], axis=0)[:, side // 9 : side - side // 3]


def _of_one_size(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    height, width = (min(a, b) for a, b in zip(first.shape, second.shape[:2]))
    return first[:height, :width], second[:height, :width]


def _surest(model: "Opened", samples: Sequence["Sample"]) -> list["Sample"]:
    """The surest sample of each kind, then the surest of the others, until there are enough."""
    answers = _answers(model, [sample.query for sample in samples])
    margins = [min(answer.margins, default=0.0) for answer in answers]
    order = sorted(range(len(samples)), key=lambda index: -margins[index])
    kinds: dict[str, int] = {}
    for index in order:
        kinds.setdefault(samples[index].kind, index)
    chosen = list(kinds.values()) + [index for index in order if index not in kinds.values()]
    return [samples[index] for index in chosen[:PLAIN_CASES]]


def _answers(model: "Opened", queries: Sequence[Query]) -> list[Answer[Any]]:
    try:
        answers = model.answer(queries)
    except VerificationFailed as error:
        raise InputError(f"{model.name} answers with values that are not finite: a value inside overflows") from error
    if not all(np.isfinite(array).all() for answer in answers for array in answer.values.values()):
        raise InputError(f"{model.name} answers with values that are not finite: a value inside overflows")
    return answers


def _write_case(model: "Opened", folder: Path, name: str, query: Query) -> GoldenCase:
    paths = []
    for index, picture in enumerate(query.pictures):
        path = f"golden/{name}.png" if len(query.pictures) == 1 else f"golden/{name}-{index}.png"
        Image.fromarray(np.asarray(load_image(picture))).save(folder / path)
        paths.append(path)
    (answer,) = _answers(model, [query])
    values = {output: Values.of(array, model.decoder.stored) for output, array in answer.values.items()}
    stored = model.decoder.answer({output: each.array() for output, each in values.items()})
    return GoldenCase(
        pictures=tuple(paths),
        texts=query.texts,
        pixels_sha256={name: tuple(_digests(model, name, query)) for name in model.images},
        input_ids={name: tuple(_ids(model, name, query)) for name in model.texts},
        values=values,
        result=tuple(stored.result),
        margins=tuple(round(margin, _DIGITS) for margin in stored.margins),
    )


def _digests(model: "Opened", processing: str, query: Query) -> Iterator[str]:
    for picture in query.pictures:
        yield pixels_sha256(to_tensor(picture, model.images[processing]))


def _ids(model: "Opened", processing: str, query: Query) -> Iterator[tuple[int, ...]]:
    for text in query.texts:
        yield tuple(model.texts[processing].encode(text).tolist())


def pixels_sha256(pixels: np.ndarray) -> str:
    """The digest of uint8 [S, S, 3] as golden.json records it: rows, then columns, then R, G, B."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


# ---- reading and replaying -------------------------------------------------------------------------------------------
def read_golden(bundle: Bundle) -> GoldenFile:
    """Read golden.json, of schema 1 or 2. Raises `VerificationFailed` if it is missing, truncated or invalid."""
    name = bundle.manifest.golden
    values = parse_json(read_text(bundle.file(name)), name)
    if isinstance(values, dict) and values.get("schema_version") == 1:
        try:
            check_schema("GoldenFile", values, version=1)
        except ValueError as error:
            raise VerificationFailed(f"{name} is not valid: {error}; export the bundle again") from None
        values = schema_1.upgraded_golden(values)
    return validate(GoldenFile, values, name)


def replay(bundle: Bundle, model: "Opened") -> Replay:
    """Hold every golden case against the bundle's own processings and labels, and the artifact if `model` can run."""
    golden = read_golden(bundle)
    problems = [
        f"golden case {case.name}: {problem}"
        for case in golden.cases
        if (problem := _case_problem(bundle, model, case, golden.tolerance))
    ]
    return Replay(len(golden.cases) - len(problems), len(golden.cases), tuple(problems))


def query_of(bundle: Bundle, case: GoldenCase) -> Query:
    """Return the query of a golden case, with its pictures as paths."""
    return Query(tuple(bundle.file(path) for path in case.pictures), case.texts)


def _case_problem(bundle: Bundle, model: "Opened", case: GoldenCase, tolerance: Mapping[str, float]) -> str | None:
    try:
        query = query_of(bundle, case)
        recorded = recorded_answer(case, model.decoder)
        return _input_problem(model, case, query) or (model.runner and run_problem(model, query, recorded, tolerance))
    except (InputError, VerificationFailed, ValueError) as error:
        return str(error)


def _input_problem(model: "Opened", case: GoldenCase, query: Query) -> str | None:
    if case.pixels_sha256 != {name: tuple(_digests(model, name, query)) for name in model.images}:
        return "the preprocessed picture is not the recorded tensor"
    for name, codec in model.texts.items():
        if case.input_ids.get(name) != tuple(_ids(model, name, query)):
            return f"{codec.spec.file} gives other token ids than the recorded ones"
    return None


def recorded_answer(case: GoldenCase, decoder: Decoding[Any]) -> Answer[Any]:
    """Return the answer that a case records.

    Raises `VerificationFailed` if its result or its margins are not what the decoding makes of its values, ValueError
    if the values are none, or not those that the decoding reads.
    """
    try:
        answer = decoder.answer({name: values.array() for name, values in case.values.items()})
    except KeyError as error:
        raise VerificationFailed(f"it records no value {error}, which the decoding reads") from None
    if not _same_result(answer.result, case.result):
        raise VerificationFailed(f"the recorded result {_short(case.result)} does not follow from the recorded values")
    if len(answer.margins) != len(case.margins) or not np.allclose(answer.margins, case.margins, rtol=0, atol=_CLOSE):
        raise VerificationFailed("the recorded margins do not follow from the recorded values")
    return answer


def _same_result(own: Sequence[Any], recorded: Sequence[Any]) -> bool:
    return len(own) == len(recorded) and all(map(_same_item, own, recorded))


def _same_item(own: Any, recorded: Any) -> bool:
    if isinstance(own, list):  # a box
        return isinstance(recorded, list | tuple) and np.allclose(own, recorded, rtol=0, atol=1e-5)
    return type(own) is type(recorded) and own == recorded


def run_problem(model: "Opened", query: Query, recorded: Answer[Any], tolerance: Mapping[str, float]) -> str | None:
    """Run a query along the recorded decisions, and say where the values or the result differ too much."""
    (own,) = model.answer([query], [recorded])
    for name, expected in recorded.values.items():
        difference = largest_difference(own.values, expected, name)
        if not difference <= tolerance.get(name, 0):  # also when it is not a number
            return (
                f"{name} differs by {difference:.4g} from the recorded value, "
                f"at most {tolerance.get(name, 0):.4g} is allowed"
            )
    if not model.decoder.same(own, recorded, tolerance):
        return f"the result is {_short(own.result)}, the recorded one is {_short(recorded.result)}"
    return None


def largest_difference(own: Arrays, expected: np.ndarray, name: str) -> float:
    """Return the largest difference where a value is recorded; infinity for another shape."""
    found = own.get(name)
    if found is None or found.shape != expected.shape:
        return math.inf
    stored = np.isfinite(expected)
    return float(np.abs(found.astype(np.float64)[stored] - expected[stored]).max())


def _short(result: Sequence[Any]) -> str:
    text = ", ".join(f'"{each}"' if isinstance(each, str) else str(each) for each in result)
    return text if len(text) <= 80 else text[:79] + "…"
