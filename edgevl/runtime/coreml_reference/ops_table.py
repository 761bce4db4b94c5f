"""The table of operators of docs/coreml-reference.md, from the code: `--operators` prints it."""

import importlib
import textwrap
from collections.abc import Iterator

from .ops import OP_MODULES, OPS, operators

_WIDTH = 110  # of the second column, so that a line of the document stays readable


def operators_table() -> str:
    """Return a Markdown table: each file of the folder, and the operators that it defines, on one row or several."""
    return "\n".join(["| file | operators |", "|---|---|", *_rows()])


def _rows() -> Iterator[str]:
    operators()
    for module in OP_MODULES:
        source = importlib.import_module(f".{module}", __package__).__name__
        names = sorted(name for name, definition in OPS.items() if definition.build.__module__ == source)
        lines = textwrap.wrap(", ".join(f"`{name}`" for name in names), _WIDTH, break_on_hyphens=False)
        yield from (f"| {'' if index else f'`{module}.py`'} | {line} |" for index, line in enumerate(lines))
    yield "| `runner.py` | `cond`, `while_loop` |"
