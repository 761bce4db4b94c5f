"""The table of operators of docs/coreml-reference.md, from the code: `--operators` prints it."""

import importlib

from .ops import OP_MODULES, OPS, operators

_ELSEWHERE = [("runner.py", "`cond`, `while_loop`")]


def operators_table() -> str:
    """Return a Markdown table: each file of the folder, and the operators that it defines."""
    operators()
    lines = ["| file | operators |", "|---|---|"]
    for module in OP_MODULES:
        source = importlib.import_module(f".{module}", __package__).__name__
        names = sorted(name for name, definition in OPS.items() if definition.build.__module__ == source)
        lines.append(f"| `{module}.py` | {', '.join(f'`{name}`' for name in names)} |")
    return "\n".join([*lines, *(f"| `{file}` | {names} |" for file, names in _ELSEWHERE)])
