"""Read a file once: hash it, and keep what was hashed where nobody else can change it.

A digest says nothing of a path. Whoever may write to it may put another file there before it is opened again.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from edgevl.errors import InputError
from edgevl.reading import Unreadable

_BLOCK = 1 << 20
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def hash_file(path: Path, size: int, copy: Path | None = None, follow: bool = False) -> str:
    """Return the sha256 of a file of `size` bytes; write the bytes that were hashed to `copy`.

    follow: take the file that a link leads to.

    Raises:
        Unreadable: it is a link, a pipe or a device (which would keep a reader waiting), has another size, or fails.
        InputError: the copy cannot be written.
    """
    digest = hashlib.sha256()
    with open_plain(path, follow) as source, _opened(copy) as target:
        _check_size(os.fstat(source.fileno()).st_size, size)
        read = 0
        while block := _read(source):
            read += len(block)
            _check_size(min(read, size + 1), size, growing=True)
            digest.update(block)
            if target:
                _write(target, block)
    _check_size(read, size)
    return digest.hexdigest()


@contextmanager
def open_plain(path: Path, follow: bool = False) -> Iterator[IO[bytes]]:
    """Open a plain file to read. Raises `Unreadable` for anything else, a link included unless `follow`."""
    try:
        descriptor = os.open(path, _FLAGS if follow else _FLAGS | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})") from None
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unreadable("is not a plain file")
        yield stream


def _check_size(found: int, size: int, growing: bool = False) -> None:
    if found > size or (found < size and not growing):
        verb = "is truncated" if found < size else "has grown"
        raise Unreadable(f"{verb}: {found:,} bytes, the manifest says {size:,}")


def _read(source: IO[bytes]) -> bytes:
    try:
        return source.read(_BLOCK)
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})") from None


def _opened(copy: Path | None) -> Any:
    if copy is None:
        return nullcontext()
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        return copy.open("wb", buffering=0)
    except OSError as error:
        raise _no_room(copy, error) from None


def _write(target: Any, block: bytes) -> None:
    try:
        view = memoryview(block)
        while view:
            view = view[target.write(view) :]
    except OSError as error:
        raise _no_room(Path(target.name), error) from None


def _no_room(copy: Path, error: OSError) -> InputError:
    return InputError(
        f'no private copy can be made in "{copy.parent}" ({error.strerror}): name a folder with more room with TMPDIR'
    )
