"""Which files a bundle may hold, and that none of them is code that anything of EdgeVL runs.

Shared by EdgeVL and the board's script. Python 3.8, the standard library only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

CARD, DOMAIN, SCRIPT = "README.md", "domain.json", "build_engine.py"
# sha256 of the script that each version of EdgeVL puts into a bundle for TensorRT. A release adds a line; none goes.
SCRIPTS = {"0.1.0": "456582eea21630375eb9101d82f51756f0eb738341738d26a8abac5153361a44"}
# What the artifact of each target is called: a runtime may choose its reader by the end of the name.
ARTIFACTS = {
    "onnx": ".onnx",
    "tensorrt": ".onnx",
    "coreml": ".mlpackage",
    "executorch": ".pte",
    "litert": ".tflite",
    "coreai": ".aimodel",
}


def programs_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The artifacts in the order in which they run, each with `artifact`, `inputs`, `outputs`."""
    return manifest.get("programs") or [manifest]


def file_problems(manifest: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(path, what is wrong with it) of the files that `manifest` lists and no bundle may hold, or not so.

    `manifest` is a valid one, as parsed JSON. Every file has a part in the bundle: what has none could only be meant
    for a program that looks where it lies, as Python looks for modules beside a script.
    """
    target, ending = manifest["target"], ARTIFACTS.get(manifest["target"], "")
    texts = [manifest["tokenizer"]["file"], manifest["labels"]["file"], manifest["golden"]]
    artifacts = [program["artifact"] for program in programs_of(manifest)]
    yield from ((name, "is not named .json") for name in texts if not name.endswith(".json"))
    yield from ((name, f"is not named {ending}") for name in artifacts if not name.endswith(ending))
    folders = tuple(f"{name}/" for name in artifacts)
    for name, entry in manifest["files"].items():
        if name == SCRIPT and target == "tensorrt":
            problem = script_problem(str(manifest["versions"].get("edgevl")), entry["sha256"])
            if problem:
                yield name, problem
        elif not (name in (CARD, DOMAIN, *texts, *artifacts) or name.endswith(".png") or name.startswith(folders)):
            yield name, f"has no part in a bundle for {target}"


def script_problem(version: str, sha256: str) -> str:
    """What is wrong with the script of a bundle that says that `version` of EdgeVL made it; "" if it is that one's."""
    if SCRIPTS.get(version) == sha256:
        return ""
    if version in SCRIPTS:
        return f"is not the one that edgevl {version} writes: do not run it, a new export brings the right one"
    return f"is said to be that of edgevl {version[:40]!a}, which is not known here: do not run it, update edgevl"
