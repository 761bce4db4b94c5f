"""Paddings that repeat the picture's own rows, as slices and one concatenation for each axis."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.export import ExportedProgram

from edgevl.export.passes import graph_pass

_PAD = torch.ops.aten.pad.default
# mode of `pad` -> positions of the slices in front and behind, of an axis with n rows that gets b and a more
_PLACES: dict[str, Callable[[int, int, int], tuple[Sequence[int], Sequence[int]]]] = {
    "reflect": lambda n, b, a: (range(b, 0, -1), range(n - 2, n - 2 - a, -1)),
    "replicate": lambda n, b, a: ([0] * b, [n - 1] * a),
    "circular": lambda n, b, a: (range(n - b, n), range(a)),
}


@graph_pass("sliced-paddings", "executorch", "runs", "takes paddings that repeat the picture apart")
def pad_by_slices(program: ExportedProgram) -> ExportedProgram:
    """Take paddings apart that are not of a constant; a program without them is returned as it is.

    ExecuTorch 1.5 makes `aten.index` of them, whose kernel refuses an input that lies channels last beside one that
    does not ("2 input tensors have different dim orders", when it runs). Blur pools of timm reflect.
    """
    if any(node.target is _PAD and _mode(*node.args) in _PLACES for node in program.graph.nodes):
        return program.run_decompositions({_PAD: _padded})
    return program


def _mode(x: object, padding: object, mode: str = "constant", value: object = None) -> str:
    return mode


def _padded(x: Tensor, padding: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """As `torch.nn.functional.pad`: `padding` has two numbers for each axis, from the last one on."""
    if mode not in _PLACES:
        return torch.constant_pad_nd(x, padding, value or 0)
    for number, (before, after) in enumerate(zip(padding[::2], padding[1::2])):
        axis = x.ndim - 1 - number
        places = _PLACES[mode](x.shape[axis], before, after)
        first, last = ([x.narrow(axis, place, 1) for place in side] for side in places)
        x = torch.cat([*first, x, *last], axis) if first or last else x
    return x
