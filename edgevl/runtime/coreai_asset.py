"""Core AI's Python without its noise, and a check of an asset before native code parses it.

An `.aimodel` is a folder: `main.mlirb` (the program with its weights, MLIR bytecode), `main.hash` (SHA-256 of it) and
`metadata.json`.
"""

import contextlib
import hashlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from edgevl.errors import EdgeVLError, MissingDependency
from edgevl.quiet import quiet_python, without_native_stderr, without_stdout

PROGRAM, HASH, METADATA = "main.mlirb", "main.hash", "metadata.json"
_MAGIC = b"ML\xefR"  # of MLIR bytecode


@contextlib.contextmanager
def quiet_coreai() -> Iterator[None]:
    """Silence Core AI's Python for a block.

    coreai-torch warns at import that this torch is newer than the last one it was tested with (ours is tested here,
    artifact by artifact) and prints a line for each conversion; the runtime writes a line to the standard error of the
    process for each function that it loads. None has a switch.
    """
    with quiet_python(), without_stdout(), without_native_stderr():
        yield


def import_coreai(module: str, purpose: str) -> ModuleType:
    """Import a module of `coreai` or `coreai_torch` quietly. Raises `MissingDependency` that says what it is for."""
    try:
        with quiet_coreai():
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependency("coreai-torch", "coreai", purpose) from error


def check_asset(path: Path) -> None:
    """Raise `EdgeVLError` unless the program of an asset is there, whole, and the one that its hash says.

    Bytecode that is cut off does not fail in coreai-core 1.0.0b3: it ends the process (`std::bad_cast`). So what is
    damaged is refused here. What somebody damages and hashes again still reaches the parser.
    """
    for name in (PROGRAM, HASH, METADATA):
        if not (path / name).is_file():
            raise EdgeVLError(f"{path.name} is not a Core AI asset: it holds no {name}")
    program = (path / PROGRAM).read_bytes()
    if not program.startswith(_MAGIC):
        raise EdgeVLError(f"{path.name}/{PROGRAM} is not MLIR bytecode")
    if hashlib.sha256(program).digest() != (path / HASH).read_bytes():
        raise EdgeVLError(f"{path.name}/{PROGRAM} is truncated or was changed: {HASH} has the digest of another one")
