"""Bundles that ask for more than a reader gives, that hold code, or whose JSON means two things."""

import functools
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mutation_base import Mutation, bytes_of, edit_json, forge, forged
from PIL import Image

DEEP = {"a list": "[" * 40 + "]" * 40, "an object": '{"a":' * 40 + "1" + "}" * 40, "bottomless": "[" * 100_000}


def limits() -> Iterator[Mutation]:
    yield from _sizes()
    yield from _texts()
    yield from _golden()
    yield from _numbers()
    yield from _code()


def _manifest(name: str, change: Callable[[dict], object], base: str = "onnx") -> Mutation:
    return Mutation(name, base, lambda bundle: _edit(bundle / "manifest.json", change), "refused")


def _edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change the parsed content of a file in place, whatever `change` returns."""

    def in_place(values: Any) -> None:
        change(values)

    edit_json(path, in_place)


# sizes: said everywhere alike, so that nothing contradicts anything


def _sizes() -> Iterator[Mutation]:
    for size in (10**6, 10**9, 8192, 4096, 0, -32):
        yield _manifest(f"a picture of {size} pixels", functools.partial(_set_size, size))
    for length in (10**9, 10**6, 4097, 4096, 1, 0, -1):
        yield _manifest(f"questions of {length} tokens", functools.partial(_set_length, length))
    for count in (10**9, 2**20, 0):
        yield _manifest(f"{count} answers", functools.partial(_set_answers, count))
    for batch in (2**20, 2**20 + 1, 10**9, 2, 0):
        yield _manifest(f"a batch of {batch}", functools.partial(_set_batch, batch))
    for field in ("width", "depth", "heads", "vocab_size", "stride", "mlp_ratio", "out_index"):
        for value in (10**9, -1, 2**60):
            yield _manifest(f"model.{field} is {value}", lambda v, f=field, n=value: v["model"].update({f: n}))
    yield _manifest("a model of 2^40 parameters", lambda v: v["model"].update(width=2**14, depth=256, mlp_ratio=64))
    yield _manifest("a grid of 4096", lambda v: (_set_size(4096, v), v["model"].update(stride=1)))
    yield _manifest("a width that heads do not divide", lambda v: v["model"].update(heads=7))
    yield _manifest("a table smaller than the vocabulary", lambda v: v["model"].update(vocab_size=100))
    yield _manifest("weights from elsewhere", lambda v: v["model"].update(backbone_options={"checkpoint_path": "/x"}))
    yield _manifest("an option beyond bounds", lambda v: v["model"]["backbone_options"].update(x=[[10**6]]))


def _set_size(size: int, values: dict) -> None:
    values["preprocessing"]["size"] = values["model"]["image_size"] = size
    values["inputs"][0]["shape"] = [1, size, size, 3]


def _set_length(length: int, values: dict) -> None:
    values["tokenizer"]["length"] = values["model"]["text_length"] = length
    values["inputs"][1]["shape"] = [1, length]


def _set_answers(count: int, values: dict) -> None:
    values["labels"]["count"] = values["model"]["num_answers"] = count
    values["outputs"][0]["shape"] = [1, count]


def _set_batch(batch: int, values: dict) -> None:
    for spec in (*values["inputs"], *values["outputs"]):
        spec["shape"][0] = batch


# texts: too long, too deep


def _texts() -> Iterator[Mutation]:
    for file in ("labels.json", "golden.json"):
        yield Mutation(f"{file} is two GB of nothing", "onnx", functools.partial(_swell, file), "refused")
    for name, text in DEEP.items():
        for file in ("labels.json", "tokenizer.json", "golden.json"):
            write = functools.partial(_write, file, text)
            yield forged(f"{file} is deep: {name}", "onnx", write, "refused forged")
    yield Mutation("manifest.json is two GB of blanks", "onnx", functools.partial(_swell, "manifest.json"), "refused")
    for name, text in {
        "of numbers": "[1, 2, 3]", "of one text": json.dumps(["x"]), "of a label of a MB": json.dumps(["x" * 2**20]),
        "of half a surrogate": '["\\ud800"]', "of nothing": "[]", "with a key twice": '{"a": 1, "a": 2}',
        "in another encoding": "[\u00e9]",
    }.items():  # fmt: skip
        yield forged(f"labels {name}", "onnx", functools.partial(_write, "labels.json", text), "refused forged")
    yield forged(
        "one label of 3 000 characters", "onnx", lambda b: _edit_labels(b, lambda v: "x" * 3000), "refused forged"
    )


def _swell(file: str, bundle: Path) -> None:
    """Two GB that take no room on the disk; nobody has to read them to say no, so no digest is made to fit."""
    with (bundle / file).open("r+b") as opened:
        opened.truncate(2 << 30)
    if file != "manifest.json":
        _edit(bundle / "manifest.json", lambda values: values["files"][file].update(bytes=2 << 30))


def _write(file: str, text: str, bundle: Path) -> None:
    (bundle / file).write_text(text, "latin-1" if "\u00e9" in text else "utf-8")


def _edit_labels(bundle: Path, change: Callable[[str], str]) -> None:
    _edit(bundle / "labels.json", lambda values: values.__setitem__(0, change(values[0])))


# golden cases


def _golden() -> Iterator[Mutation]:
    changes: dict[str, Callable[[dict], object]] = {
        "65 cases": lambda v: v.update(cases=v["cases"] * 11),
        "no cases": lambda v: v.update(cases=[]),
        "no tolerance": lambda v: v.update(tolerance=0),
        "a tolerance of 10^7": lambda v: v.update(tolerance=1e7),
        "the tolerance is a text": lambda v: v.update(tolerance="0.1"),
        "an id of 2^31": lambda v: v["cases"][0]["input_ids"].__setitem__(1, 2**31),
        "an id of 1.0": lambda v: v["cases"][0]["input_ids"].__setitem__(1, 1.0),
        "an id that is true": lambda v: v["cases"][0]["input_ids"].__setitem__(1, True),
        "a logit too many": lambda v: v["cases"][0]["logits"].append(0.0),
        "no logits": lambda v: v["cases"][0].update(logits=[]),
        "a logit of 10^13": lambda v: v["cases"][0]["logits"].__setitem__(0, 1e13),
        "a logit that is null": lambda v: v["cases"][0]["logits"].__setitem__(0, None),
        "a million logits": lambda v: v["cases"][0].update(logits=[0] * 10**6),
        "an empty question": lambda v: v["cases"][0].update(question=" "),
        "a question of 3 000 characters": lambda v: v["cases"][0].update(question="x" * 3000),
        "another question": lambda v: v["cases"][0].update(question="why?"),
        "an answer that is none": lambda v: v["cases"][0].update(answer="no such answer"),
        "the manifest as a picture": lambda v: v["cases"][0].update(image="manifest.json"),
        "the model as a picture": lambda v: v["cases"][0].update(image="model.onnx"),
        "a folder as a picture": lambda v: v["cases"][0].update(image="golden"),
        "a picture outside": lambda v: v["cases"][0].update(image="../outside/wide.png"),
        "a picture far outside": lambda v: v["cases"][0].update(image="../../outside.png"),
        "a picture that is a device": lambda v: v["cases"][0].update(image="/dev/zero"),
        "a picture that is not listed": lambda v: v["cases"][0].update(image="golden/none.png"),
        "cases that are a text": lambda v: v.update(cases="none"),
        "a case that is null": lambda v: v["cases"].__setitem__(0, None),
    }
    for name, change in changes.items():
        change_file = functools.partial(_edit_golden, change)
        yield forged(f"golden.json: {name}", "onnx", change_file, "refused forged")
    yield forged("a golden JPEG of 3000 scans", "onnx", bytes_of("golden/wide.png", _scans), "refused forged")


def _scans(data: bytes) -> bytes:
    """A JPEG of 40 kB whose three thousand scans take libjpeg minutes."""
    file = io.BytesIO()
    Image.new("L", (4000, 4000)).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    last = whole[whole.rfind(b"\xff\xc4", 0, whole.rfind(b"\xff\xda")) : -2]
    return whole[:-2] + 3000 * last + b"\xff\xd9"


def _edit_golden(change: Callable[[dict], object], bundle: Path) -> None:
    _edit(bundle / "golden.json", change)


# numbers and names that readers take differently


def _numbers() -> Iterator[Mutation]:
    changes: dict[str, Callable[[dict], object]] = {
        "a size of 32.0": lambda v: v["preprocessing"].update(size=32.0),
        "a size in quotes": lambda v: v["preprocessing"].update(size="32"),
        "a size that is true": lambda v: v["preprocessing"].update(size=True),
        "antialias is 1": lambda v: v["preprocessing"].update(antialias=1),
        "a kernel that is not ours": lambda v: v["preprocessing"].update(kernel="cubic"),
        "schema_version is true": lambda v: v.update(schema_version=True),
        "schema_version is 2": lambda v: v.update(schema_version=2),
        "schema_version is 0": lambda v: v.update(schema_version=0),
        "padding that is 1": lambda v: v["tokenizer"].update(pad_id=1),
        "bytes in quotes": lambda v: v["files"]["labels.json"].update(bytes="9"),
        "a file of a TiB": lambda v: v["files"]["model.onnx"].update(bytes=2**40),
        "a digest in capitals": lambda v: v["files"]["labels.json"].update(sha256="A" * 64),
        "a digest with a line break": lambda v: v["files"]["labels.json"].update(sha256="a" * 64 + "\n"),
        "a field of the model is missing": lambda v: v["model"].pop("depth"),
        "a field of the model too many": lambda v: v["model"].update(surprise=1),
        "a mean of two numbers": lambda v: v["model"].update(mean=[0.5, 0.5]),
        "a standard deviation of 0": lambda v: v["model"].update(std=[0.25, 0.25, 0]),
        "a license that is null": lambda v: v.update(license=None),
        "a version that is a number": lambda v: v["versions"].update(torch=2),
        "a version with a bad name": lambda v: v["versions"].update({"a b": "1"}),
        "a path with a control character": lambda v: _list_too(v, "golden/\x85.png"),
        "a path with a line separator": lambda v: _list_too(v, "golden/\u2028.png"),
        "a path with a question mark": lambda v: _list_too(v, "golden/?.png"),
        "a path that is a device of Windows": lambda v: _list_too(v, "golden/com\u00b9.png"),
        "a path that is its input": lambda v: _list_too(v, "conin$.png"),
        "a path that ends in a dot": lambda v: _list_too(v, "golden./a.png"),
        "two paths that Unicode spells alike": lambda v: (_list_too(v, "\u00e9.png"), _list_too(v, "e\u0301.png")),
        "two paths that fold alike": lambda v: (_list_too(v, "stra\u00dfe.png"), _list_too(v, "STRASSE.png")),
        "inputs in the other order": lambda v: v["inputs"].reverse(),
        "a shape of seven numbers": lambda v: v["inputs"][0].update(shape=[1] * 7, layout="ABCDEFG"),
        "a layout of two letters": lambda v: v["inputs"][0].update(layout="NH"),
        "a name in the manifest alone": lambda v: v.update(name="other"),
        "a task in the manifest alone": lambda v: v.update(task="caption"),
    }  # fmt: skip
    for name, change in changes.items():
        yield _manifest(f"manifest.json: {name}", change)
    for base, program in (("split", 0), ("split", 1)):
        swap = functools.partial(_rename_program, program)
        yield _manifest(f"program {program} is called otherwise", swap, base)
    yield _manifest("programs in the other order", lambda v: v["programs"].reverse(), "split")
    yield _manifest("one program only", lambda v: v["programs"].pop(), "split")
    yield _manifest("programs of a single artifact", lambda v: v.update(programs=[]), "split")


def _list_too(values: dict[str, Any], path: str) -> None:
    values["files"][path] = {"sha256": "0" * 64, "bytes": 1}


def _rename_program(index: int, values: dict) -> None:
    values["programs"][index]["name"] = "other"


# code


def _code() -> Iterator[Mutation]:
    files = {
        "build_engine.py": b"print(1)\n", "argparse.py": b"print(1)\n", "tensorrt/__init__.py": b"",
        "a.so": b"\x7fELF", "model/tensorrt.py": b"print(1)\n", "sitecustomize.py": b"", "run.sh": b"#!/bin/sh\n",
        "weights.pkl": b"\x80\x04.",
    }  # fmt: skip
    for base in ("tensorrt", "onnx"):
        for name, data in files.items():
            yield forged(f"{base} with the file {name}", base, functools.partial(_add, name, data), "refused forged")
    yield forged("a script with a line more", "tensorrt", _append_to_script, "refused forged")
    yield forged("a script of another version", "tensorrt", lambda b: _set_version(b, "99.0"), "refused forged")
    yield forged("a script of no version", "tensorrt", lambda b: _set_version(b, None), "refused forged")
    for name in ("model.ort", "model.py", "model"):
        rename = functools.partial(_rename_artifact, name)
        yield Mutation(f"the artifact is called {name}", "onnx", rename, "refused")


def _add(name: str, data: bytes, bundle: Path) -> None:
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_bytes(data)


def _append_to_script(bundle: Path) -> None:
    with (bundle / "build_engine.py").open("a", encoding="utf-8") as file:
        file.write("\nprint('code that nobody signed ran')\n")


def _set_version(bundle: Path, version: str | None) -> None:
    change = (lambda v: v["versions"].update(edgevl=version)) if version else (lambda v: v["versions"].pop("edgevl"))
    _edit(bundle / "manifest.json", change)


def _rename_artifact(name: str, bundle: Path) -> None:
    (bundle / "model.onnx").rename(bundle / name)
    _edit(bundle / "manifest.json", lambda values: values.update(artifact=name))
    forge(bundle)
