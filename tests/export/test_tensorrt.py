"""TensorRT: what the exporter writes, and the script in the bundle, run as on a device: alone, by itself."""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from edgevl.apps.jetson import build_engine
from edgevl.bundle.folder import Bundle
from edgevl.bundle_export import export_bundle
from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.export.registry import get_exporter
from edgevl.export.to_tensorrt import NoTorchTensorRT, build_with_torch_tensorrt, write_tensorrt
from edgevl.models import build_model
from edgevl.models.question_answering import export_program

SCRIPT = Path(build_engine.__file__)
# As on a board: nothing of these is there. `python -I` ignores the folder and the environment of this process.
BLOCKED = ("edgevl", "torch", "onnx", "onnxruntime", "pydantic", "PIL")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def exported(tiny_model, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tensorrt")
    return {
        layout: export_bundle(tiny_model, "tensorrt", out=folder / f"{layout}.edgevl", layout=layout)
        for layout in ("single", "split")
    }


@pytest.fixture
def fresh(exported, tmp_path) -> Callable[..., Path]:
    return lambda layout="single": Path(shutil.copytree(exported[layout], tmp_path / f"{layout}.edgevl"))


@pytest.fixture
def run(tmp_path) -> Run:
    """Run a bundle's own `build_engine.py`, from another folder, where none of `BLOCKED` can be imported."""
    (tmp_path / "elsewhere").mkdir()

    def run(bundle: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        code = (
            f"import runpy, sys; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
            f"sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        command = [sys.executable, "-I", "-c", code, bundle / "build_engine.py", *arguments]
        return subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            cwd=tmp_path / "elsewhere",
            timeout=300,
            encoding="utf-8",
        )

    return run


def refused(answer: subprocess.CompletedProcess[str], exit_code: int, *words: str) -> None:
    """It ended with this code and one line that holds these words."""
    lines = answer.stderr.splitlines()
    assert answer.returncode == exit_code, answer.stderr
    assert len(lines) == 1 and lines[0].startswith("error: "), answer.stderr
    assert all(word in lines[0] for word in words), lines[0]
    assert answer.stdout == ""


def edit(bundle: Path, change: Callable[[dict], object]) -> None:
    values = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    change(values)
    (bundle / "manifest.json").write_text(json.dumps(values), encoding="utf-8")


def test_names_and_precisions():
    exporter = get_exporter("engine")
    assert exporter is get_exporter("trt") is get_exporter("rtx") is get_exporter("tensorrt")
    assert exporter.precisions == ("fp16", "fp32", "w8a8")
    with pytest.raises(InputError, match='unknown precision for target tensorrt "w8"'):
        exporter.check_precision("w8")


@pytest.mark.parametrize(("layout", "files"), [("single", ["model.onnx"]), ("split", ["fusion.onnx", "vision.onnx"])])
def test_a_bundle_holds_typed_onnx_and_the_script(exported, layout, files):
    bundle = Bundle.open(exported[layout])
    assert bundle.check_digests() == []
    assert (bundle.path / "build_engine.py").read_bytes() == SCRIPT.read_bytes()
    found = sorted(bundle.path.rglob("*.onnx"))
    assert [path.name for path in found] == files
    for path in found:
        sizes = {}
        for tensor in onnx.load(path).graph.initializer:
            sizes[tensor.data_type] = sizes.get(tensor.data_type, 0) + len(tensor.raw_data)
        assert sizes[onnx.TensorProto.FLOAT16] > 20 * sizes[onnx.TensorProto.FLOAT], "fp16 is the default"


def test_unknown_precision_is_refused(tiny_model, tmp_path):
    with pytest.raises(InputError, match='unknown TensorRT precision "int8"'):
        write_tensorrt(None, tmp_path / "model.onnx", "int8")  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())


def test_the_script_is_python_3_8():
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 8))
    with pytest.raises(SyntaxError):  # the check can fail
        ast.parse("match x:\n    case 1: pass", feature_version=(3, 8))


def test_the_script_runs_on_python_3_8(fresh):
    """Up to where TensorRT is imported; the digests are compared before that."""
    found = sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python"))
    python = str(found[0]) if found else shutil.which("python3.8")
    if not python:
        pytest.skip("no Python 3.8 here")
    bundle = fresh()
    command = [python, "-I", str(bundle / "build_engine.py")]
    answer = subprocess.run([*command, "--help"], capture_output=True, text=True, encoding="utf-8")
    assert answer.returncode == 0 and "--capability" in answer.stdout
    refused(
        subprocess.run(command, capture_output=True, text=True, encoding="utf-8"),
        3,
        "tensorrt and tensorrt_rtx cannot be imported",
    )
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"\0")
    refused(
        subprocess.run(command, capture_output=True, text=True, encoding="utf-8"),
        4,
        "model.onnx",
        "no plain file of at most",
    )


def test_the_script_imports_the_standard_library_only():
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_an_engine_and_its_record(fresh, run):
    trt = pytest.importorskip("tensorrt_rtx")
    bundle = fresh()
    answer = run(bundle, "--capability", "8.6", "12.0")
    assert answer.returncode == 0 and answer.stderr == "", answer.stderr
    for capability, folder in (("8.6", "sm86"), ("12.0", "sm120")):
        engine = bundle.parent / "single.engines" / f"{folder}-tensorrt_rtx-{trt.__version__}" / "model.engine"
        assert f"{engine}: " in answer.stdout
        record = json.loads(engine.with_name("model.engine.json").read_text(encoding="utf-8"))
        data = engine.read_bytes()
        assert record["engine"]["sha256"] == hashlib.sha256(data).hexdigest()
        assert record["engine"]["bytes"] == len(data) and record["engine"]["seconds"] > 0
        assert record["engine"]["layers"] is None and record["gpu"] is None, "what a GPU says is not guessed"
        assert record["onnx"] == {
            "file": "model.onnx", "sha256": Bundle.open(bundle).manifest.files["model.onnx"].sha256
        }  # fmt: skip
        assert record["tensorrt"] == {"package": "tensorrt_rtx", "version": trt.__version__}
        assert record["compute_capability"] == capability
        assert record["flags"] == {"strongly_typed": True, "tf32": False, "workspace_mb": None}
        assert record["network"]["layers"] > 50
        assert set(record["network"]["types"]["MATRIX_MULTIPLY"]) == {"float16"}
        assert sorted(path.name for path in engine.parent.iterdir()) == ["model.engine", "model.engine.json"]
    assert Bundle.open(bundle).check_digests() == [], "nothing is written into the bundle"


def test_both_engines_of_a_split_bundle(fresh, run):
    pytest.importorskip("tensorrt_rtx")
    bundle = fresh("split")
    answer = run(bundle, "--capability", "8.6", "--out", bundle.parent / "built")
    assert answer.returncode == 0, answer.stderr
    found = sorted(path.relative_to(bundle.parent / "built").parts[1:] for path in bundle.parent.rglob("*.engine"))
    assert found == [("model", "fusion.engine"), ("model", "vision.engine")]
    assert Bundle.open(bundle).check_digests() == []


def forged_version(engine: Path) -> None:
    path = engine.with_name("model.engine.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    record["tensorrt"]["version"] = "1.0.0"
    path.write_text(json.dumps(record), encoding="utf-8")


# One after another, to one engine: (what happens to it, arguments of the next run, is it built again?)
REUSE = {
    "nothing happened": (lambda engine: None, (), False),
    "asked for": (lambda engine: None, ("--force",), True),
    "another TensorRT": (forged_version, (), True),
    "cut off": (lambda engine: engine.write_bytes(engine.read_bytes()[:-1]), (), True),
    "no record": (lambda engine: engine.with_name("model.engine.json").unlink(), (), True),
    "damaged record": (
        lambda engine: engine.with_name("model.engine.json").write_text("[]", encoding="utf-8"),
        (),
        True,
    ),
    "other flags": (lambda engine: None, ("--tf32",), True),
}


def test_an_engine_is_used_again_only_if_it_fits(fresh, run):
    pytest.importorskip("tensorrt_rtx")
    bundle = fresh()
    assert run(bundle, "--capability", "8.6").returncode == 0
    engine = next(bundle.parent.rglob("model.engine"))
    wrong = []
    for name, (happens, arguments, again) in REUSE.items():
        happens(engine)
        answer = run(bundle, "--capability", "8.6", *arguments)
        assert answer.returncode == 0, answer.stderr
        if ("is up to date" in answer.stdout) is again or ("built in" in answer.stdout) is not again:
            wrong.append((name, answer.stdout))
        record = json.loads(engine.with_name("model.engine.json").read_text(encoding="utf-8"))
        assert record["engine"]["sha256"] == hashlib.sha256(engine.read_bytes()).hexdigest()
        assert record["flags"]["tf32"] is ("--tf32" in arguments)
    assert not wrong


def test_check_prints_records_and_keeps_nothing(fresh, run):
    pytest.importorskip("tensorrt_rtx")
    bundle = fresh()
    answer = run(bundle, "--capability", "8.6", "--check", "--workspace-mb", "64")
    (record,) = json.loads(answer.stdout)
    assert record["flags"]["workspace_mb"] == 64
    assert not list(bundle.parent.rglob("*.engine*"))


def test_a_changed_file_is_refused_before_anything_is_built(fresh, run):
    """Without TensorRT too: the digests come first."""
    bundle = fresh("split")
    path = bundle / "model/fusion.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(run(bundle, "--capability", "8.6"), 4, "model/fusion.onnx has changed", "sha256", "manifest.json")
    path.unlink()
    refused(run(bundle, "--capability", "8.6"), 4, "model/fusion.onnx cannot be read")
    assert not list(bundle.parent.rglob("*.engine*"))


def test_a_manifest_cannot_lead_out_of_the_bundle(fresh, run):
    bundle = fresh()
    secret = bundle.parent / "secret.onnx"
    shutil.copy(bundle / "model.onnx", secret)
    original = (bundle / "manifest.json").read_text(encoding="utf-8")

    def point_to(name: str) -> None:
        def change(values: dict) -> None:
            values["programs"][0]["artifact"] = name
            values["files"] = {name: values["files"]["model.onnx"]}

        edit(bundle, change)

    for name in ("../secret.onnx", str(secret)):
        point_to(name)
        refused(run(bundle, "--capability", "8.6"), 4, "not inside the bundle")
        (bundle / "manifest.json").write_text(original, encoding="utf-8")
    (bundle / "link.onnx").symlink_to(secret)
    point_to("link.onnx")
    refused(run(bundle, "--capability", "8.6"), 4, "'link.onnx', which is not inside the bundle")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "{", '{"programs": 3}', '{"programs": [], "artifact": ["x"], "files": {}}', "\udcff"]
)
def test_a_damaged_manifest_is_one_line(fresh, run, text):
    bundle = fresh()
    (bundle / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(run(bundle, "--capability", "8.6"), 4, "manifest.json is damaged", "export it again")


def test_bad_usage(fresh, run):
    bundle = fresh()
    refused(run(bundle, bundle.parent / "nothing"), 2, "nothing/manifest.json cannot be read", "name a bundle")
    answer = run(bundle, "--workspace-mb", "0")
    assert answer.returncode == 2 and "'0' is not a positive number of MiB" in answer.stderr
    answer = run(bundle, "--capability", "8.6", "--package", "tensorrt")
    assert answer.returncode == 2 and "--capability needs --package tensorrt_rtx" in answer.stderr
    edit(bundle, lambda values: values.update(target="onnx"))
    refused(run(bundle, "--capability", "8.6"), 2, "is a bundle for onnx", "--target tensorrt")


def test_bad_places_and_capabilities(fresh, run):
    pytest.importorskip("tensorrt_rtx")
    bundle = fresh()
    refused(run(bundle, "--capability", "8.7"), 2, "does not build for 8.7; it knows 7.5, 8.0, 8.6")
    refused(run(bundle, "--capability", "8.6", "--out", bundle / "in"), 2, "is inside the bundle")
    refused(run(bundle, "--capability", "8.6", "--out", bundle), 2, "is inside the bundle")
    file = bundle.parent / "file"
    file.write_text("", encoding="utf-8")
    refused(run(bundle, "--capability", "8.6", "--out", file), 2, "cannot be written", "--out")
    assert Bundle.open(bundle).check_digests() == []


def test_without_a_gpu_nothing_is_built_for_one(fresh, run):
    pytest.importorskip("tensorrt_rtx")
    if build_engine.find_gpu():
        pytest.skip("there is a GPU")
    refused(run(fresh()), 3, "no NVIDIA GPU answers here", "--capability")


DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return FAIL; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return ordinal; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Orin (nvgpu)", length); return device != 7; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 : 7; return 0; }
"""


@pytest.mark.skipif(not shutil.which("gcc") or os.name != "posix", reason="needs gcc")
@pytest.mark.parametrize("fails", [0, 100])
def test_the_gpu_is_asked_as_the_driver_wants_it(tmp_path, fails):
    """No GPU here: a library with the driver's four functions stands in for it, to check how they are called."""
    (tmp_path / "cuda.c").write_text(DRIVER.replace("FAIL", str(fails)), encoding="utf-8")
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "cuda.c"], check=True)
    code = f"import runpy; print(runpy.run_path({str(SCRIPT)!r})['find_gpu']())"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert ast.literal_eval(answer.stdout) == (
        None if fails else {"name": "Orin (nvgpu)", "compute_capability": "8.7"}
    )  # fmt: skip


def test_engines_of_different_gpus_and_versions_do_not_meet(tmp_path):
    def path(name: str, capability: str, version: str) -> Path:
        trt = types.ModuleType("tensorrt")
        trt.__dict__["__version__"] = version
        gpu = {"name": name, "compute_capability": capability}
        record = build_engine.make_record(trt, "model.onnx", "0" * 64, gpu, None, {"tf32": False})
        return build_engine.engine_path(tmp_path / "nano.edgevl", record)

    orin = path("Orin (nvgpu)", "8.7", "10.3.0")
    assert orin == tmp_path / "nano.engines" / "orin-nvgpu-sm87-tensorrt-10.3.0" / "model.engine"
    others = {path("Orin (nvgpu)", "8.7", "10.7.0"), path("NVIDIA Thor", "11.0", "10.3.0")}
    assert len({orin} | others) == 3


def test_torch_tensorrt_is_imported_lazily_and_its_absence_is_said(tmp_path):
    try:
        import torch_tensorrt  # noqa: F401  # pyright: ignore[reportMissingImports]
    except Exception:
        program = export_program(build_model(ModelConfig(backbone="test_resnet", image_size=32, width=32, depth=1)))
        with pytest.raises(NoTorchTensorRT, match="pip install torch-tensorrt") as caught:
            build_with_torch_tensorrt(program, tmp_path / "model.engine")
        assert caught.value.exit_code == 3
        assert not list(tmp_path.iterdir())
    else:
        pytest.skip("torch-tensorrt is installed")
