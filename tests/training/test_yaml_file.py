"""Recipes and presets that a stranger wrote: one line that names the file, at once, whatever is in them."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgevl.errors import InputError
from edgevl.training.recipe import RECIPES, load_recipe
from edgevl.training.study.preset import PRESETS, load_preset
from edgevl.training.yaml_file import dump_yaml, parse_yaml, read_yaml

START = "stage: pretrain\nname: x\n"
ALIASES = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
ALIASES += "".join(f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh")) + "name: *h\n"
HOSTILE = {
    "aliases that explode": (ALIASES, "more than 10,000 values, with what aliases repeat"),
    "a list that holds itself": ("a: &a [*a]\n", "line 1: more than 16 levels, with what aliases repeat"),
    "a comment of 50 MB": (START + "# " + "x" * 50_000_000, "has more than 64 KiB"),
    "a key twice": (START + "steps: 3\nbatch_size: 2\nsteps: 4\n", "line 5: the key 'steps' is there already"),
    "a key twice in a section": (START + "data: {texts: 2, texts: 3}\n", "line 3: the key 'texts' is there already"),
    "an infinite rate": (START + "optimizer: {lr: .inf}\n", "line 3: .inf is not a finite number"),
    "a rate that is none": (START + "optimizer:\n  lr: .nan\n", "line 4: .nan is not a finite number"),
    "a rate beyond a double": (START + "optimizer:\n  lr: 1e999\n", "line 4: 1e999 is not a finite number"),
    "deep lists": (START + "model: " + "[" * 30_000, "line 3: more than 16 levels"),
    "deep mappings": ("".join(" " * i + "a:\n" for i in range(300)), "line 16: more than 16 levels"),
    "a number of 5 000 digits": (START + "steps: " + "9" * 5000, "line 3: a number of 5000 characters"),
    "a batch of 10^9": (START + "batch_size: 1000000000\n", "batch_size: Input should be less than or equal to 16384"),
    "a name that leaves runs/": ("name: ../../escaped\nstage: pretrain\n", "the recipe's name is '../../escaped'"),
    "code": (START + "model: !!python/object/apply:os.system [x]\n", "line 3: the tag tag:yaml.org,2002:python"),
    "another tag": (START + "steps: !!float 3\n", "line 3: the tag"),
    "a number in quotes": (START + "steps: '3'\n", "line 3: '3' is text, and a value without quotes belongs here"),
    "a key that is a list": (START + "? [a]\n: 1\n", "line 3: a key must be a word"),
    "merge keys": (START + "<<: {steps: 3}\n", 'unknown key "<<"'),
    "two documents": (START + "---\nname: y\n", "line 3:"),
    "a list": ("- a\n", "must hold a mapping of keys to values"),
    "nothing": ("", "must hold a mapping of keys to values"),
    "control characters": (START + "a: \x1b[31m\n", "special characters are not allowed"),
    "tabs": (START + "data:\n\ttexts: 2\n", "line 4:"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("load", [load_recipe, load_preset])
def test_a_hostile_file_is_one_line_at_once(name, load, tmp_path):
    text, message = HOSTILE[name]
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    began = time.monotonic()
    with pytest.raises(InputError) as error:
        load(path)
    said = str(error.value)
    assert str(path) in said and "\n" not in said and "\x1b" not in said and len(said) < len(str(path)) + 600
    assert message in said or load is load_preset
    assert time.monotonic() - began < 10


def test_a_recipe_in_another_encoding_or_no_file_is_one_line(tmp_path):
    (tmp_path / "x.yaml").write_bytes("# größe\n".encode("cp1252"))
    with pytest.raises(InputError, match="not UTF-8"):
        load_recipe(tmp_path / "x.yaml")
    os.truncate(tmp_path / "x.yaml", 2**33)
    with pytest.raises(InputError, match="more than 64 KiB"):
        load_recipe(tmp_path / "x.yaml")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a plain file"):
        read_yaml(tmp_path / "pipe", Any)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps: 40", "steps: many"), "pretrain: steps: Input should be a valid integer"),
        (("steps: 40", "steps: '40'"), "'40' is text"),
        (("steps: 40", "steps: 1000000000"), "pretrain: steps: Input should be less than or equal to"),
        (("steps: 30", "steps: []"), "finetune: steps"),
        (("seeds: [0, 1]", "seeds: [0, 99999999999]"), "seeds.1: Input should be less than or equal to"),
        (("name: quick", "name: ../quick"), "the recipe's name is '../quick'"),
        (("test_samples: 128", "test_samples: 1000000000"), "test_samples: Input should be less than or equal to"),
        (("timing_rounds: 2", "timing_rounds: 1000000000"), "timing_rounds: Input should be less than or equal to"),
        (("optimizer: {lr: 2.0e-3,", "optimizer: {lr: .inf,"), ".inf is not a finite number"),
    ],
)
def test_a_preset_has_the_same_limits(change, message, tmp_path):
    old, new = change
    quick = (PRESETS / "quick.yaml").read_text(encoding="utf-8")
    assert old in quick
    (tmp_path / "mine.yaml").write_text(quick.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_preset(tmp_path / "mine.yaml")
    assert message in str(error.value) and "mine.yaml" in str(error.value)


@pytest.mark.parametrize(
    "path", [*sorted(RECIPES.glob("*.yaml")), *sorted(PRESETS.glob("*.yaml"))], ids=lambda p: p.stem
)
def test_what_is_written_is_read_as_the_same(path):
    values = parse_yaml(path.read_text(encoding="utf-8"), Any)
    assert parse_yaml(dump_yaml(values), Any) == values


def test_every_kind_of_value_survives_writing():
    texts = [
        "",
        "no",
        "1e3",
        "2024-11-29",
        "a: b",
        "# x",
        "[x",
        "'",
        '"',
        "a\nb",
        " a ",
        "foncé 赤",
        "~",
        ".inf",
        "-",
        "*a",
    ]
    values = {"texts": texts, "numbers": [0, -3, 2.5e-7, 1e22, 10**18], "rest": [True, False, None, {}, []], "a.b": 1}
    assert parse_yaml(dump_yaml(values), Any) == values


def test_an_alias_stands_for_its_value():
    """PyYAML writes one wherever the same list or mapping occurs twice."""
    shared = {"texts": 2}
    text = yaml.safe_dump({"pretrain": {"data": shared}, "finetune": {"data": shared}})
    assert "&id001" in text
    assert parse_yaml(text, Any) == {"pretrain": {"data": shared}, "finetune": {"data": shared}}


def test_a_preset_keeps_what_it_says(tmp_path):
    preset = load_preset("quick")
    path: Path = tmp_path / "preset.yaml"
    path.write_text(dump_yaml(preset.model_dump(mode="json")), encoding="utf-8")
    assert load_preset(path) == preset
