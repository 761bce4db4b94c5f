"""Recurrent layers: rnn, gru, lstm. Gate order and shapes: coremltools' MIL reference (`recurrent.py`).

Shapes: S steps, B batch, I input, H hidden. x is [S, B, I], a state [B, H], bidirectional [B, 2 H].
With `reverse` the outputs come in the order of processing, last step of x first; `bidirectional` aligns them with x.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .ops import Kernel, Node, mil_op

States = tuple[Tensor, ...]  # (h,) or (h, c)
Cell = Callable[[Tensor, States], States]  # one step: x [B, I] and the states to the new states

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "sigmoid_hard": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "linear": lambda x: x,
    "relu": torch.relu,
    "scaled_tanh": torch.tanh,  # by 1 and 1, says coremltools' test: here no parameter scales it
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


@dataclass(frozen=True)
class Arithmetic:
    """How a cell computes: in float32 throughout, or rounding after every step."""

    linear: Callable[[Tensor, Tensor, Tensor | None], Tensor]  # x, weight, bias
    step: Callable[[Tensor], Tensor]  # applied to the result of each elementary step


FLOAT32 = Arithmetic(F.linear, lambda x: x)


@mil_op("rnn", operands=("x", "initial_h"))
def _rnn(node: Node) -> Kernel:
    return build_rnn(node, FLOAT32)


@mil_op("gru", operands=("x", "initial_h"))
def _gru(node: Node) -> Kernel:
    return build_gru(node, FLOAT32)


@mil_op("lstm", operands=("x", "initial_h", "initial_c"))
def _lstm(node: Node) -> Kernel:
    return build_lstm(node, FLOAT32)


def build_rnn(node: Node, math: Arithmetic) -> Kernel:
    weight_ih, weight_hh, bias = _weights(node)
    activate, step = _activation(node, "activation", "tanh"), math.step

    def cell(x: Tensor, states: States) -> States:
        total = step(math.linear(x, weight_ih, bias) + math.linear(states[0], weight_hh, None))
        return (step(activate(total)),)

    return _kernel(node, [cell])


def build_gru(node: Node, math: Arithmetic) -> Kernel:
    """Gates in the order reset, output, update. `reset_after` (iOS18) resets W h, as torch does, instead of h."""
    weight_ih, weight_hh, bias = _weights(node)
    input_bias, reset_after = node.tensor("input_bias"), node.param("reset_after", False)
    gate, activate = _activation(node, "recurrent_activation", "sigmoid"), _activation(node, "activation", "tanh")
    parts_hh, (b_r, b_o, b_z), step = weight_hh.chunk(3), _thirds(bias), math.step

    def cell(x: Tensor, states: States) -> States:
        (h,) = states
        x_r, x_o, x_z = math.linear(x, weight_ih, input_bias).chunk(3, -1)
        reset = step(gate(step(x_r + math.linear(h, parts_hh[0], b_r))))
        update = step(gate(step(x_z + math.linear(h, parts_hh[2], b_z))))
        inner = (
            step(reset * math.linear(h, parts_hh[1], b_o))
            if reset_after
            else math.linear(step(reset * h), parts_hh[1], b_o)
        )
        out = step(activate(step(x_o + inner)))
        return (step(step((1 - update) * out) + step(update * h)),)

    return _kernel(node, [cell])


def build_lstm(node: Node, math: Arithmetic) -> Kernel:
    """Gates in the order input, forget, output, cell. Peepholes let the first three see the cell state.

    `clip` bounds the cell state, before the output gate sees it: coremltools' test of it says so.
    """
    clip = node.param("clip", None)
    gate, squash = _activation(node, "recurrent_activation", "sigmoid"), _activation(node, "cell_activation", "tanh")
    activate, step = _activation(node, "activation", "tanh"), math.step

    def opened(total: Tensor, c: Tensor, peephole: Tensor | None) -> Tensor:
        return step(gate(total if peephole is None else step(total + step(c * peephole))))

    def make(suffix: str) -> Cell:
        weight_ih, weight_hh, bias = _weights(node, suffix)
        p_i, p_f, p_o = _thirds(node.tensor(f"peephole{suffix}"))

        def cell(x: Tensor, states: States) -> States:
            h, c = states
            gates = step(math.linear(x, weight_ih, bias) + math.linear(h, weight_hh, None))
            i, f, o, z = gates.chunk(4, -1)
            c = step(step(opened(f, c, p_f) * c) + step(opened(i, c, p_i) * step(squash(z))))
            c = c if clip is None else c.clamp(-clip, clip)
            return step(opened(o, c, p_o) * step(activate(c))), c

        return cell

    both = node.param("direction", "forward") == "bidirectional"
    cells = [make(""), make("_back")] if both else [make("")]
    return _kernel(node, cells)


def _kernel(node: Node, cells: list[Cell]) -> Kernel:
    """Run one cell, or two of them from both ends, and join what they give."""
    every_step, backward = node.param("output_sequence", False), node.param("direction", "forward") == "reverse"

    def run(x: Tensor, *initial: Tensor) -> tuple[Tensor, ...]:
        halves = zip(*(state.chunk(len(cells), -1) for state in initial))
        runs = [
            _scan(cell, x.flip(0) if backward or index else x, states)
            for index, (cell, states) in enumerate(zip(cells, halves))
        ]
        sequences = [outputs.flip(0) if index else outputs for index, (outputs, _) in enumerate(runs)]
        lasts = [torch.cat(states, -1) for states in zip(*(states for _, states in runs))]
        return (torch.cat(sequences, -1) if every_step else lasts[0][None], *lasts)

    return run


def _scan(cell: Cell, x: Tensor, states: States) -> tuple[Tensor, States]:
    """Apply a cell step by step. Returns its outputs, [S, B, H], and the last states."""
    outputs = []
    for entry in x:
        states = cell(entry, states)
        outputs.append(states[0])
    return torch.stack(outputs), states


def _weights(node: Node, suffix: str = "") -> tuple[Tensor, Tensor, Tensor | None]:
    names = (f"weight_ih{suffix}", f"weight_hh{suffix}")
    return node.required(names[0]), node.required(names[1]), node.tensor(f"bias{suffix}")


def _thirds(bias: Tensor | None) -> tuple[Tensor | None, ...]:
    return (None, None, None) if bias is None else bias.chunk(3)


def _activation(node: Node, name: str, default: str) -> Callable[[Tensor], Tensor]:
    return _ACTIVATIONS[node.choice(name, _ACTIVATIONS, default)]
