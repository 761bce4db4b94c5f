"""Tasks: what results mean. One file for each; others come from packages by entry points."""

import importlib

from edgevl.contracts import Task
from edgevl.errors import unknown_name
from edgevl.registry import Registry

GROUP = "edgevl.tasks"  # of entry points: name -> a class that fulfills `edgevl.contracts.Task`
TASKS: Registry[type[Task]] = Registry("task", GROUP)
_MODULES = ("vqa", "statement", "retrieval", "caption", "grounding")


def task_named(name: str) -> Task:
    """Return a task by its name or by an alias of it, such as `visual-question-answering`.

    Raises `InputError` for an unknown one, with the nearest name.
    """
    known = _all_tasks()
    if name in known:
        return known[name]()
    for kind in known.loaded().values():
        if name in kind.aliases:
            return kind()
    raise unknown_name(
        known.kind, name, [*known, *(alias for kind in known.loaded().values() for alias in kind.aliases)]
    )


def _all_tasks() -> Registry[type[Task]]:
    for module in _MODULES:
        importlib.import_module(f"edgevl.tasks.{module}")
    return TASKS
