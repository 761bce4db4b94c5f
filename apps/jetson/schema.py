"""Hold parsed JSON against a JSON Schema: the part of it that bundle.schema.json uses, and nothing else.

Shared by EdgeVL and the board's script. Python 3.8, the standard library only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Schema = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "array": (list,), "boolean": (bool,), "integer": (int,), "null": (type(None),), "number": (int, float),
    "object": (dict,), "string": (str,),
}  # fmt: skip
_NOTES = {
    "$ref",
    "anyOf",
    "oneOf",
    "type",
    "description",
    "default",
    "$defs",
    "title",
}  # looked at elsewhere, or not at all


class Checker:
    """Checks values against one document. `formats`: name -> a function that raises ValueError for a bad text."""

    def __init__(self, document: Schema, formats: Mapping[str, Callable[[str], Any]]):
        self._definitions, self._formats = document["$defs"], formats

    def check(self, value: Any, name: str) -> None:
        """Raise ValueError, "place: what is wrong", unless `value` is what the definition `name` describes."""
        self._check(value, self._definitions[name], "")

    def _check(self, value: Any, schema: Schema, where: str) -> None:
        if "$ref" in schema:
            self._check(value, self._definitions[schema["$ref"].rpartition("/")[2]], where)
        if "anyOf" in schema:
            self._any(value, schema["anyOf"], where)
        kinds = _TYPES[schema["type"]] if "type" in schema else ()
        if kinds and type(value) not in kinds:  # not isinstance: true is no integer, and 1.0 neither
            raise ValueError(f"{_at(where)}{_shown(value)} is no {schema['type']}")
        for key, wanted in schema.items():
            if key not in _NOTES:
                problem = getattr(self, "_" + key)(value, wanted, schema, where)
                if problem:
                    raise ValueError(f"{_at(where)}{_shown(value)} {problem}")

    def _any(self, value: Any, schemas: list[Schema], where: str) -> None:
        reasons: list[str] = []  # no errors: one that its own frame holds keeps the frames of all callers alive
        for schema in schemas:
            try:
                return self._check(value, schema, where)
            except ValueError as error:
                reasons.append(str(error))
        raise ValueError(reasons[0])

    def _discriminator(self, value: Any, wanted: Schema, _: Schema, where: str) -> str:
        """One of several definitions, by a field of the value that names it."""
        if type(value) is not dict:
            return "is no object"
        name, field = value.get(wanted["propertyName"]), wanted["propertyName"]
        if not isinstance(name, str) or name not in wanted["mapping"]:
            return f"has a {field} that is not one of {', '.join(wanted['mapping'])}"
        return self._check(value, {"$ref": wanted["mapping"][name]}, where) or ""

    # One method for each keyword: (value, what the keyword says, the whole schema, where) -> what is wrong, or nothing.

    def _const(self, value: Any, wanted: Any, *_: Any) -> str:
        return "" if value == wanted and type(value) is type(wanted) else f"must be {wanted!r}"

    def _enum(self, value: Any, wanted: list[Any], *_: Any) -> str:
        return "" if value in wanted else f"must be one of {', '.join(map(str, wanted))}"

    def _pattern(self, value: str, wanted: str, *_: Any) -> str:
        return "" if re.fullmatch(wanted, value) else f"does not match {wanted}"

    def _format(self, value: str, wanted: str, _: Schema, where: str) -> None:
        try:
            self._formats[wanted](value)
        except ValueError as error:
            raise ValueError(f"{_at(where)}{error}") from None

    def _minimum(self, value: float, wanted: float, *_: Any) -> str:
        return "" if value >= wanted else f"is less than {wanted:g}"

    def _maximum(self, value: float, wanted: float, *_: Any) -> str:
        return "" if value <= wanted else f"is more than {wanted:g}"

    def _exclusiveMinimum(self, value: float, wanted: float, *_: Any) -> str:
        return "" if value > wanted else f"is not more than {wanted:g}"

    def _maxLength(self, value: str, wanted: int, *_: Any) -> str:
        return "" if len(value) <= wanted else f"has more than {wanted} characters"

    def _minItems(self, value: list[Any], wanted: int, *_: Any) -> str:
        return "" if len(value) >= wanted else f"has fewer than {wanted} entries"

    def _maxItems(self, value: list[Any], wanted: int, *_: Any) -> str:
        return "" if len(value) <= wanted else f"has more than {wanted} entries"

    _minProperties, _maxProperties = _minItems, _maxItems

    def _items(self, value: list[Any], wanted: Schema, schema: Schema, where: str) -> None:
        rest = value[len(schema.get("prefixItems", ())) :]
        if not _all_numbers(rest, wanted):
            for index, entry in enumerate(rest):
                self._check(entry, wanted, f"{where}.{index}")

    def _prefixItems(self, value: list[Any], wanted: list[Schema], _: Schema, where: str) -> None:
        for index, (entry, each) in enumerate(zip(value, wanted)):
            self._check(entry, each, f"{where}.{index}")

    def _required(self, value: dict[str, Any], wanted: list[str], *_: Any) -> str:
        missing = [name for name in wanted if name not in value]
        return f"lacks {missing[0]}" if missing else ""

    def _properties(self, value: dict[str, Any], wanted: dict[str, Schema], _: Schema, where: str) -> None:
        for name in wanted:
            if name in value:
                self._check(value[name], wanted[name], f"{where}.{name}")

    def _propertyNames(self, value: dict[str, Any], wanted: Schema, _: Schema, where: str) -> None:
        for name in value:
            self._check(name, {"type": "string", **wanted}, where)

    def _patternProperties(self, value: dict[str, Any], wanted: dict[str, Schema], _: Schema, where: str) -> None:
        for name, entry in value.items():
            for pattern, schema in wanted.items():
                if re.fullmatch(pattern, name):
                    self._check(entry, schema, f"{where}.{name}")

    def _additionalProperties(self, value: dict[str, Any], wanted: Any, schema: Schema, where: str) -> str:
        patterns, known = schema.get("patternProperties", {}), schema.get("properties", {})
        for name in value:
            if name in known or any(re.fullmatch(pattern, name) for pattern in patterns):
                continue
            if wanted is False:
                return f"may not have {ascii(name)[:80]}"
            if wanted is not True:
                self._check(value[name], wanted, f"{where}.{name}")
        return ""


def _all_numbers(values: list[Any], schema: Schema) -> bool:
    """Are these numbers within the bounds of `schema`, told at once? There may be millions."""
    if not values or "type" not in schema or not schema.keys() <= {"type", "minimum", "maximum"}:
        return False
    fits = set(map(type, values)) <= set(_TYPES[schema["type"]]) <= {int, float}
    infinite = float("inf")
    return fits and schema.get("minimum", -infinite) <= min(values) and max(values) <= schema.get("maximum", infinite)


def _at(where: str) -> str:
    """ "place: ", in characters that any terminal takes, for names of fields come from the file."""
    return ascii(where[1:])[1:-1][:200] + ": " if where else ""


def _shown(value: Any) -> str:
    return "the object" if isinstance(value, dict) else "the list" if isinstance(value, list) else ascii(value)[:80]
