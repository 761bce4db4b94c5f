"""docs/bundle.md against the schema: every field stands in the table of its section, with its type and its limits."""

import json
import math
import re
from pathlib import Path

import pytest

from edgevl.manifest import SCHEMA_FILE

PAGE = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text("utf-8")
DEFINITIONS = json.loads(SCHEMA_FILE.read_text("utf-8"))["$defs"]
# Definition -> the heading under which its table stands. Those of one table have no heading of their own.
SECTIONS = {
    "Manifest": "manifest.json", "TensorSpec": "Tensors", "ProgramSpec": "Programs", "ModelConfig": "model",
    "Preprocessing": "preprocessing", "TokenizerSpec": "tokenizer and labels", "LabelsSpec": "tokenizer and labels",
    "FileEntry": "files", "Provenance": "provenance", "Parity": "parity", "Accuracy": "accuracy",
    "KindAccuracy": "accuracy", "Audit": "audit", "AuditWeight": "audit", "Duplicate": "audit", "Hazard": "audit",
    "GoldenFile": "Golden cases", "GoldenCase": "Golden cases", "Domain": "Domain",
}  # fmt: skip
PATTERNS = {
    "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$": "name", "^[0-9a-f]{64}$": "sha256", "^[A-Z]{1,6}$": "1 to 6 letters A to Z",
    "^[0-9a-f]{56}$": "56 digits 0-9 a-f",
}  # fmt: skip
FORMATS = {"relative-path": "path", "folder-name": "name of a folder"}


def words(schema: dict) -> str:
    """A schema as the page writes it."""
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if "anyOf" in schema:
        return " or ".join(map(words, schema["anyOf"]))
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " or ".join(map(json.dumps, schema["enum"]))
    return {"array": of_list, "object": of_object, "string": of_text, "null": lambda _: "null"}.get(
        schema["type"], of_number
    )(schema)


def of_number(schema: dict) -> str:
    kind = {"integer": "integer", "number": "number", "boolean": "true or false"}[schema["type"]]
    if "exclusiveMinimum" in schema:
        return f"{kind} above {schema['exclusiveMinimum']:g}, at most {short(schema['maximum'])}"
    return f"{kind}, {short(schema['minimum'])} to {short(schema['maximum'])}" if "minimum" in schema else kind


def short(value: float) -> str:
    """2^40 rather than 1099511627776, and 10^12."""
    for base, least in ((2, 13), (10, 6)):
        power = round(math.log(abs(value) or 1, base))
        if power >= least and abs(value) == base**power:
            return f"{'−' if value < 0 else ''}{base}^{power}"
    return f"{value:.10g}".replace("-", "−")


def of_text(schema: dict) -> str:
    known = PATTERNS.get(schema.get("pattern", "")) or FORMATS.get(schema.get("format", ""))
    return known or (f"text, at most {schema['maxLength']} characters" if "maxLength" in schema else "text")


def of_list(schema: dict) -> str:
    low, high = schema.get("minItems", 0), schema.get("maxItems")
    if "prefixItems" in schema:
        return f"list of {high} ({words(schema['prefixItems'][0])})"
    many = f"{high} " if low == high else f"{low} to {short(high)} " if high else "any number of "
    return f"list of {many}({words(schema['items'])})"


def of_object(schema: dict) -> str:
    if schema.get("additionalProperties") is True:
        return "object"
    (values,) = schema.get("patternProperties", {"": schema["additionalProperties"]}).values()
    key = words({"type": "string", **schema.get("propertyNames", {})})
    key = PATTERNS[next(iter(schema["patternProperties"]))] if "patternProperties" in schema else key
    many = f", {schema['minProperties']} to {schema['maxProperties']} entries" if "maxProperties" in schema else ""
    return f"object, {key} → {words(values)}{many}"


def section(heading: str) -> str:
    """The text below a heading, up to the next one of the same level or above."""
    found = re.search(rf"^(#+) `?{re.escape(heading)}`?\n(.*?)(?=^##?#? |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/bundle.md has no heading {heading}"
    return found[2]


def test_every_section_of_the_schema_is_on_the_page():
    assert set(SECTIONS) == set(DEFINITIONS)


@pytest.mark.parametrize("name", SECTIONS)
def test_every_field_stands_there_with_its_limits(name):
    schema, rows = DEFINITIONS[name], section(SECTIONS[name]).splitlines()
    missing = []
    for field, of_field in schema["properties"].items():
        optional = "" if field in schema["required"] else ", may be missing"
        row = f"| `{field}` | {words(of_field)}{optional} | "
        if not any(line.startswith(row) and line.count("|") == 4 for line in rows):
            missing.append(row)
    assert not missing, f"docs/bundle.md, {SECTIONS[name]}:\n" + "\n".join(missing)
