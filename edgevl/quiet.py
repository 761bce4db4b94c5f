"""Other libraries without their noise: what several are silenced by. Each caller says what it silences, and why.

Nothing heavy is imported here: the command line uses it too.
"""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_python() -> Iterator[None]:
    """No log records up to WARNING and no Python warnings for a block."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """No tqdm bars for a block, whatever the code that draws them asks for: tqdm's constructor is told `disable`."""
    import tqdm

    init = tqdm.tqdm.__init__
    tqdm.tqdm.__init__ = lambda self, *args, **options: init(self, *args, **{**options, "disable": True})  # pyright: ignore
    try:
        yield
    finally:
        tqdm.tqdm.__init__ = init


@contextlib.contextmanager
def without_native_stderr() -> Iterator[None]:
    """Send what native code writes to file descriptor 2 nowhere for a block; what Python wrote before comes out before.

    For libraries that report what goes wrong by an exception, and the rest by lines that have no switch.
    """
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # a process without a standard error
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
