"""Writing so that whatever happens, a reader finds the old thing or the new one, never a part."""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from edgevl.bundle.manifest import MANIFEST
from edgevl.errors import EdgeVLError, InputError

_STALE_SECONDS = 24 * 3600
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}


class CannotWrite(InputError):
    """A folder cannot be written to, or the disk is full: then `full`, and `reason` says so without the advice."""

    def __init__(self, reason: str, advice: str, full: bool):
        super().__init__(f"{reason}: {advice}")
        self.reason, self.full = reason, full


class Kind(NamedTuple):
    """What is written: `force` replaces only a folder of the same kind, known by a file that lies in it."""

    name: str
    marker: str
    example: str  # of --out


BUNDLE = Kind("bundle", MANIFEST, "FOLDER/NAME.edgevl")


@contextlib.contextmanager
def atomic_folder(destination: Path, force: bool = False, kind: Kind = BUNDLE) -> Iterator[Path]:
    """Yield a temporary sibling to fill; on success it becomes `destination` in one rename, else it is removed.

    With `force` an existing folder of this kind is moved aside first and deleted only after the new one is in place. If
    the process is killed between the two renames, the old one survives as the sibling `.NAME.old-PID-RANDOM`.

    Raises:
        InputError: the destination exists (and not `force`) or is of another kind, cannot be written; the disk is full.
    """
    check_destination(destination, force, kind)
    parent, mark = destination.parent, f"{os.getpid()}-{secrets.token_hex(4)}"
    temporary = parent / f".{destination.name}.tmp-{mark}"
    try:
        _make(temporary)
        _remove_stale(parent, destination.name)
        yield temporary
        _fsync_tree(temporary)
        check_destination(destination, force, kind)
        _replace(temporary, destination, parent / f".{destination.name}.old-{mark}")
    except Exception as error:
        explained = explain(error, parent)
        _remove(temporary)
        if explained is error:
            raise
        raise explained from error
    finally:
        _remove(temporary)  # KeyboardInterrupt and SystemExit too


def _make(temporary: Path) -> None:
    parent = temporary.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except OSError as error:
        explained = explain(error, parent)
        if isinstance(explained, EdgeVLError):
            raise explained from None
        raise InputError(f'"{parent}" cannot be used ({error.strerror}): choose another path with --out') from None


def check_destination(destination: Path, force: bool, kind: Kind = BUNDLE) -> None:
    """Raise `InputError` if nothing can be put at `destination`. With `force` only the same `kind` is ever replaced."""
    if not os.path.lexists(destination):
        return
    if destination.is_symlink() or not destination.is_dir():
        raise InputError(f'"{destination}" exists and is not a {kind.name}: choose another path with --out')
    if not (destination / kind.marker).exists() and any(destination.iterdir()):
        raise InputError(
            f'"{destination}" is a folder that is not a {kind.name}: name the {kind.name} itself, --out {kind.example}'
        )
    if not force:
        raise InputError(
            f'"{destination}" exists: replace it with --force (force=True), or choose another path with --out (out=...)'
        )


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling to write; on success it is flushed to disk and becomes `path` in one rename.

    Raises `CannotWrite` when the disk is full or the folder cannot be written to; `path` is then as it was.
    """
    temporary = path.parent / f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        yield temporary
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)
    except Exception as error:
        explained = explain(error, path.parent)
        if explained is error:
            raise
        raise explained from error
    finally:
        with contextlib.suppress(OSError):  # a read-only disk answers EROFS even for a file that is not there
            temporary.unlink()


def write_atomically(path: Path, text: str) -> None:
    """Replace one text file so that a reader sees the old or the new content, never a part."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Replace one JSON file, as `write_atomically` does. Raises `InputError` for text that is not Unicode."""
    try:
        write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    except UnicodeEncodeError as error:
        raise InputError(f"{path.name} cannot be written as UTF-8: {error.reason}") from None


def _replace(temporary: Path, destination: Path, aside: Path) -> None:
    if not os.path.lexists(destination):
        temporary.rename(destination)
    else:
        destination.rename(aside)
        try:
            temporary.rename(destination)
        except BaseException:
            aside.rename(destination)
            raise
        _remove(aside)
    _fsync(destination.parent)


def _remove(folder: Path) -> None:
    """Remove a folder, its manifest first: killed on the way, it leaves nothing that loads as a bundle."""
    with contextlib.suppress(OSError):
        (folder / MANIFEST).unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _remove_stale(parent: Path, name: str) -> None:
    """Remove what killed runs left behind for this destination, a day old or more (a younger one may be at work)."""
    for leftover in parent.glob(f".{name}.tmp-*"):
        if _is_stale(leftover):
            _remove(leftover)


def remove_leftovers(folder: Path, names: Iterable[str]) -> None:
    """Remove what killed runs of `write_atomically` left in `folder` for files of these names, a day old or more."""
    for name in names:
        for leftover in folder.glob(f".{name}.tmp-*"):
            with contextlib.suppress(OSError):
                if _is_stale(leftover):
                    leftover.unlink()


def _is_stale(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return time.time() - path.lstat().st_mtime > _STALE_SECONDS
    return False


def _fsync_tree(folder: Path) -> None:
    for directory, _, names in os.walk(folder, topdown=False):
        for name in names:
            _fsync(Path(directory, name))
        _fsync(Path(directory))


def _fsync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def explain(error: Exception, parent: Path) -> Exception:
    """The error to raise: `CannotWrite` for a full disk or a folder that cannot be written, else `error` itself."""
    if isinstance(error, EdgeVLError):
        cause = error.__cause__
        if error.exit_code != 1 or not isinstance(cause, Exception) or isinstance(cause, EdgeVLError):
            return error
        explained = explain(cause, parent)  # an exporter wrapped it as an unexpected failure
        return error if explained is cause else explained
    number = _number(error, parent)
    # Exporters written in C++ report a full disk as a RuntimeError without its errno.
    if number in _NO_SPACE or _is_full(parent):
        return CannotWrite(
            f'no space left to write in "{parent}"', "free some, or choose another path with --out", True
        )
    if number in _NO_PERMISSION:
        return CannotWrite(f'"{parent}" cannot be written to', "choose another path with --out", False)
    return error


def _number(error: Exception, parent: Path) -> int | None:
    """The errno of an error about something in `parent`, also where a library written in Rust says it in words."""
    if isinstance(error, OSError):
        return error.errno if _concerns(error, parent) else None
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _concerns(error: OSError, parent: Path) -> bool:
    """False for an error about a file elsewhere, say an unreadable checkpoint."""
    if not isinstance(error.filename, str):
        return True
    named, parent = Path(error.filename).absolute(), parent.absolute()
    return named.is_relative_to(parent) or parent.is_relative_to(named)


def _is_full(parent: Path) -> bool:
    try:
        usage = shutil.disk_usage(parent)
        return usage.total > 0 and usage.free < 64 * 1024  # /proc and its like have a total of 0
    except OSError:
        return False
