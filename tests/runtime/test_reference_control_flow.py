"""Branches and loops: PyTorch's that coremltools converts, and programs built by hand for what torch cannot make."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import coremltools, save_mil  # pyright: ignore[reportMissingImports]

from edgevl.errors import InputError
from edgevl.runtime.coreml_quiet import quiet_coremltools
from edgevl.runtime.coreml_reference import LimitReached, Limits, MLProgram

RNG = np.random.default_rng(31)
PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "fp16"])


def converted(path: Path, module: torch.nn.Module, shape: tuple, precision: str, scripted: bool = False) -> MLProgram:
    """Convert a module of one input, save, load."""
    ct = coremltools()
    sizes = tuple(side if isinstance(side, int) else side.default for side in shape)
    with quiet_coremltools(), torch.no_grad():
        traced = torch.jit.script(module.eval()) if scripted else torch.jit.trace(module.eval(), torch.randn(sizes))
        ct.convert(
            traced,
            inputs=[ct.TensorType(name="x", shape=shape, dtype=np.float32)],
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
            skip_model_load=True,
        ).save(str(path))
    return MLProgram.load(path)


class Gru(torch.nn.Module):
    """The converter writes torch's GRU as a loop: Core ML's own resets before the product, torch after it."""

    def __init__(self, layers: int, both: bool):
        super().__init__()
        self.gru = torch.nn.GRU(3, 4, layers, bidirectional=both)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gru(x)[0]


@PRECISIONS
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, True)])
def test_a_gru_is_torchs(tmp_path: Path, precision: str, layers: int, both: bool) -> None:
    torch.manual_seed(layers)
    module = Gru(layers, both)
    program = converted(tmp_path / "gru.mlpackage", module, (5, 2, 3), precision)
    assert program.op_types["while_loop"] == layers * (1 + both)
    for seed in range(3):
        x = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(seed))
        (got,) = program.predict({"x": x}).values()
        tolerance = 1e-5 if precision == "fp32" else 5e-3
        np.testing.assert_allclose(got, module(x).detach().numpy(), rtol=tolerance, atol=tolerance)
    assert program.find_fault({"x": x}) is None


def test_a_gru_of_any_length_is_torchs(tmp_path: Path) -> None:
    """The number of steps is the input's: the loop's state grows with it."""
    torch.manual_seed(5)
    module, ct = Gru(1, True), coremltools()
    program = converted(tmp_path / "gru.mlpackage", module, (ct.RangeDim(1, 20, 5), 2, 3), "fp32")
    for steps in (1, 2, 7, 20):
        x = torch.randn(steps, 2, 3)
        (got,) = program.predict({"x": x}).values()
        np.testing.assert_allclose(got, module(x).detach().numpy(), rtol=1e-5, atol=1e-5)


class Grows(torch.nn.Module):
    """A loop that ends when its values are large enough, with a limit inside a branch inside the loop."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = 0
        while bool(x.sum() < 100.0) and steps < 50:
            x = x * 1.5 + 1.0
            steps += 1
        return x


class Branches(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 0):
            y = x + 1
        else:
            y = torch.relu(x) * -2.0
        return y


@PRECISIONS
@pytest.mark.parametrize("module", [Grows(), Branches()], ids=["while", "if"])
def test_scripted_control_flow_is_torchs(tmp_path: Path, precision: str, module: torch.nn.Module) -> None:
    program = converted(tmp_path / "flow.mlpackage", module, (3, 4), precision, scripted=True)
    for offset in (-1.5, -0.5, 0.5, 40.0):
        x = torch.full((3, 4), offset)
        (got,) = program.predict({"x": x}).values()
        np.testing.assert_allclose(got, module(x).numpy(), rtol=1e-6 if precision == "fp32" else 4e-3)


def run(path: Path, build: Callable[..., Any], target: str = "iOS16", **inputs: np.ndarray) -> list[np.ndarray]:
    save_mil(path, build, inputs, target)
    return list(MLProgram.load(path).predict(inputs).values())


def fibonacci(mb: Any, x: Any, steps: Any) -> Any:
    """Both variables change places in each round."""
    zero = mb.sub(x=x, y=x)
    return mb.while_loop(
        _cond=lambda i, a, b: mb.less(x=i, y=steps),
        _body=lambda i, a, b: (mb.add(x=i, y=1), b, mb.add(x=a, y=b)),
        loop_vars=(np.int32(0), zero, x),
    )[1]


@pytest.mark.parametrize("steps", [0, 1, 2, 10])
def test_a_loop_may_swap_its_variables(tmp_path: Path, steps: int) -> None:
    x = np.array([1.0, 3.0], np.float32)
    (got,) = run(tmp_path / "f.mlpackage", fibonacci, x=x, steps=np.array([steps], np.int32))
    a, b = 0 * x, x
    for _ in range(steps):
        a, b = b, a + b
    np.testing.assert_array_equal(got, a)


def triangle(mb: Any, x: Any, rows: Any) -> Any:
    """A loop inside a loop: the sum over i < rows of the sum over j <= i of x, with what lies outside read inside."""

    def inner(i: Any, total: Any) -> Any:
        return mb.while_loop(
            _cond=lambda j, t: mb.less_equal(x=j, y=i),
            _body=lambda j, t: (mb.add(x=j, y=1), mb.add(x=t, y=x)),
            loop_vars=(mb.sub(x=i, y=i), total),
        )[1]

    zero = mb.sub(x=x, y=x)
    return mb.while_loop(
        _cond=lambda i, t: mb.less(x=i, y=rows),
        _body=lambda i, t: (mb.add(x=i, y=1), inner(i, t)),
        loop_vars=(mb.sub(x=rows, y=rows), zero),
    )[1]


def test_loops_nest(tmp_path: Path) -> None:
    x = np.array([0.5, 2.0], np.float32)
    (got,) = run(tmp_path / "t.mlpackage", triangle, x=x, rows=np.array([5], np.int32))
    np.testing.assert_array_equal(got, 15 * x)


def growing(mb: Any, x: Any, steps: Any) -> Any:
    """The variable doubles its length in each round, so that the shapes of the body change."""
    return mb.while_loop(
        _cond=lambda i, y: mb.less(x=i, y=steps),
        _body=lambda i, y: (mb.add(x=i, y=1), mb.concat(values=[y, mb.mul(x=y, y=-1.0)], axis=0)),
        loop_vars=(np.int32(0), x),
    )[1]


def test_a_variable_may_change_its_shape(tmp_path: Path) -> None:
    x = np.array([1.0, 2.0], np.float32)
    (got,) = run(tmp_path / "g.mlpackage", growing, x=x, steps=np.array([3], np.int32))
    expected = x
    for _ in range(3):
        expected = np.concatenate([expected, -expected])
    np.testing.assert_array_equal(got, expected)


def collatz(mb: Any, n: Any) -> Any:
    """A branch inside a loop."""
    half = mb.const(val=np.array([2], np.int32))

    def step(i: Any, n: Any) -> Any:
        even = mb.squeeze(x=mb.equal(x=mb.mod(x=n, y=half), y=0))
        return mb.add(x=i, y=1), mb.cond(
            pred=even,
            _true_fn=lambda: mb.floor_div(x=n, y=half),
            _false_fn=lambda: mb.add(x=mb.mul(x=n, y=3), y=1),
        )

    return mb.while_loop(
        _cond=lambda i, n: mb.squeeze(x=mb.not_equal(x=n, y=1)), _body=step, loop_vars=(np.int32(0), n)
    )[0]


@pytest.mark.parametrize("start", [1, 6, 27])
def test_a_branch_inside_a_loop(tmp_path: Path, start: int) -> None:
    (got,) = run(tmp_path / "c.mlpackage", collatz, n=np.array([start], np.int32))
    steps, n = 0, start
    while n != 1:
        steps, n = steps + 1, (n // 2 if n % 2 == 0 else 3 * n + 1)
    assert int(got.item()) == steps


def endless(mb: Any, x: Any) -> Any:
    return mb.while_loop(
        _cond=lambda y: mb.less(x=mb.reduce_sum(x=mb.mul(x=y, y=0.0), axes=[0], keep_dims=False), y=1.0),
        _body=lambda y: mb.add(x=y, y=1.0),
        loop_vars=(x,),
        name="forever",
    )


def test_an_endless_loop_ends_with_one_line(tmp_path: Path) -> None:
    path, x = tmp_path / "endless.mlpackage", np.ones(3, np.float32)
    save_mil(path, endless, {"x": x})
    for limits, word in ((Limits(operators=5_000), "5,000 operators"), (Limits(seconds=0.05), "0.05 s")):
        with pytest.raises(LimitReached, match=word) as caught:
            MLProgram.load(path, limits=limits).predict({"x": x})
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and "\n" not in message and "Limits(" in message
        assert caught.value.exit_code == 4


def test_a_loop_that_grows_without_end_stops_at_the_memory_limit(tmp_path: Path) -> None:
    path, x = tmp_path / "grows.mlpackage", np.ones(1 << 10, np.float32)
    feeds = {"x": x, "steps": np.array([60], np.int32)}
    save_mil(path, growing, feeds)
    with pytest.raises(LimitReached, match="of memory for its values") as caught:
        MLProgram.load(path, limits=Limits(memory=1 << 26)).predict(feeds)
    assert 'operator "' in str(caught.value) or "block 1" in str(caught.value)


def test_a_loop_may_run_long_in_constant_memory(tmp_path: Path) -> None:
    """What a round leaves behind is forgotten: 3 000 rounds on 64 KiB need a few of them, not 3 000."""
    path, x = tmp_path / "long.mlpackage", np.ones(1 << 14, np.float32)
    feeds = {"x": x, "steps": np.array([3000], np.int32)}

    def build(mb: Any, x: Any, steps: Any) -> Any:
        return mb.while_loop(
            _cond=lambda i, y: mb.less(x=i, y=steps),
            _body=lambda i, y: (mb.add(x=i, y=1), mb.sub(x=mb.mul(x=y, y=2.0), y=y)),
            loop_vars=(np.int32(0), x),
        )[1]

    save_mil(path, build, feeds)
    program = MLProgram.load(path, limits=Limits(memory=1 << 19))
    np.testing.assert_array_equal(next(iter(program.predict(feeds).values())), x)


def test_a_condition_of_several_values_is_one_line(tmp_path: Path) -> None:
    """`cond` of a vector: coremltools reads it, and no branch is the right one."""
    path = tmp_path / "vector.mlpackage"
    x = np.ones(3, np.float32)

    def build(mb: Any, x: Any) -> Any:
        pred = mb.greater(x=x, y=0.0)
        return mb.cond(pred=pred, _true_fn=lambda: mb.add(x=x, y=1.0), _false_fn=lambda: mb.sub(x=x, y=1.0))

    save_mil(path, build, {"x": x})
    with pytest.raises(InputError, match="is not a single value"):
        MLProgram.load(path).predict({"x": x})


def overflowing(mb: Any, x: Any) -> Any:
    """Passes 65504 in the fourth round."""
    return mb.while_loop(
        _cond=lambda i, y: mb.less(x=i, y=6),
        _body=lambda i, y: (mb.add(x=i, y=1), mb.mul(x=y, y=20.0, name="grown")),
        loop_vars=(np.int32(0), x),
    )[1]


def test_a_fault_inside_a_loop_is_located(tmp_path: Path) -> None:
    path, x = tmp_path / "loop.mlpackage", np.ones((1, 4), np.float32)
    save_mil(path, overflowing, {"x": x}, precision="fp16")
    fault = MLProgram.load(path).find_fault({"x": x})
    assert fault is not None and (fault.kind, fault.op_type) == ("overflow", "mul")
    assert fault.location.inside[0] == 1 and ", block 1, operator " in str(fault)  # block 0 is the condition
    assert (fault.reads, fault.expected) == (8000.0, 160000.0)


def test_a_condition_that_rounding_turns_is_named(tmp_path: Path) -> None:
    """2049 becomes 2048 in half precision, which is not above 2048.5: the other branch is taken, and it shows."""

    def build(mb: Any, x: Any) -> Any:
        large = mb.squeeze(x=mb.greater(x=mb.add(x=x, y=2048.0), y=2048.5))
        return mb.cond(
            pred=large, _true_fn=lambda: mb.add(x=x, y=5.0), _false_fn=lambda: mb.sub(x=x, y=5.0), name="turned"
        )

    path, x = tmp_path / "turned.mlpackage", np.array([1.0], np.float32)
    save_mil(path, build, {"x": x}, precision="fp16")
    program = MLProgram.load(path)
    fault = program.find_fault({"x": x})
    assert fault is not None and (fault.kind, fault.op_type, fault.found, fault.expected) == (
        "other path",
        "cond",
        0,
        1,
    )
    assert "compare with a margin" in fault.advice
    assert program.overflows({"x": x}) == []
    assert program.find_fault({"x": np.array([5.0], np.float32)}) is None
