"""Matrix products."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .ops import Kernel, Node, mil_op


@mil_op("linear", operands=("x", "weight", "bias"))
def _linear(node: Node) -> Kernel:
    return F.linear


@mil_op("matmul", operands=("x", "y"))
def _matmul(node: Node) -> Kernel:
    transpose_x, transpose_y = node.param("transpose_x", False), node.param("transpose_y", False)
    if not transpose_x and not transpose_y:
        return torch.matmul

    def matmul(x: Tensor, y: Tensor) -> Tensor:
        x = x.transpose(-2, -1) if transpose_x else x
        y = y.transpose(-2, -1) if transpose_y else y
        return torch.matmul(x, y)

    return matmul


@mil_op("einsum", operands=("values",))
def _einsum(node: Node) -> Kernel:
    equation = node.param("equation")
    return lambda *values: torch.einsum(equation, *values)


@mil_op("scaled_dot_product_attention", operands=("query", "key", "value", "attn_mask"))
def _attention(node: Node) -> Kernel:
    return lambda query, key, value, mask: F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
