"""What is inside the files: dtypes, operators, names, targets."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.export.to_coreml import write_coreml
from edgevl.export.to_onnx import write_onnx
from edgevl.models import VqaModel, build_model
from edgevl.models.question_answering import export_program
from edgevl.runtime.coreml_quiet import import_coremltools
from edgevl.runtime.coreml_reference import MLProgram

CONFIG = ModelConfig(
    name="toy", image_size=32, text_length=6, vocab_size=50, num_answers=10, width=32, depth=1, heads=2
)


@pytest.fixture(scope="module")
def model() -> VqaModel:
    torch.manual_seed(0)
    return build_model(CONFIG)


@pytest.fixture(scope="module")
def onnx_model(model: VqaModel, tmp_path_factory) -> onnx.ModelProto:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(export_program(model, "raw"), path)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"], "weights are inside the one file"
    return onnx.load(path)


def test_onnx_interface(onnx_model: onnx.ModelProto) -> None:
    onnx.checker.check_model(onnx_model, full_check=True)
    described = {
        value.name: (
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
            [dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in (*onnx_model.graph.input, *onnx_model.graph.output)
    }
    assert described == {
        "image": ("UINT8", [1, 32, 32, 3]),
        "input_ids": ("INT32", [1, 6]),
        "logits": ("FLOAT", [1, 10]),
    }
    assert {item.domain: item.version for item in onnx_model.opset_import} == {"": 20}
    assert (onnx_model.producer_name, onnx_model.producer_version) == ("edgevl", "0.1.0")


def test_onnx_graph(onnx_model: onnx.ModelProto) -> None:
    types = [node.op_type for node in onnx_model.graph.node]
    assert "BatchNormalization" not in types, "folded into the convolutions"
    assert "Dropout" not in types
    assert {node.domain for node in onnx_model.graph.node} == {""}
    first = [node.op_type for node in onnx_model.graph.node if "image" in node.input]
    assert first == ["Cast"], "TensorRT refuses a Transpose on UInt8"
    dtypes = {onnx.TensorProto.DataType.Name(item.data_type) for item in onnx_model.graph.initializer}
    assert dtypes <= {"FLOAT", "INT64", "INT32"}
    assert not any(node.metadata_props or node.doc_string for node in onnx_model.graph.node)


@pytest.mark.parametrize(("precision", "weight_bits"), [("fp16", 16), ("fp32", 32)])
def test_coreml_interface_and_weights(model: VqaModel, tmp_path: Path, precision: str, weight_bits: int) -> None:
    path = tmp_path / "model.mlpackage"
    write_coreml(export_program(model, "float"), path, precision)
    ct = import_coremltools("a test")
    spec = ct.utils.load_spec(str(path))
    image = spec.description.input[0]
    assert (image.name, image.type.WhichOneof("Type")) == ("image", "imageType")
    assert (image.type.imageType.width, image.type.imageType.height) == (32, 32)
    assert spec.description.output[0].name == "logits"
    assert [str(item) for item in MLProgram.load(path).outputs] == ["logits float32 [1, 10]"]
    assert spec.specificationVersion == ct._SPECIFICATION_VERSION_IOS_16
    weights = (path / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert weights == pytest.approx(parameters * weight_bits / 8, rel=0.1)
    assert sorted(item.name for item in path.iterdir()) == ["Data", "Manifest.json"]


def test_coreml_deployment_target(model: VqaModel, tmp_path: Path) -> None:
    ct = import_coremltools("a test")
    program = export_program(model, "float")
    write_coreml(program, tmp_path / "new.mlpackage", deployment_target="iOS18")
    spec = ct.utils.load_spec(str(tmp_path / "new.mlpackage"))
    assert spec.specificationVersion == ct._SPECIFICATION_VERSION_IOS_18
    feeds = {"image": np.zeros((1, 32, 32, 3), np.uint8), "input_ids": np.ones((1, 6), np.int32)}
    assert np.isfinite(MLProgram.load(tmp_path / "new.mlpackage").predict(feeds)["logits"]).all()
    with pytest.raises(InputError, match="iOS15, iOS16, iOS17, iOS18"):
        write_coreml(program, tmp_path / "x.mlpackage", deployment_target="iOS9")
    with pytest.raises(InputError, match="fp16, fp32"):
        write_coreml(program, tmp_path / "x.mlpackage", precision="int8")


def test_coreml_export_prints_nothing(model: VqaModel, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    write_coreml(export_program(model, "float"), tmp_path / "model.mlpackage")
    assert capfd.readouterr() == ("", "")


def test_a_program_exports_to_both_targets_from_one_object(model: VqaModel, tmp_path: Path) -> None:
    """Writing Core ML must not change the program that another exporter reads next."""
    program = export_program(model, "float")
    before = str(program.graph)
    write_coreml(program, tmp_path / "model.mlpackage")
    assert str(program.graph) == before
