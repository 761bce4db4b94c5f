"""Damage to the JSON files of a bundle."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mutation_base import BASES, Key, Mutation, bytes_of, edit_json, forged, parent_of

# JSON, structurally

WEIRD: dict[str, Any] = {
    "null": None, "true": True, "empty text": "", "text": "x", "number": 7, "negative": -1, "zero": 0, "half": 0.5,
    "2^63": 2**63, "10^40": 10**40, "infinite": float("inf"), "list": [], "object": {}, "list of lists": [[[]]],
    "lone surrogate": "\ud800", "null character": "a\0b", "long text": "x" * 5000, "markup": "[red]{{ 7*7 }}[/red]",
    "right to left": "\u202etxt.exe", "line break": "a\nerror: b",
}  # fmt: skip


ACTIONS = ["drop", "rename", "add", "wrap", *WEIRD]


def places(value: Any, path: tuple[Key, ...] = ()) -> Iterator[tuple[Key, ...]]:
    """The path of every value inside `value`."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def fuzz(values: Any, path: tuple[Key, ...], action: str) -> None:
    """Apply one action at `path`, in place."""
    parent, key = parent_of(values, path), path[-1]
    if action == "drop":
        del parent[key]
    elif action == "rename" and isinstance(parent, dict):
        parent[f"{key}x"] = parent.pop(key)
    elif action == "add" and isinstance(parent, dict):
        parent["surprise"] = 1
    elif action in ("rename", "add"):
        parent.append(parent[key])
    elif action == "wrap":
        parent[key] = [parent[key]]
    else:
        parent[key] = WEIRD[action]


def _structural(file: str, base: str, places: list[tuple[Key, ...]], count: int, seed: int) -> Iterator[Mutation]:
    """`count` different ACTIONS at different depths of one JSON file."""
    chance = random.Random(f"{file} {base} {seed}")
    seen = set()
    while len(seen) < count:
        depth = chance.choice(sorted({len(place) for place in places}))
        path = chance.choice([place for place in places if len(place) == depth])
        action = chance.choice(ACTIONS)
        if (path, action) in seen:
            continue
        seen.add((path, action))

        def change(bundle: Path, path: tuple[Key, ...] = path, action: str = action) -> None:
            edit_json(bundle / file, lambda values: fuzz(values, path, action))

        name = f"{base} {file}: {action} at {'.'.join(map(str, path))}"
        if file == "manifest.json":
            yield Mutation(name, base, change, f"manifest:{'.'.join(map(str, path))}:{action}")
        else:
            yield forged(name, base, change, file)


_FIELDS = {  # a skeleton with the places of every field; the values do not matter
    "schema_version": 0, "name": 0, "task": 0, "target": 0, "precision": 0, "artifact": 0, "layout": 0, "options": 0,
    "model": {"backbone": 0, "image_size": 0, "width": 0, "mean": [0, 0, 0], "backbone_options": {"stem_width": 0}},
    "inputs": [{"name": 0, "kind": 0, "dtype": 0, "shape": [0, 0], "layout": 0, "range": [0, 0]}] * 2,
    "outputs": [{"name": 0, "kind": 0, "dtype": 0, "shape": [0, 0], "layout": 0}],
    "preprocessing": {"size": 0, "orientation": 0, "color": 0, "kernel": 0, "antialias": 0},
    "tokenizer": {"file": 0, "length": 0, "vocab_size": 0, "pad_id": 0}, "labels": {"file": 0, "count": 0}, "golden": 0,
    "versions": {"python": 0}, "license": 0, "provenance": {"checkpoint": 0, "checkpoint_sha256": 0, "recipe": 0},
    "files": {"labels.json": {"sha256": 0, "bytes": 0}, "golden.json": {"sha256": 0, "bytes": 0}},
    "parity": 0, "accuracy": 0, "audit": 0, "bench": 0,
}  # fmt: skip
_PROGRAM = {"name": 0, "artifact": 0, "inputs": [{"name": 0, "dtype": 0, "shape": [0]}], "outputs": [{"name": 0}]}


def manifests() -> Iterator[Mutation]:
    """Fields of manifest.json, and its text."""
    yield from _manifest_fields()
    yield from _manifest_texts()


def other_files() -> Iterator[Mutation]:
    """labels.json, golden.json and tokenizer.json."""
    yield from _other_json()
    yield from _tokenizers()


def _manifest_fields() -> Iterator[Mutation]:
    for base, count in (("onnx", 50), ("coreml", 15), ("split", 25)):
        fields = {**_FIELDS, "programs": [_PROGRAM] * 2} if base == "split" else _FIELDS
        yield from _structural("manifest.json", base, list(places(fields)), count, 1)


# JSON, as text


def _with(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def replace(data: bytes) -> bytes:
        assert old in data, old
        return data.replace(old, new, 1)

    return replace


TEXTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "a blank": lambda data: b" \n",
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "UTF-32": lambda data: data.decode().encode("utf-32"),
    "Latin-1": lambda data: data.replace(b'"', b'"\xe9', 1),
    "overlong UTF-8": lambda data: data.replace(b'"', b'"\xc0\xaf', 1),
    "encoded surrogates": lambda data: data.replace(b'"', b'"\xed\xa0\x80', 1),
    "random bytes": lambda data: random.Random(1).randbytes(2000),
    "null bytes": lambda data: bytes(2000),
    "an ELF header": lambda data: b"\x7fELF" + data,
    "something after it": lambda data: data + b"{}",
    "a list": lambda data: b"[" + data + b"]",
    "a text": lambda data: b'"text"',
    "a number": lambda data: b"7",
    "null": lambda data: b"null",
    "a bottomless list": lambda data: b"[" * 100_000,
    "bottomless objects": lambda data: b'{"a":' * 50_000,
    "too many blanks": lambda data: data + b" " * (17 << 20),
    "single quotes": lambda data: data.replace(b'"', b"'"),
    "a comment": lambda data: b"// hello\n" + data,
}


def _manifest_texts() -> Iterator[Mutation]:
    for name, make in TEXTS.items():
        yield Mutation(f"manifest.json is {name}", "onnx", bytes_of("manifest.json", make), "refused")
    chance = random.Random(2)
    for share in sorted(chance.random() for _ in range(8)):
        cut = bytes_of("manifest.json", lambda data, share=share: data[: int(share * len(data))])
        yield Mutation(f"manifest.json cut at {share:.3f}", chance.choice(BASES), cut, "refused")
    for name, number in {
        "NaN": b"NaN", "-Infinity": b"-Infinity", "1e400": b"1e400", "5 000 digits": b"9" * 5000, "1.0": b"1.0",
        "01": b"01", "1_0": b"1_0", "0x1": b"0x1", "-0": b"-0", "1e0": b"1e0",
    }.items():  # fmt: skip
        make = _with(b'"schema_version": 1', b'"schema_version": ' + number)
        yield Mutation(
            f"schema_version {name}",
            "onnx",
            bytes_of("manifest.json", make),
            "free" if name in ("1.0", "1e0") else "refused",
        )
        make = _with(b'"bench": null', b'"bench": {"p50_ms": ' + number + b"}")
        yield Mutation(f"bench with {name}", "onnx", bytes_of("manifest.json", make), "bench")
    for name, value in {
        "900 levels": b'{"a":' * 900 + b"1" + b"}" * 900, "300 levels": b"[" * 300 + b"]" * 300,
        "a surrogate": rb'"\ud800"', "a surrogate as key": rb'{"\udfff": 1}', "markup": b'"[/red]"',
    }.items():  # fmt: skip
        make = _with(b'"bench": null', b'"bench": {"x": ' + value + b"}")
        yield Mutation(f"bench with {name}", "onnx", bytes_of("manifest.json", make), "bench")
    twice = _with(b'"license":', b'"license": "MIT", "license":')
    yield Mutation("a field twice", "onnx", bytes_of("manifest.json", twice), "refused")


# the other JSON files


def _other_json() -> Iterator[Mutation]:
    texts = dict.fromkeys(("image", "question", "pixels_sha256", "answer", "margin"), 0)
    case = {**texts, "input_ids": [0, 0], "logits": [0, 0]}
    golden = {"schema_version": 0, "tolerance": 0, "cases": [case, case]}
    yield from _structural("golden.json", "onnx", list(places(golden)), 20, 5)
    yield from _structural("labels.json", "onnx", [(0,), (1,), (166,)], 8, 6)
    chosen = ("empty", "a byte order mark", "UTF-16", "null", "a bottomless list", "random bytes", "too many blanks")
    for file in ("labels.json", "golden.json", "tokenizer.json"):
        for name in chosen:
            yield forged(f"{file} is {name}", "onnx", bytes_of(file, TEXTS[name]), "refused forged")
    for name, value in {"1e400": "1e400", "NaN": "NaN", "a huge integer": "9" * 400, "a negative one": "-5"}.items():

        def number(bundle: Path, value: str = value) -> None:
            text = (bundle / "golden.json").read_text(encoding="utf-8")
            (bundle / "golden.json").write_text(
                text.replace('"tolerance": ', f'"tolerance": {value}, "x": ', 1).replace('"x": ', '"y": ', 1),
                encoding="utf-8",
            )

        yield forged(f"tolerance {name}", "onnx", number, "golden.json")


# the tokenizer, which a library in Rust reads

_ADDED = {"id": 454, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
TOKENIZERS: dict[str, Callable[[dict], object]] = {
    "no model": lambda t: t.pop("model"),
    "an unknown model": lambda t: t["model"].update(type="Magic"),
    "BPE": lambda t: t["model"].update(type="BPE", merges=["a b"]),
    "Unigram": lambda t: t["model"].update(type="Unigram", vocab=[["a", 0.0]], unk_id=7),
    "no vocabulary": lambda t: t["model"].update(vocab={}),
    "an id of 2^32 - 1": lambda t: t["model"]["vocab"].update(what=2**32 - 1),
    "an id of 2^40": lambda t: t["model"]["vocab"].update(what=2**40),
    "an id of 10^30": lambda t: t["model"]["vocab"].update(what=10**30),
    "a negative id": lambda t: t["model"]["vocab"].update(what=-1),
    "an id that is a text": lambda t: t["model"]["vocab"].update(what="7"),
    "an id that is a fraction": lambda t: t["model"]["vocab"].update(what=7.5),
    "two pieces of one id": lambda t: t["model"]["vocab"].update(what=t["model"]["vocab"]["the"]),
    "no unknown token": lambda t: t["model"]["vocab"].pop("[UNK]"),
    "no separator": lambda t: t["model"]["vocab"].pop("[SEP]"),
    "padding that is not 0": lambda t: t["model"]["vocab"].update({"[PAD]": 9}),
    "another unknown token": lambda t: t["model"].update(unk_token="[NOPE]"),
    "an empty prefix": lambda t: t["model"].update(continuing_subword_prefix=""),
    "another prefix": lambda t: t["model"].update(continuing_subword_prefix="@@"),
    "words of no characters": lambda t: t["model"].update(max_input_chars_per_word=0),
    "words of 2^64 characters": lambda t: t["model"].update(max_input_chars_per_word=2**64),
    "words of 3 characters": lambda t: t["model"].update(max_input_chars_per_word=3),
    "a bad regular expression": lambda t: t.update(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(((("}, "behavior": "Isolated", "invert": False}
    ),
    "a slow regular expression": lambda t: t.update(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    ),
    "a nested normalizer": lambda t: t.update(normalizer={"type": "Sequence", "normalizers": [t["normalizer"]] * 1000}),
    "a broken Precompiled": lambda t: t.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "a huge Precompiled": lambda t: t.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "/////w=="}),
    "text that grows": lambda t: t.update(
        normalizer={"type": "Replace", "pattern": {"String": ""}, "content": "x" * 100_000}
    ),
    "upper case kept": lambda t: t["normalizer"].update(lowercase=False),
    "accents kept": lambda t: t["normalizer"].update(strip_accents=False),
    "no normalizer": lambda t: t.update(normalizer=None),
    "no pre-tokenizer": lambda t: t.update(pre_tokenizer=None),
    "white space only": lambda t: t.update(pre_tokenizer={"type": "Whitespace"}),
    "an added token": lambda t: t["added_tokens"].append({**_ADDED, "content": "what", "special": True}),
    "an added token of no text": lambda t: t["added_tokens"].append({**_ADDED, "content": "", "lstrip": True}),
    "truncation": lambda t: t.update(
        truncation={"max_length": 2, "stride": 5, "strategy": "LongestFirst", "direction": "Left"}
    ),
    "padding": lambda t: t.update(
        padding={"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": 0, "pad_id": 0,
                 "pad_type_id": 0, "pad_token": "[PAD]"}
    ),
    "a post-processor": lambda t: t.update(
        post_processor={"type": "BertProcessing", "sep": ["[SEP]", 99], "cls": ["[CLS]", 98]}
    ),
    "a version from the future": lambda t: t.update(version="9.0"),
    "a surprise": lambda t: t.update(surprise=1),
    "two words swapped": lambda t: t["model"]["vocab"].update(
        what=t["model"]["vocab"]["the"], the=t["model"]["vocab"]["what"]
    ),
}  # fmt: skip


def _tokenizers() -> Iterator[Mutation]:
    for name, change in TOKENIZERS.items():
        yield forged(
            f"tokenizer with {name}",
            "onnx",
            lambda bundle, change=change: _edit_tokenizer(bundle, change),
            "refused forged",
        )


def _edit_tokenizer(bundle: Path, change: Callable[[dict], object]) -> None:
    path = bundle / "tokenizer.json"
    values = json.loads(path.read_text("utf-8"))
    change(values)
    path.write_text(json.dumps(values), "utf-8")
