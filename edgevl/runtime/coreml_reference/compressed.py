"""Compressed weights: what every `constexpr_*` operator stands for, written from its definition in the MIL reference
(coremltools, `ops/defs/iOS16/constexpr_ops.py` and `ops/defs/iOS18/compression.py`).

coremltools' own decompression is not used: for a palette it holds one copy of the lookup table for each weight, and it
does not take a palette whose table is itself quantized. A model of 90 M parameters decompresses here in seconds.

Sums and products run in float32 and are rounded once, to the dtype of the scale. An operator may read the result of
another one (a sparse palette: `constexpr_lut_to_sparse`, then `constexpr_sparse_to_dense`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Values = dict[str, np.ndarray | None]  # the operator's inputs, by name; what the program leaves out is missing
Decompress = Callable[[Values], tuple[np.ndarray, ...]]


def decompress(op: Any, read: Callable[[Any], np.ndarray | None]) -> tuple[np.ndarray, ...] | None:
    """Return the outputs of a `constexpr_*` operator of a PyMIL program; `None` for an operator that is not known here.

    Args:
        read: gives the value of a constant variable, itself decompressed where it has to be.
    """
    function = _DECOMPRESS.get(op.op_type)
    if function is None:
        return None
    return function({name: read(variable) for name, variable in op.inputs.items() if variable is not None})


def _affine_dequantize(v: Values) -> tuple[np.ndarray, ...]:
    """scale * (quantized_data - zero_point), both scalars or one for each entry of `axis`."""
    data, axis = _need(v, "quantized_data"), int(_need(v, "axis"))
    line_up = [-1 if index == axis % data.ndim else 1 for index in range(data.ndim)]
    scale, zero = _need(v, "scale"), _need(v, "zero_point")
    steps = data.astype(np.float32) - zero.astype(np.float32).reshape(line_up if zero.ndim else ())
    return (_rounded(steps * scale.astype(np.float32).reshape(line_up if scale.ndim else ()), scale.dtype),)


def _blockwise_shift_scale(v: Values) -> tuple[np.ndarray, ...]:
    return (_shift_scale(_need(v, "data"), _need(v, "scale"), v.get("offset")),)


def _shift_scale(data: np.ndarray, scale: np.ndarray, offset: np.ndarray | None) -> np.ndarray:
    """scale * (data - offset); entry [i0, i1, ...] of scale belongs to one block of data, all blocks of one size."""
    blocks, ones = _block_shapes(data.shape, scale.shape)
    steps = data.astype(np.float32).reshape(blocks)
    if offset is not None:
        steps -= offset.astype(np.float32).reshape(ones)
    steps *= scale.astype(np.float32).reshape(ones)
    return _rounded(steps.reshape(data.shape), scale.dtype)


def _block_shapes(shape: tuple[int, ...], groups: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """[groups0, block0, groups1, block1, ...], and the same with blocks of 1: what broadcasts over the blocks."""
    blocks, ones = [], []
    for side, group in zip(shape, groups):
        blocks += [group, side // group]
        ones += [group, 1]
    return blocks, ones


def _lut_to_dense(v: Values) -> tuple[np.ndarray, ...]:
    indices, lut, axis = _need(v, "indices"), _need(v, "lut"), v.get("vector_axis")
    shape = v.get("shape")
    if shape is not None:  # iOS16: one table, and indices packed into bytes
        count = int(np.prod(shape, dtype=np.int64))
        bits = int(lut.size).bit_length() - 1
        return (lut[_unpacked(indices, bits, count)].reshape(shape),)
    return (_looked_up(indices, lut, None if axis is None else int(axis)),)


def _looked_up(indices: np.ndarray, lut: np.ndarray, vector_axis: int | None) -> np.ndarray:
    """Replace each index by its entry in the table of its block. lut: [groups of each axis ..., palettes, vector]."""
    groups, (palettes, vector) = lut.shape[: indices.ndim], lut.shape[indices.ndim :]
    tables, flat = lut.reshape(-1, vector), indices
    if len(tables) > palettes:
        blocks, ones = _block_shapes(indices.shape, groups)
        first = np.arange(0, len(tables), palettes, dtype=np.int32).reshape(ones)
        flat = (indices.reshape(blocks) + first).reshape(indices.shape)
    if vector == 1:
        return tables[:, 0].take(flat)
    assert vector_axis is not None, "coremltools checks that a vector palette has an axis"
    axis = vector_axis % indices.ndim
    spread = np.moveaxis(tables.take(flat, axis=0), -1, axis + 1)  # [..., side, vector, ...]
    return spread.reshape([side * vector if index == axis else side for index, side in enumerate(indices.shape)])


def _sparse_to_dense(v: Values) -> tuple[np.ndarray, ...]:
    mask, shape = _need(v, "mask"), v.get("shape")
    if shape is not None:  # iOS16: a bit for each weight, packed into bytes
        mask = _unpacked(mask, 1, int(np.prod(shape, dtype=np.int64))).reshape(shape)
    return (_dense(_need(v, "nonzero_data"), mask),)


def _dense(nonzero: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Put the non-zero values, in row-major order, where the mask is set."""
    dense = np.zeros(mask.shape, nonzero.dtype)
    dense[mask.astype(bool)] = nonzero
    return dense


def _lut_to_sparse(v: Values) -> tuple[np.ndarray, ...]:
    """Look up the non-zero entries alone. A vector palette turns one index, and one bit of the mask, into a vector."""
    mask, lut, axis = _need(v, "indices_mask"), _need(v, "lut"), v.get("vector_axis")
    axis = None if axis is None else int(axis)
    dense = _looked_up(_dense(_need(v, "indices_nonzero_data"), mask), lut, axis)
    if axis is not None and lut.shape[-1] > 1:
        mask = np.repeat(mask, lut.shape[-1], axis)
    return mask, dense[mask.astype(bool)]


def _sparse_blockwise_shift_scale(v: Values) -> tuple[np.ndarray, ...]:
    mask = _need(v, "data_mask")
    dense = _shift_scale(_dense(_need(v, "nonzero_data"), mask), _need(v, "scale"), v.get("offset"))
    return mask, dense[mask.astype(bool)]


def _cast(v: Values) -> tuple[np.ndarray, ...]:
    return (_need(v, "source_val").astype(np.float32),)  # float32 is the only dtype that the format allows


def _unpacked(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Return `count` unsigned numbers of `bits` bits each, packed from the least significant bit up."""
    packed = packed.view(np.uint8)
    if 8 * packed.size < count * bits:
        raise ValueError(f"{packed.size} bytes are too few for {count} numbers of {bits} bits")
    if bits == 8:
        return packed[:count]
    if 8 % bits == 0:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        return ((packed[:, None] >> shifts) & np.uint8(2**bits - 1)).reshape(-1)[:count]
    single = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    return np.packbits(single, axis=1, bitorder="little").reshape(-1)


def _rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return values.astype(dtype, copy=False)


def _need(v: Values, name: str) -> np.ndarray:
    value = v[name]
    assert value is not None, f"{name} is not constant: coremltools refuses such a program"
    return value


_DECOMPRESS: dict[str, Decompress] = {
    "constexpr_affine_dequantize": _affine_dequantize,
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_sparse_to_dense": _sparse_to_dense,
    "constexpr_lut_to_sparse": _lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": _sparse_blockwise_shift_scale,
    "constexpr_cast": _cast,
}
