"""Decodings: from values to a result. One file for each kind; others come from packages by entry points."""

import importlib
from typing import Any

from edgevl.contracts import Decoding, Described
from edgevl.errors import InputError
from edgevl.registry import Registry

GROUP = "edgevl.decodings"  # of entry points: kind -> a class that fulfills `edgevl.contracts.Decoding`
DECODINGS: Registry[type[Decoding[Any]]] = Registry("decoding", GROUP)
_MODULES = ("classify", "rank", "generate", "box")


def decoding_of(model: Described) -> Decoding[Any]:
    """Return the decoding that a model declares.

    Raises `InputError` for an unknown kind, and for fields that are missing, unknown or do not fit the model.
    """
    for module in _MODULES:
        importlib.import_module(f"edgevl.decodings.{module}")
    kind = model.decoding.get("kind")
    if not isinstance(kind, str):
        raise InputError("the decoding has no kind")
    return DECODINGS[kind](model)
