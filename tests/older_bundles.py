"""Turn a bundle that answers questions back into schema version 1, as the releases before schema 2 wrote it."""

import hashlib
import json
from pathlib import Path
from typing import Any

from edgevl.apps.jetson.schema_1 import NEWER, OUTPUT, SAME

MODEL = ("inputs", "outputs")  # of the whole model, whatever programs it is cut into


def as_schema_1(folder: Path) -> Path:
    """Rewrite manifest.json and golden.json of an exported bundle, in place, with digests that fit; return the folder.

    The bundle must have one picture and one text of a query, and the decoding classify.
    """
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    name = manifest["golden"]
    data = _text(golden_1(json.loads((folder / name).read_text("utf-8")))).encode()
    (folder / name).write_bytes(data)
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(_text(manifest_1(manifest)), "utf-8")
    return folder


def manifest_1(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of schema 2 as schema 1."""
    programs = [_program(program) for program in manifest["programs"]]
    text, whole = manifest["text_processing"]["main"], len(programs) == 1
    provenance = dict(manifest["provenance"])
    return {
        "schema_version": 1,
        **{name: _older(name, manifest.get(name)) for name in SAME},
        "artifact": programs[0]["artifact"] if whole else programs[0]["artifact"].rpartition("/")[0],
        "layout": manifest["layout"],
        "options": manifest["options"],
        "model": provenance.pop("model"),
        "inputs": [spec for each in programs for spec in each["inputs"] if spec["name"] != "visual"],
        "outputs": programs[-1]["outputs"],
        "programs": [] if whole else programs,
        "preprocessing": {
            key: value for key, value in manifest["image_processing"]["main"].items() if key != "shortest_edge"
        },
        "tokenizer": {key: text[key] for key in ("file", "length", "vocab_size", "pad_id")},
        "provenance": provenance,
    }


def golden_1(golden: dict[str, Any]) -> dict[str, Any]:
    """Return golden cases of schema 2 as schema 1."""
    return {"schema_version": 1, "tolerance": golden["tolerance"][OUTPUT], "cases": [_case(c) for c in golden["cases"]]}


def _case(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "image": case["pictures"][0],
        "question": case["texts"][0],
        "pixels_sha256": case["pixels_sha256"]["main"][0],
        "input_ids": case["input_ids"]["main"][0],
        "logits": case["values"][OUTPUT]["data"],
        "answer": case["result"][0],
        "margin": (case["margins"] or [0.0])[0],
    }


def _program(program: dict[str, Any]) -> dict[str, Any]:
    specs = {side: [_spec(spec) for spec in program[side]] for side in MODEL}
    return {"name": program["name"], "artifact": program["artifact"], **specs}


def _spec(spec: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "tensor", **{key: value for key, value in spec.items() if key != "from"}}


def _older(name: str, section: Any) -> Any:
    if not isinstance(section, dict):
        return section
    return {key: value for key, value in section.items() if key not in NEWER.get(name, ())}


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
