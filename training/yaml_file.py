"""Recipes and presets as text: bounded YAML whose scalars are read by the type of the field that they are for.

YAML guesses: it takes `2024-11-29` for a date, `1e3` for text, `no` for false, and lets ten lines of aliases grow into
10^9 values. Here the field decides (a name stays text, whatever it looks like), and nothing grows.
"""

import math
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import BaseModel

from edgevl.errors import InputError
from edgevl.limits import shown
from edgevl.reading import read_text

MAX_BYTES = 2**16  # of a file; the longest that comes with EdgeVL has 4 000
MAX_DEPTH = 16
MAX_VALUES = 10_000  # with what aliases repeat
_NUMBER = re.compile(r"[-+]?(\d[\d_]*)?(\.[\d_]*)?([eE][-+]?\d+)?", re.ASCII)
_MAX_NUMBER = 40  # characters
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NOTHING = ("", "~", "null")
_NOT_FINITE = re.compile(r"[-+]?\.inf|\.nan", re.IGNORECASE)


class Like(NamedTuple):
    """`Annotated[dict[str, Any], Like(Kind)]`: what is in this mapping is read as the fields of `Kind`."""

    kind: type


class Bad(ValueError):
    """What is wrong with a text, with the line where it can be told."""


def read_yaml(path: Path, kind: Any) -> dict[str, Any]:
    """Read a file that holds a mapping, as the fields of `kind`.

    Raises `InputError`, with the line, for what is too large or too deep, holds aliases, tags, a key twice or a number
    that is not finite, or is not YAML.
    """
    try:
        values = parse_yaml(read_text(path, MAX_BYTES), kind)
    except Bad as error:
        raise InputError(f"{path} is not readable YAML: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold a mapping of keys to values")
    return values


def parse_yaml(text: str, kind: Any) -> Any:
    """Read one value, as a field of `kind` would be. Raises `Bad`."""
    try:
        node = yaml.compose(text, Loader=_Composer)
    except yaml.MarkedYAMLError as error:
        raise Bad(_marked(error)) from None
    except yaml.YAMLError as error:  # a character that YAML does not have
        raise Bad(" ".join(str(error).split())[:200]) from None
    return None if node is None else _Builder().value(node, kind)


def parse_scalar(text: str, kind: Any) -> Any:
    """Read the value of `key=value`: where the field is text, all of it, unless it is in quotes. Raises `Bad`."""
    if _wants_text(kind) and text[:1] not in ("'", '"'):
        return None if text in _NOTHING and type(None) in _kinds(kind) else text
    return parse_yaml(text, kind)


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Write plain data so that `parse_yaml` reads the same again: text that looks like something else is quoted."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def field_kind(kind: Any, key: str) -> Any:
    """The type of the field `key` of a pydantic model, a dataclass or a mapping; Any where nothing is known of it."""
    for each in _kinds(kind):
        if isinstance(each, type) and issubclass(each, BaseModel) and key in each.model_fields:
            field = each.model_fields[key]
            return next((mark for mark in field.metadata if isinstance(mark, Like)), field.annotation)
        if isinstance(each, Like):
            hints = {} if issubclass(each.kind, BaseModel) else get_type_hints(each.kind)
            return hints.get(key, Any) if hints else field_kind(each.kind, key)
        if get_origin(each) is dict:
            return get_args(each)[1]
    return Any


class _Composer(yaml.BaseLoader):
    """Composes nodes, without tags and not deeper than `MAX_DEPTH`."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if getattr(event, "tag", None) is not None:
            raise _refused(event, f"the tag {event.tag[:40]} is not read here: remove it")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _refused(event, f"more than {MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _refused(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _marked(error: yaml.MarkedYAMLError) -> str:
    where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
    return where + " ".join(f"{error.context or ''} {error.problem or ''}".split())[:200]


class _Builder:
    """Turns nodes into values. It counts them, for an alias stands for all that it repeats, and may hold itself."""

    def __init__(self) -> None:
        self.count = self.depth = 0

    def value(self, node: yaml.Node, kind: Any) -> Any:
        self.count, self.depth = self.count + 1, self.depth + 1
        where = f"line {node.start_mark.line + 1}"
        if self.count > MAX_VALUES or self.depth > MAX_DEPTH:
            most = f"{MAX_VALUES:,} values" if self.count > MAX_VALUES else f"{MAX_DEPTH} levels"
            raise Bad(f"{where}: more than {most}, with what aliases repeat")
        if isinstance(node, yaml.MappingNode):
            value: Any = dict(self._pairs(node, kind))
        elif isinstance(node, yaml.SequenceNode):
            value = [self.value(item, _item_kind(kind)) for item in node.value]
        else:
            value = _scalar(node, kind, where)
        self.depth -= 1
        return value

    def _pairs(self, node: yaml.MappingNode, kind: Any) -> Iterator[tuple[str, Any]]:
        keys: set[str] = set()
        for key_node, value_node in node.value:
            key, where = key_node.value, f"line {key_node.start_mark.line + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise Bad(f"{where}: a key must be a word")
            if key in keys:
                raise Bad(f"{where}: the key {shown(key)} is there already")
            keys.add(key)
            yield key, self.value(value_node, field_kind(kind, key))


def _scalar(node: Any, kind: Any, where: str) -> Any:
    if node.style and set(_kinds(kind)) <= {int, float, bool, type(None)}:
        raise Bad(f"{where}: {shown(node.value)} is text, and a value without quotes belongs here")
    try:
        return node.value if node.style else _plain(node.value, kind)
    except ValueError as error:
        raise Bad(f"{where}: {error}") from None


def _plain(text: str, kind: Any) -> Any:
    """The value of a scalar without quotes."""
    kinds = _kinds(kind)
    guess = Any in kinds or not kinds
    if text.lower() in _NOTHING and (guess or type(None) in kinds or not _wants_text(kind)):
        return None
    if _wants_text(kind):
        return text
    if text.lower() in _WORDS and (guess or bool in kinds):
        return _WORDS[text.lower()]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number")
    return _number(text) if _NUMBER.fullmatch(text) and re.search(r"\d", text) else text


def _number(text: str) -> int | float:
    if len(text) > _MAX_NUMBER:
        raise ValueError(f"a number of {len(text)} characters, at most {_MAX_NUMBER} are read")
    try:
        return int(text)
    except ValueError:
        number = float(text.replace("_", ""))
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _kinds(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the one type."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _wants_text(kind: Any) -> bool:
    """Does the field take text, so that what looks like a number, a date or a truth value is text too?"""
    words = [get_args(each) for each in _kinds(kind) if get_origin(each) is Literal]
    return str in _kinds(kind) or any(isinstance(word, str) for each in words for word in each)


def _item_kind(kind: Any) -> Any:
    found = [get_args(each) for each in _kinds(kind) if get_origin(each) in (tuple, list)]
    return found[0][0] if found and found[0] else Any


class _Dumper(yaml.SafeDumper):
    """Quotes every text that a reader could take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    plain = re.fullmatch(r"[A-Za-z_/][\w./-]*", text, re.ASCII) and text.lower() not in (*_WORDS, *_NOTHING)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else "'")


_Dumper.add_representer(str, _text)
