"""Compressed weights of Core ML: what is inside, what it computes, what is refused."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("coremltools")

from sessions_of import reference as float_session

from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.export.coreml_weights import _packed
from edgevl.export.registry import get_exporter
from edgevl.export.to_coreml import write_coreml
from edgevl.formats import Contents, read_artifact
from edgevl.models import VqaModel, build_model
from edgevl.models.question_answering import export_program
from edgevl.plans.weight_codes import block_groups, cluster, palettize, quantize
from edgevl.runtime.session import open_session

# Large enough that embedding (4 096) and head (2 560) are compressed, and that neither is a tenth of the model.
CONFIG = ModelConfig(
    name="toy", image_size=32, text_length=6, vocab_size=128, num_answers=80, width=32, depth=1, heads=2
)
# precision, deployment target, scheme -> the dtype of most weights, the operator that stands for them
VARIANTS = {
    ("w8", None, None): ("int8", "constexpr_affine_dequantize"),
    ("w8", "iOS18", None): ("int8", "constexpr_blockwise_shift_scale"),
    ("w4", None, None): ("int4", "constexpr_blockwise_shift_scale"),
    ("w4", "iOS16", "palette"): ("uint4", "constexpr_lut_to_dense"),
    ("w4", "iOS18", "palette"): ("uint4", "constexpr_lut_to_dense"),
}
PSNR_DB = {"w8": 45.0, "w4": 22.0}  # of random weights; measured: 62 and 29 or more


@pytest.fixture(scope="module")
def model() -> VqaModel:
    torch.manual_seed(0)
    return build_model(CONFIG).eval()


@pytest.fixture(scope="module")
def packages(model: VqaModel, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple, Path]:
    program, folder = export_program(model, "float"), tmp_path_factory.mktemp("coreml")
    paths = {variant: folder / f"{index}.mlpackage" for index, variant in enumerate(VARIANTS)}
    for variant, path in paths.items():
        write_coreml(program, path, *variant)
    return paths


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_inside(packages: dict[tuple, Path], variant: tuple) -> None:
    dtype, operator = VARIANTS[variant]
    contents = read_artifact(packages[variant], "coreml")
    total = sum(contents.weight_bytes.values())
    assert contents.weight_bytes[dtype] > 0.7 * total
    assert contents.weight_bytes.get("float16", 0) < 0.2 * total
    assert contents.op_types[operator] > 10
    largest = max(contents.weights, key=lambda weight: weight.bytes)
    elements = int(np.prod(largest.shape))
    assert (largest.dtype, largest.bytes) == (dtype, elements if dtype == "int8" else elements // 2)
    file = packages[variant] / "Data/com.apple.CoreML/weights/weight.bin"
    assert file.stat().st_size == pytest.approx(total, rel=0.1), "the reader counts what the file holds"


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant[0] == "w4"])
def test_embedding_and_head_keep_eight_bits(packages: dict[tuple, Path], variant: tuple) -> None:
    kept = {weight.shape for weight in read_artifact(packages[variant], "coreml").weights if weight.dtype == "int8"}
    assert {(CONFIG.vocab_size, CONFIG.width), (CONFIG.num_answers, CONFIG.width)} <= kept


def test_a_large_embedding_gets_four_bits(tmp_path: Path) -> None:
    """With eight it would be most of the file."""
    model = build_model(dataclasses.replace(CONFIG, vocab_size=20_000))
    write_coreml(export_program(model, "float"), tmp_path / "model.mlpackage", "w4")
    contents = read_artifact(tmp_path / "model.mlpackage", "coreml")
    assert next(weight.dtype for weight in contents.weights if weight.shape == (20_000, 32)) == "int4"


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_computes_what_the_model_computes(model: VqaModel, packages: dict[tuple, Path], variant: tuple) -> None:
    reference, session = float_session(model), open_session(packages[variant], "coreml", 1)
    random = np.random.default_rng(0)
    wanted, got = [], []
    for _ in range(8):
        feeds = {
            "image": random.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8),
            "input_ids": random.integers(1, 128, (1, 6), dtype=np.int32),
        }
        wanted.append(reference.run(feeds)["logits"])
        got.append(session.run(feeds)["logits"])
    wanted, got = np.stack(wanted), np.stack(got)
    psnr = 20 * np.log10(np.abs(wanted).max() / np.sqrt(np.mean((wanted - got) ** 2)))
    assert PSNR_DB[variant[0]] < psnr < 100, "100: nothing was compressed"


def test_both_halves_of_a_split_are_compressed(model: VqaModel, tmp_path: Path) -> None:
    folder = get_exporter("coreml").export(model, tmp_path, "w4", layout="split")
    for part in ("vision", "fusion"):
        contents = read_artifact(folder / f"{part}.mlpackage", "coreml")
        assert contents.weight_bytes["int4"] > 0.3 * sum(contents.weight_bytes.values()), part
    random = np.random.default_rng(1)
    image = random.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    ids = random.integers(1, 128, (1, 6), dtype=np.int32)
    visual = open_session(folder / "vision.mlpackage", "coreml", 1).run({"image": image})["visual"]
    logits = open_session(folder / "fusion.mlpackage", "coreml", 1).run({"visual": visual, "input_ids": ids})["logits"]
    wanted = float_session(model).run({"image": image, "input_ids": ids})["logits"]
    assert np.corrcoef(logits[0], wanted[0])[0, 1] > 0.98


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("w4", "iOS16", "blocks"), "int4 in blocks needs the deployment target iOS18, not iOS16; a palette runs from"),
        (("w4", "iOS17"), "int4 in blocks needs the deployment target iOS18, not iOS17"),
        (("w4", "iOS15", "palette"), r"compressed weights \(w4\) need the deployment target iOS16 or later, not iOS15"),
        (("w8", "iOS15"), r"compressed weights \(w8\) need the deployment target iOS16"),
        (("w8", None, "palette"), 'scheme "palette" is for the precision w4; w8 has none: leave it out'),
        (("fp16", None, "blocks"), 'scheme "blocks" is for the precision w4; fp16 has none'),
        (("w4", None, "none"), "the precision w4 needs a scheme: blocks or palette"),
        (("w4", None, "pallete"), 'unknown scheme "pallete"; did you mean "palette"'),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: tuple, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        write_coreml(SimpleNamespace(), tmp_path / "model.mlpackage", *arguments)  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())


def test_options_follow_the_precision() -> None:
    exporter = get_exporter("coreml")
    assert exporter.precisions == ("fp16", "fp32", "w8", "w4", "w8a8")
    assert exporter.check_options({}, "w4") == {"deployment_target": "iOS18", "scheme": "blocks"}
    assert exporter.check_options({}, "w8") == {"deployment_target": "iOS16", "scheme": "none"}
    with pytest.raises(InputError, match='unknown scheme "block"; did you mean "blocks"'):
        exporter.check_options({"scheme": "block"}, "w4")


@pytest.mark.parametrize("variant", [("w8", None, None), ("w4", None, None), ("w4", "iOS16", "palette")])
def test_the_same_weights_give_the_same_bytes(
    model: VqaModel, packages: dict[tuple, Path], variant: tuple, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    program = export_program(model, "float")
    before = str(program.graph)
    write_coreml(program, tmp_path / "again.mlpackage", *variant)
    assert capfd.readouterr() == ("", "")
    assert str(program.graph) == before, "another exporter may read the program next"
    assert _files(tmp_path / "again.mlpackage") == _files(packages[variant])


def test_floats_are_not_compressed(model: VqaModel, tmp_path: Path) -> None:
    for precision, dtype in (("fp32", "float32"), ("fp16", "float16")):
        write_coreml(export_program(model, "float"), tmp_path / precision, precision)
        contents: Contents = read_artifact(tmp_path / precision, "coreml")
        assert contents.weight_bytes[dtype] > 0.99 * sum(contents.weight_bytes.values())
        assert not [name for name in contents.op_types if name.startswith("constexpr_")]


def _files(package: Path) -> dict[str, bytes]:
    return {str(path.relative_to(package)): path.read_bytes() for path in package.rglob("*") if path.is_file()}


def _weight(*shape: int, spread: float = 1.0) -> np.ndarray:
    random = np.random.default_rng(7)
    scale = np.exp(random.normal(0, spread, (shape[0], *(1 for _ in shape[1:]))))
    return (random.normal(0, 0.05, shape) * scale).astype(np.float16)


def _dequantized(data: np.ndarray, scale: np.ndarray) -> np.ndarray:
    for axis in range(data.ndim):
        scale = np.repeat(scale, data.shape[axis] // scale.shape[axis], axis)
    return data.astype(np.float32) * scale.astype(np.float32)


def test_int8_is_right_to_half_a_step() -> None:
    weight = _weight(16, 24, 3, 3)
    data, scale = quantize(weight, (16, 1, 1, 1), 8)
    assert data.dtype == np.int8 and scale.shape == (16, 1, 1, 1) and scale.dtype == np.float16
    assert (np.abs(data).reshape(16, -1).max(axis=1) >= 126).all(), "the largest weight uses the range"
    error = np.abs(_dequantized(data, scale) - weight.astype(np.float32))
    assert (error <= 0.51 * scale.astype(np.float32) + np.abs(weight) * 2e-3).all()


def test_the_scale_of_a_block_is_searched() -> None:
    """A scale that reaches the largest weight of a block coarsens the 31 others."""
    weight = _weight(64, 64, spread=0)
    data, scale = quantize(weight, (64, 2), 4)
    assert data.min() >= -8 and data.max() <= 7
    plain = np.abs(weight.astype(np.float32)).reshape(64, 2, 32).max(axis=2) / 7
    naive = _dequantized(np.rint(weight / np.repeat(plain, 32, axis=1)), plain)
    error = np.square(_dequantized(data, scale) - weight).sum()
    assert error < 0.85 * np.square(naive - weight).sum()


def test_a_block_of_zeros_stays_zero() -> None:
    weight = np.zeros((4, 64), np.float16)
    data, scale = quantize(weight, (4, 2), 4)
    assert not data.any() and np.isfinite(scale).all() and (scale > 0).all()
    indices, table = palettize(weight)
    assert not table[indices].any()


@pytest.mark.parametrize("kind", ["blocks", "palette"])
def test_balanced_errors_cancel_out(kind: str) -> None:
    """The sum over a filter is what a convolution adds to every pixel of its output when its input is positive."""
    weight = _weight(32, 64, 3, 3, spread=0)

    def error(balanced: bool) -> np.ndarray:
        if kind == "palette":
            indices, table = palettize(weight, balanced)
            return table.astype(np.float32)[indices] - weight
        return _dequantized(*quantize(weight, (32, 2, 3, 3), 4, balanced)) - weight

    plain, balanced = error(False), error(True)
    sums = [np.abs(values.sum(axis=(1, 2, 3))).mean() for values in (plain, balanced)]
    kernels = [np.abs(values.sum(axis=(2, 3))).mean() for values in (plain, balanced)]
    assert sums[1] < 0.1 * sums[0] and kernels[1] < 0.5 * kernels[0]
    assert np.square(balanced).sum() < 1.6 * np.square(plain).sum(), (
        "at the price of a little more error in each weight"
    )


def test_k_means_finds_what_is_there() -> None:
    values = np.repeat(np.arange(16) * 0.25 - 2, 50) + np.random.default_rng(0).normal(0, 0.005, 800)
    np.testing.assert_allclose(cluster(values), np.arange(16) * 0.25 - 2, atol=0.005)
    np.testing.assert_array_equal(np.unique(cluster(np.array([1.0, 2.0] * 20))), [1, 2])


def test_k_means_reaches_the_optimum_of_a_normal_distribution() -> None:
    """16 levels: the mean squared error of the best quantizer is 0.009497 (J. Max, 1960, table I)."""
    values = np.random.default_rng(0).normal(0, 1, 200_000)
    table = cluster(values)
    error = np.square(values - table[np.abs(values[:, None] - table).argmin(axis=1)]).mean()
    assert error == pytest.approx(0.009497, rel=0.02)


@pytest.mark.parametrize("count", [10, 11])
def test_indices_are_packed_as_core_ml_reads_them(count: int) -> None:
    from coremltools.optimize._utils import restore_elements_from_packed_bits

    indices = np.random.default_rng(0).integers(0, 16, count).astype(np.uint8)
    np.testing.assert_array_equal(restore_elements_from_packed_bits(_packed(indices), 4, count), indices)


def test_blocks_divide_the_input_channels() -> None:
    assert block_groups((64, 128, 3, 3)) == (64, 4, 3, 3)
    assert block_groups((64, 48)) == (64, 2)
    assert block_groups((64, 16)) == (64, 1)
    assert block_groups((64, 1, 3, 3)) is None, "depthwise"
    assert block_groups((64, 3, 7, 7)) is None, "the first convolution"
