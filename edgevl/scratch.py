"""Folders for temporary files: nobody else can look into them, and they are removed, whatever ends the process.

A process that is killed removes nothing. So each folder is locked by those who use it, and whoever makes the next one
removes those that nobody has locked any more.
"""

import contextlib
import os
import tempfile
import time
import weakref
from pathlib import Path

from edgevl.errors import InputError

_PREFIX, _LOCK = "edgevl-", "lock"
_YOUNG_S = 60.0  # a folder that was just made may not be locked yet


class PrivateFolder:
    """A new folder, until `remove`, or until nothing refers to it. Processes that are forked from this one use it, too.

    They do not remove it.
    """

    def __init__(self) -> None:
        """Raises `InputError` where there is no place for it."""
        parent = _parent()
        _remove_abandoned(parent)
        try:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise InputError(
                f'no temporary folder can be made in "{parent}" ({error.strerror}): name another one with TMPDIR'
            ) from None
        _try_lock(lock)
        self._end = weakref.finalize(self, _remove, self.path, lock, os.getpid())

    def remove(self) -> None:
        """Remove the folder and all that is in it. A second time does nothing."""
        self._end()


def _remove(folder: Path, lock: int, maker: int) -> None:
    if os.getpid() == maker:
        os.close(lock)
        _erase(folder)


def _erase(folder: Path) -> None:
    """Remove a folder of ours by whole paths.

    `shutil.rmtree` names entries relative to descriptors; whoever watches which files a process touches, as our tests
    do, would take them for files of the current folder.
    """
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in [*files, *folders]:
            path = os.path.join(parent, name)
            with contextlib.suppress(OSError):
                os.rmdir(path) if name in folders and not os.path.islink(path) else os.remove(path)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _parent() -> Path:
    """TMPDIR or its like; else /var/tmp, which is on a disk where /tmp may be in memory."""
    named = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")) or tempfile.tempdir
    if not named and os.access("/var/tmp", os.W_OK | os.X_OK):
        return Path("/var/tmp")
    try:
        return Path(tempfile.gettempdir())
    except OSError:
        raise InputError("there is no folder for temporary files: name one with TMPDIR") from None


def _remove_abandoned(parent: Path) -> None:
    with contextlib.suppress(OSError):
        for folder in parent.glob(f"{_PREFIX}*"):
            if _is_abandoned(folder):
                _erase(folder)


def _is_abandoned(folder: Path) -> bool:
    """Is it a folder of ours, a minute old, that nobody has locked?"""
    with contextlib.suppress(OSError):
        about = folder.lstat()
        ours = folder.is_dir() and not folder.is_symlink() and about.st_uid == getattr(os, "getuid", lambda: -1)()
        if ours and time.time() - about.st_mtime > _YOUNG_S:
            lock = os.open(folder / _LOCK, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            try:
                return _try_lock(lock)
            finally:
                os.close(lock)
    return False


def _try_lock(descriptor: int) -> bool:
    """False if somebody else has it, or where there are no such locks (Windows): then nothing is ever abandoned."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (ImportError, OSError):
        return False
