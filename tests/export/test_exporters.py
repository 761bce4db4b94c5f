"""The registry of exporters: names, precisions, and what a user reads when a name is wrong."""

import importlib.machinery
import importlib.metadata
import re
import sys
import types
from pathlib import Path

import pytest
import torch

from edgevl.bundle_export import export_bundle
from edgevl.config import ModelConfig
from edgevl.errors import EdgeVLError, InputError, MissingDependency
from edgevl.export.registry import get_exporter, target_names
from edgevl.models import build_model
from edgevl.targets import TARGETS

CONFIG = ModelConfig(
    name="toy", image_size=32, text_length=6, vocab_size=50, num_answers=10, width=32, depth=1, heads=2
)


def test_the_targets() -> None:
    assert {"coreml", "onnx"} <= set(target_names())
    assert get_exporter("onnx").default_precision == "fp32"
    assert get_exporter("coreml").default_precision == "fp16"


@pytest.mark.parametrize("alias", ["ONNX", "onnxruntime", "ort", "onnx"])
def test_aliases(alias: str) -> None:
    assert get_exporter(alias) is get_exporter("onnx")


def test_a_misspelt_target_is_recognized() -> None:
    with pytest.raises(InputError, match=r'did you mean "coreml"'):
        get_exporter("coerml")
    with pytest.raises(InputError, match=r'did you mean "mlpackage", which is coreml\?'):
        get_exporter("mlpackag")


def test_options_of_another_target_are_refused() -> None:
    with pytest.raises(InputError, match="target onnx has no option deployment-target; it is for coreml"):
        get_exporter("onnx").check_options({"deployment_target": "iOS18"}, "fp32")
    with pytest.raises(InputError, match='did you mean "iOS18"'):
        get_exporter("coreml").check_options({"deployment_target": "ios18"}, "fp16")
    assert get_exporter("onnx").check_options({"deployment_target": None}, "fp32") == {"dialect": "none"}
    assert get_exporter("onnx").check_options(None, "w8a8") == {"dialect": "x86"}
    assert get_exporter("litert").check_options(None, "fp32") == {}


@pytest.mark.parametrize(
    ("target", "precision", "options", "message"),
    [
        ("coreml", "w8a8", {"deployment_target": "iOS16"}, r"\(w8a8\) need the deployment target iOS17 or later"),
        ("coreml", "fp16", {"scheme": "palette"}, 'scheme "palette" is for the precision w4; fp16 has none'),
        ("onnx", "fp32", {"dialect": "arm"}, 'dialect "arm" is for the precision w8a8; fp32 has none: leave it out'),
        ("onnx", "w8a8", {"dialect": "none"}, "the precision w8a8 needs a dialect: x86 or arm"),
        ("executorch", "w8a8", {"delegate": "coreml"}, 'delegate "coreml" takes fp32; w8a8 is for xnnpack'),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_a_model_is_loaded(
    target: str, precision: str, options: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevl.models.checkpoint.load_model", lambda model: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match=message):
        export_bundle(None, target, precision, tmp_path / "x.edgevl", options=options)
    assert not list(tmp_path.iterdir())


NEEDED = [
    (target, package.name, package.extra) for target in target_names() for package in TARGETS[target].exports_with
]


@pytest.mark.parametrize(("target", "package", "extra"), NEEDED)
def test_a_missing_package_is_named_before_a_model_is_loaded(
    target: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for needed in TARGETS[target].exports_with:  # of several the first that is missing is named: the others are there
        there = types.ModuleType(needed.module)
        there.__spec__ = importlib.machinery.ModuleSpec(needed.module, None)
        monkeypatch.setitem(sys.modules, needed.module, None if needed.name == package else there)
    monkeypatch.setattr("edgevl.models.checkpoint.load_model", lambda model: pytest.fail("a model was loaded"))
    with pytest.raises(MissingDependency, match=rf'"{package}": pip install "edgevl\[{extra}\]"'):
        export_bundle(None, target, None, tmp_path / "x.edgevl")
    assert not list(tmp_path.iterdir())
    required = [line for line in importlib.metadata.requires("edgevl") or [] if f'extra == "{extra}"' in line]
    assert any(re.match(rf"{package}[^\w-]", line) for line in required), "the command that is named installs it"


def test_every_target_says_what_it_needs() -> None:
    assert {target for target, *_ in NEEDED} == set(target_names())


def test_a_batch_that_a_target_cannot_take() -> None:
    with pytest.raises(InputError, match="target coreml takes a batch of at most 1: a Core ML image is one picture"):
        get_exporter("coreml").check_batch(2)
    with pytest.raises(InputError, match="batch 0 is not"):
        get_exporter("onnx").check_batch(0)


def test_a_precision_that_a_target_cannot_write() -> None:
    with pytest.raises(InputError, match=r'unknown precision for target onnx "w3".*Known: fp'):
        get_exporter("onnx").check_precision("w3")


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_a_folder_that_cannot_be_written_is_one_line(target: str, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("", encoding="utf-8")
    with pytest.raises(EdgeVLError, match="cannot write"):
        get_exporter(target).export(build_model(CONFIG), blocker / "folder")


@pytest.mark.parametrize(("target", "precision"), [("onnx", "fp32"), ("coreml", "fp16")])
def test_the_same_weights_give_the_same_bytes(target: str, precision: str, tmp_path: Path) -> None:
    """Twice in one process, with the artifact of the first run in the way of the second."""
    torch.manual_seed(0)
    model = build_model(CONFIG)
    first = file_bytes(get_exporter(target).export(model, tmp_path, precision))
    second = file_bytes(get_exporter(target).export(model, tmp_path, precision))
    assert first.keys() == second.keys()
    for name, content in first.items():
        assert content == second[name], name


@pytest.mark.parametrize(("target", "precision"), [("onnx", "fp32"), ("coreml", "fp16"), ("coreml", "fp32")])
def test_no_path_of_this_machine_is_inside(target: str, precision: str, tmp_path: Path) -> None:
    import timm

    path = get_exporter(target).export(build_model(CONFIG), tmp_path, precision)
    folders = {str(Path(__file__).parents[2]), str(Path(timm.__file__).parents[1]), str(Path.home()), str(tmp_path)}
    for name, content in file_bytes(path).items():
        for trace in (*folders, ".py", "stack_trace"):
            assert trace.encode() not in content, f"{trace} in {name}"


def file_bytes(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path.parent)): file.read_bytes() for file in files}


def test_a_model_that_a_converter_cannot_express_is_one_line(tmp_path: Path) -> None:
    """coremltools does not know aten.frexp."""

    class Strange(torch.nn.Module):
        def forward(self, image, input_ids):
            return torch.frexp(image.mean((1, 2, 3)))[0]

    program = torch.export.export(Strange(), (torch.ones(1, 3, 8, 8), torch.zeros(1, 4, dtype=torch.int32)))
    with pytest.raises(
        EdgeVLError, match=r"target coreml cannot take this model: .*frexp.*Try another target"
    ) as caught:
        get_exporter("coreml")._convert(program, tmp_path / "x.mlpackage", "fp16", {})
    assert caught.value.exit_code == 2 and list(tmp_path.iterdir()) == []


def test_addcmul_is_taken_apart_for_core_ml(tmp_path: Path) -> None:
    """coremltools 9 does not know it; ConvNeXt V2 has it."""
    from edgevl.models.capture import name_outputs
    from edgevl.runtime import open_session

    class Scaled(torch.nn.Module):
        def forward(self, image, input_ids):
            return torch.addcmul(image.mean((2, 3)), image.amax((2, 3)), input_ids[:, :3].float(), value=2.0)

    inputs = (torch.zeros(1, 3, 8, 8), torch.ones(1, 4, dtype=torch.int32))
    program = name_outputs(torch.export.export(Scaled(), inputs), ["logits"])
    get_exporter("coreml")._convert(
        program, tmp_path / "x.mlpackage", "fp32", {"deployment_target": "iOS16"}, None, ("image",)
    )
    pixels = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8)
    expected = Scaled()(pixels.permute(0, 3, 1, 2).float(), inputs[1])
    got = open_session(tmp_path / "x.mlpackage", "coreml").run(
        {"image": pixels.numpy(), "input_ids": inputs[1].numpy()}
    )
    torch.testing.assert_close(torch.from_numpy(got["logits"]), expected, rtol=1e-4, atol=1e-2)
