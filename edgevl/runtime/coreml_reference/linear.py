"""Matrix products."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .ops import TORCH_DTYPES, Kernel, Node, UnsupportedOp, mil_op


@mil_op("linear", operands=("x", "weight", "bias"))
def _linear(node: Node) -> Kernel:
    return of_one_dtype(node, ("x", "weight"), F.linear)


@mil_op("matmul", operands=("x", "y"))
def _matmul(node: Node) -> Kernel:
    transpose_x, transpose_y = node.param("transpose_x", False), node.param("transpose_y", False)
    if not transpose_x and not transpose_y:
        return of_one_dtype(node, ("x", "y"), torch.matmul)

    def matmul(x: Tensor, y: Tensor) -> Tensor:
        x = x.transpose(-2, -1) if transpose_x else x
        y = y.transpose(-2, -1) if transpose_y else y
        return torch.matmul(x, y)

    return of_one_dtype(node, ("x", "y"), matmul)


def of_one_dtype(node: Node, factors: tuple[str, str], product: Kernel) -> Kernel:
    """Return a product that casts a constant factor to the other's dtype: from iOS17 on the two may differ."""
    dtypes = {name: TORCH_DTYPES[node.dtype(name)] for name in factors}
    if len(set(dtypes.values())) == 1:
        return product
    constant = next((name for name in factors if node.is_constant(name)), factors[1])
    dtype = next(dtypes[name] for name in factors if name != constant)
    value = node.required(constant)
    if not dtype.is_floating_point and not value.equal(value.round()):
        raise UnsupportedOp(f"{node}: integers times fractions have no agreed rounding")
    return lambda *operands: product(*(None if each is None else each.to(dtype) for each in operands))


@mil_op("einsum", operands=("values",))
def _einsum(node: Node) -> Kernel:
    equation = node.param("equation")
    return lambda *values: torch.einsum(equation, *values)


@mil_op("scaled_dot_product_attention", operands=("query", "key", "value", "attn_mask"))
def _attention(node: Node) -> Kernel:
    return lambda query, key, value, mask: F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
