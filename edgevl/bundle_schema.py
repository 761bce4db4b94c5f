"""The JSON Schema of a bundle's JSON files: apps/jetson/bundle.schema.json, which every reader may use.

`python -m edgevl.bundle_schema` writes it from the models of `edgevl.manifest`, `golden` and `domain`. `edgevl` and
the board's script hold every bundle against the file; what no schema can say (paths that fit together, the sizes of the
model) is in `apps/jetson/bundle_files.py` and `conventions.py`.
"""

import json
from typing import Any

from pydantic.json_schema import models_json_schema

from edgevl.config import REAL, WHOLE
from edgevl.domain.judge import Domain
from edgevl.golden import GoldenFile
from edgevl.limits import MAX_TEXT, NAME_PATTERN
from edgevl.manifest import SCHEMA_FILE, Manifest

# Fields that a file of schema version 1 may leave out; EdgeVL writes all of them.
MAY_BE_MISSING = {
    "Manifest": {"layout", "options", "programs", "parity", "accuracy", "audit", "bench"},
    "TensorSpec": {"kind", "range"},
    "TokenizerSpec": {"pad_id"},
}


def bundle_schema() -> dict[str, Any]:
    """The document: a definition for each section, and one for each file."""
    files = (Manifest, GoldenFile, Domain)
    _, document = models_json_schema([(model, "validation") for model in files])
    definitions = document["$defs"]
    for name, schema in definitions.items():
        schema["required"] = [field for field in schema["properties"] if field not in MAY_BE_MISSING.get(name, ())]
    _describe_model(definitions["ModelConfig"])
    title = (
        "A bundle of EdgeVL, schema version 1: manifest.json (Manifest), golden.json (GoldenFile), domain.json (Domain)"
    )
    return {"title": title, "$defs": {name: _plain(schema) for name, schema in definitions.items()}}


def _describe_model(schema: dict[str, Any]) -> None:
    """Write down what `ModelConfig` checks itself: no other field is there, and each is within its range."""
    fields = schema["properties"]
    schema["additionalProperties"] = False
    schema["description"] = "The configuration of the model that the artifact was made from."
    fields["name"]["pattern"] = f"^{NAME_PATTERN}$"
    for key in ("task", "backbone"):
        fields[key].update(maxLength=MAX_TEXT, pattern="^[^\\x00]*$")
    for key, (low, high) in WHOLE.items():
        if key not in fields:  # of another kind of model
            continue
        fields[key].update(minimum=low, maximum=high)
    for key, (low, high) in REAL.items():
        if key not in fields:
            continue
        for each in fields[key].get("prefixItems", [fields[key]]):
            each.update(minimum=low, maximum=high)


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
