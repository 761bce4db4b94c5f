"""Do the steps of an ExecuTorch program pass what their operators take? If not, its runtime aborts the process."""

import functools
from typing import Any

import torch

from edgevl.errors import VerificationFailed
from edgevl.formats.executorch_program import ABSENT, Call, Method

_NUMBERS = ("int", "bool", "float")
# Operators of ExecuTorch's own that torch knows only once `executorch.exir` is imported, which takes seconds.
_COPY = ("Tensor", "bool", "int[]?", "Tensor")
_OWN = {
    "dim_order_ops::_to_dim_order_copy.out": _COPY,
    "dim_order_ops::_clone_dim_order.out": _COPY,
    "dim_order_ops::_empty_dim_order.out": ("int[]", "int[]?", "Tensor"),
}


def check_arguments(method: Method) -> None:
    """Raise `VerificationFailed` for a step whose arguments have no memory or are not of the kinds it takes.

    The kinds of operators that are not among torch's `aten` and `_OWN` are not checked.
    """
    judged: dict[tuple[int, str], bool] = {}  # a thousand steps may name one list of a thousand values
    for call in method.calls:
        for number in call.args:
            tensor = method.tensor(number)
            if tensor and not (tensor.constant or tensor.planned or number in method.inputs):
                raise VerificationFailed(f"a step reads value {number}, which has no memory")
        expected = _expected(call)
        if expected and len(call.args) < len(expected):
            raise VerificationFailed(f"{call.operator} takes {len(expected)} arguments, a step has {len(call.args)}")
        for number, wanted in zip(call.args, expected):
            if (number, wanted) not in judged:
                judged[number, wanted] = _suits(method, number, wanted)
            if not judged[number, wanted]:
                raise VerificationFailed(
                    f"a step gives {call.operator or 'a delegate'} a {method.kinds[number]} where it takes {wanted}"
                )


def _expected(call: Call) -> tuple[str, ...]:
    """The kinds of the arguments, "?" for one that may be absent; behind them the results come once more."""
    if not call.operator:
        return ("Tensor",) * len(call.args)
    return _OWN.get(call.operator) or _aten(call.operator)


@functools.cache
def _aten(operator: str) -> tuple[str, ...]:
    namespace, _, name = operator.partition("::")
    name, _, overload = name.partition(".")
    found = getattr(getattr(torch.ops.aten, name, None), overload or "default", None) if namespace == "aten" else None
    schema = getattr(found, "_schema", None)
    return tuple(_kind(argument.type) for argument in schema.arguments) if schema else ()


def _kind(kind: Any) -> str:
    """A type of torch's as a kind of value: "Tensor", "int[]?", "number"; "" for one that is not checked."""
    text = str(kind)
    if text.startswith("Optional["):
        inner = _kind(kind.getElementType())
        return f"{inner}?" if inner else ""
    names = {"List[int]": "int[]", "List[float]": "float[]", "List[bool]": "bool[]"}
    names |= {"List[Tensor]": "Tensor[]", "List[Optional[Tensor]]": "Tensor?[]"}
    return names.get(text, text if text in ("Tensor", "int", "bool", "float", "number", "str") else "")


def _suits(method: Method, number: int, wanted: str) -> bool:
    kind = method.kinds[number]
    if not wanted or (wanted.endswith("?") and kind == "None"):
        return True
    wanted = wanted.removesuffix("?")
    if wanted == "number":
        return kind in _NUMBERS
    if kind != wanted or wanted not in ("int[]", "Tensor[]", "Tensor?[]"):
        return kind == wanted
    return all(_item_suits(method, item, wanted.removesuffix("[]")) for item in method.values[number])


def _item_suits(method: Method, item: int, wanted: str) -> bool:
    if item == ABSENT and wanted == "Tensor?":
        return True
    return 0 <= item < len(method.kinds) and _suits(method, item, wanted)
