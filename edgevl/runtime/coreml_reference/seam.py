"""The one place where the executor touches EdgeVL: errors, and coremltools without its noise.

Where EdgeVL is installed its errors are used, so that its command line reports them as any other. A copy of this folder
without EdgeVL is a package of its own, with the stand-ins of `stand_in.py`.
"""

# ruff: noqa: F401
try:
    from edgevl.errors import EdgeVLError as ExecutorError
    from edgevl.errors import InputError, first_line, unknown_name
    from edgevl.plain import plain
    from edgevl.runtime.coreml_quiet import import_coremltools, quiet_coremltools
except ImportError:
    from .stand_in import (  # pyright: ignore[reportAssignmentType]
        ExecutorError,
        InputError,
        first_line,
        import_coremltools,
        plain,
        quiet_coremltools,
        unknown_name,
    )
