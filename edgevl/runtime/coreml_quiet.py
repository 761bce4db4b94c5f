"""coremltools without its noise: import it and run it through here."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from edgevl.errors import MissingDependency
from edgevl.quiet import quiet_python, without_bars


@contextmanager
def quiet_coremltools() -> Iterator[None]:
    """Silence coremltools for a block: its log, its warnings and its progress bars.

    - Off macOS it logs eight `Failed to load _MLModelProxy` warnings at import (apple/coremltools#2465): expected,
      since predictions there need Apple's framework; conversion and loading do not.
    - It logs that this torch is newer than the last one it was tested with. Ours is tested here, artifact by artifact.
    - `ct.convert` draws four tqdm bars and has no switch for them (apple/coremltools#1815).
    """
    with quiet_python(), without_bars():
        yield


def import_coremltools(purpose: str) -> ModuleType:
    """Import coremltools quietly. Raises `MissingDependency` that says what it is needed for."""
    try:
        with quiet_coremltools():
            return importlib.import_module("coremltools")
    except ImportError as error:
        raise MissingDependency("coremltools", "coreml", purpose) from error
