"""Bundles of schema 1, which EdgeVL no longer writes: read, checked, and written back as they were."""

import json

import pytest

from edgevl.apps.jetson import schema_1
from edgevl.bundle.manifest import Parity, parse_manifest
from edgevl.config import ModelConfig
from edgevl.errors import VerificationFailed

DIGEST = "0" * 64
PREPROCESSING = {
    "size": 128, "orientation": "exif", "color": "RGB", "background": "white", "geometry": "squash",
    "kernel": "triangle", "antialias": True, "passes": "horizontal-vertical", "rounding": "uint8-per-pass",
}  # fmt: skip
PROVENANCE = {
    "checkpoint": "embedded:nano", "checkpoint_sha256": DIGEST, "recipe": None, "data": None, "commit": None,
    "calibration": None,
}  # fmt: skip


def minimal() -> dict:
    return {
        "schema_version": 1,
        "name": "nano",
        "task": "vqa",
        "target": "onnx",
        "precision": "fp32",
        "artifact": "model.onnx",
        "model": ModelConfig(num_answers=3).to_dict(),
        "inputs": [
            {"name": "image", "dtype": "uint8", "shape": [1, 128, 128, 3], "layout": "NHWC", "range": [0, 255]},
            {"name": "input_ids", "dtype": "int32", "shape": [1, 24], "layout": "NT", "range": [0, 99]},
        ],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": [1, 3], "layout": "NA"}],
        "preprocessing": dict(PREPROCESSING),
        "tokenizer": {"file": "tokenizer.json", "length": 24, "vocab_size": 100},
        "labels": {"file": "labels.json", "count": 3},
        "golden": "golden.json",
        "versions": {"edgevl": "0.1.0"},
        "license": "Apache-2.0",
        "provenance": dict(PROVENANCE),
        "files": {
            name: {"sha256": DIGEST, "bytes": 1}
            for name in ("model.onnx", "tokenizer.json", "labels.json", "golden.json")
        },
    }


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


def test_it_becomes_schema_2():
    manifest = parse_manifest(json.dumps(minimal()))
    assert manifest.schema_version == 2 and manifest.decoding["kind"] == "classify"
    (program,) = manifest.programs
    assert [(spec.name, spec.source.kind) for spec in program.inputs] == [("image", "picture"), ("input_ids", "text")]
    assert manifest.text_processing["main"].start_id == 2 and manifest.image_processing["main"].size == 128
    assert manifest.provenance.model == json.loads(json.dumps(minimal()["model"]))


def test_what_is_measured_is_written_back_in_its_own_fields():
    """A reader of schema 1 refuses a field that it does not know."""
    manifest = parse_manifest(json.dumps(minimal()))
    assert json.loads(manifest.to_json()) == json.loads(
        json.dumps({**minimal(), "parity": None, "accuracy": None, "audit": None, "bench": None})
    )
    numbers = {"max_abs": 1.0, "psnr_db": 50.0, "cosine": 1.0}
    outputs = {"logits": {**numbers, "snr_db": 30.0}}
    shared = {"top1_agreement": 1.0, "samples": 3, "data": "x", "runtime": "y"}
    parity = Parity.model_validate({**numbers, **shared, "snr_db": 30.0, "outputs": outputs})
    written = json.loads(manifest.updated(parity=parity).to_json())
    assert written["schema_version"] == 1 and written["parity"]["psnr_db"] == 50.0
    assert not {"snr_db", "outputs"} & written["parity"].keys()
    assert parse_manifest(json.dumps(written)).parity == parity.model_copy(update={"snr_db": None, "outputs": {}})


BAD = {
    "missing field": (change("labels", value=None), "labels"),
    "unknown field": (change("surprise", value=1), "surprise"),
    "a field of schema 2": (change("decoding", value={"kind": "classify"}), "decoding"),
    "another task": (change("task", value="retrieval"), "task"),
    "huge size": (change("preprocessing", "size", value=10**9), "size"),
    "another size": (change("preprocessing", "size", value=64), "size"),
    "another length": (change("tokenizer", "length", value=12), "length"),
    "shape and layout": (change("inputs", 0, "layout", value="NT"), "image"),
    "another order": (change("inputs", value=minimal()["inputs"][::-1]), "inputs must be image, input_ids"),
    "an input less": (change("inputs", value=minimal()["inputs"][:1]), "inputs must be image, input_ids"),
    "another name": (change("outputs", 0, "name", value="scores"), "outputs must be logits"),
    "unlisted artifact": (change("artifact", value="other.onnx"), "artifact"),
    "unlisted labels": (change("labels", "file", value="other.json"), "other.json"),
    "unknown model field": (change("model", "widht", value=3), "widht"),
    "model of wrong type": (change("model", "width", value="wide"), "width"),
    "a model that does not fit together": (change("model", "heads", value=5), "heads"),
    "stride of zero": (change("model", "stride", value=0), "stride"),
    "split without programs": (change("layout", value="split"), "layout"),
    "fraction": (change("preprocessing", "size", value=128.0), "size"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_manifests_are_one_line(name):
    values, word = BAD[name]
    with pytest.raises(VerificationFailed, match=word) as caught:
        parse_manifest(json.dumps(values))
    assert "\n" not in str(caught.value) and caught.value.exit_code == 4


def test_golden_cases_become_schema_2():
    case = {"image": "a.png", "question": "q", "pixels_sha256": DIGEST, "input_ids": [2, 3], "logits": [1.0, 2.0],
            "answer": "b", "margin": 1.0}  # fmt: skip
    (found,) = schema_1.upgraded_golden({"schema_version": 1, "tolerance": 0.5, "cases": [case]})["cases"]
    assert found["values"] == {"logits": {"shape": [1, 2], "data": [1.0, 2.0]}}
    assert (found["result"], found["margins"]) == (["b"], [1.0])
