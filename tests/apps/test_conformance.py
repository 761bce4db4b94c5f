"""The conformance suite: EdgeVL, the board's script and a reader written from the page alone pass it; faults do not."""

import dataclasses
import hashlib
import importlib
import json
import string
import sys
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "bundle"))
from conformance_readers import Board, Own, Reader, Refused, Second

from edgevl.app.conformance import write_conformance
from edgevl.app.conformance.pictures import every_picture
from edgevl.app.conformance.texts import every_text
from edgevl.contracts import Query
from edgevl.errors import InputError

Open = Callable[[Path], Reader]
Case = dict[str, Any]
NAMES = set(string.ascii_letters + string.digits + ".-")
DECODED_BY_HAND = ("png", "gif", "bmp", "tiff", "pnm", "svg")  # by the second implementation


class Suite:
    """A written suite, replayed with a reader."""

    def __init__(self, folder: Path):
        self.folder = folder
        values = json.loads((folder / "conformance.json").read_text(encoding="utf-8"))
        assert values["version"] == 1
        self.bundles, self.pictures, self.cases = values["bundles"], values["pictures"], values["cases"]

    def of(self, kind: str, **fields: str) -> list[Case]:
        found = [case for case in self.cases if case["kind"] == kind]
        return [case for case in found if all(case[name] == value for name, value in fields.items())]

    def picture(self, name: str) -> Path:
        return self.folder / self.pictures[name]["file"]

    def numbers(self, entry: Case) -> np.ndarray:
        return np.fromfile(self.folder / entry["file"], "<f4").reshape(entry["shape"]).astype(np.float64)

    def problems(self, open_: Open, kind: str, where: Callable[[Case], bool] = lambda case: True) -> list[str]:
        """Return the ids of the cases of a kind that a reader fails."""
        check = getattr(self, f"_{kind}")
        readers: dict[str, Reader] = {}
        failed = []
        for case in filter(where, self.of(kind)):
            if kind != "refuse" and case["bundle"] not in readers:
                readers[case["bundle"]] = open_(self.folder / self.bundles[case["bundle"]]["path"])
            if not check(case, readers.get(case["bundle"], open_)):
                failed.append(case["id"])
        return failed

    def _pixels(self, case: Case, reader: Reader) -> bool:
        try:
            data = reader.pixels(case["processing"], self.picture(case["picture"]))
        except Refused:
            return case["sha256"] is None
        return hashlib.sha256(data).hexdigest() == case["sha256"]

    def _ids(self, case: Case, reader: Reader) -> bool:
        try:
            ids = reader.ids(case["processing"], case["text"])
        except Refused:
            return case["ids"] is None
        return ids == case["ids"] and reader.words(case["processing"], ids) == case["words"]

    def _answer(self, case: Case, reader: Reader) -> bool:
        pictures = [self.picture(name) for name in case["pictures"]]
        along = case["result"] if case["words"] is not None else None
        values, _ = reader.answer(pictures, case["texts"], along)
        result = reader.answer(pictures, case["texts"], None)[1]
        wanted = {name: self.numbers(entry) for name, entry in case["values"].items()}
        near = [snr_db(wanted[name], values[name]) >= entry["snr_db"] for name, entry in case["values"].items()]
        return all(near) and values.keys() == wanted.keys() and same_result(case, result)

    def _refuse(self, case: Case, open_: Open) -> bool:
        try:
            open_(self.folder / case["bundle"])
        except Refused:
            return True
        return False


def snr_db(wanted: np.ndarray, own: np.ndarray) -> float:
    difference = float(((wanted - own) ** 2).sum()) if wanted.shape == own.shape else np.inf
    return 10 * np.log10(float((wanted**2).sum()) / difference) if difference else 300.0


def same_result(case: Case, own: list[Any]) -> bool:
    if not case["margins"]:  # boxes, or one side of a ranking
        wanted = np.array(case["result"], np.float64)
        return wanted.shape == np.array(own).shape and bool((np.abs(wanted - own) <= case["unclear"]).all())
    for a, b, margin in zip(own, case["result"], case["margins"]):
        if margin <= case["unclear"]:
            if case["words"] is not None:
                return True
            continue
        if a != b:
            return False
    return len(own) == len(case["result"])


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Suite:
    folder, counts = write_conformance(tmp_path_factory.mktemp("suite") / "small", only="small")
    assert set(counts) == {"pixels", "ids", "answer", "refuse", "frame"} and min(counts.values()) > 30
    return Suite(folder)


@pytest.fixture
def board(jetson) -> Open:
    return partial(Board, jetson)


def in_words(case: Case) -> bool:
    """The board's script reads no byte-level tokenizer: it refuses the bundle."""
    return case["bundle"] != "bytes"


def small_png(suite: Suite, case: Case) -> bool:
    """The second implementation is slow and decodes no JPEG or WebP."""
    about = suite.pictures[case["picture"]]
    size = about["width"] * about["height"] if about["raw"] else 0
    return about["format"] in DECODED_BY_HAND and size < 4000


# ---- readers that pass -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["pixels", "ids", "answer", "refuse"])
def test_edgevl_passes(suite, kind):
    assert suite.problems(Own, kind) == []


@pytest.mark.parametrize("kind", ["pixels", "ids", "answer", "refuse"])
def test_the_board_passes(suite, board, kind):
    assert suite.problems(board, kind, in_words) == []
    with pytest.raises(Refused):
        board(suite.folder / suite.bundles["bytes"]["path"])


def test_the_second_implementation_passes(suite):
    assert suite.problems(Second, "pixels", partial(small_png, suite)) == []
    assert suite.problems(Second, "ids", lambda case: len(case["text"]) < 2000) == []
    assert suite.problems(Second, "answer", lambda case: set(case["pictures"]) <= {"rgba", "turned6", "odd"}) == []


def test_raw_samples_are_those_of_the_files(suite):
    """Whoever starts from `raw` gets the same pixels: 8 bits, alpha on white, orientation, as docs/bundle.md says."""
    from edgevl.bundle.specs import ImageProcessing
    from edgevl.inputs.images import to_tensor

    for name, about in suite.pictures.items():
        if about["raw"] is not None:
            image, spec = upright(suite.folder / about["raw"], about), ImageProcessing(size=32)
            assert np.array_equal(to_tensor(image, spec), to_tensor(suite.picture(name), spec)), name


def upright(file: Path, about: Case) -> np.ndarray:
    """Return uint8 RGB of raw samples."""
    kind = np.uint8 if about["depth"] == 8 else np.dtype("<u2")
    samples = np.fromfile(file, kind).reshape(about["height"], about["width"], about["channels"]).astype(np.int64)
    if about["depth"] == 16:
        samples = (samples + 128) // 257 if about["channels"] == 1 else samples // 256
    if about["channels"] == 4:
        alpha = samples[..., 3:]
        samples = (samples[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    number = about["orientation"]
    samples = samples.transpose(1, 0, 2) if number > 4 else samples
    samples = samples[:, ::-1] if number in (2, 3, 6, 7) else samples
    samples = samples[::-1] if number in (3, 4, 7, 8) else samples
    return np.ascontiguousarray(samples.repeat(3 if about["channels"] == 1 else 1, 2).astype(np.uint8))


# ---- faults that are found -------------------------------------------------------------------------------------------
Fault = tuple[str, Callable[..., Any], str]  # what is replaced, by what (from what stood there), the kind that finds it


def plain_decode(_: Any) -> Callable[..., Any]:
    """Decode as most programs do: no EXIF, black below transparency, 16 bits cut."""

    def decode(picture: Any, *_: Any, **__: Any) -> Image.Image:
        try:
            return Image.open(BytesIO(picture) if isinstance(picture, bytes) else picture).convert("RGB")
        except OSError:
            return Image.new("RGB", (1, 1))

    return decode


def one_call(_: Any) -> Callable[..., Any]:
    """Resize with another filter, and whatever the geometry is to the square."""
    return lambda image, size, *rest: np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def only_ascii(encode: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, text: encode(self, text.encode("ascii", "ignore").decode() or "a")


def all_seen(_: Any) -> Callable[..., Any]:
    """No mask: token ids stand for it."""
    return lambda self, text, part: self.encode(text)


def first_picture(_: Any) -> Callable[..., Any]:
    return lambda query, source: Query(query.pictures[:1], query.texts)


def zeros(_: Any) -> Callable[..., Any]:
    return lambda self, spec, *rest: np.zeros(spec.shape[1:], spec.dtype)


def same_step(step: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, program, loops, tokens: step(self, program, loops, [0] * len(tokens))


def last_label(answer: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, values: dataclasses.replace(answer(self, values), result=self.labels[-1:])


def wrong_label(answer: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, values: answer(self, values)._replace(result=self.labels[-1:])


OWN: dict[str, Fault] = {
    "decoding a file": ("edgevl.inputs.images/load_image", plain_decode, "pixels"),
    "geometry": ("edgevl.inputs.images/fitted", one_call, "pixels"),
    "words": ("edgevl.inputs.texts/WordPiece/encode", only_ascii, "ids"),
    "bytes": ("edgevl.inputs.byte_bpe/ByteBPE/encode", only_ascii, "ids"),
    "mask": (
        "edgevl.decodings.runner/_Leaves/_text",
        lambda _: lambda self, text, source: self._texts[source.processing].encode(text),
        "answer",
    ),
    "which picture a value is of": ("edgevl.decodings.runner/_part", first_picture, "answer"),
    "the first state": ("edgevl.decodings.runner/Runner/_first", zeros, "answer"),
    "the last token": ("edgevl.decodings.runner/Runner/step", same_step, "answer"),
    "labels": ("edgevl.decodings.classify/Classify/answer", last_label, "answer"),
    "corners": (
        "edgevl.decodings.box/BoxDecoding/_corners",
        lambda _: lambda self, values: values.clip(0, 1),
        "answer",
    ),
    "digests": ("edgevl.bundle.folder/Bundle/checked", lambda _: lambda self: self, "refuse"),
}
BOARD: dict[str, Fault] = {
    "decoding a file": ("bundle_reader/decode", plain_decode, "pixels"),
    "geometry": ("bundle_reader/to_pixels", one_call, "pixels"),
    "words": ("texts/WordPiece/encode", only_ascii, "ids"),
    "mask": ("texts/WordPiece/part", all_seen, "answer"),
    "labels": ("decodings/Classify/answer", wrong_label, "answer"),
    "digests": ("bundle_reader/bundle_problems", lambda _: lambda *rest: (), "refuse"),
}


def planted(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> str:
    """Plant a fault; returns the kind of case that must find it."""
    path, change, kind = fault
    module, *names, last = path.split("/")
    owner = importlib.import_module(module)
    for name in names:
        owner = getattr(owner, name)
    monkeypatch.setattr(owner, last, change(getattr(owner, last)))
    return kind


@pytest.mark.parametrize("fault", OWN)
def test_a_fault_of_edgevl_is_found(suite, monkeypatch, fault):
    assert suite.problems(Own, planted(monkeypatch, OWN[fault]))


@pytest.mark.parametrize("fault", BOARD)
def test_a_fault_of_the_board_is_found(suite, board, monkeypatch, fault):
    assert suite.problems(board, planted(monkeypatch, BOARD[fault]), in_words)


# ---- writing ---------------------------------------------------------------------------------------------------------
def test_what_is_there_is_not_overwritten(suite, tmp_path):
    with pytest.raises(InputError, match="--force"):
        write_conformance(suite.folder, only="small")
    (tmp_path / "mine").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="not a conformance suite"):
        write_conformance(tmp_path, only="small", force=True)
    with pytest.raises(InputError, match='no part "tiny"; there is small'):
        write_conformance(tmp_path / "new", only="tiny")


def test_sequences_that_stop_early_are_there(suite):
    """A reader that never stops, or that reads the stop token out, is found by these alone."""
    lengths = {len(case["result"]): case["words"].split() for case in suite.of("answer", bundle="generate-stop")}
    assert lengths.keys() == {3, 5} and len(lengths[3]) == 2


def test_every_file_is_listed_once(suite):
    """Nothing lies about, and names are unique."""
    ids = [case["id"] for case in suite.cases]
    assert len(ids) == len(set(ids)) and all(set(each) <= NAMES for each in ids)
    listed = {about[key] for about in suite.pictures.values() for key in ("file", "raw")}
    listed |= {case["tensor_file"] for case in suite.of("pixels")}
    entries = [entry for case in suite.of("answer") for entry in (*case["values"].values(), case["shares"] or {})]
    listed |= {entry.get("file") for entry in entries}
    folders = ("pictures", "raw", "tensors", "values")
    there = {path.relative_to(suite.folder).as_posix() for name in folders for path in (suite.folder / name).iterdir()}
    assert listed - {None} == there


def test_the_same_packages_write_the_same_bytes():
    """Of the parts that are quick to write again: pictures and texts. Bundles have a test of their own."""
    assert [each.data for each in every_picture()] == [each.data for each in every_picture()]
    assert every_text() == every_text()
