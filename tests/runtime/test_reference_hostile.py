"""Files that are broken or mean harm: malformed parameters, programs that ask for more than there is. One line each."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil_mutations import mutate  # pyright: ignore[reportMissingImports]
from mil_programs import Case, coremltools, save_mil  # pyright: ignore[reportMissingImports]
from test_reference_ops import CASES  # pyright: ignore[reportMissingImports]
from test_reference_vision import CASES as PICTURES  # pyright: ignore[reportMissingImports]

from edgevl.errors import EdgeVLError
from edgevl.runtime.coreml_reference import LimitReached, Limits, MLProgram
from edgevl.runtime.coreml_reference.compressed import decompress

SMALL = Limits(operators=10_000, memory=1 << 26, seconds=5)
MODEL = "Data/com.apple.CoreML/model.mlmodel"


def read(path: Path) -> Any:
    spec = coremltools().proto.Model_pb2.Model()
    spec.ParseFromString((path / MODEL).read_bytes())
    return spec


def operations(spec: Any) -> Any:
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations


# one of each family, from the tests of operators
FAMILIES = (
    *("conv", "conv_transpose", "max_pool", "lstm"),
    *(
        "layer_norm",
        "batch_norm",
        "gather",
        "topk",
        "one_hot",
        "concat",
        "split",
        "slice_by_size",
        "slice_update",
        "pad",
    ),
    *("tile", "reshape", "reduce_mean", "cumsum", "einsum", "gelu", "cast", "upsample_nearest_neighbor", "resample"),
    *("resize_bilinear", "crop_resize", "scatter_nd", "space_to_batch", "quantize", "range_1d", "fill", "band_part"),
    *(
        "reverse_sequence",
        "scaled_dot_product_attention",
        "reshape_like",
        "select",
        "pixel_shuffle",
        "local_response_norm",
    ),
)
IMAGE, WEIGHT = np.ones((1, 4, 6, 6), np.float32), np.ones((4, 4, 3, 3), np.float32)
OWN = {  # whose tests build their programs themselves
    "conv": lambda mb, x: mb.conv(x=x, weight=WEIGHT, strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1], groups=1),
    "conv_transpose": lambda mb, x: mb.conv_transpose(x=x, weight=WEIGHT, strides=[2, 2], pad_type="same"),
    "max_pool": lambda mb, x: mb.max_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="same", ceil_mode=False),
    "lstm": lambda mb, x: mb.lstm(
        x=mb.reshape(x=x, shape=[6, 6, 4]),
        initial_h=np.zeros((6, 4), np.float32),
        initial_c=np.zeros((6, 4), np.float32),
        weight_ih=np.ones((16, 4), np.float32),
        weight_hh=np.ones((16, 4), np.float32),
        direction="forward",
        output_sequence=True,
    ),
}


def case_of(op: str) -> Case:
    if op in OWN:
        return Case(op, {"x": IMAGE}, lambda x: x, build=OWN[op])
    return next(case for case in (*CASES, *PICTURES) if case.op == op)


@pytest.mark.parametrize("op", FAMILIES)
def test_malformed_parameters_are_one_line(tmp_path: Path, op: str) -> None:
    """Forty damaged copies of a program of one operator: each runs, or is refused in one line with the file's path."""
    case, path = case_of(op), tmp_path / "model.mlpackage"
    inputs = {f"in_{name}": value for name, value in case.inputs.items()}
    save_mil(path, lambda mb, *given: tuple(case.variables(mb, dict(zip(case.inputs, given)))), inputs, case.target)
    original = (path / MODEL).read_bytes()
    for seed in range(40):
        spec = coremltools().proto.Model_pb2.Model()
        spec.ParseFromString(original)
        done = mutate(spec, random.Random(f"{op} {seed}"))
        (path / MODEL).write_bytes(spec.SerializeToString())
        try:
            program = MLProgram.load(path, limits=SMALL)
            program.predict({spec.name: inputs[spec.name] for spec in program.inputs})
        except EdgeVLError as error:
            assert "\n" not in str(error) and str(path) in str(error), (done, error)
            assert error.exit_code in (2, 4), (done, error)


def enlarge(path: Path, op: str, parameter: str, numbers: list[int]) -> None:
    """Put other numbers into an operator's constant parameter, and let no result have a declared shape."""
    spec = read(path)
    own = operations(spec)
    constants = {operation.outputs[0].name: operation for operation in own if operation.type == "const"}
    name = next(operation.inputs[parameter].arguments[0].name for operation in own if operation.type == op)
    constants[name].attributes["val"].immediateValue.tensor.ints.values[:] = numbers
    for operation in own:
        for output in operation.outputs if operation.type != "const" else ():
            for dimension in output.type.tensorType.dimensions:
                dimension.unknown.variadic = False
    (path / MODEL).write_bytes(spec.SerializeToString())


HUGE: dict[str, tuple[str, str, list[int], Callable[..., Any]]] = {
    "tile": ("tile", "reps", [1 << 20, 1 << 20], lambda mb, x: mb.tile(x=x, reps=[2, 3])),
    "fill": ("fill", "shape", [1 << 20, 1 << 20], lambda mb, x: (mb.relu(x=x), mb.fill(shape=[1, 4], value=1.0))),
    "range": (
        "range_1d",
        "end",
        [2**31 - 1],
        lambda mb, x: mb.gather(x=x, indices=mb.range_1d(start=0, end=3, step=1), axis=1),
    ),
    "pad": ("pad", "pad", [0, 2**30, 0, 2**30], lambda mb, x: mb.pad(x=x, pad=[0, 1, 0, 1], mode="constant")),
    "one_hot": (
        "one_hot",
        "one_hot_vector_size",
        [2**31 - 1],
        lambda mb, x: mb.one_hot(indices=mb.cast(x=x, dtype="int32"), one_hot_vector_size=3),
    ),
    "resize": (
        "resize_bilinear",
        "target_size_height",
        [2**31 - 1],
        lambda mb, x: mb.resize_bilinear(x=mb.expand_dims(x=x, axes=[0]), target_size_height=3, target_size_width=4),
    ),
    "upsample": (
        "upsample_nearest_neighbor",
        "scale_factor_height",
        [2**28],
        lambda mb, x: mb.upsample_nearest_neighbor(x=mb.expand_dims(x=x, axes=[0]), scale_factor_height=2),
    ),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_result_is_refused_before_it_is_made(tmp_path: Path, name: str) -> None:
    op, parameter, numbers, build = HUGE[name]
    path, x = tmp_path / "huge.mlpackage", np.ones((3, 4), np.float32)
    save_mil(path, build, {"x": x})
    enlarge(path, op, parameter, numbers)
    start = time.process_time()
    with pytest.raises(LimitReached, match=r"needs [\d,.]+ GiB of memory for its values") as caught:
        MLProgram.load(path, limits=Limits(memory=1 << 30)).predict({"x": x})
    assert f'operator "{op}"' in str(caught.value) or '(function "main", operator ' in str(caught.value)
    assert "\n" not in str(caught.value) and "Limits(memory=...)" in str(caught.value)
    assert time.process_time() - start < 5


def chain(op: Callable[[Any, Any], Any], rounds: int) -> Callable[..., Any]:
    def build(mb: Any, x: Any) -> Any:
        for _ in range(rounds):
            x = op(mb, x)
        return x

    return build


GROWING = {
    "joined with itself": chain(lambda mb, x: mb.concat(values=[x, x], axis=0), 50),
    "stacked with itself, in two dimensions": chain(lambda mb, x: mb.concat(values=[x, x], axis=1), 50),
    "spread against itself": lambda mb, x: mb.mul(
        x=mb.reshape(x=mb.tile(x=x, reps=[1000, 100]), shape=[-1, 1]),
        y=mb.reshape(x=mb.tile(x=x, reps=[1000, 100]), shape=[1, -1]),
    ),
    "multiplied with itself": lambda mb, x: mb.matmul(
        x=mb.reshape(x=mb.tile(x=x, reps=[1000, 100]), shape=[-1, 1]),
        y=mb.reshape(x=mb.tile(x=x, reps=[1000, 100]), shape=[1, -1]),
    ),
    "gathered again and again": lambda mb, x: mb.gather(
        x=mb.tile(x=x, reps=[1000, 100]), indices=np.zeros(1 << 20, np.int32), axis=0
    ),
}


@pytest.mark.parametrize("constant", [False, True], ids=["of an input", "of constants"])
@pytest.mark.parametrize("name", GROWING)
def test_what_grows_by_itself_is_refused(tmp_path: Path, name: str, constant: bool) -> None:
    """Of constants, coremltools' own reader would compute it while it reads."""
    path, x = tmp_path / "grows.mlpackage", np.ones((3, 4), np.float32)
    save_mil(path, GROWING[name], {"x": x})
    if constant:
        spec = read(path)
        function = spec.mlProgram.functions["main"]
        _input_to_constant(function)
        (path / MODEL).write_bytes(spec.SerializeToString())
    start = time.process_time()
    with pytest.raises(LimitReached, match="of memory for its values"):
        program = MLProgram.load(path, limits=Limits(memory=1 << 30))
        program.predict({spec.name: x for spec in program.inputs})
    assert time.process_time() - start < 10


def _input_to_constant(function: Any) -> None:
    """Replace the input by a constant of the same name, and give the function another one."""
    item, own = function.inputs[0], function.block_specializations[function.opset].operations
    const = type(own[0])()
    const.type = "const"
    output = const.outputs.add()
    output.name = item.name
    output.type.CopyFrom(item.type)
    value = const.attributes["val"]
    value.type.CopyFrom(item.type)
    value.immediateValue.tensor.floats.values[:] = [1.0] * 12
    kept = [const, *own]
    del own[:]
    own.extend(kept)
    item.name = "unused"


def test_a_file_of_many_operators_is_read_in_linear_time(tmp_path: Path) -> None:
    times = []
    for count in (1000, 4000):
        path = tmp_path / f"{count}.mlpackage"
        save_mil(path, chain(lambda mb, x: mb.relu(x=x), 2), {"x": np.ones(3, np.float32)})
        spec = read(path)
        own = operations(spec)
        relu = next(index for index, operation in enumerate(own) if operation.type == "relu")
        for number in range(count):
            copied = own.add()
            copied.CopyFrom(own[relu])
            copied.outputs[0].name = f"copy_{number}"
        (path / MODEL).write_bytes(spec.SerializeToString())
        start = time.process_time()
        MLProgram.load(path)
        times.append(time.process_time() - start)
    assert times[1] < 12 * max(times[0], 0.05)
    with pytest.raises(LimitReached, match="holds more than 3,000 operators"):
        MLProgram.load(path, limits=Limits(operators=3000))


def test_a_deep_nest_of_branches_is_one_line_or_runs(tmp_path: Path) -> None:
    """Protobuf itself stops at a hundred levels; what lies below that has to be refused or run, not to crash."""

    def nest(mb: Any, x: Any, depth: int) -> Any:
        if not depth:
            return mb.add(x=x, y=1.0)
        positive = mb.greater(x=mb.reduce_sum(x=x, axes=[0], keep_dims=False), y=0.0)
        return mb.cond(pred=positive, _true_fn=lambda: nest(mb, x, depth - 1), _false_fn=lambda: mb.sub(x=x, y=1.0))

    path, x = tmp_path / "deep.mlpackage", np.ones(3, np.float32)
    save_mil(path, lambda mb, x: nest(mb, x, 20), {"x": x})
    assert next(iter(MLProgram.load(path).predict({"x": x}).values())).tolist() == [2.0] * 3


@pytest.mark.parametrize("bits", [1, 6, 8])
def test_packed_weights_that_lie_about_their_size_are_refused(bits: int) -> None:
    """NumPy would fill what is missing with zeros, up to any size."""

    class Op:
        op_type, inputs = (
            "constexpr_lut_to_dense",
            {"indices": np.zeros(12, np.uint8), "lut": np.ones(2**bits), "shape": 0},
        )

    with pytest.raises(ValueError, match="12 bytes are too few for 10995"):
        decompress(Op, lambda value: np.array([1 << 20, 1 << 20]) + 1 if isinstance(value, int) else value)
