"""What the executor does not run is refused when it is loaded, in one line that says what, where and what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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


def test_a_state_is_named(tmp_path: Path) -> None:
    class Sum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", torch.zeros(2, 3, dtype=torch.float16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.total.add_(x)  # pyright: ignore
            return self.total * 2  # pyright: ignore

    ct = coremltools()
    traced = torch.jit.trace(Sum().eval(), torch.ones(2, 3, dtype=torch.float16), check_trace=False)
    state = ct.StateType(wrapped_type=ct.TensorType(shape=(2, 3), dtype=np.float16), name="total")
    with quiet_coremltools():
        ct.convert(
            traced,
            inputs=[ct.TensorType(name="x", shape=(2, 3), dtype=np.float16)],
            outputs=[ct.TensorType(name="y", dtype=np.float16)],
            states=[state],
            minimum_deployment_target=ct.target.iOS18,
            skip_model_load=True,
        ).save(str(tmp_path / "state.mlpackage"))
    message = refusal(tmp_path / "state.mlpackage")
    assert 'keeps a state, "total", between two calls' in message
    assert "make it an input and an output of the model" in message


@pytest.mark.parametrize("flexible", ["range", "enumerated"])
def test_an_input_of_flexible_shape_is_named(tmp_path: Path, flexible: str) -> None:
    ct = coremltools()
    shape = ct.Shape((ct.RangeDim(1, 8, default=2), 3))
    if flexible == "enumerated":
        shape = ct.EnumeratedShapes([(2, 3), (4, 3)], default=(2, 3))
    with quiet_coremltools():
        ct.convert(
            torch.jit.trace(torch.nn.Linear(3, 4).eval(), torch.zeros(2, 3)),
            inputs=[ct.TensorType(name="rows", shape=shape)],
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        ).save(str(tmp_path / "flexible.mlpackage"))
    message = refusal(tmp_path / "flexible.mlpackage")
    assert 'input "rows" has a flexible shape, [?, 3]' in message and "one fixed shape for each input" in message


def branch(mb: Any, x: Any) -> Any:
    positive = mb.greater(x=mb.reduce_sum(x=x, axes=[0, 1], keep_dims=False), y=0.0)
    return mb.cond(
        pred=positive, _true_fn=lambda: mb.add(x=x, y=1.0), _false_fn=lambda: mb.sub(x=x, y=1.0), name="branch"
    )


def loop(mb: Any, x: Any) -> Any:
    _, y = mb.while_loop(
        _cond=lambda i, y: mb.less(x=i, y=3),
        _body=lambda i, y: (mb.add(x=i, y=1), mb.mul(x=y, y=2.0)),
        loop_vars=(0, x),
        name="loop",
    )
    return y


def listed(mb: Any, x: Any) -> Any:
    rows = mb.list_write(ls=mb.make_list(init_length=2, elem_shape=(2, 3)), index=0, value=x)
    return mb.list_read(ls=rows, index=0)


def noisy(mb: Any, x: Any) -> Any:
    return mb.add(x=x, y=mb.random_uniform(shape=[2, 3], low=0.0, high=1.0, seed=1, name="noise"))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (branch, ['operator "cond" with output "branch" (function "main", operator ', "torch.where"]),
        (loop, ['operator "while_loop" with output "loop_0"', "unroll the loop"]),
        (listed, ['operator "make_list"', "tensor of fixed size", "(2 more operators are not supported either)"]),
        (noisy, ['operator "random_uniform" with output "noise"', "make them an input of the model"]),
        (lambda mb, x: mb.non_zero(x=x, name="places"), ['operator "non_zero" with output "places"', "fixed shape"]),
    ],
    ids=["cond", "while_loop", "list", "random", "non_zero"],
)
def test_an_operator_is_refused_with_place_and_advice(tmp_path: Path, build: Callable, expected: list[str]) -> None:
    message = refused(tmp_path, build)
    assert [part for part in expected if part not in message] == []


def test_a_classifier_is_refused_with_advice(tmp_path: Path) -> None:
    ct = coremltools()
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Softmax(-1)).eval()
    with quiet_coremltools():
        ct.convert(
            torch.jit.trace(model, torch.zeros(1, 3)),
            inputs=[ct.TensorType(name="x", shape=(1, 3))],
            classifier_config=ct.ClassifierConfig(["cat", "dog"]),
            minimum_deployment_target=ct.target.iOS16,
            skip_model_load=True,
        ).save(str(tmp_path / "classifier.mlpackage"))
    assert "convert without classifier_config" in refusal(tmp_path / "classifier.mlpackage")


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
    message = refused(
        tmp_path,
        lambda mb, x: mb.local_response_norm(x=mb.expand_dims(x=x, axes=[0]), size=2, name="norm"),
    )
    assert 'operator "local_response_norm" with output "norm": an even size (2)' in message
    assert '(function "main", operator ' in message


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
    with pytest.raises(InputError, match="Known: bad, good"):
        MLProgram.load(path)
