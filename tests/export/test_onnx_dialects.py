"""The dialects of ONNX, and how a range becomes a grid: scales and zero points against arithmetic by hand."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from int8_plans import CONFIG, export, float_logits, logits_of, psnr  # pyright: ignore[reportMissingImports]
from onnx import numpy_helper

from edgevl.errors import InputError
from edgevl.export.registry import get_exporter
from edgevl.formats import read_artifact
from edgevl.models import VqaModel
from edgevl.plans.plan import Plan, Range
from edgevl.plans.spec import DIALECTS, get_dialect

pytest.importorskip("torchao")
ONNX = ("x86", "arm")


@pytest.fixture(scope="module")
def files(model: VqaModel, plan: Plan, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    return {name: export(model, plan, folder / name, "onnx", options={"dialect": name}) for name in ONNX}


@pytest.mark.parametrize("name", ONNX)
def test_all_activations_are_of_one_type(files: dict[str, Path], name: str) -> None:
    """An operator whose int8 inputs and outputs differ in type stays float in ONNX Runtime."""
    graph = onnx.load(files[name]).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    points = [constants[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert {point.dtype.name for point in points} == {{"x86": "uint8", "arm": "int8"}[name]} and len(points) > 20
    contents = read_artifact(files[name], "onnx")
    assert contents.macs["int8"] > 0.95 * sum(contents.macs.values())


def test_both_dialects_give_the_same_answers(files: dict[str, Path], model: VqaModel) -> None:
    """Affine in both: the same steps, shifted by 128."""
    pytest.importorskip("onnxruntime")
    logits = {name: logits_of(path, "onnx", CONFIG) for name, path in files.items()}
    reference = float_logits(model)
    assert psnr(logits["arm"], logits["x86"]) > 35 and psnr(logits["arm"], reference) > 25
    assert psnr(logits["arm"][::-1], reference) < 20, "the check can fail"


def test_dialects_of_onnx_are_options_and_are_known() -> None:
    exporter = get_exporter("onnx")
    assert {*exporter.options["dialect"].choices} - {"none"} == {*ONNX} <= DIALECTS.keys()
    assert exporter.check_options({}, "w8a8") == {"dialect": "x86"}
    with pytest.raises(InputError, match='unknown dialect "amr"; did you mean "arm"'):
        exporter.check_options({"dialect": "amr"}, "w8a8")


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(
    "low, high", [(-4.0, 4.0), (-1.0, 9.0), (-9.0, 1.0), (0.0, 6.0), (-6.0, 0.0), (0.5, 6.0), (0.0, 0.0)]
)
def test_every_range_fits_its_grid(name: str, low: float, high: float) -> None:
    """Zero is exact, the range is covered but for a step, and few steps are left over."""
    dialect = get_dialect(name)
    scale, zero = dialect.parameters(Range(low=low, high=high))
    levels = np.iinfo(str(dialect.stored_as(Range(low=low, high=high))).removeprefix("torch."))
    smallest, largest = int(levels.min), int(levels.max)
    low, high = min(low, 0), max(high, 0)
    assert smallest <= zero <= largest and scale > 0
    assert (smallest - zero) * scale <= low + scale and high - scale <= (largest - zero) * scale
    assert max(-low, high) >= 0.98 * scale * max(zero - smallest, largest - zero) or not dialect.symmetric or high == 0
    assert dialect.reason and "  " not in dialect.reason


def test_grids_by_hand() -> None:
    signed, unsigned = Range(low=-128.0, high=127.0), Range(low=0.0, high=255.0)
    assert get_dialect("tensorrt").parameters(signed) == (1.0, 0), "pixels less 128 are exact"
    assert get_dialect("tensorrt").parameters(unsigned) == (255 / 127, 0)
    assert get_dialect("coreml").parameters(signed) == (1.0, 0)
    assert get_dialect("coreml").parameters(unsigned) == (1.0, 0)
    for name in ONNX:
        shift = np.iinfo({"x86": np.uint8, "arm": np.int8}[name]).min
        assert get_dialect(name).parameters(unsigned) == (1.0, shift)
        assert get_dialect(name).parameters(signed) == (1.0, shift + 128)
