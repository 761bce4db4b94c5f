"""The JSON Schema of a bundle's JSON files: apps/jetson/bundle.schema.json, which every reader may use.

`python -m edgevl.bundle.schema` writes it from the models of manifest, golden cases and domain. `edgevl` and the
board's script hold every bundle against the file; what no schema can say (paths that fit together, the sizes of the
model) is in `apps/jetson/bundle_files.py`, `interface.py` and `conventions.py`. Each kind of decoding has a definition
of its own: other packages may bring kinds.
"""

import json
from typing import Any

from pydantic.json_schema import models_json_schema

from edgevl.bundle.golden import GoldenFile
from edgevl.bundle.manifest import SCHEMA_FILE, Manifest
from edgevl.decodings.box import BoxFields
from edgevl.decodings.classify import ClassifyFields
from edgevl.decodings.generate import GenerateFields
from edgevl.decodings.rank import RankFields
from edgevl.domain.judge import Domain

# Fields that a file may leave out, beside those of an input's source: EdgeVL writes all of them.
MAY_BE_MISSING = {
    "Manifest": {"layout", "options", "labels", "parity", "accuracy", "audit", "bench"},
    "Provenance": {"model"},
    "InputSpec": {"kind", "range"},
    "OutputSpec": {"range"},
    "ImageProcessing": {"shortest_edge", "decode"},
    "TextProcessing": {"empty"},
    "Parity": {"snr_db", "outputs"},
    "Accuracy": {"metric", "metrics"},
    "Values": {"data", "top"},
    "ClassifyFields": {"activation"},
    "RankFields": {"bias", "activation", "prompts"},
    "GenerateFields": {"text"},
    "BoxFields": {"format"},
}


def bundle_schema() -> dict[str, Any]:
    """The document: a definition for each section, and one for each file."""
    files, decodings = (Manifest, GoldenFile, Domain), (ClassifyFields, RankFields, GenerateFields, BoxFields)
    _, document = models_json_schema([(model, "validation") for model in (*files, *decodings)])
    definitions = document["$defs"]
    for name, schema in definitions.items():
        needed = ("kind", "name") if name.endswith("Source") else schema["properties"]
        schema["required"] = [
            field for field in schema["properties"] if field in needed and field not in MAY_BE_MISSING.get(name, ())
        ]
    title = (
        "A bundle of EdgeVL, schema version 2: manifest.json (Manifest), golden.json (GoldenFile), domain.json (Domain)"
    )
    return {"title": title, "$defs": {name: _plain(schema) for name, schema in definitions.items()}}


def _plain(schema: Any) -> Any:
    """Without titles and defaults, which say nothing new; a pattern for names of fields allows no others."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _plain(value) for key, value in schema.items() if key not in ("title", "default")}
    return {**found, "additionalProperties": False} if "patternProperties" in found else found


def write() -> None:
    SCHEMA_FILE.write_text(json.dumps(bundle_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
