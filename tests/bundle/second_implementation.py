"""A reader of bundles written from docs/bundle.md alone: nothing of EdgeVL, no Pillow, no `tokenizers`, and no task.

It evaluates the sources and the decoding that a manifest declares. NumPy holds the arrays that ONNX Runtime takes; all
other arithmetic is plain Python. Pictures are read in `second_pictures.py` and resized in `second_resize.py`, texts
encoded in `second_texts.py`.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from second_pictures import Rows, read_picture
from second_resize import to_square
from second_texts import encode, mask

Row = list[float]  # numbers of one sample, flat
Values = dict[str, list[Row]]


class Query(NamedTuple):
    """Pictures, as paths in the bundle, and texts."""

    pictures: tuple[str, ...]
    texts: tuple[str, ...]


class Loop(NamedTuple):
    """Where a sequence stands: the outputs of the step before."""

    outputs: dict[str, np.ndarray] | None
    token: int
    step: int


def part(query: Query, source: dict[str, Any]) -> Query:
    """The pictures and texts that a value is computed for."""
    pictures, texts = source.get("pictures"), source.get("texts")
    return Query(
        query.pictures if pictures is None else tuple(query.pictures[index] for index in pictures),
        query.texts if texts is None else tuple(query.texts[index] for index in texts),
    )


class SecondBundle:
    """A bundle of the target `onnx`, opened as the document says."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        assert self.manifest["schema_version"] == 2
        for name, entry in self.manifest["files"].items():
            data = (folder / name).read_bytes()
            assert (hashlib.sha256(data).hexdigest(), len(data)) == (entry["sha256"], entry["bytes"]), name
        self.decoding = declared(self.manifest["decoding"])
        self.programs = {program["name"]: program for program in self.manifest["programs"]}
        self.makers = {spec["name"]: each for each in self.programs.values() for spec in each["outputs"]}
        self.calls = dict.fromkeys(self.programs, 0)
        self._memory: dict[Any, Any] = {}
        self.labels = self._labels()

    def _labels(self) -> list[str]:
        if not self.manifest.get("labels"):
            return []
        labels = self.json(self.manifest["labels"]["file"])
        assert len(labels) == self.manifest["labels"]["count"]
        return labels

    def _once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

    def json(self, name: str) -> Any:
        return self._once(("json", name), lambda: json.loads((self.folder / name).read_text(encoding="utf-8")))

    def pixels(self, picture: str, processing: str) -> Rows:
        declared = self.manifest["image_processing"][processing]
        return self._once(
            ("pixels", picture, processing),
            lambda: to_square(read_picture((self.folder / picture).read_bytes()), declared),
        )

    def ids(self, text: str, processing: str) -> list[int]:
        declared = self.manifest["text_processing"][processing]
        file = self.json(declared["file"])
        assert sorted(file["model"]["vocab"].values()) == list(range(declared["vocab_size"]))
        return encode(text, declared, file)

    # ---- sources ----------------------------------------------------------------------------------------------------
    def value(self, name: str, query: Query) -> np.ndarray:
        """An output for a query. What a program gives for the same pictures and texts is computed once."""
        program = self.makers[name]
        return self._once(("run", *self._needs(program, query)), lambda: self.run(program, query))[name]

    def _needs(self, program: dict[str, Any], query: Query) -> tuple[Any, ...]:
        """What the outputs of a program depend on, by content."""
        found: list[Any] = [program["name"]]
        for source in (spec["from"] for spec in program["inputs"]):
            index = source.get("index", 0)
            if source["kind"] == "picture":
                found.append(self.manifest["files"][query.pictures[index]]["sha256"])
            elif source["kind"] == "text":
                found.append(query.texts[index])
            elif source["kind"] == "value":
                found.append(self._needs(self.makers[source["name"]], part(query, source)))
        return tuple(found)

    def taken(self, spec: dict[str, Any], query: Query, loop: Loop | None) -> np.ndarray:
        """What goes into an input, for one sample."""
        source, sides = spec["from"], spec["shape"][1:]
        kind, index, processing = source["kind"], source.get("index", 0), source.get("processing", "main")
        if kind == "picture":
            value: Any = self.pixels(query.pictures[index], processing)
        elif kind == "text":
            value = self.ids(query.texts[index], processing)
            if source.get("part", "ids") == "mask":
                value = mask(value, self.manifest["text_processing"][processing])
        elif kind == "value":
            value = self.value(source["name"], part(query, source))
        elif kind == "state" and loop and loop.outputs:
            value = loop.outputs[source["name"]]
        elif kind == "state":
            value = self.value(source["start"], query) if source.get("start") else np.zeros(sides)
        elif kind in ("token", "step") and loop:
            value = np.full(sides, loop.token if kind == "token" else loop.step)
        else:
            raise ValueError(f"the source {kind} is not known, or does not belong here")
        return np.array(value, spec["dtype"]).reshape(sides)

    def run(self, program: dict[str, Any], query: Query, loop: Loop | None = None) -> dict[str, np.ndarray]:
        """Run one sample: repeated to the batch, the first row kept."""
        feeds = {
            spec["name"]: np.repeat(self.taken(spec, query, loop)[None], spec["shape"][0], axis=0)
            for spec in program["inputs"]
        }
        names = [spec["name"] for spec in program["outputs"]]
        self.calls[program["name"]] += 1
        found = self._session(program["artifact"]).run(names, feeds)
        return {name: array[0] for name, array in zip(names, found)}

    def _session(self, artifact: str) -> Any:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when the library is loaded
        import onnxruntime

        return self._once(("session", artifact), lambda: onnxruntime.InferenceSession(str(self.folder / artifact)))

    # ---- golden cases -----------------------------------------------------------------------------------------------
    def answer(self, query: Query, along: list[int] | None = None) -> tuple[Values, list[Any]]:
        """Values and result of a query; a sequence follows the tokens `along`."""
        values = EVALUATE[self.decoding["kind"]](self, query, along)
        return values, self.result(values)

    def result(self, values: Values) -> list[Any]:
        return RESULTS[self.decoding["kind"]](self, values)

    def replay(self) -> int:
        """Replay every golden case; returns how many."""
        golden = self.json(self.manifest["golden"])
        for case in golden["cases"]:
            self._compare_inputs(case)
            self._compare_values(case, golden["tolerance"])
        return len(golden["cases"])

    def _compare_inputs(self, case: dict[str, Any]) -> None:
        for processing in self.manifest["image_processing"]:
            for picture, digest in zip(case["pictures"], case["pixels_sha256"][processing], strict=True):
                flat = bytes(value for row in self.pixels(picture, processing) for pixel in row for value in pixel)
                assert hashlib.sha256(flat).hexdigest() == digest, picture
        for processing in self.manifest["text_processing"]:
            for text, ids in zip(case["texts"], case["input_ids"][processing], strict=True):
                assert self.ids(text, processing) == ids, text

    def _compare_values(self, case: dict[str, Any], tolerance: dict[str, float]) -> None:
        recorded = {name: stored(each) for name, each in case["values"].items()}
        implied = self.result(recorded)
        assert implied == case["result"] or near(implied, case["result"], 1e-5), "the result is not of the values"
        along = case["result"] if self.decoding["kind"] == "generate" else None
        values, result = self.answer(Query(tuple(case["pictures"]), tuple(case["texts"])), along)
        assert values.keys() == recorded.keys()
        for name, rows in recorded.items():
            assert [len(row) for row in values[name]] == [len(row) for row in rows], name
            pairs = [pair for own, row in zip(values[name], rows) for pair in zip(own, row) if pair[1] > -math.inf]
            worst = max(abs(own - wanted) for own, wanted in pairs)
            assert worst <= tolerance[name] and not any(math.isnan(own) for own, _ in pairs), (name, worst)
        assert SAME[self.decoding["kind"]](result, case, 2 * max(tolerance.values())), result


def stored(value: dict[str, Any]) -> list[Row]:
    """Rows of a recorded value; what is not stored is minus infinity."""
    width = math.prod(value["shape"][1:])
    if "data" in value:
        assert len(value["data"]) == math.prod(value["shape"])
        return [value["data"][start : start + width] for start in range(0, len(value["data"]), width)]
    rows = [dict(map(tuple, pairs)) for pairs in value["top"]]
    assert len(rows) == value["shape"][0]
    return [[row.get(index, -math.inf) for index in range(width)] for row in rows]


# ---- the four decodings ----------------------------------------------------------------------------------------------
# Kind -> the fields that it must have, and the others with what they are if they are missing.
FIELDS: dict[str, tuple[set[str], dict[str, Any]]] = {
    "classify": ({"output"}, {"activation": "softmax"}),
    "rank": ({"picture", "text", "scale"}, {"bias": 0.0, "activation": "softmax", "prompts": []}),
    "generate": ({"program", "output", "start", "stop", "steps"}, {"text": "main"}),
    "box": ({"output"}, {"format": "center"}),
}


def declared(decoding: dict[str, Any]) -> dict[str, Any]:
    """A decoding with all of its fields. ValueError for a kind or a field that is not known."""
    needed, others = FIELDS.get(decoding["kind"], (set(), {}))
    fields = decoding.keys() - {"kind"}
    if decoding["kind"] not in FIELDS or fields - needed - others.keys() or needed - fields:
        raise ValueError(f"the decoding {decoding} is not known")
    return {**others, **decoding}


def flat(array: np.ndarray) -> Row:
    return [float(value) for value in array.ravel()]


def best(row: Row) -> int:
    return row.index(max(row))


def of_each_text(bundle: SecondBundle, query: Query, _: Any) -> Values:
    output = bundle.decoding["output"]
    texts = [(text,) for text in query.texts] or [()]
    return {output: [flat(bundle.value(output, Query(query.pictures, each))) for each in texts]}


def of_each_side(bundle: SecondBundle, query: Query, _: Any) -> Values:
    picture, text = bundle.decoding["picture"], bundle.decoding["text"]
    found = {
        picture: [flat(bundle.value(picture, Query((each,), ()))) for each in query.pictures],
        text: [flat(bundle.value(text, Query((), (each,)))) for each in query.texts],
    }
    return {name: rows for name, rows in found.items() if rows}


def of_each_step(bundle: SecondBundle, query: Query, along: list[int] | None) -> Values:
    decoding, rows = bundle.decoding, []
    loop = Loop(None, decoding["start"], 0)
    for step in range(len(along) if along else decoding["steps"]):
        outputs = bundle.run(bundle.programs[decoding["program"]], query, loop)
        rows.append(flat(outputs[decoding["output"]]))
        token = along[step] if along else best(rows[-1])
        if token == decoding["stop"]:
            break
        loop = Loop(outputs, token, step + 1)
    return {decoding["output"]: rows}


def labels_of(bundle: SecondBundle, values: Values) -> list[str]:
    return [bundle.labels[best(row)] for row in values[bundle.decoding["output"]]]


def products(bundle: SecondBundle, values: Values) -> list[Row]:
    pictures, texts = (values.get(bundle.decoding[side], []) for side in ("picture", "text"))
    return [[sum(a * b for a, b in zip(p, t, strict=True)) for t in texts] for p in pictures] if texts else []


def tokens_of(bundle: SecondBundle, values: Values) -> list[int]:
    return [best(row) for row in values[bundle.decoding["output"]]]


def boxes_of(bundle: SecondBundle, values: Values) -> list[Row]:
    found = []
    for a, b, c, d in values[bundle.decoding["output"]]:
        corners = (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
        corners = corners if bundle.decoding["format"] == "center" else (a, b, c, d)
        found.append([min(max(corner, 0.0), 1.0) for corner in corners])
    return found


def same_where_clear(result: list[Any], case: dict[str, Any], least: float) -> bool:
    clear = [margin > least for margin in case["margins"]] or [True] * len(result)
    pairs = zip(result, case["result"], clear, strict=True)
    return all(own == wanted for own, wanted, is_clear in pairs if is_clear)


def same_until_unclear(result: list[int], case: dict[str, Any], least: float) -> bool:
    for own, wanted, margin in zip(result, case["result"], case["margins"], strict=True):
        if margin <= least:
            return True
        if own != wanted:
            return False
    return True


def near(result: Sequence[Any], wanted: Sequence[Any], least: float) -> bool:
    """Are boxes no further apart, at any corner?"""
    if len(result) != len(wanted) or not all(isinstance(box, list) for box in result):
        return False
    return all(abs(a - b) <= least for own, other in zip(result, wanted) for a, b in zip(own, other, strict=True))


EVALUATE: dict[str, Callable[..., Values]] = {
    "classify": of_each_text,
    "rank": of_each_side,
    "generate": of_each_step,
    "box": of_each_text,
}
RESULTS: dict[str, Callable[..., list[Any]]] = {
    "classify": labels_of,
    "rank": lambda bundle, values: [best(row) for row in products(bundle, values)],
    "generate": tokens_of,
    "box": boxes_of,
}
SAME: dict[str, Callable[..., bool]] = {
    "classify": same_where_clear,
    "rank": same_where_clear,
    "generate": same_until_unclear,
    "box": lambda result, case, least: near(result, case["result"], least),
}
