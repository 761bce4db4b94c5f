"""docs/bundle.md against the schema: every field stands in the table of its section, with its type and its limits."""

import json
import math
import re
from pathlib import Path

import pytest
import second_implementation as second
from pydantic import TypeAdapter

from edgevl.apps.jetson.bundle_files import file_problems
from edgevl.apps.jetson.interface import program_problems
from edgevl.bundle.manifest import SCHEMA_FILE, SCHEMA_FILES, check_schema, parse_manifest
from edgevl.bundle.schema import MAY_BE_MISSING
from edgevl.decodings.box import BoxFields
from edgevl.decodings.classify import ClassifyFields
from edgevl.decodings.generate import GenerateFields
from edgevl.decodings.rank import RankFields

PAGE = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text("utf-8")
DEFINITIONS = json.loads(SCHEMA_FILE.read_text("utf-8"))["$defs"]
DECODINGS = {"classify": ClassifyFields, "rank": RankFields, "generate": GenerateFields, "box": BoxFields}
for kind in DECODINGS.values():
    DEFINITIONS.setdefault(kind.__name__, TypeAdapter(kind).json_schema())
# Heading -> the definitions whose tables stand under it.
SECTIONS = {
    "manifest.json": ["Manifest"], "Programs": ["ArtifactSpec", "InputSpec", "OutputSpec"],
    "Sources": ["PictureSource", "TextSource", "ValueSource", "StateSource", "TokenSource", "StepSource"],
    "image_processing": ["ImageProcessing"], "text_processing": ["TextProcessing"], "labels": ["LabelsSpec"],
    "files": ["FileEntry"], "provenance": ["Provenance"], "parity": ["Parity", "OutputParity"],
    "accuracy": ["Accuracy", "MetricValue", "KindAccuracy"],
    "audit": ["Audit", "AuditWeight", "Duplicate", "Hazard"], "Domain": ["Domain"],
    "Golden cases": ["GoldenFile", "GoldenCase", "Values"],
    "classify": ["ClassifyFields"], "rank": ["RankFields"], "generate": ["GenerateFields"], "box": ["BoxFields"],
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
    if not schema:
        return "anything"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(map(words, schema[several]))
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
        return f"list of {high} ({'; '.join(dict.fromkeys(map(words, schema['prefixItems'])))})"
    many = f"{high} " if low == high else f"{low} to {short(high)} " if high else "any number of "
    return f"list of {many}({words(schema['items'])})"


def of_object(schema: dict) -> str:
    if schema.get("additionalProperties") is True:
        return "object"
    (values,) = schema.get("patternProperties", {"": schema["additionalProperties"]}).values()
    key = words({"type": "string", **schema.get("propertyNames", {})})
    key = PATTERNS[next(iter(schema["patternProperties"]))] if "patternProperties" in schema else key
    most = schema.get("maxProperties")
    many = f", {schema.get('minProperties', 0)} to {most} entries" if most else ""
    return f"object, {key} → {words(values)}{many}"


def section(heading: str) -> str:
    """The text below a heading, up to the next one of the same level or above."""
    found = re.search(rf"^(#+) `?{re.escape(heading)}`?\n(.*?)(?=^##?#? |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/bundle.md has no heading {heading}"
    return found[2]


NAMES = [(heading, name) for heading, names in SECTIONS.items() for name in names]


def rows_of(name: str) -> dict[str, str]:
    """Field -> the beginning of its row in a table."""
    schema, needed = DEFINITIONS[name], DEFINITIONS[name]["required"]
    optional = MAY_BE_MISSING.get(name, ())
    return {
        field: f"| `{field}` | {words(each)}{'' if field in needed and field not in optional else ', may be missing'} |"
        for field, each in schema["properties"].items()
    }


def test_every_section_of_the_schema_is_on_the_page():
    assert {name for _, name in NAMES} == set(DEFINITIONS)


@pytest.mark.parametrize(("heading", "name"), NAMES, ids=[name for _, name in NAMES])
def test_every_field_stands_there_with_its_limits(heading, name):
    lines = section(heading).splitlines()
    rows = [row for row in rows_of(name).values() if not any(line.startswith(row + " ") for line in lines)]
    assert not rows, f"docs/bundle.md, {heading}:\n" + "\n".join(rows)
    assert name in PAGE or heading != "Sources"


def test_every_row_of_a_table_of_fields_has_three_cells():
    tables = re.findall(r"^\| field \| type and limits .*\n\|---\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert len(tables) == len(NAMES) - 1  # token and step have one
    assert not [row for table in tables for row in table.splitlines() if row.count("|") != 4]


def examples() -> list[str]:
    return re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_is_a_manifest():
    text = examples()[0]
    manifest = parse_manifest(text)
    assert [program.name for program in manifest.programs] == ["vision", "fusion"]
    assert not list(file_problems(json.loads(text)))
    assert second.declared(dict(manifest.decoding))


def test_the_example_of_a_loop_is_a_program():
    _, text = examples()
    check_schema("ArtifactSpec", json.loads(text))
    assert not list(program_problems(json.loads(text)))


def test_what_is_left_of_schema_1_is_named():
    """Every field that schema 2 has not, or not there."""
    older = json.loads(SCHEMA_FILES[1].read_text("utf-8"))["$defs"]
    here = section("Schema 1")
    for name in ("Manifest", "GoldenCase", "TokenizerSpec"):
        fields = older[name]["properties"].keys() - DEFINITIONS.get(name, {"properties": {}})["properties"].keys()
        assert not {field for field in fields if f"`{field}`" not in here}, name


def test_the_second_reader_knows_the_fields_of_every_decoding():
    known = {kind: ({"kind"} | needed | others.keys()) for kind, (needed, others) in second.FIELDS.items()}
    assert known == {kind: set(fields.model_fields) for kind, fields in DECODINGS.items()}


def test_links_lead_to_headings():
    headings = re.findall(r"^#+ (.*)", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert not set(re.findall(r"\]\(#([^)]*)\)", PAGE)) - anchors


def test_no_line_is_too_long():
    assert not [line for line in PAGE.splitlines() if len(line) > 160]
