"""Names for the values of a program that stay the same from target to target, so that one plan serves them all.

A value is named by the module that makes it and the operator: `fusion.blocks.0.attention:matmul#1` is the second matrix
product of that module. Image adapters, split layouts and batch sizes change nothing in these names.
"""

import operator
from collections import Counter
from collections.abc import Iterator

import torch
from torch.fx import Graph, Node

_PREFIXES = ("model.", "core.")  # of `edgevl.models.capture.Adapted`, and of the model
# In-place and renamed twins of one operator.
_ALIASES = {"relu_": "relu", "add_": "add", "conv1d": "conv", "conv2d": "conv", "addmm": "linear"}


def operator_name(node: Node) -> str:
    """`conv` for `aten.conv2d.default`, `relu` for `aten.relu_.default`; empty for what is no operator of torch.

    `getitem` is one result of an operator that has several (split, unbind).
    """
    if node.target is operator.getitem:
        return "getitem"
    packet = getattr(node.target, "overloadpacket", None)
    name = getattr(packet, "__name__", "") if node.op == "call_function" else ""
    return _ALIASES.get(name, name)


def module_of(node: Node) -> str:
    """The path of the module that calls the operator, `vision.backbone.layer1.0.conv1`; empty for the model itself."""
    stack = node.meta.get("nn_module_stack") or {}
    return module_name(list(stack.values())[-1][0] if stack else "")


def module_name(path: str) -> str:
    """The name that a plan has for a module of a program."""
    path = "" if path in ("model", "model.core") else path
    for prefix in _PREFIXES:
        path = path.removeprefix(prefix)
    return path


def is_float(node: Node) -> bool:
    """Is the value a tensor of floats, of one at least?"""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype.is_floating_point and value.numel() > 0


def named_values(graph: Graph) -> Iterator[tuple[str, Node]]:
    """Each operator and input of `graph` that is a float tensor, with its name; an input has its own.

    Batch norms must have been folded before.
    """
    seen: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op == "placeholder" and is_float(node):
            yield node.name, node
        if not operator_name(node) or not is_float(node):
            continue
        name = f"{module_of(node)}:{operator_name(node)}"
        seen[name] += 1
        yield (name if seen[name] == 1 else f"{name}#{seen[name] - 1}"), node
