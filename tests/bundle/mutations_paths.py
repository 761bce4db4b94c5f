"""Manifests whose paths lead elsewhere, and manifests that lie."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from mutation_base import BASES, Mutation, edit_json, forged, parent_of

# paths

PATHS = {
    "up": "../outside/{name}", "far up": "../../../../../../../../etc/passwd", "absolute": "{outside}/{name}",
    "home": "~/{name}", "root's home": "~root/.profile", "backslashes": "..\\outside\\{name}", "drive": "C:\\{name}",
    "drive without a root": "C:{name}", "UNC": "\\\\server\\share\\{name}", "slashes of UNC": "//server/{name}",
    "device": "/dev/zero", "descriptor": "/proc/self/fd/0", "memory": "/proc/self/mem", "null": "{name}\0.txt",
    "line break": "{name}\n", "dot": "./{name}", "inner up": "golden/../../outside/{name}",
    "empty part": "golden//{name}",
    "empty": "", "only a dot": ".", "only dots": "..", "trailing slash": "{name}/", "stream": "{name}::$DATA",
    "long": "a/" * 100 + "{name}" + "b" * 300, "URL": "file:///etc/passwd", "encoded": "%2e%2e/outside/{name}",
    "full-width dots": "\uff0e\uff0e/outside/{name}", "two-dot leader": "\u2025/outside/{name}",
    "division slash": "..\u2215outside\u2215{name}", "surrogate": "\ud800/{name}", "Windows device": "NUL",
    "variable": "$HOME/{name}",
}  # fmt: skip
_REFERENCES = (("labels", "file"), ("tokenizer", "file"), ("golden",), ("artifact",))


def paths() -> Iterator[Mutation]:
    chance = random.Random(3)
    for number, (name, pattern) in enumerate(PATHS.items()):
        field = _REFERENCES[number % len(_REFERENCES)]

        def change(bundle: Path, field: tuple[str, ...] = field, pattern: str = pattern) -> None:
            def point(values: dict) -> None:
                old = parent_of(values, field)[field[-1]]
                new = pattern.format(name=old, outside=bundle.parent / "outside")
                parent_of(values, field)[field[-1]] = new
                values["files"][new] = values["files"].pop(old, {"sha256": "0" * 64, "bytes": 1})

            edit_json(bundle / "manifest.json", point)

        yield Mutation(f"path in {'.'.join(field)}: {name}", chance.choice(BASES[:2]), change, "refused")
    for name in ("up", "absolute", "device", "null", "long", "surrogate", "full-width dots"):

        def picture(bundle: Path, pattern: str = PATHS[name]) -> None:
            path = pattern.format(name="wide.png", outside=bundle.parent / "outside")
            edit_json(bundle / "golden.json", lambda values: values["cases"][4].update(image=path))

        yield forged(f"golden picture: {name}", "onnx", picture, "golden.json")
    for name, path in {
        "up": "../outside/model.onnx",
        "inside up": "model/../../outside/model.onnx",
        "beside": "model.onnx",
    }.items():

        def program(bundle: Path, path: str = path) -> None:
            edit_json(bundle / "manifest.json", lambda values: values["programs"][0].update(artifact=path))

        yield Mutation(f"program: {name}", "split", program, "refused")
    for name, checkpoint in {
        "up": "..", "dots": "x/..", "outside": "outside", "absolute": "/etc", "null": "a\0b", "long": "x" * 1900,
        "empty": "", "home": "~",
    }.items():  # fmt: skip

        def source(bundle: Path, checkpoint: str = checkpoint) -> None:
            edit_json(bundle / "manifest.json", lambda values: values["provenance"].update(checkpoint=checkpoint))

        yield Mutation(f"checkpoint: {name}", "onnx", source, "checkpoint")

    def cases(bundle: Path) -> None:
        edit_json(
            bundle / "manifest.json",
            lambda values: values["files"].update({"LABELS.json": values["files"]["labels.json"]}),
        )

    yield Mutation("two names that differ in case", "onnx", cases, "refused")


# what is false without being broken


def lies() -> Iterator[Mutation]:
    changes: dict[str, Callable[[dict], object]] = {
        "the image is float32": lambda v: v["inputs"][0].update(dtype="float32"),
        "the tokens are int64": lambda v: v["inputs"][1].update(dtype="int64"),
        "the logits are float16": lambda v: v["outputs"][0].update(dtype="float16"),
        "the image is NCHW": lambda v: v["inputs"][0].update(layout="NCHW"),
        "the image is from 0 to 1": lambda v: v["inputs"][0].update(range=[0, 1]),
        "another vocabulary size": lambda v: v["tokenizer"].update(vocab_size=7),
        "another padding": lambda v: v["tokenizer"].update(pad_id=3),
        "another target": lambda v: v.update(target="coreml"),
        "a target that does not exist": lambda v: v.update(target="toaster"),
        "another width": lambda v: v["model"].update(width=64),
        "another mean": lambda v: v["model"].update(mean=[0.1, 0.2, 0.3]),
        "another batch": lambda v: v["inputs"][0]["shape"].__setitem__(0, 2),
        "too large a picture": lambda v: v["preprocessing"].update(size=4096),
        "one token": lambda v: v["tokenizer"].update(length=2),
        "a fast benchmark": lambda v: v.update(bench={"p50_ms": 0.001}),
    }
    for name, change in changes.items():
        yield Mutation(
            f"lie: {name}", "onnx", lambda bundle, change=change: edit_json(bundle / "manifest.json", change), "lie"
        )
