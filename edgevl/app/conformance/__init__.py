"""Bundles, pictures and texts with what must come out of them, for readers of bundles in any language.

docs/conformance.md is the format.
"""

from pathlib import Path

from edgevl.errors import InputError
from edgevl.progress import Progress

LIST = "conformance.json"
ONLY = ("small",)


def write_conformance(
    out: str | Path, only: str | None = None, force: bool = False, progress: Progress | None = None
) -> tuple[Path, dict[str, int]]:
    """Write the suite into a folder; return it, and how many cases there are of each kind.

    Args:
        out: the folder, which is not there yet.
        only: "small" leaves the embedded model out.
        force: replace a suite that is there.
        progress: called as progress(done, total, text).

    Raises:
        InputError: the folder is there or cannot be written, or `only` is not known.
        MissingDependency: a package that the embedded model in w8a8 needs is not installed.
    """
    if only is not None and only not in ONLY:
        raise InputError(f'there is no part "{only}"; there is {", ".join(ONLY)}')
    from edgevl.app.conformance.writing import write

    return write(Path(out), only, force, progress or (lambda done, total, text: None))
