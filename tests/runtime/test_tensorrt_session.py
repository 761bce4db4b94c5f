"""The session of TensorRT's bundles on a machine without a GPU, and what verify makes of a good and a bad file."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgevl.apps.jetson import build_engine
from edgevl.bundle.folder import Bundle, list_files
from edgevl.bundle_export import export_bundle
from edgevl.errors import EdgeVLError, InputError, MissingDependency, VerificationFailed
from edgevl.runtime import open_session
from edgevl.runtime.onnx_session import OnnxSession
from edgevl.runtime.tensorrt_build import build_section
from edgevl.runtime.tensorrt_session import as_error, cache_folder, why_not_here
from edgevl.verify.run import verify_bundle


@pytest.fixture(scope="module")
def exported(tiny_model, tmp_path_factory) -> Path:
    """A folder with a model and its bundles."""
    folder = tmp_path_factory.mktemp("tensorrt")
    shutil.copytree(tiny_model, folder / "tiny-test")
    for layout in ("single", "split"):
        export_bundle(tiny_model, "tensorrt", out=folder / f"{layout}.edgevl", layout=layout)
    return folder


@pytest.fixture
def fresh(exported, tmp_path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def feeds(session) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {spec.name: rng.integers(1, 99, spec.shape).astype(spec.dtype) for spec in session.inputs}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_very_file_runs_and_the_name_says_so(exported):
    path = exported / "single.edgevl" / "model.onnx"
    session = open_session(path, "tensorrt", threads=1)
    assert "TensorRT itself not run (no GPU)" in session.runtime and session.runtime.startswith("ONNX Runtime (CPU)")
    expected = OnnxSession(path, 1).run(feeds(session))
    np.testing.assert_array_equal(session.run(feeds(session))["logits"], expected["logits"])
    with pytest.raises(InputError, match='input "input_ids" is missing'):
        session.run({"image": feeds(session)["image"]})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_why_no_engine_runs_here():
    assert why_not_here() == "no GPU"


@pytest.mark.parametrize("layout", ["single", "split"])
def test_verify_records_what_tensorrt_says(exported, layout):
    pytest.importorskip("tensorrt_rtx")
    report = verify_bundle(exported / f"{layout}.edgevl", samples=8, write=False)
    assert report.ok, report.audit.problems
    assert report.parity is not None and report.parity.tensorrt is not None
    programs = report.parity.tensorrt["programs"]
    names = {"single": ["model.onnx"], "split": ["model/vision.onnx", "model/fusion.onnx"]}[layout]
    assert [program["artifact"] for program in programs] == names
    assert all(engine["bytes"] > 0 for program in programs for engine in program["engines"])


def test_section_of_a_bundle_for_another_target(exported):
    bundle = Bundle.open(exported / "single.edgevl")
    other = Bundle(bundle.path, bundle.manifest.model_copy(update={"target": "onnx"}))
    assert build_section(other) == (None, [], [])


def test_section_without_the_package_says_why(exported, monkeypatch):
    monkeypatch.setattr("edgevl.runtime.tensorrt_build.PACKAGE", "no_such_package")
    section, problems, (note,) = build_section(Bundle.open(exported / "single.edgevl"))
    assert section is None and not problems
    assert note.startswith("parity.tensorrt: null, because ") and 'pip install "edgevl[tensorrt]"' in note


def forge(bundle: Path, change) -> None:
    """Change the ONNX file as a forger would, and the digests with it."""
    model = onnx.load(bundle / "model.onnx")
    change(model.graph)
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    manifest = Bundle.open(bundle).manifest
    text = manifest.model_copy(update={"files": list_files(bundle)}).to_json()
    (bundle / "manifest.json").write_text(text, encoding="utf-8")


def transpose_before_cast(graph) -> None:
    """What ONNX Runtime runs with the same numbers and TensorRT's parser refuses."""
    index, cast = next((index, node) for index, node in enumerate(graph.node) if "image" in node.input)
    there = onnx.helper.make_node("Transpose", ["image"], ["image_t"], "planted", perm=[0, 3, 1, 2])
    back = onnx.helper.make_node("Transpose", ["image_t"], ["image_b"], perm=[0, 2, 3, 1])
    cast.input[0] = "image_b"
    for node in (back, there):
        graph.node.insert(index, node)


def test_a_file_that_runs_and_does_not_build_fails(fresh):
    pytest.importorskip("tensorrt_rtx")
    forge(fresh / "single.edgevl", transpose_before_cast)
    report = verify_bundle(fresh / "single.edgevl", samples=8)
    assert not report.ok
    (problem,) = report.audit.problems
    assert problem.startswith("TensorRT's parser refuses model.onnx: node planted (Transpose): ")
    assert "UInt8" in problem


def test_a_precision_that_the_network_does_not_keep_fails(fresh):
    pytest.importorskip("tensorrt_rtx")
    bundle = Bundle.open(fresh / "split.edgevl")
    claimed = Bundle(bundle.path, bundle.manifest.model_copy(update={"precision": "fp32"}))
    section, problems, notes = build_section(claimed, ("8.6",))
    assert section is not None and not notes
    assert [problem.split(" claims fp32")[0] for problem in problems] == ["model/vision.onnx", "model/fusion.onnx"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (build_engine.BAD_INPUT, InputError),
        (build_engine.MISSING, MissingDependency),
        (build_engine.REFUSED, VerificationFailed),
        (1, EdgeVLError),
    ],
)
def test_problems_of_the_script_are_our_errors(code, kind):
    error = as_error(build_engine.Problem(code, "what\nhappened"))
    assert type(error) is kind and "what happened" in str(error)


def test_engines_are_kept_in_the_users_own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("a" * 64) == tmp_path / "edgevl" / "engines" / ("a" * 16)


def test_the_names_that_the_gpu_session_uses_exist():
    """It cannot run here; that what it calls is there, in bindings that share TensorRT's front, can be seen."""
    trt = pytest.importorskip("tensorrt_rtx")
    engine = "create_execution_context get_tensor_dtype get_tensor_mode get_tensor_name get_tensor_shape num_io_tensors"
    used = {
        trt.Runtime: "deserialize_cuda_engine",
        trt.ICudaEngine: f"{engine} num_layers",
        trt.IExecutionContext: "execute_async_v3 set_tensor_address",
        trt.TensorIOMode: "INPUT OUTPUT",
        trt.ComputeCapability: "CURRENT",
    }
    assert not [(kind, name) for kind, names in used.items() for name in names.split() if not hasattr(kind, name)]
    dtypes = {np.dtype(trt.nptype(kind)).name for kind in (trt.uint8, trt.int32, trt.float32)}
    assert dtypes == {"uint8", "int32", "float32"}
