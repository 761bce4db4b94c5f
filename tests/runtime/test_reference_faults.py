"""Finding the operator where half precision breaks a program: planted faults, and programs that have none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_programs import coremltools, save_mil  # pyright: ignore[reportMissingImports]

from edgevl.errors import InputError
from edgevl.runtime.coreml_reference import Fault, MLProgram
from edgevl.runtime.coreml_reference.diagnosis import judge, snr_db

X = np.random.default_rng(1).standard_normal((1, 8, 512)).astype(np.float32)


def fault_of(folder: Path, build: Callable[..., Any], precision: str = "fp16", x: np.ndarray = X) -> Fault | None:
    path = folder / "model.mlpackage"
    save_mil(path, build, {"x": x}, precision="fp16")
    return MLProgram.load(path, precision=precision).find_fault({"x": x})


def healthy(mb: Any, x: Any) -> Any:
    """Half a transformer block with ordinary numbers."""
    mask = np.where(np.arange(8) < 6, 0.0, -1e4).astype(np.float32)
    scores = mb.mul(x=mb.matmul(x=x, y=x, transpose_y=True), y=512**-0.5)
    attended = mb.matmul(x=mb.softmax(x=mb.add(x=scores, y=mask), axis=-1), y=x)
    return mb.gelu(x=mb.layer_norm(x=mb.add(x=attended, y=x), axes=[-1], epsilon=1e-5), mode="EXACT")


@pytest.mark.parametrize("precision", ["fp16", "strict_fp16", "fp32"])
def test_a_healthy_program_has_no_fault(tmp_path: Path, precision: str) -> None:
    assert fault_of(tmp_path, healthy, precision) is None


def test_an_overflow_is_named_with_place_and_numbers(tmp_path: Path) -> None:
    def build(mb, x):
        large = mb.mul(x=x, y=200.0, name="scaled")
        return mb.sqrt(x=mb.square(x=large, name="energy"), name="y")

    fault = fault_of(tmp_path, build)
    assert fault is not None
    assert (fault.kind, fault.op_type, fault.snr_db) == ("overflow", "square", None)
    assert fault.output.startswith("energy") and fault.location.layer.startswith("energy")
    assert (fault.location.function, fault.found) == ("main", np.inf)
    assert fault.reads == pytest.approx(200 * np.abs(X).max(), rel=1e-3)
    assert fault.expected == pytest.approx((200 * np.abs(X).max()) ** 2, rel=1e-2)
    assert 'overflow in operator "square"' in str(fault) and 'function "main", operator ' in str(fault)
    assert "scale the operands down" in fault.advice and fault.advice in str(fault)


def test_infinities_that_float32_has_too_are_no_fault() -> None:
    nothing = torch.full((2, 3), -torch.inf)
    assert judge(nothing, nothing, 20.0) is None


def test_the_location_is_that_of_the_specification(tmp_path: Path) -> None:
    fault = fault_of(tmp_path, lambda mb, x: mb.relu(x=mb.mul(x=x, y=1e5, name="large")))
    assert fault is not None
    ct = coremltools()
    spec = ct.models.MLModel(str(tmp_path / "model.mlpackage"), skip_model_load=True).get_spec()
    function = spec.mlProgram.functions["main"]
    operation = function.block_specializations[function.opset].operations[fault.location.index]
    assert (operation.type, operation.outputs[0].name) == (fault.op_type, fault.output)


def test_a_layer_norm_breaks_in_strict_half_precision_only(tmp_path: Path) -> None:
    """Squares of values around 100, added up 512 times, pass 65504; float32 sums do not care."""

    def build(mb, x):
        return mb.layer_norm(x=mb.mul(x=x, y=40.0), axes=[-1], epsilon=1e-5, name="norm")

    assert fault_of(tmp_path, build) is None
    fault = fault_of(tmp_path, build, "strict_fp16")
    assert fault is not None and fault.op_type == "layer_norm" and fault.kind == "inner overflow"
    assert "inside the operator" in fault.advice


@pytest.mark.parametrize("constant", [True, False])
def test_a_mask_of_minus_a_billion_overflows(tmp_path: Path, constant: bool) -> None:
    keep = (np.arange(512) < 300).astype(np.float32)

    def build(mb, x):
        off = (1 - keep) if constant else mb.cast(x=mb.greater(x=x, y=1.0), dtype="fp32")
        mask = (off * -1e9).astype(np.float32) if constant else mb.mul(x=off, y=-1e9)
        return mb.softmax(x=mb.add(x=x, y=mask), axis=-1)

    fault = fault_of(tmp_path, build)
    assert fault is not None and fault.kind == "overflow"
    assert fault.expected == pytest.approx(1e9) and "-1e4 for masks" in fault.advice


def test_a_deliberate_infinity_is_no_fault(tmp_path: Path) -> None:
    mask = np.where(np.arange(512) < 300, 0.0, -np.inf).astype(np.float32)
    assert fault_of(tmp_path, lambda mb, x: mb.softmax(x=mb.add(x=x, y=mask), axis=-1)) is None


def test_an_underflow_is_found_where_the_signal_vanishes(tmp_path: Path) -> None:
    def build(mb, x):
        small = mb.mul(x=mb.mul(x=x, y=1e-4, name="small"), y=1e-5, name="gone")
        return mb.mul(x=small, y=1e9)

    fault = fault_of(tmp_path, build)
    assert fault is not None and fault.kind == "underflow" and fault.output.startswith("gone")
    assert fault.found == 0.0 and 0 < fault.expected < 6e-8
    assert "scale the operands up" in fault.advice


def test_a_lost_difference_is_found_where_it_shows(tmp_path: Path) -> None:
    def build(mb, x):
        return mb.sub(x=mb.add(x=mb.mul(x=x, y=1e-2), y=1000.0), y=1000.0, name="left")

    fault = fault_of(tmp_path, build)
    assert fault is not None and fault.kind == "constant" and fault.output.startswith("left")
    assert "one part in 2048" in fault.advice


def test_noise_as_large_as_the_signal_is_found(tmp_path: Path) -> None:
    def build(mb, x):
        return mb.sub(x=mb.add(x=x, y=5000.0), y=5000.0, name="left")

    fault = fault_of(tmp_path, build)
    assert fault is not None and fault.kind == "noise" and fault.op_type == "sub"
    assert fault.snr_db is not None and fault.snr_db < 20


def test_what_is_no_number_in_float32_either_is_named_at_its_source(tmp_path: Path) -> None:
    def build(mb, x):
        zero = mb.sub(x=x, y=x)
        return mb.relu(x=mb.real_div(x=zero, y=zero, name="nothing"))

    fault = fault_of(tmp_path, build)
    assert fault is not None and fault.kind == "not a number" and fault.op_type == "real_div"


def test_noise_that_reaches_no_output_is_no_fault(tmp_path: Path) -> None:
    """The mean of x minus its mean is zero but for rounding errors, 100 % noise, and vanishes beside x."""

    def build(mb, x):
        centered = mb.sub(x=x, y=mb.reduce_mean(x=x, axes=[-1], keep_dims=True))
        return mb.add(x=x, y=mb.reduce_mean(x=centered, axes=[-1], keep_dims=True))

    assert fault_of(tmp_path, build) is None


@pytest.mark.parametrize("harmless_first", [True, False])
def test_damage_is_traced_back_to_its_origin(tmp_path: Path, harmless_first: bool) -> None:
    """A variance that underflows makes its reciprocal root infinite: the underflow is the cause, and is named, even
    behind an operator that is all noise and has no part in it."""

    def build(mb, x):
        noise = mb.reduce_mean(x=mb.sub(x=x, y=mb.reduce_mean(x=x, axes=[-1], keep_dims=True)), axes=[-1])
        tiny = mb.square(x=mb.mul(x=x, y=1e-5), name="variance")
        scaled = mb.mul(x=mb.real_div(x=1.0, y=tiny, name="inverse"), y=1e-9)
        return (noise, scaled) if harmless_first else (scaled, noise)

    fault = fault_of(tmp_path, build)
    assert fault is not None and fault.kind == "underflow" and fault.output.startswith("variance")


def test_the_threshold_is_the_callers(tmp_path: Path) -> None:
    path = tmp_path / "model.mlpackage"
    save_mil(path, healthy, {"x": X}, precision="fp16")
    program = MLProgram.load(path)
    fault = program.find_fault({"x": X}, min_snr_db=200.0)
    assert fault is not None and fault.kind == "noise"


def test_wrong_feeds_are_refused_as_predict_does(tmp_path: Path) -> None:
    save_mil(tmp_path / "m.mlpackage", healthy, {"x": X})
    with pytest.raises(InputError, match="expected x float32"):
        MLProgram.load(tmp_path / "m.mlpackage").find_fault({})


def test_judge_knows_each_kind_of_fault() -> None:
    ramp = torch.linspace(-1, 1, 50)
    assert judge(ramp, ramp, 20) is None
    assert judge(torch.zeros(50), torch.zeros(50), 20) is None
    assert judge(torch.full((50,), 3.0), torch.full((50,), 3.0), 20) is None
    infinite = torch.where(ramp > 0.5, torch.inf, ramp)
    assert judge(infinite, ramp, 20) == ("overflow", None)
    assert judge(infinite, infinite, 20) is None
    verdicts = [judge(torch.zeros(50), 1e-9 * ramp, 20), judge(torch.full((50,), 2.0), 2 + 0.1 * ramp, 20)]
    assert [verdict and verdict[0] for verdict in verdicts] == ["underflow", "constant"]
    noisy = judge(ramp + 0.2 * torch.sign(torch.sin(99 * ramp)), ramp, 20)
    assert noisy is not None and noisy[0] == "noise"
    assert snr_db(ramp * 1.1, ramp) == pytest.approx(20.0)
    assert snr_db(ramp, ramp) == np.inf
    assert snr_db(ramp, 0 * ramp) == -np.inf


def test_the_command_line_reports_a_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edgevl.runtime.coreml_reference.__main__ import main

    good, bad = tmp_path / "good.mlpackage", tmp_path / "bad.mlpackage"
    save_mil(good, healthy, {"x": X}, precision="fp16")
    save_mil(bad, lambda mb, x: mb.relu(x=mb.mul(x=x, y=1e6)), {"x": X}, precision="fp16")
    assert main([str(good), "--samples", "3"]) == 0
    printed = capsys.readouterr().out
    assert "inputs: x float32 [1, 8, 512]" in printed and "1 layer_norm" in printed and "3 samples in" in printed
    assert "no fault on random inputs" in printed
    assert main([str(bad), "--samples", "1", "--precision", "strict_fp16"]) == 4
    assert "half precision: overflow in operator" in capsys.readouterr().out
    assert main([str(tmp_path / "none.mlpackage")]) == 2
    assert "not an .mlpackage folder" in capsys.readouterr().err
