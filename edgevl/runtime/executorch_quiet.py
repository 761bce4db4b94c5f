"""ExecuTorch without its noise: import it and run it through here."""

import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from types import ModuleType

from edgevl.errors import MissingDependency
from edgevl.quiet import quiet_python, with_streams


@contextmanager
def quiet_executorch() -> Iterator[None]:
    """Silence what ExecuTorch's Python says while it is imported or lowers a program: logs and warnings.

    - Importing `executorch.exir` imports torchao, which makes torch's pytree log that an enum of its own is registered
      in a deprecated way.
    - Every part warns that it is experimental (`ExperimentalWarning`), some that something in torch is deprecated.
    - The Core ML partitioner sets its own logger to INFO and tells of each operator that it does not take.
    """
    with quiet_python():
        yield


@contextmanager
def captured_log() -> Iterator[io.StringIO]:
    """Catch what ExecuTorch's C++ runtime logs: its Python binding writes it to `sys.stderr`, and there is no switch.

    It reports how it counts the cores of the machine, and why a file is refused. One thread at a time may do so.
    """
    with with_streams(), redirect_stderr(io.StringIO()) as log:
        yield log


def import_executorch(module: str, purpose: str) -> ModuleType:
    """Import a module of ExecuTorch quietly. Raises `MissingDependency` that says what it is needed for."""
    try:
        with quiet_executorch():
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependency("executorch", "executorch", purpose) from error
