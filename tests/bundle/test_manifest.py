"""The manifest: what it accepts, what it refuses, and in what words."""

import json
import os
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from edgevl.apps.jetson.bundle_files import check_relative
from edgevl.bundle.fields import RelativePath
from edgevl.bundle.manifest import (
    SCHEMA_FILE,
    Manifest,
    Provenance,
    parse_json,
    parse_manifest,
    read_text,
)
from edgevl.bundle.schema import bundle_schema
from edgevl.bundle.specs import ImageProcessing
from edgevl.errors import VerificationFailed

DIGEST = "0" * 64


def minimal() -> dict:
    picture = {"kind": "picture"}
    image = {"name": "image", "dtype": "uint8", "shape": [1, 128, 128, 3], "layout": "NHWC", "range": [0, 255]}
    ids = {"name": "words", "dtype": "int32", "shape": [1, 24], "layout": "NT", "range": [0, 99]}
    logits = {"name": "logits", "dtype": "float32", "shape": [1, 3], "layout": "NA"}
    return {
        "schema_version": 2,
        "name": "nano",
        "task": "vqa",
        "target": "onnx",
        "precision": "fp32",
        "programs": [
            {
                "name": "model",
                "artifact": "model.onnx",
                "precision": "fp32",
                "inputs": [{**image, "from": picture}, {**ids, "from": {"kind": "text"}}],
                "outputs": [logits],
            }
        ],
        "decoding": {"kind": "classify", "output": "logits"},
        "image_processing": {"main": ImageProcessing(size=128).model_dump()},
        "text_processing": {
            "main": {
                "kind": "wordpiece", "file": "tokenizer.json", "length": 24, "vocab_size": 100, "pad_id": 0,
                "start_id": 2, "stop_id": 3,
            }
        },
        "labels": {"file": "labels.json", "count": 3},
        "golden": "golden.json",
        "versions": {"edgevl": "0.1.0"},
        "license": "Apache-2.0",
        "provenance": Provenance(checkpoint="embedded:nano", checkpoint_sha256=DIGEST).model_dump(),
        "files": {
            name: {"sha256": DIGEST, "bytes": 1}
            for name in ("model.onnx", "tokenizer.json", "labels.json", "golden.json")
        },
    }  # fmt: skip


def test_round_trip_and_nulls():
    manifest = parse_manifest(json.dumps(minimal()))
    assert parse_manifest(manifest.to_json()) == manifest
    written = json.loads(manifest.to_json())
    assert [written[name] for name in ("parity", "accuracy", "audit", "bench")] == [None] * 4
    assert manifest.batch == 1 and manifest.artifact == "model.onnx"
    assert [spec.name for spec in (*manifest.inputs, *manifest.outputs)] == ["image", "words", "logits"]


def test_a_manifest_cannot_be_changed():
    with pytest.raises(ValidationError):
        parse_manifest(json.dumps(minimal())).name = "other"  # type: ignore[misc]


ESCAPES = [
    "/etc/passwd", "../x", "a/../../x", "a/..", "..", ".", "./a", "a//b", "a/", "", "\\\\server\\x", "a\\..\\x", "C:/x",
    "c:x", "~/x", "a\0b", "a\nb", "x" * 256,
    "...", ".. /x", "a/b.", "NUL", "a/con.json", "Lpt1.x",
]  # fmt: skip


@pytest.mark.parametrize("path", ESCAPES)
def test_paths_that_leave_the_folder(path):
    with pytest.raises(ValueError):
        check_relative(path)
    with pytest.raises(ValidationError):
        TypeAdapter(RelativePath).validate_python(path)
    for values, field in (
        (change(*PROGRAM, "artifact", value=path), "artifact"),
        (change("golden", value=path), "golden"),
    ):
        with pytest.raises(VerificationFailed, match=field):
            parse_manifest(json.dumps(values))
    values = minimal()
    values["files"][path] = {"sha256": DIGEST, "bytes": 1}
    with pytest.raises(VerificationFailed, match="files"):
        parse_manifest(json.dumps(values))


@pytest.mark.parametrize(
    "path", ["a", "a/b.c", "ü/ß.json", "...a", "a..b", "null", "console.txt", "golden/0-it is.png"]
)
def test_plain_paths(path):
    assert check_relative(path) == path


def change(*keys, value):
    values = minimal()
    place = values
    for key in keys[:-1]:
        place = place[key]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return values


PROGRAM = ("programs", 0)
PICTURE, WORDS, OUTPUT = (*PROGRAM, "inputs", 0), (*PROGRAM, "inputs", 1), (*PROGRAM, "outputs", 0)
TOKEN = {"name": "token", "dtype": "int32", "shape": [1, 1], "layout": "NT", "from": {"kind": "token"}}
BAD = {
    "missing field": (change("golden", value=None), "golden"),
    "unknown field": (change("surprise", value=1), "surprise"),
    "unknown precision": (change("precision", value="fp8"), "precision"),
    "negative size": (change("image_processing", "main", "size", value=-1), "size"),
    "huge size": (change("image_processing", "main", "size", value=10**9), "size"),
    "unknown geometry": (change("image_processing", "main", "geometry", value="stretch"), "geometry"),
    "text as schema": (change("schema_version", value="1"), "schema_version"),
    "bad digest": (change("files", "model.onnx", "sha256", value="XYZ"), "sha256"),
    "negative bytes": (change("files", "model.onnx", "bytes", value=-1), "bytes"),
    "shape and layout": (change(*PICTURE, "layout", value="NT"), "layout"),
    "huge shape": (change(*PICTURE, "shape", value=[1, 2**40, 1, 1]), "shape"),
    "many dimensions": (change(*PICTURE, "shape", value=[1] * 9), "shape"),
    "infinite range": (change(*PICTURE, "range", value=[0, 1e300]), "range"),
    "unlisted artifact": (change(*PROGRAM, "artifact", value="other.onnx"), "artifact"),
    "unlisted labels": (change("labels", "file", value="other.json"), "other.json"),
    "unlisted tokenizer": (change("text_processing", "main", "file", value="other.json"), "other.json"),
    "no files": (change("files", value={}), "files"),
    "no programs": (change("programs", value=[]), "programs"),
    "name with slash": (change("name", value="a/b"), "name"),
    "unknown source": (change(*PICTURE, "from", value={"kind": "audio"}), "picture|audio"),
    "unknown field of a source": (change(*PICTURE, "from", value={"kind": "picture", "side": 3}), "side"),
    "another name of the source": (change(*PICTURE, "source", value={"kind": "picture"}), "source"),
    "unknown processing": (change(*PICTURE, "from", value={"kind": "picture", "processing": "x"}), 'processing "x"'),
    "a picture of another size": (change(*PICTURE, "shape", value=[1, 64, 64, 3]), "must be tensor uint8"),
    "a picture of another range": (change(*PICTURE, "range", value=[0, 1]), "0 to 255"),
    "text of another length": (change(*WORDS, "shape", value=[1, 25]), r"\[1, 24\]"),
    "ids beyond the vocabulary": (change(*WORDS, "range", value=[0, 100]), "0 to 99"),
    "text as the platform's picture": (change(*WORDS, "kind", value="image"), "comes from a text"),
    "a value that nobody gives": (change(*WORDS, "from", value={"kind": "value", "name": "x"}), "the value x"),
    "its own output": (change(*WORDS, "from", value={"kind": "value", "name": "logits"}), "logits"),
    "a state outside of a loop": (change(*WORDS, "from", value={"kind": "state", "name": "logits"}), "state"),
    "a token outside of a loop": (change(*WORDS, value=TOKEN), "only the program of a loop"),
    "two batches": (change(*OUTPUT, "shape", value=[2, 3]), "batches"),
    "two tensors of one name": (change(*WORDS, "name", value="image"), "one name"),
    "two programs of one name": (change("programs", value=[*minimal()["programs"]] * 2), "one name|same name|twice"),
    "array": ([], "valid"),
    "number": (3, "valid"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_manifests_are_one_line(name):
    values, word = BAD[name]
    with pytest.raises(VerificationFailed, match=word) as caught:
        parse_manifest(json.dumps(values))
    assert "\n" not in str(caught.value) and caught.value.exit_code == 4


def test_case_collisions_are_refused():
    values = minimal()
    values["files"]["MODEL.onnx"] = {"sha256": DIGEST, "bytes": 1}
    with pytest.raises(VerificationFailed, match="upper and lower"):
        parse_manifest(json.dumps(values))


def test_two_spellings_of_one_name_are_refused():
    values = minimal()
    for name in ("\u00e9.bin", "e\u0301.bin"):  # one file on macOS
        values["files"][name] = {"sha256": DIGEST, "bytes": 1}
    with pytest.raises(VerificationFailed, match="Unicode"):
        parse_manifest(json.dumps(values))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\\b", "a\0b"])
def test_a_checkpoint_can_only_lie_beside_the_bundle(name):
    with pytest.raises(VerificationFailed, match="checkpoint"):
        parse_manifest(json.dumps(change("provenance", "checkpoint", value=name)))


def test_a_newer_schema_asks_for_an_update():
    with pytest.raises(VerificationFailed, match="pip install -U edgevl"):
        parse_manifest(json.dumps({**minimal(), "schema_version": 3, "new_thing": 1}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a": 1',
        "not json",
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": 1, "a": 2}',
        "[" * 100_000,
        "9" * 5000,
        '{"a": 1e400}',
        '{"a": "\\ud800"}',
        '{"\\udfff": 1}',
        "[" * 40 + "]" * 40,
    ],
)
def test_malformed_json(text):
    with pytest.raises(VerificationFailed, match=r"some\.json") as caught:
        parse_json(text, "some.json")
    assert "\n" not in str(caught.value)


def test_reading_text(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(VerificationFailed, match="cannot be read"):
        read_text(path)
    for number, make in enumerate((os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir)):
        special = tmp_path / f"special{number}"
        make(special)
        with pytest.raises(VerificationFailed, match=r"plain file|cannot be read"):
            read_text(special)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(VerificationFailed, match="UTF-8"):
        read_text(path)
    path.write_bytes(b" " * 101)
    with pytest.raises(VerificationFailed, match="which nothing needs"):
        read_text(path, limit=100)


def test_the_schema_describes_every_field():
    schema = Manifest.model_json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) >= set(minimal()) - {"labels"}


def test_the_published_schema_is_todays():
    """Both edgevl and the board's script read the file, so it may not be another than what the models say."""
    assert json.loads(SCHEMA_FILE.read_text("utf-8")) == bundle_schema(), (
        "write it again: python -m edgevl.bundle.schema"
    )


LAX = {  # what pydantic would take for a number, a flag or a whole object
    "a fraction that is whole": ("image_processing", "main", "size", 128.0),
    "a number in quotes": ("image_processing", "main", "size", "128"),
    "true for a number": ("labels", "count", True),
    "one for true": ("image_processing", "main", "antialias", 1),
    "true for the version": ("schema_version", True),
    "a text for a range": (*PICTURE, "range", "ab"),
    "a text for an index": (*PICTURE, "from", "index", "0"),
}


@pytest.mark.parametrize("name", LAX)
def test_what_a_json_reader_would_take_otherwise(name):
    *keys, value = LAX[name]
    with pytest.raises(VerificationFailed, match=keys[-1]):
        parse_manifest(json.dumps(change(*keys, value=value)))


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_beyond_a_double(digits):
    with pytest.raises(VerificationFailed, match="a number beyond a double"):
        parse_manifest(json.dumps(minimal()).replace('"versions"', f'"bench": {{"a": {"9" * digits}}}, "versions"'))
    assert parse_json("9" * 308, "x") == int("9" * 308)


@pytest.mark.parametrize(
    "path",
    ["a\x85b", "a\u2028b", "a?b", "a*b", 'a"b', "a<b", "a|b", "com\u00b9", "lpt9.txt", "conin$", "nul .txt", "a /b"],
)
def test_paths_that_not_every_system_has(path):
    with pytest.raises(ValueError):
        check_relative(path)


def test_levels_are_those_of_arrays_and_objects():
    for kind in ("[]", "{}"):
        text = "[" * 31 + kind + "]" * 31
        assert parse_json(text, "x")
        with pytest.raises(VerificationFailed, match="more than 32 levels"):
            parse_json(f"[{text}]", "x")
