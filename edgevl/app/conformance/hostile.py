"""Bundles that no reader may open: one small bundle with one thing wrong."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Case = dict[str, Any]
Json = dict[str, Any]


def hostile_bundles(folder: Path, whole: Path, of_bytes: Path) -> Iterator[Case]:
    """Write a bundle for each fault, and yield its case.

    whole: a bundle with pictures, texts and labels. of_bytes: one with a byte-level tokenizer.
    """
    for name, change in MANIFESTS.items():
        yield _refused(folder, whole, name, lambda path, change=change: _edit(path, change))
    for name, spoil in FILES.items():
        yield _refused(folder, whole, name, spoil, "folder" if name in LISTED else None)
    for name, change in BYTES.items():
        yield _refused(folder, of_bytes, name, lambda path, change=change: _tokenizer(path, change, "bytes.json"))


def _refused(folder: Path, whole: Path, name: str, spoil: Callable[[Path], object], needs: str | None = None) -> Case:
    path = Path(shutil.copytree(whole, folder / "hostile" / f"{name}.edgevl"))
    spoil(path)
    return {
        "id": f"refuse.{name}",
        "kind": "refuse",
        "bundle": f"hostile/{name}.edgevl",
        "because": name,
        "needs": needs,
    }


def _edit(path: Path, change: Callable[[Json], object]) -> None:
    file = path / "manifest.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    change(values)
    file.write_text(json.dumps(values), encoding="utf-8")


def _rewrite(path: Path, name: str, data: bytes) -> None:
    """Replace a file, and its digest in the manifest with it."""
    (path / name).write_bytes(data)
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    _edit(path, lambda values: values["files"].update({name: entry}))


def _text(path: Path, change: Callable[[str], str]) -> None:
    file = path / "manifest.json"
    file.write_bytes(change(file.read_text(encoding="utf-8")).encode("utf-8"))


def _first(values: Json) -> Json:
    return values["programs"][0]


def _input(values: Json, source: str) -> Json:
    return next(each for each in _first(values)["inputs"] if each["from"]["kind"] == source)


def _value(values: Json, name: str) -> None:
    _input(values, "text").update({"from": {"kind": "value", "name": name}})


def _tokenizer(path: Path, change: Callable[[Json], object], name: str = "tokenizer.json") -> None:
    values = json.loads((path / name).read_text(encoding="utf-8"))
    change(values)
    _rewrite(path, name, json.dumps(values).encode("utf-8"))


def _cycle(path: Path) -> None:
    """Add two programs that read each other's output; their artifacts are what the manifest says."""
    for name, other in (("chicken", "egg"), ("egg", "chicken")):
        _rewrite(path, f"{name}.onnx", _identity(other, name))
        tensor = {"dtype": "float32", "shape": [1, 5], "layout": "NA", "range": None}
        read = {"name": f"from_{other}", **tensor, "kind": "tensor", "from": {"kind": "value", "name": other}}
        program = {"name": name, "artifact": f"{name}.onnx", "precision": "fp32", "inputs": [read]}
        program["outputs"] = [{"name": name, **tensor}]
        _edit(path, lambda values, program=program: values["programs"].append(program))


def _identity(source: str, output: str) -> bytes:
    """Return an ONNX file that gives what it takes, float32 [1, 5]."""
    import onnx

    names = (f"from_{source}", output)
    ends = [onnx.helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, [1, 5]) for each in names]
    node = onnx.helper.make_node("Identity", names[:1], names[1:])
    graph = onnx.helper.make_graph([node], output, ends[:1], ends[1:])
    opset = onnx.helper.make_opsetid("", 18)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString(deterministic=True)


def _rename(vocabulary: Json, piece: str, other: str) -> None:
    vocabulary[other] = vocabulary.pop(piece)


def _move(values: Json, old: str, new: str) -> None:
    values["files"][new] = values["files"].pop(old)


# What is said wrongly in the manifest; all files are whole.
MANIFESTS: dict[str, Callable[[Json], object]] = {
    "schema-version": lambda m: m.update(schema_version=3),
    "schema-version-text": lambda m: m.update(schema_version="2"),
    "unknown-field": lambda m: m.update(extra=1),
    "unknown-field-inside": lambda m: _first(m)["inputs"][0].update(extra=1),
    "missing-field": lambda m: m.pop("license"),
    "wrong-type": lambda m: m["labels"].update(count=True),
    "fraction": lambda m: m["labels"].update(count=5.5),
    "unknown-source": lambda m: _input(m, "text").update({"from": {"kind": "sound"}}),
    "unknown-decoding": lambda m: m.update(decoding={"kind": "rerank", "output": "logits"}),
    "unknown-decoding-field": lambda m: m["decoding"].update(sharpness=2),
    "decoding-without-output": lambda m: m["decoding"].update(output="nothing"),
    "unknown-geometry": lambda m: m["image_processing"]["main"].update(geometry="stretch"),
    "unknown-kernel": lambda m: m["image_processing"]["main"].update(kernel="lanczos"),
    "unknown-text-kind": lambda m: m["text_processing"]["main"].update(kind="unigram"),
    "unknown-processing": lambda m: _input(m, "text")["from"].update(processing="other"),
    "unknown-value": lambda m: _value(m, "nothing"),
    "needs-itself": lambda m: _value(m, _first(m)["outputs"][0]["name"]),
    "state-outside-a-loop": lambda m: _input(m, "text").update({"from": {"kind": "step"}}),
    "wrong-shape": lambda m: _input(m, "text").update(shape=[1, 7]),
    "wrong-dtype": lambda m: _input(m, "picture").update(dtype="float32"),
    "wrong-range-of-a-picture": lambda m: _input(m, "picture").update(range=[0, 1]),
    "wrong-range-of-a-text": lambda m: _input(m, "text").update(range=[0, 1]),
    "type-of-another-artifact": lambda m: _input(m, "text").update(dtype="int64"),
    "wrong-layout": lambda m: _input(m, "text").update(layout="NTX"),
    "two-tensors-of-one-name": lambda m: _input(m, "text").update(name=_input(m, "picture")["name"]),
    "two-programs-of-one-name": lambda m: m["programs"].append(dict(_first(m))),
    "huge-shape": lambda m: _input(m, "text").update(shape=[1, 2**40]),
    "name-with-slash": lambda m: m.update(name="a/b"),
    "path-up": lambda m: _move(m, "README.md", "../README.md"),
    "path-absolute": lambda m: _move(m, "README.md", "/README.md"),
    "path-backslash": lambda m: _move(m, "README.md", "a\\README.md"),
    "path-device": lambda m: _move(m, "README.md", "con.md"),
    "path-twice": lambda m: m["files"].update({"Labels.JSON": m["files"]["labels.json"]}),
    "manifest-listed": lambda m: m["files"].update({"manifest.json": m["files"]["labels.json"]}),
    "code": lambda m: m["files"].update({"run.py": m["files"]["labels.json"]}),
    "artifact-not-listed": lambda m: _first(m).update(artifact="other.onnx"),
    "labels-not-listed": lambda m: m["labels"].update(file="other.json"),
    "labels-missing": lambda m: m.update(labels=None),
    "labels-count": lambda m: m["labels"].update(count=m["labels"]["count"] + 1),
    "digest": lambda m: m["files"]["labels.json"].update(sha256="0" * 64),
    "size": lambda m: m["files"]["labels.json"].update(bytes=m["files"]["labels.json"]["bytes"] + 1),
}  # fmt: skip

# What is wrong in the files themselves.
FILES: dict[str, Callable[[Path], object]] = {
    "two-keys": lambda path: _text(path, lambda text: text.replace("{", '{"schema_version": 2, ', 1)),
    "byte-order-mark": lambda path: _text(path, lambda text: "\ufeff" + text),
    "nan": lambda path: _text(path, lambda text: text.replace('"labels"', '"bench": NaN, "labels"', 1)),
    "half-a-surrogate": lambda path: _text(path, lambda text: text.replace("Apache-2.0", "\\ud800", 1)),
    "too-deep": lambda path: _text(path, lambda text: text.replace("{", '{"bench": ' + "[" * 40 + "]" * 40 + ", ", 1)),
    "cut": lambda path: _text(path, lambda text: text[: len(text) // 2]),
    "no-manifest": lambda path: (path / "manifest.json").unlink(),
    "missing-file": lambda path: (path / "labels.json").unlink(),
    "changed-artifact": lambda path: (path / "model.onnx").write_bytes(b"x" + (path / "model.onnx").read_bytes()[1:]),
    "labels-not-a-list": lambda path: _rewrite(path, "labels.json", b'{"a": 1}'),
    "cycle": _cycle,
    "tokenizer-setting": lambda path: _tokenizer(path, lambda t: t["normalizer"].update(lowercase=False)),
    "tokenizer-ids": lambda path: _tokenizer(path, lambda t: t["model"]["vocab"].update(the=0)),
    "tokenizer-too-large": lambda path: _tokenizer(path, lambda t: t["model"]["vocab"].update(more=10**6)),
    "unlisted-file": lambda path: (path / "notes.txt").write_text("x", encoding="utf-8"),
}  # fmt: skip
LISTED = ("unlisted-file",)

# What is wrong in a byte-level tokenizer.
BYTES: dict[str, Callable[[Json], object]] = {
    "merge-of-no-piece": lambda t: t["model"]["merges"].append(["no", "piece"]),
    "merge-twice": lambda t: t["model"]["merges"].append(t["model"]["merges"][0]),
    "byte-missing": lambda t: _rename(t["model"]["vocab"], "\u0100", "\u0100\u0100"),
    "added-token-unknown": lambda t: t["added_tokens"][0].update(content="the</w>"),
}
