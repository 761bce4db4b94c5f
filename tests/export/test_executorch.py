"""ExecuTorch: what is inside the `.pte`, that it gives the model's answers, and that a file which lies is named."""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("executorch", reason='ExecuTorch comes with pip install "edgevl[executorch]"')

from sessions_of import Chain, claiming
from sessions_of import reference as float_session

from edgevl.bundle.folder import Bundle, list_files
from edgevl.bundle_export import export_bundle
from edgevl.cli import main
from edgevl.config import ModelConfig
from edgevl.data.scenes import ANSWERS
from edgevl.data.scenes.vocabulary import VOCABULARY
from edgevl.errors import EdgeVLError, InputError, MissingDependency, VerificationFailed
from edgevl.export.registry import get_exporter
from edgevl.export.to_executorch import write_executorch
from edgevl.formats import Contents, read_artifact
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import VqaModel, build_model
from edgevl.models.checkpoint import load_model, save_model
from edgevl.models.question_answering import export_program
from edgevl.runtime import open_session
from edgevl.runtime.executorch_quiet import import_executorch
from edgevl.runtime.session import CannotRunHere
from edgevl.verify.audit import claim_problems

TOKENIZER = Tokenizer.from_words(VOCABULARY)
CONFIG = ModelConfig(
    name="toy", backbone="test_resnet", image_size=32, text_length=6, vocab_size=TOKENIZER.vocab_size,
    num_answers=len(ANSWERS), width=32, depth=1, heads=2,
)  # fmt: skip
# What XNNPACK does not take of this family: layer norms, casts, the embedding, the mask of padding.
PORTABLE = {
    "aten::embedding.out", "aten::full_like.out", "aten::native_layer_norm.out", "aten::ne.Scalar_out",
    "aten::select_copy.int_out", "aten::unsqueeze_copy.out", "dim_order_ops::_to_dim_order_copy.out",
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    return save_model(tmp_path_factory.mktemp("models") / "toy", build_model(CONFIG), TOKENIZER, list(ANSWERS))


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> VqaModel:
    """As it is loaded: a checkpoint is stored in half precision."""
    return load_model(checkpoint).model


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    """A bundle beside its checkpoint, as `edgevl verify` wants it. To lower takes seconds: it is done once."""
    return export_bundle(checkpoint, "pte", out=checkpoint.parent / "toy.edgevl")


@pytest.fixture(scope="module")
def single(bundle: Path) -> Path:
    return bundle / "model.pte"


@pytest.fixture(scope="module")
def contents(single: Path) -> Contents:
    return read_artifact(single, "executorch")


def feeds(seed: int = 0, batch: int = 1, config: ModelConfig = CONFIG) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = np.zeros((batch, config.text_length), np.int32)
    ids[:, : 2 + seed] = rng.integers(1, config.vocab_size, (batch, 2 + seed))
    shape = (batch, config.image_size, config.image_size, 3)
    return {"image": rng.integers(0, 256, shape, dtype=np.uint8), "input_ids": ids}


def test_the_target() -> None:
    assert get_exporter("et") is get_exporter("pte") is get_exporter("executorch")
    assert get_exporter("executorch").check_options(None, "fp32") == {"delegate": "xnnpack"}


def test_the_model_s_answers(model: VqaModel, single: Path) -> None:
    session, reference = open_session(single, "executorch", threads=1), float_session(model, threads=1)
    assert session.runtime == "ExecuTorch (XNNPACK, CPU)"
    assert [str(spec) for spec in session.inputs] == ["image uint8 [1, 32, 32, 3]", "input_ids int32 [1, 6]"]
    assert [str(spec) for spec in session.outputs] == [f"logits float32 [1, {len(ANSWERS)}]"]
    for seed in range(4):
        expected, got = reference.run(feeds(seed))["logits"], session.run(feeds(seed))["logits"]
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_two_parts_in_a_batch(model: VqaModel, tmp_path: Path) -> None:
    """Both halves, for two pictures at once, against the whole model."""
    folder = get_exporter("executorch").export(model, tmp_path, layout="split", batch=2)
    vision, fusion = (open_session(folder / f"{name}.pte", "executorch") for name in ("vision", "fusion"))
    assert [str(spec) for spec in vision.outputs] == ["visual float32 [2, 4, 32]"]
    assert [spec.name for spec in fusion.inputs] == ["visual", "input_ids"]
    got = Chain(vision, fusion).run(feeds(1, batch=2))["logits"]
    reference = float_session(model)
    for row in range(2):
        one = {name: array[row : row + 1] for name, array in feeds(1, batch=2).items()}
        np.testing.assert_allclose(got[row : row + 1], reference.run(one)["logits"], rtol=0, atol=1e-4)


def test_weights_are_read_where_they_lie(model: VqaModel, single: Path, contents: Contents) -> None:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    total = sum(contents.weight_bytes.values())
    assert contents.weight_bytes["float32"] / 4 == pytest.approx(parameters, rel=0.05)
    assert contents.weight_bytes["float32"] == total
    # What is not weights is the graph: 30 to 60 kB whatever the model.
    assert total < single.stat().st_size < total + 100_000
    assert contents.inputs == (("image", (1, 32, 32, 3)), ("input_ids", (1, 6)))
    assert contents.outputs == (("logits", (1, len(ANSWERS))),)
    assert all(weight.used for weight in contents.weights)
    stored = {weight.digest for weight in contents.weights if weight.name.startswith("delegate_")}
    kernel = model.head[0].weight.detach().numpy()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    assert hashlib.sha256(kernel.tobytes()).hexdigest() in stored, "the values of a linear layer, as they are"


def test_the_delegate_s_share(contents: Contents) -> None:
    types = contents.op_types
    own = {name for name in types if not name.startswith("XNN")}
    assert own == PORTABLE
    # Two norms of a block, and those of vision, text, fusion and head; no copies between matrix products.
    assert types["aten::native_layer_norm.out"] == 6
    assert sum(types[name] for name in own) == 15
    assert {"XNNConv2d", "XNNFullyConnected", "XNNBatchMatrixMultiply", "XNNSoftmax", "XNNGelu"} <= types.keys()
    assert contents.macs.keys() == {"float32"}


def test_multiply_adds(model: VqaModel, contents: Contents) -> None:
    """Of convolutions: as many as torch does, counted while it runs."""
    counted = []

    def count(layer: torch.nn.Conv2d, _: object, out: torch.Tensor) -> None:
        counted.append(out.numel() * layer.weight[0].numel())

    convolutions = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    hooks = [module.register_forward_hook(count) for module in convolutions]
    float_session(model).run(feeds())
    for hook in hooks:
        hook.remove()
    found = sum(operation.macs for operation in contents.operations if "Conv2d" in operation.type)
    assert found == sum(counted) > 0


def test_the_same_bytes_twice_and_the_program_as_it_was(model: VqaModel, single: Path, tmp_path: Path, capfd) -> None:
    """Without a word."""
    program = export_program(model, "raw")
    graph, weights = str(program.graph), {name: weight.clone() for name, weight in program.state_dict.items()}
    write_executorch(program, tmp_path / "again.pte")
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "again.pte").read_bytes() == single.read_bytes()
    assert traces(single, tmp_path) == []
    assert str(program.graph) == graph
    assert all(torch.equal(weights[name], weight) for name, weight in program.state_dict.items())


def traces(path: Path, scratch: Path) -> list[str]:
    """What of the machine that built it is in a file."""
    content = path.read_bytes()
    wanted = (str(Path(__file__).parents[2]), str(Path.home()), str(scratch), sys.prefix, ".py", "/tmp")
    return [trace for trace in wanted if trace.encode() in content]


@pytest.mark.slow
def test_the_core_ml_delegate(model: VqaModel, tmp_path: Path, capfd) -> None:
    """It lowers on Linux, without a word, and is read by the audit; only Apple's systems run it."""
    program, path = export_program(model, "raw", batch=2), tmp_path / "model.pte"
    write_executorch(program, path, delegate="coreml")
    first = path.read_bytes()
    write_executorch(program, path, delegate="coreml")
    assert capfd.readouterr() == ("", "")
    assert path.read_bytes() == first
    assert traces(path, tmp_path) == []
    contents = read_artifact(path, "executorch")
    assert {"conv", "linear", "softmax", "layer_norm"} <= contents.op_types.keys()
    own = {name for name in contents.op_types if "::" in name}
    assert own == {"aten::ne.Scalar_out", "dim_order_ops::_to_dim_order_copy.out"}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert contents.weight_bytes["float32"] / 4 == pytest.approx(parameters, rel=0.05)
    assert contents.inputs == (("image", (2, 32, 32, 3)), ("input_ids", (2, 6)))
    if sys.platform != "darwin":
        with pytest.raises(CannotRunHere, match="CoreMLBackend, which runs on macOS or iOS; this ExecuTorch has"):
            open_session(path, "executorch")


def test_bad_options_are_refused(model: VqaModel, tmp_path: Path) -> None:
    program = export_program(model, "raw", part="vision")
    with pytest.raises(InputError, match="unknown ExecuTorch precision"):
        write_executorch(program, tmp_path / "x.pte", "w8")
    with pytest.raises(InputError, match='did you mean "xnnpack"'):
        write_executorch(program, tmp_path / "x.pte", delegate="xnnpak")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(model: VqaModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch.exir", None)
    with pytest.raises(MissingDependency, match=r'pip install "edgevl\[executorch\]"'):
        write_executorch(export_program(model, "raw", part="fusion"), tmp_path / "x.pte")
    with pytest.raises(MissingDependency, match="a test needs"):
        import_executorch("executorch.nothing", "a test")


def test_verify(bundle: Path, capsys) -> None:
    assert main(["verify", str(bundle), "--samples", "8", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["parity"]["psnr_db"] > 100
    assert report["golden"] == {"passed": 6, "total": 6}
    assert report["runtime"].startswith("ExecuTorch (XNNPACK, CPU)")


@pytest.mark.parametrize("kept", [0, 7, 100, 5000, -1])
def test_a_truncated_file_fails_verify(bundle: Path, tmp_path: Path, kept: int, capsys) -> None:
    """Even if the manifest has the digest of what is left."""
    copy = Path(shutil.copytree(bundle, tmp_path / "cut.edgevl"))
    content = (copy / "model.pte").read_bytes()
    (copy / "model.pte").write_bytes(content[:kept])
    assert main(["verify", str(copy), "--samples", "8"]) == 4
    forge(copy)
    capsys.readouterr()
    assert main(["verify", str(copy), "--samples", "8"]) == 4
    told = capsys.readouterr()
    assert "model.pte" in told.out + told.err and "Traceback" not in told.out + told.err


def forge(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"] = {name: entry.model_dump() for name, entry in list_files(bundle).items()}
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_a_false_claim_is_named(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    contents = read_artifact(bundle / "model.pte", "executorch")
    assert claim_problems(opened.manifest, {"model.pte": contents}) == []
    (problem,) = claim_problems(claiming(opened.manifest, "fp16"), {"model.pte": contents})
    assert "claims fp16, but 100.0% of its weight bytes are float32" in problem
    assert "the largest such tensor is delegate_" in problem or "constant_" in problem


def test_data_that_nothing_reads_is_seen(single: Path, tmp_path: Path) -> None:
    """A forger who renames the data of a weight leaves a graph that reads nothing."""
    content = single.read_bytes()
    key = next(name for name in keys(single) if content.count(name.encode()) == 2)
    first = content.index(key.encode())
    (tmp_path / "x.pte").write_bytes(content[:first] + b"f" * len(key) + content[first + len(key) :])
    with pytest.raises(VerificationFailed, match="has no data of the name"):
        read_artifact(tmp_path / "x.pte", "executorch")


def keys(path: Path) -> list[str]:
    from edgevl.formats.executorch_program import PteProgram

    return list(PteProgram.load(path).named_data)


def test_numbers_are_those_of_the_schema() -> None:
    """The names and fields that the reader of XNNPACK's graphs uses, against the schema in ExecuTorch's wheel."""
    from edgevl.formats import xnnpack_graph as graph

    package = import_executorch("executorch.backends.xnnpack.serialization.xnnpack_graph_schema", "a test").__file__
    schema = (Path(str(package)).parent / "schema.fbs").read_text(encoding="utf-8")
    union = re.search(r"union XNodeUnion \{(.*?)\}", schema, re.S)
    assert union
    members = re.findall(r"XNN(\w+)(?::\s*(\w+))?,", union.group(1))
    assert tuple(name for name, _ in members) == graph._NAMES
    for name, table in members:
        fields = fields_of(schema, table or f"XNN{name}")
        inputs, output = graph._LAYOUTS[graph._LAYOUT_OF.get(name, "unary")]
        assert fields[output] in ("output_id", "output_value_id"), name
        wanted = r"input\d?_id|filter_id|bias_id|query_id|key_id|value_id|scale_id|mask_id"
        assert all(re.fullmatch(wanted, fields[field]) for field in inputs), name
    assert fields_of(schema, "_XNNNodeConv")[4:6] == ["kernel_height", "kernel_width"]
    assert fields_of(schema, "_XNNNodeConv")[10:12] == ["group_input_channels", "group_output_channels"]


def fields_of(schema: str, table: str) -> list[str]:
    """Names of the fields of a table, in order."""
    body = schema.split(f"table {table} {{")[1].split("}")[0]
    return re.findall(r"^\s*(\w+)\s*:", body, re.M)


@pytest.mark.slow
def test_a_folder_that_is_not_there(model: VqaModel, tmp_path: Path) -> None:
    with pytest.raises(EdgeVLError, match="cannot write"):
        write_executorch(export_program(model, part="fusion"), tmp_path / "none" / "x.pte")


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["single", "split"])
def test_the_embedded_model(layout: str, tmp_path: Path) -> None:
    loaded = load_model(None)
    path = get_exporter("executorch").export(loaded.model, tmp_path, layout=layout)
    if layout == "single":
        session = open_session(path, "executorch")
    else:
        session = Chain(*(open_session(path / f"{name}.pte", "executorch") for name in ("vision", "fusion")))
    reference = float_session(loaded.model)
    for seed in range(4):
        inputs = feeds(seed, config=loaded.config)
        got, expected = session.run(inputs)["logits"], reference.run(inputs)["logits"]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
