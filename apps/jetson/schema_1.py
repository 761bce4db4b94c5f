"""Bundles of schema version 1, which knew one model and one task, as schema 2: readers ask no more which one it is.

Shared by EdgeVL and the board's script. Python 3.8, the standard library only. Every function takes parsed JSON that
fits bundle-1.schema.json and keeps conventions.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTPUT = "logits"
SOURCES = {
    "image": {"kind": "picture"},
    "input_ids": {"kind": "text"},
    "visual": {"kind": "value", "name": "visual", "texts": []},
}
START_ID, STOP_ID = 2, 3  # [CLS] and [SEP] of the tokenizers that EdgeVL made
# Sections that both versions have, and what of them schema 1 has no field for.
SAME = (
    "name", "task", "target", "precision", "labels", "golden", "license", "files", "versions", "parity", "accuracy",
    "audit", "bench",
)  # fmt: skip
NEWER = {"parity": ("snr_db", "outputs"), "accuracy": ("metric", "metrics")}


def upgraded(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of schema 1 as schema 2."""
    programs = manifest.get("programs") or [{"name": "model", "artifact": manifest["artifact"], **_sides(manifest)}]
    tokenizer, preprocessing = manifest["tokenizer"], manifest["preprocessing"]
    text = {"kind": "wordpiece", "pad_id": tokenizer.get("pad_id", 0), "start_id": START_ID, "stop_id": STOP_ID}
    return {
        "schema_version": 2,
        **{name: manifest[name] for name in SAME if name in manifest},
        "layout": manifest.get("layout", "single"),
        "options": manifest.get("options", {}),
        "decoding": {"kind": "classify", "output": OUTPUT, "activation": "softmax"},
        "programs": [_program(program, manifest["precision"]) for program in programs],
        "image_processing": {"main": dict(preprocessing)},
        "text_processing": {
            "main": {**text, **{key: tokenizer[key] for key in ("file", "length", "vocab_size")}, "empty": "refuse"}
        },
        "provenance": {**manifest["provenance"], "model": manifest["model"]},
    }


def _sides(manifest: dict[str, Any]) -> dict[str, Any]:
    return {side: manifest[side] for side in ("inputs", "outputs")}


def _program(program: dict[str, Any], precision: str) -> dict[str, Any]:
    return {
        "name": program["name"],
        "artifact": program["artifact"],
        "precision": precision,
        "inputs": [{**spec, "from": SOURCES[spec["name"]]} for spec in program["inputs"]],
        "outputs": [{key: value for key, value in spec.items() if key != "kind"} for spec in program["outputs"]],
    }


def upgraded_golden(golden: dict[str, Any]) -> dict[str, Any]:
    """Return a golden file of schema 1 as schema 2."""
    return {
        "schema_version": 2,
        "tolerance": {OUTPUT: golden["tolerance"]},
        "cases": [_case(case) for case in golden["cases"]],
    }


def _case(case: dict[str, Any]) -> dict[str, Any]:
    logits = case["logits"]
    return {
        "pictures": [case["image"]],
        "texts": [case["question"]],
        "pixels_sha256": {"main": [case["pixels_sha256"]]},
        "input_ids": {"main": [case["input_ids"]]},
        "values": {OUTPUT: {"shape": [1, len(logits)], "data": logits}},
        "result": [case["answer"]],
        "margins": [case["margin"]] if len(logits) > 1 else [],
    }


def problems(manifest: dict[str, Any]) -> Iterator[str]:
    """Yield where the layout, the programs and their paths do not fit together."""
    artifact, programs = manifest["artifact"], manifest.get("programs") or []
    names, layout = [program["name"] for program in programs], manifest.get("layout", "single")
    if names != (["vision", "fusion"] if layout == "split" else []):
        yield f'programs {names} do not fit the layout "{layout}"'
    for program in programs:
        if not program["artifact"].startswith(artifact + "/"):
            yield f'"{program["artifact"]}" is not inside the artifact "{artifact}"'


def written_back(original: dict[str, Any], sections: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of schema 1 with other sections: what it has no field for is left out."""
    known = {
        name: {key: value for key, value in section.items() if key not in NEWER.get(name, ())}
        if isinstance(section, dict)
        else section
        for name, section in sections.items()
    }
    return {**original, **known}
