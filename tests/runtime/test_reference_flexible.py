"""Inputs of flexible shape, bound when a program is loaded or at each prediction; kernels that are built when they run.

One part opens every side of programs of single operators: what is computed then must be what fixed sides give.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import Case, coremltools, save_mil  # pyright: ignore[reportMissingImports]
from test_reference_ops import CASES  # pyright: ignore[reportMissingImports]
from test_reference_vision import CASES as PICTURES  # pyright: ignore[reportMissingImports]

from edgevl.errors import InputError
from edgevl.runtime import open_session
from edgevl.runtime.coreml_quiet import quiet_coremltools
from edgevl.runtime.coreml_reference import LimitReached, Limits, MLProgram

RNG = np.random.default_rng(43)


class Network(torch.nn.Module):
    """Convolutions, normalization, nearest and linear upsampling, pooling, a linear layer: any height and width."""

    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Upsample(scale_factor=2)),
            *(nn.ConvTranspose2d(8, 6, 3, 2), nn.GroupNorm(2, 6), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)),
            *(nn.Upsample(scale_factor=2, mode="bilinear"), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layers(image)


@pytest.fixture(scope="module")
def module() -> Network:
    torch.manual_seed(3)
    return Network().eval()


def save(path: Path, module: torch.nn.Module, kind: Any, precision: str = "fp32") -> Path:
    ct = coremltools()
    with quiet_coremltools(), torch.no_grad():
        ct.convert(
            torch.jit.trace(module, torch.rand(1, 3, 16, 16)),
            inputs=[kind],
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
            skip_model_load=True,
        ).save(str(path))
    return path


@pytest.fixture(scope="module")
def ranged(module: Network, tmp_path_factory) -> Path:
    ct = coremltools()
    side = ct.RangeDim(8, 64, 16)
    return save(tmp_path_factory.mktemp("f") / "r.mlpackage", module, ct.TensorType(name="x", shape=(1, 3, side, side)))


SIZES = [(16, 16), (8, 64), (21, 33), (64, 9)]


@pytest.mark.parametrize("bound", [True, False], ids=["bound when loaded", "at predict"])
def test_a_range_takes_every_size(ranged: Path, module: Network, bound: bool) -> None:
    program = MLProgram.load(ranged)
    assert str(program.inputs[0]) == "x float32 [1, 3, 8..64, 8..64]"
    for height, width in SIZES:
        x = torch.rand(1, 3, height, width)
        if bound:
            program = MLProgram.load(ranged, shapes={"x": (1, 3, height, width)})
            assert str(program.inputs[0]) == f"x float32 [1, 3, {height}, {width}]"
        (got,) = program.predict({"x": x}).values()
        np.testing.assert_allclose(got, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)
        assert program.find_fault({"x": x}) is None


def test_bound_and_free_give_the_same_bits(ranged: Path) -> None:
    free = MLProgram.load(ranged)
    for height, width in SIZES:
        x = RNG.standard_normal((1, 3, height, width)).astype(np.float32)
        bound = MLProgram.load(ranged, shapes={"x": x.shape})
        for a, b in zip(free.predict({"x": x}).values(), bound.predict({"x": x}).values()):
            np.testing.assert_array_equal(a, b)


def test_sizes_outside_the_range_are_refused(ranged: Path) -> None:
    program = MLProgram.load(ranged)
    for shape in ((1, 3, 7, 16), (1, 3, 16, 65), (2, 3, 16, 16), (3, 16, 16)):
        with pytest.raises(InputError, match=r"has shape .*expected x float32 \[1, 3, 8\.\.64, 8\.\.64\]"):
            program.predict({"x": np.zeros(shape, np.float32)})
        with pytest.raises(InputError, match=r'input "x" cannot have the shape .*8\.\.64'):
            MLProgram.load(ranged, shapes={"x": shape})
    with pytest.raises(InputError, match='unknown input "y"'):
        MLProgram.load(ranged, shapes={"y": (1, 3, 16, 16)})
    bound = MLProgram.load(ranged, shapes={"x": (1, 3, 8, 8)})
    with pytest.raises(InputError, match=r"expected x float32 \[1, 3, 8, 8\]"):
        bound.predict({"x": np.zeros((1, 3, 16, 16), np.float32)})


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_enumerated_shapes_are_all_there_is(tmp_path: Path, module: Network, precision: str) -> None:
    ct, shapes = coremltools(), [(1, 3, 16, 16), (1, 3, 32, 24), (1, 3, 8, 40)]
    kind = ct.TensorType(name="x", shape=ct.EnumeratedShapes(shapes, default=shapes[1]), dtype=np.float32)
    program = MLProgram.load(save(tmp_path / "e.mlpackage", module, kind, precision))
    assert program.inputs[0].shape == (1, 3, 32, 24)
    assert all(str(list(shape)) in str(program.inputs[0]) for shape in shapes)
    for shape in shapes:
        x = torch.rand(shape)
        (got,) = program.predict({"x": x}).values()
        tolerance = 1e-5 if precision == "fp32" else 5e-3
        np.testing.assert_allclose(got, module(x).detach().numpy(), rtol=tolerance, atol=tolerance)
    with pytest.raises(InputError, match=r"has shape \[1, 3, 16, 24\]"):
        program.predict({"x": torch.rand(1, 3, 16, 24)})


@pytest.mark.parametrize("enumerated", [True, False])
def test_images_of_flexible_size(tmp_path: Path, module: Network, enumerated: bool) -> None:
    ct, side = coremltools(), None
    side = ct.RangeDim(8, 64, 16)
    shape = ct.EnumeratedShapes([(1, 3, 16, 16), (1, 3, 8, 40)]) if enumerated else ct.Shape((1, 3, side, side))
    program = MLProgram.load(save(tmp_path / "i.mlpackage", module, ct.ImageType(name="image", shape=shape)))
    assert program.inputs[0].shape == (1, 16, 16, 3)
    for size in ((16, 16), (8, 40)):
        pixels = RNG.integers(0, 256, (1, *size, 3), dtype=np.uint8)
        (got,) = program.predict({"image": pixels}).values()
        expected = module(torch.tensor(pixels).permute(0, 3, 1, 2).float()).detach().numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match=r"has shape \[1, 8, 65, 3\]"):
        program.predict({"image": np.zeros((1, 8, 65, 3), np.uint8)})


def test_a_session_has_the_default_shape(ranged: Path, module: Network) -> None:
    session, x = open_session(ranged, "coreml"), torch.rand(1, 3, 16, 16)
    assert str(session.inputs[0]) == "x float32 [1, 3, 16, 16]" and session.outputs[0].shape == (1, 5)
    (got,) = session.run({"x": x.numpy()}).values()
    np.testing.assert_allclose(got, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def open_sides(path: Path) -> None:
    """Rewrite a saved program so that no side of any tensor is fixed; every input may be up to twice as long."""
    ct, file = coremltools(), path / "Data/com.apple.CoreML/model.mlmodel"
    spec = ct.proto.Model_pb2.Model()
    spec.ParseFromString(file.read_bytes())
    function = spec.mlProgram.functions["main"]
    operations = function.block_specializations[function.opset].operations
    computed = [op for op in operations if op.type != "const" and not op.type.startswith("constexpr_")]
    for item in (*function.inputs, *(output for op in computed for output in op.outputs)):
        for dimension in item.type.tensorType.dimensions:
            dimension.unknown.variadic = False
    for feature in spec.description.input:
        for side in feature.type.multiArrayType.shape:
            feature.type.multiArrayType.shapeRange.sizeRanges.add(lowerBound=1, upperBound=2 * side)
    file.write_bytes(spec.SerializeToString())


# coremltools' own type inference refuses these where the channels, or the depth of indices, are open as well
REFUSED = {
    *("prelu", "softplus_parametric", "einsum", "reshape_like", "gather_nd", "scatter_along_axis", "quantize"),
    *("crop_resize", "scatter_nd"),
}
OPEN = [case for case in (*CASES, *PICTURES) if case.op not in REFUSED and case.params.get("axes") != [0, 2, 3]]


@pytest.mark.parametrize(("stored", "precision"), [("fp32", "fp32"), ("fp16", "fp16"), ("fp16", "strict_fp16")])
@pytest.mark.parametrize("target", ["iOS16", "iOS17", "iOS18"])
def test_open_sides_give_what_fixed_sides_give(tmp_path: Path, target: str, stored: str, precision: str) -> None:
    """Every operator, bit for bit: their kernels are then built at run time."""
    own: list[Case] = [case for case in OPEN if case.target == target]
    inputs = {f"c{index}_{name}": value for index, case in enumerate(own) for name, value in case.inputs.items()}

    def build(mb: Any, *variables: Any) -> tuple[Any, ...]:
        named, outputs = dict(zip(inputs, variables)), []
        for index, case in enumerate(own):
            outputs += case.variables(mb, {name: named[f"c{index}_{name}"] for name in case.inputs})
        return tuple(outputs)

    path = tmp_path / "all.mlpackage"
    save_mil(path, build, inputs, target, precision=stored)
    expected = MLProgram.load(path, precision).predict(inputs)
    open_sides(path)
    got = MLProgram.load(path, precision).predict(inputs)
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def computed(mb: Any, x: Any, numbers: Any) -> tuple[Any, ...]:
    """Parameters that a run computes: from an input, by arithmetic."""
    half = mb.floor_div(x=numbers, y=np.array([2, 2], np.int32))
    return (
        mb.tile(x=x, reps=half, name="tiled"),
        mb.fill(shape=numbers, value=2.5, name="filled"),
        mb.slice_by_index(x=x, begin=half, end=mb.add(x=half, y=np.array([3, 4], np.int32)), name="sliced"),
        mb.slice_by_size(x=x, begin=half, size=[2, -1], name="sized"),
        mb.slice_by_index(
            x=x, begin=half, end=[0, 0], end_mask=[True, True], squeeze_mask=[True, False], stride=[1, 2], name="row"
        ),
        mb.reshape(x=x, shape=mb.concat(values=[half, np.array([-1], np.int32)], axis=0), name="shaped"),
        mb.slice_update(
            x=x, update=np.full((1, 2), 7.0, np.float32), begin=half, end=mb.add(x=half, y=[1, 2]), name="updated"
        ),
    )


@pytest.mark.parametrize("numbers", [(2, 2), (4, 2), (2, 4), (5, 9)])
def test_parameters_may_be_computed(tmp_path: Path, numbers: tuple[int, int]) -> None:
    x = RNG.standard_normal((6, 8)).astype(np.float32)
    feeds = {"x": x, "numbers": np.array(numbers, np.int32)}
    a, b = numbers[0] // 2, numbers[1] // 2
    path = tmp_path / "computed.mlpackage"
    save_mil(path, computed, feeds, target="iOS18")
    program = MLProgram.load(path)
    for _ in range(2):
        got = program.predict(feeds)
    updated = x.copy()
    updated[a : a + 1, b : b + 2] = 7.0
    expected = {
        "sliced": x[a : a + 3, b : b + 4],
        "row": x[a, b::2],
        "sized": x[a : a + 2, b:],
        "tiled": np.tile(x, (a, b)),
        "shaped": x.reshape(a, b, -1),
        "filled": np.full(numbers, 2.5),
        "updated": updated,
    }
    assert set(got) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def test_a_shape_may_depend_on_values(tmp_path: Path) -> None:
    def build(mb: Any, x: Any) -> Any:
        places = mb.non_zero(x=x)
        return mb.gather_nd(x=x, indices=places, name="kept"), places

    path, rng = tmp_path / "non_zero.mlpackage", np.random.default_rng(2)
    save_mil(path, build, {"x": np.ones((3, 4), np.float32)})
    program = MLProgram.load(path)
    assert program.outputs[0].shape == (-1,) and str(program.outputs[0]) == "kept float32 [?]"
    for _ in range(4):
        x = (rng.standard_normal((3, 4)) * rng.integers(0, 2, (3, 4))).astype(np.float32)
        kept, places = program.predict({"x": x}).values()
        np.testing.assert_array_equal(kept, x[x != 0])
        np.testing.assert_array_equal(places, np.argwhere(x))


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((-20, 2), "failed"),  # slice_by_size begins before the first row
        ((14, 2), '"slice_by_size" with output "sized"'),
        ((4, 22), "failed"),
        ((1 << 20, 1 << 20), "of memory for its values"),
        ((-(1 << 20), 1 << 20), "failed"),
    ],
)
def test_parameters_that_make_no_sense_are_one_line(tmp_path: Path, numbers: tuple[int, int], words: str) -> None:
    feeds = {"x": np.ones((6, 8), np.float32), "numbers": np.array(numbers, np.int32)}
    path = tmp_path / "computed.mlpackage"
    save_mil(path, computed, feeds, target="iOS18")
    with pytest.raises((InputError, LimitReached), match=words) as caught:
        MLProgram.load(path, limits=Limits(memory=1 << 30)).predict(feeds)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
