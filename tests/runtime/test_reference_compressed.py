"""Every kind of compressed weight that coremltools writes, against a decompression of the test's own.

The oracle reads the raw codes, tables, scales and masks of the saved package and computes one weight at a time, in
plain loops over the formulas of the MIL reference: nothing is shared with the executor, nor with coremltools'
decompression. The weights come out of a whole run: the program is a linear layer and its input the identity matrix.
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil_programs import coremltools, save_mil  # pyright: ignore[reportMissingImports]

from edgevl.runtime.coreml_quiet import quiet_coremltools
from edgevl.runtime.coreml_reference import MLProgram
from edgevl.runtime.coreml_reference.compressed import decompress
from edgevl.runtime.coreml_reference.package import read_package

ROWS, COLUMNS = 16, 64
WEIGHT = np.random.default_rng(5).standard_normal((ROWS, COLUMNS)).astype(np.float32)
IDENTITY = np.eye(COLUMNS, dtype=np.float32)

Compress = Callable[[Any, Any, bool], Any]  # (coremltools.optimize.coreml, model, joint) -> model


def quantized(**config: Any) -> Compress:
    return lambda cto, model, joint: _apply(
        cto, cto.linear_quantize_weights, cto.OpLinearQuantizerConfig, config, model, joint
    )


def palettized(**config: Any) -> Compress:
    return lambda cto, model, joint: _apply(cto, cto.palettize_weights, cto.OpPalettizerConfig, config, model, joint)


def pruned(**config: Any) -> Compress:
    return lambda cto, model, joint: _apply(cto, cto.prune_weights, cto.OpMagnitudePrunerConfig, config, model, joint)


def _apply(cto: Any, function: Any, config_class: Any, config: dict[str, Any], model: Any, joint: bool) -> Any:
    whole = cto.OptimizationConfig(global_config=config_class(weight_threshold=0, **config))
    return function(model, whole, **({"joint_compression": True} if joint else {}))


HALF, KMEANS = pruned(target_sparsity=0.5), palettized(mode="kmeans", nbits=4)
GROUPS = palettized(mode="kmeans", nbits=4, granularity="per_grouped_channel", group_size=4)
TABLE_INT8 = quantized(mode="linear_symmetric", granularity="per_tensor")

# name: deployment target, steps (the later ones joint), operators in the file, largest relative error of the weights
KINDS: dict[str, tuple[str, list[Compress], set[str], float]] = {
    "affine int8": ("iOS16", [quantized(mode="linear_symmetric")], {"affine_dequantize"}, 0.01),
    "affine uint8": ("iOS16", [quantized(mode="linear", dtype="uint8")], {"affine_dequantize"}, 0.01),
    "int8 channels": ("iOS18", [quantized(mode="linear", dtype="int8")], {"blockwise_shift_scale"}, 0.01),
    "uint8 tensor": (
        "iOS18",
        [quantized(mode="linear", granularity="per_tensor", dtype="uint8")],
        {"blockwise_shift_scale"},
        0.01,
    ),
    "int4 blocks": (
        "iOS18",
        [quantized(dtype="int4", granularity="per_block", block_size=32)],
        {"blockwise_shift_scale"},
        0.12,
    ),
    "uint4 blocks": (
        "iOS18",
        [quantized(mode="linear", dtype="uint4", granularity="per_block", block_size=16)],
        {"blockwise_shift_scale"},
        0.12,
    ),
    "palette 4 bits, iOS16": ("iOS16", [KMEANS], {"lut_to_dense"}, 0.15),
    "palette 6 bits, iOS16": ("iOS16", [palettized(mode="uniform", nbits=6)], {"lut_to_dense"}, 0.05),
    "palette 1 bit, iOS16": ("iOS16", [palettized(mode="kmeans", nbits=1)], {"lut_to_dense"}, 0.7),
    "palette 8 bits, iOS16": ("iOS16", [palettized(mode="uniform", nbits=8)], {"lut_to_dense"}, 0.01),
    "palette 4 bits, iOS18": ("iOS18", [KMEANS], {"lut_to_dense"}, 0.15),
    "palette 3 bits, iOS18": ("iOS18", [palettized(mode="kmeans", nbits=3)], {"lut_to_dense"}, 0.25),
    "palettes of channel groups": ("iOS18", [GROUPS], {"lut_to_dense"}, 0.15),
    "palettes of input channel groups": (
        "iOS18",
        [palettized(mode="kmeans", nbits=2, granularity="per_grouped_channel", group_size=8, channel_axis=1)],
        {"lut_to_dense"},
        0.4,
    ),
    "palettes with channel scales": (
        "iOS18",
        [
            palettized(
                mode="kmeans",
                nbits=4,
                granularity="per_grouped_channel",
                group_size=4,
                enable_per_channel_scale=True,
            )
        ],
        {"lut_to_dense", "blockwise_shift_scale"},
        0.15,
    ),
    "palette of vectors": ("iOS18", [palettized(mode="kmeans", nbits=4, cluster_dim=4)], {"lut_to_dense"}, 0.6),
    "palettes of vectors, channel groups": (
        "iOS18",
        [palettized(mode="kmeans", nbits=3, cluster_dim=2, granularity="per_grouped_channel", group_size=8)],
        {"lut_to_dense"},
        0.6,
    ),
    "sparse, iOS16": ("iOS16", [HALF], {"sparse_to_dense"}, 0.4),
    "sparse, iOS18": ("iOS18", [HALF], {"sparse_to_dense"}, 0.4),
    "sparse 2 of 4": ("iOS18", [pruned(n_m_ratio=(2, 4))], {"sparse_to_dense"}, 0.5),
    "sparse palette": ("iOS18", [HALF, KMEANS], {"sparse_to_dense", "lut_to_sparse"}, 0.4),
    "sparse int8": (
        "iOS18",
        [HALF, quantized(mode="linear")],
        {"sparse_to_dense", "sparse_blockwise_shift_scale"},
        0.4,
    ),
    "sparse int4 blocks": (
        "iOS18",
        [HALF, quantized(dtype="int4", granularity="per_block", block_size=32)],
        {"sparse_to_dense", "sparse_blockwise_shift_scale"},
        0.4,
    ),
    "palette, int8 table": ("iOS18", [KMEANS, TABLE_INT8], {"lut_to_dense", "blockwise_shift_scale"}, 0.15),
    "palettes of groups, int8 tables": ("iOS18", [GROUPS, TABLE_INT8], {"lut_to_dense", "blockwise_shift_scale"}, 0.15),
    "sparse palette, int8 table": (
        "iOS18",
        [HALF, KMEANS, TABLE_INT8],
        {"sparse_to_dense", "lut_to_sparse", "blockwise_shift_scale"},
        0.4,
    ),
}


def network(mb: Any, x: Any) -> Any:
    return mb.linear(x=x, weight=WEIGHT, bias=np.zeros(ROWS, np.float32), name="y")


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def dense(request, tmp_path_factory) -> dict[str, Path]:
    """The uncompressed program of each deployment target, in one of two precisions."""
    folder = tmp_path_factory.mktemp("dense")
    paths = {target: folder / f"{target}.mlpackage" for target in ("iOS16", "iOS18")}
    for target, path in paths.items():
        save_mil(path, network, {"x": IDENTITY}, target=target, precision=request.param)
    return paths


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_what_the_file_defines(dense: dict[str, Path], kind: str, tmp_path: Path) -> None:
    target, steps, operators, limit = KINDS[kind]
    path = tmp_path / "small.mlpackage"
    compress(dense[target], path, steps)
    found = {op.op_type: op for op in read_package(path).function.operations}
    assert {name for name in found if name.startswith("constexpr_")} == {f"constexpr_{name}" for name in operators}
    weights = MLProgram.load(path, precision="fp32").predict({"x": IDENTITY})["y"].T
    np.testing.assert_array_equal(weights, oracle(found["linear"].weight))
    assert 1e-4 < np.linalg.norm(weights - WEIGHT) / np.linalg.norm(WEIGHT) < limit


def compress(source: Path, path: Path, steps: list[Compress]) -> None:
    ct = coremltools()
    import coremltools.optimize.coreml as cto

    with quiet_coremltools():
        model = ct.models.MLModel(str(source), skip_model_load=True)
        for index, step in enumerate(steps):
            model = step(cto, model, index > 0)
        model.save(str(path))


def oracle(variable: Any) -> np.ndarray:
    """Decompress a variable one element at a time."""
    op = variable.op
    if op.op_type == "const":
        return np.asarray(variable.val)
    raw = {name: oracle(item) for name, item in op.inputs.items() if item is not None}
    results = ORACLES[op.op_type](**raw)
    return results[variable.op_output_idx] if isinstance(results, tuple) else results


def oracle_affine(quantized_data: np.ndarray, zero_point: np.ndarray, scale: np.ndarray, axis: np.ndarray):
    out = np.empty(quantized_data.shape, scale.dtype)
    for at in np.ndindex(*out.shape):
        one = scale[at[int(axis)]] if scale.ndim else scale[()]
        zero = zero_point[at[int(axis)]] if zero_point.ndim else zero_point[()]
        out[at] = scale.dtype.type(float(one) * (int(quantized_data[at]) - int(zero)))
    return out


def oracle_shift_scale(data: np.ndarray, scale: np.ndarray, offset: np.ndarray | None = None) -> np.ndarray:
    out = np.empty(data.shape, scale.dtype)
    for at in np.ndindex(*out.shape):
        block = tuple(i // (side // groups) for i, side, groups in zip(at, data.shape, scale.shape))
        zero = 0.0 if offset is None else float(offset[block])
        out[at] = scale.dtype.type(float(scale[block]) * (float(data[at]) - zero))
    return out


def bits_of(packed: np.ndarray, width: int) -> list[int]:
    """Numbers of `width` bits from bytes, least significant bit first."""
    stream = [(int(byte) >> bit) & 1 for byte in packed.view(np.uint8) for bit in range(8)]
    return [sum(bit << i for i, bit in enumerate(stream[at : at + width])) for at in range(0, len(stream), width)]


def oracle_lut(indices: np.ndarray, lut: np.ndarray, shape=None, vector_axis=None) -> np.ndarray:
    if shape is not None:
        entries = bits_of(indices, {2: 1, 4: 2, 16: 4, 64: 6, 256: 8}[len(lut)])
        return np.array([lut[entry] for entry in entries[: np.prod(shape)]], lut.dtype).reshape(shape)
    vector = lut.shape[-1]
    axis = 0 if vector_axis is None else int(vector_axis)
    out = np.empty([side * (vector if i == axis else 1) for i, side in enumerate(indices.shape)], lut.dtype)
    for at in np.ndindex(*out.shape):
        cell = tuple(i // vector if k == axis else i for k, i in enumerate(at))
        block = tuple(i // (side // groups) for i, side, groups in zip(cell, indices.shape, lut.shape))
        out[at] = lut[(*block, int(indices[cell]), at[axis] % vector)]
    return out


def oracle_sparse(nonzero_data: np.ndarray, mask: np.ndarray, shape=None) -> np.ndarray:
    if shape is not None:
        mask = np.array(bits_of(mask, 1)[: np.prod(shape)]).reshape(shape)
    out, rest = np.zeros(mask.shape, nonzero_data.dtype), iter(nonzero_data)
    for at in np.ndindex(*mask.shape):
        if mask[at]:
            out[at] = next(rest)
    return out


def picked(mask: np.ndarray, dense: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return mask, np.array([dense[at] for at in np.ndindex(*mask.shape) if mask[at]], dense.dtype)


def oracle_sparse_lut(indices_mask: np.ndarray, indices_nonzero_data: np.ndarray, lut: np.ndarray, vector_axis=None):
    dense = oracle_lut(oracle_sparse(indices_nonzero_data, indices_mask), lut, vector_axis=vector_axis)
    ones = np.zeros(dense.shape, bool)
    for at in np.ndindex(*dense.shape):
        ones[at] = indices_mask[tuple(i * m // d for i, m, d in zip(at, indices_mask.shape, dense.shape))]
    return picked(ones, dense)


def oracle_sparse_shift_scale(data_mask: np.ndarray, nonzero_data: np.ndarray, scale: np.ndarray, offset=None):
    return picked(data_mask, oracle_shift_scale(oracle_sparse(nonzero_data, data_mask), scale, offset))


ORACLES: dict[str, Callable[..., Any]] = {
    "constexpr_affine_dequantize": oracle_affine,
    "constexpr_blockwise_shift_scale": oracle_shift_scale,
    "constexpr_lut_to_dense": oracle_lut,
    "constexpr_sparse_to_dense": oracle_sparse,
    "constexpr_lut_to_sparse": oracle_sparse_lut,
    "constexpr_sparse_blockwise_shift_scale": oracle_sparse_shift_scale,
}


def uint(bits: int, values: Any) -> np.ndarray:
    """An array that PyMIL takes for a sub-byte type."""
    coremltools()
    from coremltools.converters.mil.mil import types

    return np.array(values).astype(types.nptype_from_builtin(types.string_to_builtin(f"uint{bits}")))


def run_constant(run_mil: Callable, build: Callable[[Any], Any]) -> np.ndarray:
    """Add a compressed constant to a zero input: the only way to look at it from outside."""
    (got,) = run_mil(
        lambda mb, x: mb.add(x=x, y=build(mb)), {"x": np.zeros(1, np.float32)}, target="iOS18", mode="fp32"
    )
    return got


def test_palettes_of_groups_in_the_reference_example(run_mil) -> None:
    """Case 1 of `constexpr_lut_to_dense` in the MIL reference, numbers and all."""
    got = run_constant(
        run_mil,
        lambda mb: mb.constexpr_lut_to_dense(
            indices=uint(2, [[2, 3], [3, 0], [1, 0], [3, 0], [2, 1], [0, 3]]),
            lut=np.array([1, 5, 9, 13, 2, 10, 18, 26], np.float32).reshape(2, 1, 4, 1),
        ),
    )
    assert got.tolist() == [[9, 13], [13, 1], [5, 1], [26, 2], [18, 10], [2, 26]]


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_vector_palettes_over_every_axis(run_mil, axis: int) -> None:
    indices = np.array([[[0, 0], [1, 0]], [[1, 1], [0, 0]]])
    lut = np.arange(1, 7, dtype=np.float32).reshape(1, 1, 1, 2, 3)
    got = run_constant(
        run_mil,
        lambda mb: mb.constexpr_lut_to_dense(indices=uint(1, indices), lut=lut, vector_axis=np.int32(axis)),
    )
    np.testing.assert_array_equal(got, oracle_lut(indices, lut, vector_axis=axis % 3))
    if axis == 1:  # Case 2.1 of the reference
        assert got[0].tolist() == [[1, 1], [2, 2], [3, 3], [4, 1], [5, 2], [6, 3]]


def test_a_sparse_vector_palette_in_the_reference_example(run_mil) -> None:
    """`constexpr_lut_to_sparse`, whose two results feed `constexpr_sparse_to_dense`."""
    mask = [[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1], [0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 0]]

    def build(mb: Any) -> Any:
        ones, values = mb.constexpr_lut_to_sparse(
            indices_mask=uint(1, mask),
            indices_nonzero_data=uint(1, [0, 1, 1, 0, 1, 1, 0, 0, 1]),
            lut=np.array([[2, 2], [3, 3]], np.float32).reshape(1, 1, 2, 2),
            vector_axis=np.int32(0),
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=ones)

    rows = [[2, 3, 0, 0, 0, 0], [3, 2, 0, 0, 0, 3], [0, 3, 2, 0, 2, 0], [0, 0, 0, 3, 0, 0]]
    assert run_constant(run_mil, build).tolist() == list(itertools.chain.from_iterable(zip(rows, rows)))


def test_a_sparse_quantized_weight_in_the_reference_example(run_mil) -> None:
    """`constexpr_sparse_blockwise_shift_scale` with a scale and an offset for each column."""

    def build(mb: Any) -> Any:
        ones, values = mb.constexpr_sparse_blockwise_shift_scale(
            data_mask=uint(1, [[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]]),
            nonzero_data=np.array([10, 11, 3, 4, 5, 6, 7, 8, 9], np.int8),
            scale=np.array([[0.1, 0.2, 0.3, 0.4]], np.float32),
            offset=np.array([[1, 2, 3, 4]], np.int8),
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=ones)

    expected = [[0.9, 1.8, 0, 0], [0.2, 0.4, 0.6, 0], [0, 0, 0.9, 1.2], [0.7, 1.4, 0, 0]]
    np.testing.assert_allclose(run_constant(run_mil, build), expected, rtol=1e-6)


def test_decompression_is_fast_enough_for_large_models() -> None:
    """90 M parameters have to decompress in seconds; this is a tenth of them, each kind well under two seconds."""

    class Op:  # a PyMIL operator of this size costs more than what is timed here
        def __init__(self, kind: str, **inputs: Any):
            self.op_type, self.inputs = f"constexpr_{kind}", inputs

    rows, columns = 3072, 3072
    codes = np.random.default_rng(0).integers(0, 16, (rows, columns), dtype=np.uint8)
    lut = np.linspace(-1, 1, 16, dtype=np.float16)
    packed = (codes[:, ::2] | codes[:, 1::2] << 4).reshape(-1)
    kinds = [
        Op("lut_to_dense", indices=packed, lut=lut, shape=np.array([rows, columns])),
        Op("lut_to_dense", indices=codes, lut=np.tile(lut, (rows // 8, 1))[:, None, :, None]),
        Op("blockwise_shift_scale", data=codes, scale=np.ones((rows, columns // 32), np.float16)),
        Op("sparse_to_dense", mask=(codes > 7), nonzero_data=lut[codes[codes > 7]]),
    ]
    for op in kinds:
        start = time.process_time()
        results = decompress(op, lambda value: value)
        assert results is not None and results[-1].shape == (rows, columns)
        assert time.process_time() - start < 2.0, op.op_type
