"""What the executor does not run is refused when it is loaded, in one line that says what, where and what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil_programs import coremltools, save_mil  # pyright: ignore[reportMissingImports]

from edgevl.errors import InputError
from edgevl.runtime.coreml_quiet import quiet_coremltools
from edgevl.runtime.coreml_reference import MLProgram, UnsupportedOp

X = np.ones((2, 3), np.float32)


def refusal(path: Path) -> str:
    """Load, expect a refusal, and return its one line."""
    with pytest.raises(UnsupportedOp) as caught:
        MLProgram.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


def refused(folder: Path, build: Callable[..., Any], target: str = "iOS16") -> str:
    path = folder / "model.mlpackage"
    save_mil(path, build, {"x": X}, target=target)
    return refusal(path)


def listed(mb: Any, x: Any) -> Any:
    rows = mb.list_write(ls=mb.make_list(init_length=2, elem_shape=(2, 3)), index=0, value=x)
    return mb.list_read(ls=rows, index=0)


def noisy(mb: Any, x: Any) -> Any:
    return mb.add(x=x, y=mb.random_uniform(shape=[2, 3], low=0.0, high=1.0, seed=1, name="noise"))


def inside_a_branch(mb: Any, x: Any) -> Any:
    positive = mb.greater(x=mb.reduce_sum(x=x, axes=[0, 1], keep_dims=False), y=0.0)
    return mb.cond(pred=positive, _true_fn=lambda: noisy(mb, x), _false_fn=lambda: mb.sub(x=x, y=1.0))


def integers_times(mb: Any, x: Any, factor: np.ndarray) -> Any:
    return mb.matmul(x=mb.cast(x=x, dtype="int32"), y=factor, name="product")


def last_of_a_row(mb: Any, x: Any, i: Any) -> Any:
    return mb.gather(x=x, indices=i, axis=1, name="y")


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (listed, ['operator "make_list"', "tensor of fixed size", "(2 more operators are not supported either)"]),
        (noisy, ['operator "random_uniform" with output "noise"', "make them an input of the model"]),
        (inside_a_branch, ['operator "random_uniform"', 'function "main", operator ', ", block 0, operator "]),
    ],
    ids=["list", "random", "random, inside a branch"],
)
def test_an_operator_is_refused_with_place_and_advice(tmp_path: Path, build: Callable, expected: list[str]) -> None:
    message = refused(tmp_path, build)
    assert [part for part in expected if part not in message] == []


def test_an_operator_of_the_future_is_located(tmp_path: Path) -> None:
    """An operator that not even coremltools knows: its name in the file is changed to one."""
    path = tmp_path / "future.mlpackage"
    save_mil(path, lambda mb, x: mb.relu(x=mb.add(x=x, y=1.0, name="sum"), name="y"), {"x": X})
    ct = coremltools()
    file = path / "Data/com.apple.CoreML/model.mlmodel"
    spec = ct.proto.Model_pb2.Model()
    spec.ParseFromString(file.read_bytes())
    function = spec.mlProgram.functions["main"]
    operations = function.block_specializations[function.opset].operations
    place = next(index for index, operation in enumerate(operations) if operation.type == "relu")
    operations[place].type = "relu_of_2031"
    file.write_bytes(spec.SerializeToString())
    message = refusal(path)
    assert f'operator "relu_of_2031" with output "y" (function "main", operator {place}, layer "y")' in message
    assert "docs/coreml-reference.md" in message


def test_an_unknown_use_of_a_known_operator_is_located(tmp_path: Path) -> None:
    halves = np.full((3, 2), 0.5, np.float32)
    message = refused(tmp_path, lambda mb, x: integers_times(mb, x, halves), target="iOS17")
    assert 'operator "matmul" with output "product": integers times fractions have no agreed rounding' in message
    assert '(function "main", operator ' in message


def test_a_tensor_of_any_rank_is_refused(tmp_path: Path) -> None:
    """`fill` by a shape of unknown length: coremltools writes such a program and does not read it."""
    message = refused(tmp_path, lambda mb, x: mb.fill(shape=mb.reshape(x=mb.non_zero(x=x), shape=[-1]), name="y"))
    assert "cannot read this program back" in message and "damaged" not in message


def test_a_box_outside_a_picture_is_refused_before_ios16(tmp_path: Path) -> None:
    """Apple's own test has such a box and expects what no rule of the MIL reference gives: the whole picture."""
    path, boxes = tmp_path / "model.mlpackage", np.array([2, 2, 1, 1], np.float32).reshape(1, 1, 4, 1, 1)
    pictures = {"x": np.ones((1, 1, 4, 4), np.float32), "roi": boxes}
    crop = {"target_height": 2, "target_width": 2, "normalized_coordinates": True}
    save_mil(path, lambda mb, x, roi: mb.crop_resize(x=x, roi=roi, name="y", **crop), pictures, target="iOS15")
    program = MLProgram.load(path)
    with pytest.raises(UnsupportedOp, match=r'"crop_resize" with output "y": a box outside 0\.\.1'):
        program.predict(pictures)
    assert program.predict(pictures | {"roi": boxes / 2})["y"].all()


def test_integers_times_whole_floats_run(tmp_path: Path) -> None:
    path, twos = tmp_path / "m.mlpackage", np.full((3, 2), 2.0, np.float32)
    save_mil(path, lambda mb, x: integers_times(mb, x, twos), {"x": X}, target="iOS17")
    np.testing.assert_array_equal(MLProgram.load(path).predict({"x": X})["product"], np.full((2, 2), 6, np.int32))


def test_a_negative_index_is_refused_from_ios17_on(tmp_path: Path) -> None:
    """It is out of bounds there, says the MIL reference; Apple's tests expect an error, or another result than ours."""
    path, feeds = tmp_path / "m.mlpackage", {"x": X, "i": np.array([-1], np.int32)}
    save_mil(path, last_of_a_row, feeds, target="iOS16")
    assert MLProgram.load(path).predict(feeds)["y"].shape == (2, 1)
    save_mil(path, last_of_a_row, feeds, target="iOS17")
    with pytest.raises(InputError, match=r'"gather" with output "y" .*index -1 of 3: from iOS17 on'):
        MLProgram.load(path).predict(feeds)


def test_an_index_beyond_its_side_is_not_another_rows_place(tmp_path: Path) -> None:
    path, feeds = tmp_path / "m.mlpackage", {"x": X, "i": np.array([[1, 0], [0, 3]], np.int32)}
    updates = np.array([5, 10], np.float32)
    save_mil(path, lambda mb, x, i: mb.scatter_nd(data=x, indices=i, updates=updates), feeds, target="iOS17")
    with pytest.raises(InputError, match="index 3 is out of bounds: there are 3"):
        MLProgram.load(path).predict(feeds)


def test_only_the_chosen_function_has_to_be_supported(tmp_path: Path) -> None:
    ct = coremltools()
    save_mil(tmp_path / "good.mlpackage", lambda mb, x: mb.add(x=x, y=1.0, name="y"), {"x": X}, target="iOS18")
    save_mil(tmp_path / "bad.mlpackage", noisy, {"x": X}, target="iOS18")
    description = ct.utils.MultiFunctionDescriptor()
    description.add_function(str(tmp_path / "good.mlpackage"), "main", "good")
    description.add_function(str(tmp_path / "bad.mlpackage"), "main", "bad")
    description.default_function_name = "good"
    path = tmp_path / "both.mlpackage"
    with quiet_coremltools():
        ct.utils.save_multifunction(description, str(path))
    program = MLProgram.load(path, function="good")
    np.testing.assert_array_equal(program.predict({"x": X})["y"], X + 1)
    assert program.find_fault({"x": X}) is None
    with pytest.raises(UnsupportedOp, match='function "bad", operator '):
        MLProgram.load(path, function="bad")
    np.testing.assert_array_equal(MLProgram.load(path).predict({"x": X})["y"], X + 1)  # the package's own default
    with pytest.raises(InputError, match="Known: bad, good"):
        MLProgram.load(path, function="main")
