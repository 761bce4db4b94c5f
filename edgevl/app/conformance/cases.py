"""The cases of the suite: what must come out, as EdgeVL's own line computes it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevl.app.conformance.pictures import Picture
from edgevl.bundle.folder import Bundle
from edgevl.bundle.golden import read_golden
from edgevl.contracts import Answer, Query
from edgevl.decodings.base import to_shares
from edgevl.errors import EdgeVLError
from edgevl.inputs.images import to_tensor

if TYPE_CHECKING:
    from edgevl.opened import Opened

Case = dict[str, Any]
SNR_DB = {"fp32": 60, "w8a8": 30}  # that values of another runtime must reach
UNCLEAR = {"fp32": 1e-3, "w8a8": 0.05}  # of the largest value: a decision closer than that may fall otherwise
# Pictures that a model of 128 pixels gets; the small ones get them all.
LARGE = ("photo", "photo-wide", "panorama", "odd", "rgba", "gray16", "turned6", "display-p3", "jpeg")


@dataclass(frozen=True)
class Suite:
    """Where the suite is written, and its pictures and texts by name."""

    folder: Path
    pictures: Mapping[str, Picture]
    texts: Mapping[str, str]

    def path(self, picture: str) -> Path:
        return self.folder / picture_file(self.pictures[picture])

    def write(self, name: str, data: bytes) -> str:
        """Write a file of the suite and return its name."""
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_bytes(data)
        return name


def picture_file(picture: Picture) -> str:
    return f"pictures/{picture.name}.{picture.format}"


def write_picture(suite: Suite, picture: Picture) -> Case:
    """Write a picture and its samples, and return what `pictures` says of it."""
    about: Case = {"file": suite.write(picture_file(picture), picture.data), "format": picture.format,
                   "lossless": picture.lossless, "raw": None}  # fmt: skip
    if picture.raw is None:
        return about
    height, width, channels = picture.raw.shape
    raw = suite.write(f"raw/{picture.name}.bin", picture.raw.astype(picture.raw.dtype.newbyteorder("<")).tobytes())
    about |= {"raw": raw, "width": width, "height": height, "channels": channels, "depth": picture.depth}
    return about | {"orientation": picture.orientation}


def cases_of(suite: Suite, name: str, path: Path) -> Iterator[Case]:
    """Yield every case of a bundle, and write the files that belong to them."""
    model = Bundle.open(path).opened(threads=1)
    large = max([each.size for each in model.images.values()], default=0) > 100
    if len(model.images) > 1 or large:  # the others' processings are among these
        yield from _pixels(suite, name, model, LARGE if large else tuple(suite.pictures))
    if len(model.texts) > 1 or large:
        yield from _ids(suite, name, model)
    (first, *_) = read_golden(Bundle.open(path)).cases
    for number, query in enumerate(_queries(suite, model, len(first.pictures), len(first.texts))):
        yield _answer(suite, name, number, path, query)


def _pixels(suite: Suite, name: str, model: "Opened", pictures: Sequence[str]) -> Iterator[Case]:
    for processing, spec in model.images.items():
        for picture in pictures:
            case: Case = {"id": f"{name}.{processing}.{picture}", "kind": "pixels", "bundle": name}
            case |= {"processing": processing, "picture": picture, "sha256": None, "tensor_file": None}
            try:
                data = np.ascontiguousarray(to_tensor(suite.path(picture), spec, model.images.values())).tobytes()
            except EdgeVLError:
                yield case
                continue
            case["sha256"] = hashlib.sha256(data).hexdigest()
            yield case | {"tensor_file": suite.write(f"tensors/{case['id']}.bin", data)}


def _ids(suite: Suite, name: str, model: "Opened") -> Iterator[Case]:
    for processing, codec in model.texts.items():
        for key, text in suite.texts.items():
            case: Case = {"id": f"{name}.{processing}.{key}", "kind": "ids", "bundle": name, "processing": processing}
            try:
                ids = codec.encode(text)
            except EdgeVLError:
                yield case | {"text": text, "ids": None, "mask": None, "words": None}
                continue
            words = codec.decode(ids.tolist())
            yield case | {"text": text, "ids": ids.tolist(), "mask": codec.mask(text).tolist(), "words": words}


# ---- answers ---------------------------------------------------------------------------------------------------------
def _queries(suite: Suite, model: "Opened", pictures: int, texts: int) -> list[Query]:
    """Return a few queries with so many pictures, by name, and with texts if there are any."""
    names = ["photo", "rgba", "turned6", "odd"] if pictures else []
    asked = ["what color is the car?", "Is the ZEBRA left of the red cat?", "a tree"]
    if model.decoder.kind == "rank":
        return [Query(tuple(names), tuple(asked)), Query(tuple(names[:2])), Query((), tuple(asked[:1]))]
    if not pictures:
        return [Query((), tuple(asked)), *(Query((), (suite.texts[key],)) for key in ("latin", "emoji", "long-words"))]
    shown = [tuple(names[start : start + pictures]) for start in range(len(names) - pictures + 1)]
    most = 1 if model.decoder.sequential else 3
    return [Query(each, tuple(asked[:most]) if texts else ()) for each in shown]


def _answer(suite: Suite, name: str, number: int, path: Path, query: Query) -> Case:
    """Open the bundle anew, so that nothing is remembered, and record the answer to a query."""
    model = Bundle.open(path).opened(threads=1)
    opened = Query(tuple(suite.path(picture) for picture in query.pictures), query.texts)
    (answer,) = model.answer([opened])
    case = f"{name}.answer.{number}"
    precision = Bundle.open(path).manifest.precision
    values = {
        output: _stored(suite, f"values/{case}-{output}.f32", array) | {"snr_db": SNR_DB[precision]}
        for output, array in answer.values.items()
    }
    unclear = UNCLEAR[precision] * max(float(np.abs(array).max()) for array in answer.values.values())
    return {
        "id": case, "kind": "answer", "bundle": name, "pictures": list(query.pictures), "texts": list(query.texts),
        "values": values, "result": list(answer.result), "margins": [float(each) for each in answer.margins],
        "unclear": float(f"{unclear:.3g}"), "shares": _shares(suite, case, model, answer),
        "words": model.decoder.words(answer)[0] if model.decoder.kind == "generate" else None,
        "runs": _runs(model),
    }  # fmt: skip


def _runs(model: "Opened") -> dict[str, int] | None:
    assert model.runner
    return model.runner.calls.copy() if set(model.runner.batches.values()) == {1} else None


def _stored(suite: Suite, name: str, array: np.ndarray) -> Case:
    return {"file": suite.write(name, array.astype("<f4").tobytes()), "shape": list(array.shape)}


def _shares(suite: Suite, case: str, model: "Opened", answer: Answer[Any]) -> Case | None:
    fields: Any = getattr(model.decoder, "fields")  # noqa: B009  a kind's own
    if model.decoder.kind == "classify":
        scores = answer.values[fields.output]
    elif model.decoder.kind == "rank" and len(answer.values) == 2:
        scores = getattr(model.decoder, "scores")(*(answer.values[n] for n in (fields.picture, fields.text)))  # noqa: B009
    else:
        return None
    return _stored(suite, f"values/{case}-shares.f32", to_shares(scores, fields.activation))
