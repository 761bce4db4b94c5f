"""LiteRT: the file computes what the model does, holds what its precision says, and is the same every time."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sessions_of import Chain, claiming
from sessions_of import reference as float_session

from edgevl.bundle.folder import Bundle, list_files
from edgevl.bundle_export import export_bundle
from edgevl.cli import main
from edgevl.config import ModelConfig
from edgevl.data.scenes import ANSWERS
from edgevl.data.scenes.vocabulary import VOCABULARY
from edgevl.errors import EdgeVLError, InputError, MissingDependency
from edgevl.export.litert_model import to_bytes
from edgevl.export.registry import get_exporter
from edgevl.export.to_litert import serialize, to_litert, write_litert
from edgevl.formats import Contents, read_artifact
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import VqaModel, build_model
from edgevl.models.capture import name_outputs
from edgevl.models.checkpoint import save_model
from edgevl.models.question_answering import export_program
from edgevl.runtime import open_session
from edgevl.runtime.litert_file import import_schema, parse_model
from edgevl.runtime.session import TensorSpec
from edgevl.verify.audit import claim_problems, read_contents
from edgevl.verify.run import verify_bundle

pytest.importorskip("litert_torch", reason='pip install "edgevl[litert]"')
pytest.importorskip("ai_edge_litert", reason='pip install "edgevl[litert]"')

# timm starts the last norm of a block at zero: the converter would fold the block's convolutions away.
CONFIG = ModelConfig(
    name="toy", backbone="test_resnet", backbone_options={"zero_init_last": False}, image_size=32, text_length=6,
    vocab_size=50, num_answers=10, width=32, depth=1, heads=2,
)  # fmt: skip
PRECISIONS = ("fp32", "fp16", "w8")  # made of one conversion; w8a8 is in test_litert_int8.py
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "w8": 5e-2}  # of the logits, whose spread is about 1


@pytest.fixture(scope="module")
def model() -> VqaModel:
    torch.manual_seed(0)
    return build_model(CONFIG)


@pytest.fixture(scope="module")
def files(model: VqaModel, tmp_path_factory) -> dict[str, Path]:
    """Precision -> file, from one conversion: that takes seconds, the precisions do not."""
    folder = tmp_path_factory.mktemp("litert")
    converted = to_bytes(to_litert(export_program(model, "raw")))
    for precision in PRECISIONS:
        copy = parse_model(converted, "a test", import_schema("a test"))
        (folder / f"{precision}.tflite").write_bytes(serialize(copy, precision))
    return {precision: folder / f"{precision}.tflite" for precision in PRECISIONS}


@pytest.fixture(scope="module")
def contents(files: dict[str, Path]) -> dict[str, Contents]:
    return {precision: read_artifact(path, "litert") for precision, path in files.items()}


def feeds(seed: int, batch: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 50, (batch, 6)).astype(np.int32)
    ids[:, 2 + seed % 5 :] = 0
    return {"image": rng.integers(0, 256, (batch, 32, 32, 3), dtype=np.uint8), "input_ids": ids}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_file_computes_what_the_model_does(model: VqaModel, files: dict[str, Path], precision: str) -> None:
    session, reference = open_session(files[precision], "litert", threads=1), float_session(model)
    for seed in range(5):
        expected, got = reference.run(feeds(seed))["logits"], session.run(feeds(seed))["logits"]
        assert got.dtype == np.float32 and got.shape == (1, 10)
        np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE[precision])


def test_lower_precisions_are_not_the_float_file_in_disguise(files: dict[str, Path]) -> None:
    logits = [open_session(path, "litert").run(feeds(0))["logits"] for path in files.values()]
    assert np.abs(logits[0] - logits[1]).max() > 1e-6 and np.abs(logits[0] - logits[2]).max() > 1e-4


def test_contents_account_for_the_file(model: VqaModel, files: dict[str, Path], contents: dict[str, Contents]) -> None:
    """The stored tensors are nearly all of the file, and about as many bytes as the model has parameters."""
    program = export_program(model, "raw")
    parameters = sum(tensor.numel() for name, tensor in program.state_dict.items() if "running" not in name)
    for precision, element in (("fp32", 4), ("fp16", 2), ("w8", 1)):
        stored = sum(contents[precision].weight_bytes.values())
        assert stored == pytest.approx(parameters * element, rel=0.1)
        assert stored < files[precision].stat().st_size < stored + 50_000, "the rest is the graph"
        assert all(weight.used for weight in contents[precision].weights)
        assert all(len(weight.digest) == (64 if weight.bytes >= 1024 else 0) for weight in contents[precision].weights)


def test_dtypes_and_operators(contents: dict[str, Contents]) -> None:
    for found in contents.values():
        assert dict(found.inputs) == {"image": (1, 32, 32, 3), "input_ids": (1, 6)}
        assert found.outputs == (("logits", (1, 10)),)
        assert found.operations[-1].name == "logits"
    assert set(contents["fp32"].weight_bytes) == {"float32", "int32"}
    half, eight = contents["fp16"], contents["w8"]
    assert half.weight_bytes["float16"] > 0.9 * sum(half.weight_bytes.values())
    assert eight.weight_bytes["int8"] > 0.85 * sum(eight.weight_bytes.values())
    embedding = next(weight for weight in eight.weights if "EMBEDDING_LOOKUP" in weight.name)
    assert (embedding.name, embedding.dtype) == ("model.core.text.words/EMBEDDING_LOOKUP.weight", "int8")


def test_multiply_adds(contents: dict[str, Contents]) -> None:
    """Counted by hand for the head, and the same in all precisions; in w8 only attention itself stays in float32."""
    head = next(op for op in contents["fp32"].operations if op.name == "logits")
    assert (head.type, head.macs, head.compute, head.dtype, head.shape) == (
        "FULLY_CONNECTED", 10 * 32, "float32", "float32", (1, 10),
    )  # fmt: skip
    first = next(op for op in contents["fp32"].operations if op.type == "CONV_2D")
    channels = first.shape[-1]
    assert first.macs == 16 * 16 * channels * 3 * 3 * 3
    totals = {sum(found.macs.values()) for found in contents.values()}
    assert len(totals) == 1
    assert set(contents["fp32"].macs) == set(contents["fp16"].macs) == {"float32"}
    attention = sum(op.macs for op in contents["w8"].operations if op.type == "BATCH_MATMUL")
    assert contents["w8"].macs == {"int8": totals.pop() - attention, "float32": attention}
    # 2 heads of 16 channels; one asking token, 10 tokens to look at; scores and mixture
    assert attention == 2 * (2 * 1 * 10 * 16)


def test_names_say_which_layer(contents: dict[str, Contents]) -> None:
    names = [weight.name for weight in contents["fp32"].weights]
    assert (
        "model.head.3/FULLY_CONNECTED.weight" in names
        and "model.core.fusion.blocks.0.mlp.0/FULLY_CONNECTED.bias" in names
    )
    assert len(names) == len(set(names)) and max(map(len, names)) < 100


def test_the_same_weights_give_the_same_bytes_quietly(model, files, tmp_path, capfd) -> None:
    program = export_program(model, "raw")
    before = str(program.graph)
    environment = dict(os.environ)
    write_litert(program, tmp_path / "again.tflite", "w8")
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "again.tflite").read_bytes() == files["w8"].read_bytes()
    assert str(program.graph) == before, "another exporter reads the same program next"
    assert dict(os.environ) == environment


def test_no_path_of_this_machine_is_inside(files: dict[str, Path], tmp_path_factory) -> None:
    import timm

    folders = {Path(__file__).parents[2], Path(timm.__file__).parents[1], Path.home(), tmp_path_factory.getbasetemp()}
    for path in files.values():
        for trace in (*map(str, folders), ".py", "site-packages", "__main__", "torch.export"):
            assert trace.encode() not in path.read_bytes(), trace


def test_what_cannot_be_written(model: VqaModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = export_program(model, "raw")
    with pytest.raises(InputError, match="fp16, fp32, w8"):
        write_litert(program, tmp_path / "model.tflite", "int4")
    for missing, named in (("ai_edge_litert", "ai-edge-litert"), ("litert_torch", "litert-torch")):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, missing, None)
            with pytest.raises(MissingDependency, match=rf'"{named}": pip install "edgevl\[litert\]"'):
                write_litert(program, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


class SharedHeads(torch.nn.Module):
    """Four query heads over one key and value head, as MobileNetV4's hybrids have them."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        query = image.reshape(1, 4, 16, 8)
        key, value = query[:, :1] * 1.5, 1 - query[:, 1:2]
        return torch.nn.functional.scaled_dot_product_attention(query, key, value)


def test_heads_that_share_a_key(tmp_path: Path) -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 512)
    program = name_outputs(torch.export.export(SharedHeads(), (image,)), ["logits"])
    write_litert(program, tmp_path / "model.tflite")
    got = open_session(tmp_path / "model.tflite", "litert").run({"image": image.numpy()})["logits"]
    np.testing.assert_allclose(got, SharedHeads()(image).numpy(), atol=1e-5)


class LinearAttention(torch.nn.Module):
    """As MobileViT v2 attends: a context [B, C, P, 1] widened to the values [B, C, P, N]."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = torch.nn.Conv2d(8, 17, 1), torch.nn.Conv2d(8, 8, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(image).split([1, 8, 8], 1)
        context = (key * query.softmax(-1)).sum(-1, keepdim=True)
        return self.out(torch.relu(value) * context.expand_as(value))


def test_an_expand_in_front_of_a_product(tmp_path: Path) -> None:
    """The converter lost it: "'tfl.mul' op operands don't have broadcast-compatible shapes"."""
    torch.manual_seed(0)
    model, image = LinearAttention().eval(), torch.randn(1, 8, 4, 16)
    program = name_outputs(torch.export.export(model, (image,)), ["logits"])
    write_litert(program, tmp_path / "model.tflite")
    got = open_session(tmp_path / "model.tflite", "litert").run({"image": image.numpy()})["logits"]
    with torch.no_grad():
        np.testing.assert_allclose(got, model(image).numpy(), atol=1e-5)


def test_int8_needs_the_quantizer(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    converted = parse_model(files["fp32"].read_bytes(), "a test", import_schema("a test"))
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with pytest.raises(MissingDependency, match=r'"ai-edge-quantizer": pip install "edgevl\[litert\]"'):
        serialize(converted, "w8")


def test_constants_are_aligned(files: dict[str, Path]) -> None:
    """The schema demands 16 bytes; FlatBuffers' Python packs at any address, and a kernel may load vectors."""
    for path in files.values():
        model = parse_model(path.read_bytes(), "a test", import_schema("a test"))
        start = np.frombuffer(model.content, np.uint8).ctypes.data
        stored = [data for tensor in model.tensors if (data := model.stored(tensor)) is not None]
        assert len(stored) > 30 and {(data.ctypes.data - start) % 16 for data in stored} == {0}


@pytest.mark.slow
def test_an_unwritable_folder_and_a_weight_beyond_float16(model: VqaModel, tmp_path: Path) -> None:
    with pytest.raises(EdgeVLError, match="cannot write"):
        write_litert(export_program(model, "raw"), tmp_path / "none" / "model.tflite")
    torch.manual_seed(0)
    wide = build_model(CONFIG)
    with torch.no_grad():
        wide.core.text.words.weight[3, 4] = 1e6
    with pytest.raises(
        InputError, match=r"model.core.text.words/EMBEDDING_LOOKUP.weight holds 1e\+06, float16 ends at"
    ):
        write_litert(export_program(wide, "raw"), tmp_path / "model.tflite", "fp16")
    assert not list(tmp_path.iterdir())


FRESH = """
import sys
from pathlib import Path
import numpy as np
from edgevl.config import ModelConfig
from edgevl.export.registry import get_exporter
from edgevl.models import build_model
from edgevl.runtime import open_session
config = ModelConfig(name="toy", backbone="test_resnet", backbone_options={}, image_size=32, width=32, depth=1, heads=2)
session = open_session(get_exporter("litert").export(build_model(config), Path(sys.argv[1]), "w8"), "litert")
session.run({spec.name: np.zeros(spec.shape, spec.dtype) for spec in session.inputs})
"""


@pytest.mark.slow
def test_a_fresh_process_prints_nothing(tmp_path: Path) -> None:
    """The first import of litert-torch is the noisy one, and this module has imported it already."""
    answer = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path)], capture_output=True, text=True, encoding="utf-8"
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert (tmp_path / "model.tflite").exists()


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_split_gives_the_same_answers(model, files, tmp_path, precision: str) -> None:
    folder = get_exporter("litert").export(model, tmp_path, precision, layout="split")
    vision, fusion = (open_session(folder / f"{part}.tflite", "litert") for part in ("vision", "fusion"))
    assert fusion.inputs == (TensorSpec("visual", "float32", (1, 4, 32)), TensorSpec("input_ids", "int32", (1, 6)))
    whole, split = open_session(files[precision], "litert"), Chain(vision, fusion)
    for seed in range(4):
        expected, got = whole.run(feeds(seed))["logits"], split.run(feeds(seed))["logits"]
        np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE["fp32"] if precision != "w8" else 2e-2)
    weights = [sum(read_artifact(folder / f"{part}.tflite", "litert").weight_bytes.values()) for part in PARTS]
    assert sum(weights) == pytest.approx(sum(read_artifact(files[precision], "litert").weight_bytes.values()), rel=0.02)


PARTS = ("vision", "fusion")


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_batch_is_its_samples(files: dict[str, Path], model: VqaModel, tmp_path: Path, precision: str) -> None:
    single = open_session(files[precision], "litert")
    double = open_session(get_exporter("litert").export(model, tmp_path, precision, batch=2), "litert")
    assert double.inputs[0].shape == (2, 32, 32, 3)
    both = feeds(1, batch=2)
    got = double.run(both)["logits"]
    for row in range(2):
        expected = single.run({name: array[row : row + 1] for name, array in both.items()})["logits"][0]
        np.testing.assert_allclose(got[row], expected, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A bundle of a model with the labels of Scenes, beside its checkpoint."""
    torch.manual_seed(1)
    tokenizer, labels = Tokenizer.from_words(VOCABULARY), list(ANSWERS)
    config = ModelConfig(
        name="toy", backbone="test_resnet", backbone_options={"zero_init_last": False}, image_size=32, width=32,
        depth=1, heads=2, vocab_size=tokenizer.vocab_size, num_answers=len(labels),
    )  # fmt: skip
    tiny = build_model(config)
    with torch.no_grad():
        torch.nn.init.normal_(tiny.head[-1].weight, std=0.6)  # pyright: ignore[reportArgumentType]
    folder = tmp_path_factory.mktemp("bundle")
    save_model(folder / "toy", tiny, tokenizer, labels)
    return export_bundle(folder / "toy", "tflite", "fp32", out=folder / "toy-litert-fp32.edgevl")


@pytest.fixture
def forged(bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the bundle with other bytes as its artifact, and digests that agree with them."""

    def forge(content: bytes) -> Path:
        path = Path(shutil.copytree(bundle, tmp_path / "forged.edgevl"))
        (path / "model.tflite").write_bytes(content)
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        manifest["files"] = {name: entry.model_dump() for name, entry in list_files(path).items()}
        (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return path

    return forge


def test_a_bundle_verifies(bundle: Path) -> None:
    report = verify_bundle(bundle, samples=16)
    assert report.ok, report.audit.problems
    assert report.runtime.startswith("LiteRT (XNNPACK, CPU)") and report.notes == []
    assert report.parity and report.parity.max_abs < 1e-4


def test_a_truncated_file_is_exit_code_4(bundle: Path, forged, capsys) -> None:
    content = (bundle / "model.tflite").read_bytes()
    path = forged(content[: len(content) * 2 // 3])
    assert main(["verify", str(path), "--samples", "8"]) == 4
    text = capsys.readouterr()
    assert "model.tflite is truncated or was changed" in " ".join((text.out + text.err).split())
    assert "Traceback" not in text.out + text.err


def test_a_wrong_weight_is_found(bundle: Path, forged) -> None:
    """One weight of the last layer, changed in the file by someone who also corrected every digest."""
    session = open_session(bundle / "model.tflite", "litert")
    assert session.outputs[0].shape[1] == len(ANSWERS)
    content = bytearray((bundle / "model.tflite").read_bytes())
    weights = read_artifact(bundle / "model.tflite", "litert").weights
    head = next(weight for weight in weights if weight.shape == (len(ANSWERS), 32))
    place = find(bytes(content), head.digest, head.bytes)
    content[place + 3] ^= 0x40  # an exponent bit of the first weight
    report = verify_bundle(forged(bytes(content)), samples=8)
    assert not report.ok and "golden" in " ".join(report.audit.problems)


def find(content: bytes, digest: str, size: int) -> int:
    """Where in a file the bytes with a digest are; constants are aligned to 16 bytes."""
    return next(at for at in range(0, len(content), 4) if hashlib.sha256(content[at : at + size]).hexdigest() == digest)


@pytest.mark.parametrize(
    ("inside", "claimed", "sentence"),
    [
        ("fp32", "w8", r"claims w8, but only 0.0% of its weight bytes are quantized .*\(float32"),
        ("fp16", "w8", r"claims w8, but only 0.0% of its weight bytes are quantized .*\(float16"),
        ("fp32", "fp16", "claims fp16, but .* are float32, not float16; the largest such tensor is model.core.vision"),
        ("w8", "fp32", "claims fp32, but .* are int8, not float32"),
    ],
)
def test_a_false_claim_is_named(bundle: Path, contents, inside: str, claimed: str, sentence: str) -> None:
    manifest = claiming(Bundle.open(bundle).manifest, claimed)
    problems = claim_problems(manifest, {"model.tflite": contents[inside]})
    assert [problem for problem in problems if "claims" in problem]
    assert re.search(sentence, " | ".join(problems)), problems
    honest = claiming(manifest, inside)
    assert not [
        problem for problem in claim_problems(honest, {"model.tflite": contents[inside]}) if "claims" in problem
    ]


def test_the_bundle_is_read_as_its_artifact(bundle: Path) -> None:
    assert list(read_contents(Bundle.open(bundle))) == ["model.tflite"]
