"""Which files a bundle may hold, under which names, that none is code that anything of EdgeVL runs, and digests.

Shared by EdgeVL and the board's script. Python 3.8, the standard library only.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANIFEST, CARD, DOMAIN, SCRIPT = "manifest.json", "README.md", "domain.json", "build_engine.py"
MAX_TEXT_BYTES, MAX_DOMAIN_BYTES, MAX_PICTURE_BYTES = 16 * 2**20, 2**20, 256 * 2**20
LONGEST_PATH = 255  # characters of a file in a manifest: whatever lies deeper cannot be listed, so nobody looks there
IGNORED = {".DS_Store"}  # macOS puts it into every folder that is looked at
# Of an `edgevl verify` or `bench` that was killed while it wrote what it measured.
_LEFTOVER = re.compile(r"\.(manifest\.json|README\.md)\.tmp-[0-9]+-[0-9a-f]+")
# Control characters, what ends a line, and what Windows has no place for in a name.
_FORBIDDEN = re.compile('[<>:"|?*\\\\\x00-\x1f\x7f-\x9f\u2028\u2029]')
# Devices in every folder, there, whatever stands behind a dot or blanks.
_WINDOWS_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE
)
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


def check_relative(path: str) -> str:
    """Return `path` if it can only name a file inside its folder, on every system; else raise ValueError."""
    parts, shown = path.split("/"), ascii(path)[:80]
    if not path or len(path) > LONGEST_PATH or _FORBIDDEN.search(path):
        raise ValueError(f"{shown} is not a plain relative path")
    if path.startswith(("/", "~")) or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{shown} leaves the bundle's folder")
    if any(part.endswith((".", " ")) or _WINDOWS_DEVICE.fullmatch(part) for part in parts):
        raise ValueError(f"{shown} names something else on Windows")
    return path


def check_folder_name(name: str) -> str:
    """Return `name` if it can only name something beside the bundle; else raise ValueError."""
    if not name or "/" in name or "\\" in name or "\0" in name or name in (".", ".."):
        raise ValueError(f"{ascii(name)[:80]} is not the name of a model folder")
    return name


FORMATS = {"relative-path": check_relative, "folder-name": check_folder_name}  # of bundle.schema.json


def inconsistency(manifest: dict[str, Any]) -> str:
    """The first way in which the paths of `manifest`, valid but for that, do not fit together; "" if they do."""
    files, artifacts = manifest["files"], [program["artifact"] for program in manifest["programs"]]
    for path in text_files(manifest):
        if path not in files:
            return f'"{path}" is not among the files'
    for artifact in artifacts:
        if not any((path + "/").startswith(artifact + "/") for path in files):
            return f'the artifact "{artifact}" is not among the files'
        if sum((other + "/").startswith(artifact + "/") for other in artifacts) > 1:
            return f'the artifact "{artifact}" is there twice, or holds another'
    if MANIFEST in files:
        return f"{MANIFEST} cannot hold its own digest"
    if len({unicodedata.normalize("NFC", path).casefold() for path in files}) != len(files):
        return "two files differ only in upper and lower case, or in how Unicode spells them"
    return ""


def text_files(manifest: dict[str, Any]) -> list[str]:
    """Return the JSON files that a manifest names: of tokenizers, labels and golden cases."""
    labels = manifest["labels"]
    tokenizers = [processing["file"] for processing in manifest["text_processing"].values()]
    return [*tokenizers, *([labels["file"]] if labels else []), manifest["golden"]]


def bundle_problems(
    folder: str, manifest: dict[str, Any], digest: Callable[[str], str] | None = None
) -> list[tuple[str, str]]:
    """(path, what is wrong with it) of the files of a bundle, sorted; `manifest` is a valid one, as parsed JSON.

    `digest` gives the sha256 of a file, or raises OSError; None is `sha256_file`. What a bundle may not list is told
    before anything is read: of a file of 32 GiB the digest takes a minute.
    """
    return sorted(file_problems(manifest)) or sorted(folder_problems(folder, manifest["files"], digest))


def file_problems(manifest: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(path, what is wrong with it) of the files that `manifest` lists and no bundle may hold, or not so.

    Every file has a part in the bundle: what has none could only be meant
    for a program that looks where it lies, as Python looks for modules beside a script.
    """
    target, ending = manifest["target"], ARTIFACTS.get(manifest["target"], "")
    texts, artifacts = text_files(manifest), [program["artifact"] for program in manifest["programs"]]
    yield from ((name, "is not named .json") for name in texts if not name.endswith(".json"))
    yield from ((name, f"is not named {ending}") for name in artifacts if not name.endswith(ending))
    folders = tuple(f"{name}/" for name in artifacts)
    limits = {**dict.fromkeys((CARD, SCRIPT, *texts), MAX_TEXT_BYTES), DOMAIN: MAX_DOMAIN_BYTES}
    for name, entry in manifest["files"].items():
        limit = limits.get(name, MAX_PICTURE_BYTES)
        if entry["bytes"] > limit and not (name in artifacts or name.startswith(folders)):
            yield name, f"has more than {limit // 2**20} MiB"
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


def folder_problems(
    folder: str, listed: dict[str, Any], digest: Callable[[str], str] | None = None
) -> Iterator[tuple[str, str]]:
    """(path, what is wrong with it) of every file that is not as listed: path -> {"sha256", "bytes"}."""
    found = dict(walk(folder))
    found.pop(MANIFEST, None)
    if CARD not in listed and found.get(CARD) == "file":
        del found[CARD]  # the writing of a measurement was interrupted: the card of the last one, or of the one before
    for name, entry in listed.items():
        problem = _compare(os.path.join(folder, name), entry, found.get(name), digest or sha256_file)
        if problem:
            yield name, problem
    for name, kind in found.items():
        if name not in listed:
            yield printable(name), "is a link" if kind == "link" else "is not in the manifest"


def walk(folder: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (relative path, "file" or "link" or "other"); links are not followed."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = prefix + entry.name
            if entry.is_symlink():
                yield name, "link"
            elif len(name) > LONGEST_PATH:
                yield name, "other"
            elif entry.is_dir(follow_symlinks=False):
                yield from walk(entry.path, name + "/")
            elif entry.name not in IGNORED and not _LEFTOVER.fullmatch(name):
                yield name, "file" if entry.is_file(follow_symlinks=False) else "other"


def printable(name: str) -> str:
    """A name of the file system that need not be UTF-8, as text that can be printed and written."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _compare(path: str, entry: dict[str, Any], kind: str | None, digest: Callable[[str], str]) -> str:
    if kind is None:
        return "is missing"
    if kind != "file":
        return "is a link" if kind == "link" else "is not a plain file"
    try:
        size, wanted = os.stat(path).st_size, entry["bytes"]
        if size != wanted:
            verb = "is truncated" if size < wanted else "has grown"
            return f"{verb}: {size:,} bytes, the manifest says {wanted:,}"
        if digest(path) != entry["sha256"]:
            return "has changed: its sha256 is not the one in the manifest"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""


def sha256_file(path: str | os.PathLike[str]) -> str:
    digest = hashlib.sha256()
    with open(str(path), "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def combined_sha256(digests: dict[str, str]) -> str:
    """Of one file (name -> sha256) its own; of several that of the lines "sha256  name" in order of name."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
