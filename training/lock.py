"""A lock on a folder that processes share: of a run, and of the rows of a study. Whoever dies loses it."""

import contextlib
import errno
from collections.abc import Iterator
from multiprocessing.util import register_after_fork
from pathlib import Path

_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Hold the lock of the file `path` while inside, which is made if it is not there; False if somebody else has it.

    The kernel frees it with the process that holds it, however that ends. Where there are no such locks (Windows, some
    network disks) nothing is locked, and it says True.
    """
    with path.open("a", encoding="utf-8") as file:
        # A worker that outlives a killed parent by seconds must not keep the lock for it.
        register_after_fork(file, lambda inherited: inherited.close())
        yield _lock(file.fileno())


def _lock(descriptor: int) -> bool:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError as error:
        return error.errno not in _HELD
    return True
