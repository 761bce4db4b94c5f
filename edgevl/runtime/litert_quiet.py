"""LiteRT without its noise."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send file descriptor 2 nowhere for a block, for what LiteRT's C++ says there and has no switch for.

    The interpreter says "Created TensorFlow Lite XNNPACK delegate for CPU", the converter counts multiply-adds (its
    TF_CPP_MIN_LOG_LEVEL is read once, when the library is loaded). What goes wrong comes as an exception, with a text.
    """
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
