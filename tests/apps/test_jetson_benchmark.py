"""The standalone script as it is used, without torch and EdgeVL, and its judgments against those of edgevl.bench."""

import ast
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import unicodedata
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevl.bench import PRESETS, BenchReport
from edgevl.bench.presets import minimum_flags
from edgevl.bench.summary import drift_flags, noise_flags, steadiness_flags
from edgevl.bundle.folder import Bundle
from edgevl.contracts import Query
from edgevl.errors import InputError
from edgevl.inputs.preprocess import load_image, to_pixels

JETSON = Path(__file__).parents[2] / "apps" / "jetson"
FORBIDDEN = ("torch", "edgevl", "tokenizers", "onnx", "tensorrt", "tensorrt_rtx", "psutil", "pydantic", "cuda")
FILES = sorted(JETSON.rglob("*.py"))


def benchmark(folder: Path, *arguments: object, python: object = sys.executable, blocked=FORBIDDEN, **options):
    """Run the script in a process of its own, where none of `blocked` can be imported."""
    block = f"import sys; sys.modules.update(dict.fromkeys({list(blocked)})); sys.path.insert(0, {str(JETSON)!r})"
    code = f"{block}; import benchmark; sys.exit(benchmark.main(sys.argv[1:]))"
    command = [python, "-I", "-c", code, *arguments]
    return subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, **options, encoding="utf-8"
    )


@pytest.fixture
def copy(bundles, tmp_path) -> Path:
    return Path(shutil.copytree(bundles["onnx"], tmp_path / "copy.edgevl"))


@pytest.fixture(scope="module")
def samples(tmp_path_factory, bundles) -> tuple[Path, float]:
    """Scenes as `edgevl data scenes` writes them, and the share that edgevl's own code finds right."""
    from edgevl.data.scenes import materialize

    folder = materialize("test", 12, tmp_path_factory.mktemp("samples") / "scenes", size=64)
    model, right = Bundle.open(bundles["onnx"]).opened(1), 0
    for line in (folder / "annotations.jsonl").read_text(encoding="utf-8").splitlines():
        scene = json.loads(line)
        question = scene["questions"][0]
        (answer,) = model.answer([Query((folder / scene["image"],), (question["text"],))])
        right += answer.result == [question["answer"]]
    return folder, right / 12


@pytest.mark.parametrize("kind", ["onnx", "split", "older"])
def test_a_report_without_torch_and_edgevl(bundles, samples, orin, tmp_path, kind):
    before = {path: path.read_bytes() for path in bundles[kind].rglob("*") if path.is_file()}
    done = benchmark(
        tmp_path, bundles[kind], "--preset", "rapid", "--threads", 1, "--samples", samples[0], "--out", "report.json"
    )
    assert done.returncode == 0, done.stderr
    report = BenchReport.model_validate_json((tmp_path / "report.json").read_bytes())
    model, pipeline, frame = report.results
    assert (model.name, model.scope, pipeline.scope) == ("tiny-test-onnx-fp32", "model", "pipeline")
    assert (frame.scope, frame.frame, frame.first_ms) == ("frame", "1920 x 1080 NV12", None)
    assert set(frame.stages) == {"convert", *pipeline.stages} - {"decode"} and frame.accuracy is None
    assert model.artifact_sha256 == Bundle.open(bundles[kind]).artifact_sha256
    for result in report.results:
        assert result.n == len(result.samples_ms) >= 32 and sum(result.samples_ms) >= 2000 and result.threads == 1
        assert result.p50_ms <= result.p90_ms <= result.p99_ms and result.load_ms
        assert result.first_ms or result.scope == "frame"
        assert result.p50_ms == pytest.approx(np.percentile(result.samples_ms, 50))
        assert result.peak_mb and result.peak_mb < 1000
    assert set(pipeline.stages) == {"decode", "resize", "tokenize", "upload", "model", "download", "answer"}
    # Medians: on a busy machine a neighbor's time slice hits most queries, but few of any one stage.
    assert 0.2 * pipeline.p50_ms < sum(pipeline.stages.values()) < 1.5 * pipeline.p50_ms
    assert pipeline.accuracy and (pipeline.accuracy.share, pipeline.accuracy.samples) == (samples[1], 12)
    assert "6 of 6 golden cases passed on this machine" in pipeline.notes
    board = report.machine.board
    assert board and board.power_mode == "MAXN" and [rail.name for rail in board.rails] == [
        "VDD_CPU_CV", "VDD_GPU_SOC", "VIN_SYS_5V0",
    ]  # fmt: skip
    assert board.rails[0].idle_mw == board.rails[0].mean_mw == 794 and board.temperature_c["tj"] == (52.875, 52.875)
    assert pipeline.energy is None, "a board that draws no more than at idle used no energy that could be told"
    assert done.stdout.splitlines()[-1] == "report.json" and "tiny-test-onnx-fp32, pipeline: p50" in done.stdout
    assert before == {path: path.read_bytes() for path in bundles[kind].rglob("*") if path.is_file()}


def test_power_above_idle_becomes_energy(bundles, command, tmp_path):
    """tegrastats of a board that draws 1 W at idle and 3 W from two seconds later on."""
    command("tegrastats", "n=0; while [ $n -lt 40 ]; do echo 'VDD_IN 1000mW/1000mW'; sleep 0.045; n=$((n+1)); done\n"
                          "while :; do echo 'VDD_IN 3000mW/3000mW'; sleep 0.045; done")  # fmt: skip
    words = ["--preset", "rapid", "--threads", 1, "--question", "is it red?", "--frame", "none", "--out", "-"]
    done = benchmark(tmp_path, bundles["onnx"], *words)
    assert done.returncode == 0 and not list(tmp_path.glob("*.json")), done.stderr
    result = BenchReport.model_validate_json(done.stdout).result("tiny-test-onnx-fp32", "pipeline")
    assert result.energy and result.energy.source == "VDD_IN"
    assert result.energy.mj == pytest.approx(2000 * np.mean(result.samples_ms) / 1e3, rel=0.25)  # 2 W above idle


def damage(copy: Path, name: str, change) -> None:
    """Change a file, and its digest in the manifest with it: a forger's change."""
    data = change((copy / name).read_bytes())
    (copy / name).write_bytes(data)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def edit_golden(**change):
    def edit(data: bytes) -> bytes:
        golden = json.loads(data)
        case = golden["cases"][2]
        case.update({key: value(case[key]) if callable(value) else value for key, value in change.items()})
        return json.dumps(golden).encode()

    return edit


def edited(values: dict, change) -> dict:
    return {name: {**entry, "data": change(entry["data"])} for name, entry in values.items()}


def test_a_changed_file_is_not_timed(copy, tmp_path):
    with (copy / "model.onnx").open("r+b") as file:
        file.seek(2000)
        file.write(b"\xff")
    done = benchmark(tmp_path, copy)
    assert done.returncode == 4 and "model.onnx has changed" in done.stderr and not (tmp_path / "bench.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pixels_sha256": {"main": ["0" * 64]}}, "other pixels than recorded"),
        ({"input_ids": {"main": [[1] * 32]}}, "other token ids than recorded"),
        ({"values": lambda values: edited(values, lambda data: [9.0] * len(data))}, "does not follow from"),
        ({"values": lambda values: edited(values, lambda data: [each + 1 for each in data])}, "logits differs by 1"),
        ({"result": ["no such answer"]}, "does not follow from the recorded values"),
        ({"margins": [0.0]}, "the recorded margins do not follow from the recorded values"),
        ({"margins": []}, "the recorded margins do not follow from the recorded values"),
        ({"values": {"scores": {"shape": [1, 1], "data": [1.0]}}}, "it records scores, the decoding reads logits"),
    ],
)
def test_a_golden_case_that_fails_is_not_timed(copy, tmp_path, change, said):
    damage(copy, "golden.json", edit_golden(**change))
    done = benchmark(tmp_path, copy, "--preset", "rapid")
    assert done.returncode == 4 and said in done.stderr and "timing" not in done.stderr


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (lambda copy: (copy / "extra.bin").write_bytes(b"x"), 4, "extra.bin is not in the manifest"),
        (lambda copy: (copy / "labels.json").unlink(), 4, "labels.json is missing"),
        (lambda copy: (copy / "manifest.json").write_bytes(b"{"), 4, "manifest.json of the bundle cannot be read"),
        (lambda copy: (copy / "manifest.json").write_bytes(b"{}"), 4, "manifest.json is not valid: the object lacks"),
        (lambda copy: (copy / "manifest.json").unlink(), 4, "is not a whole bundle"),
        (lambda copy: shutil.rmtree(copy), 2, "is not a bundle"),
        (lambda copy: damage(copy, "model.onnx", lambda data: data[:4000]), 4, "model.onnx is truncated"),
    ],
)  # fmt: skip
def test_spoiled_bundles(jetson, copy, tmp_path, monkeypatch, spoil, code, said):
    spoil(copy)
    with pytest.raises(jetson.bundle_reader.Problem, match=said.replace("(", ".")) as caught:
        bundle, watch = jetson.bundle_reader.Bundle(copy), jetson.watch.Watch(jetson.watch.Limits())
        jetson.runtimes.open_runner(bundle, 1, None, watch)
    assert caught.value.exit_code == code and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "a\\b", "~/x"])
def test_a_path_that_leaves_the_bundle(jetson, copy, name):
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(jetson.bundle_reader.Problem, match=r"leaves the bundle's folder|not a plain relative path"):
        jetson.bundle_reader.Bundle(copy)


@pytest.mark.parametrize("key", ["labels", "text_processing", "golden", "pictures"])
def test_what_is_read_is_among_the_files_with_a_digest(jetson, copy, tmp_path, key):
    source = copy / ("golden.json" if key == "golden" else "labels.json")
    (tmp_path / "outside.json").write_bytes(source.read_bytes())
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    outside = "../outside.json"
    if key == "pictures":
        damage(copy, "golden.json", edit_golden(pictures=[outside]))
    else:
        if key == "text_processing":
            manifest[key]["main"]["file"] = outside
        else:
            manifest[key] = outside if key == "golden" else {**manifest[key], "file": outside}
        (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(jetson.bundle_reader.Problem, match=r"outside\.json' leaves the bundle's folder"):
        jetson.bundle_reader.Bundle(copy)


def test_a_link_is_not_followed(jetson, copy, tmp_path):
    shutil.move(str(copy / "labels.json"), tmp_path / "labels.json")
    (copy / "labels.json").symlink_to(tmp_path / "labels.json")
    with pytest.raises(jetson.bundle_reader.Problem, match=r"labels\.json is a link"):
        jetson.bundle_reader.Bundle(copy)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--samples", "nowhere"], 2, "annotations.jsonl cannot be read"),
        (["--image", "nowhere.png"], 2, "nowhere.png cannot be read"),
        (["--question", " "], 2, "the question is empty"),
        (["--preset", "slow"], 2, "invalid choice: 'slow'"),
        (["--threads", "0"], 2, "'0' is not a number of threads"),
        (["--lock-clocks"], 3, "comes with Jetson Linux"),
    ],
)
def test_bad_usage_is_one_line(bundles, tmp_path, arguments, code, said, monkeypatch):
    monkeypatch.setenv("PATH", "")
    done = benchmark(tmp_path, bundles["onnx"], *arguments)
    assert done.returncode == code and said in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_named(bundles, tmp_path):
    done = benchmark(tmp_path, bundles["onnx"], blocked=("onnxruntime",))
    assert done.returncode == 3 and "python3 -m pip install onnxruntime" in done.stderr
    done = benchmark(tmp_path, bundles["onnx"], blocked=("numpy",))
    assert done.returncode == 3 and "python3 -m pip install numpy pillow" in done.stderr
    done = benchmark(tmp_path, bundles["tensorrt"])
    assert done.returncode == 3 and "cannot be imported" in done.stderr


def test_tensorrt_without_a_gpu(bundles, tmp_path, jetson):
    pytest.importorskip("tensorrt_rtx")
    if jetson.build_engine.find_gpu():
        pytest.skip("there is a GPU")
    done = benchmark(tmp_path, bundles["tensorrt"], blocked=("torch", "edgevl"))
    assert done.returncode == 3 and "no NVIDIA GPU answers here" in done.stderr
    assert not list(bundles["tensorrt"].rglob("__pycache__"))


def test_it_stops_when_standard_input_closes(bundles, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(JETSON)!r}); import benchmark; sys.exit(benchmark.main(sys.argv[1:]))"
    command = [sys.executable, "-I", "-c", code, str(bundles["onnx"]), "--preset", "normal", "--until-stdin-closes"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, encoding="utf-8"
    )
    assert process.stdin and process.stderr
    for line in process.stderr:
        if "timing" in line:
            break
    process.stdin.close()
    assert process.wait(20) == 130 and not list(tmp_path.iterdir())


# The same judgments as edgevl.bench


def test_presets_are_those_of_edgevl(jetson):
    ours = jetson.measuring.PRESETS
    assert set(ours) == {"rapid", "quick", "normal"}
    for name, preset in ours.items():
        theirs = PRESETS[name]
        for field in ("min_queries", "min_seconds", "warmup_queries", "warmup_seconds", "slow_query", "slow_queries"):
            assert getattr(preset, field) == getattr(theirs, field), (name, field)


@pytest.mark.parametrize("seed", range(30))
def test_flags_are_those_of_edgevl(jetson, seed):
    rng = np.random.default_rng(seed)
    samples = rng.lognormal(1.0, rng.uniform(0.01, 0.5), int(rng.integers(5, 300)))
    samples[len(samples) // 2 :] *= rng.choice([1.0, 1.04, 1.2])
    milliseconds = [round(float(value), 4) for value in samples]
    found = jetson.measuring.sample_flags(milliseconds, jetson.measuring.PRESETS["quick"])
    expected = [*steadiness_flags(milliseconds), *drift_flags(milliseconds)]
    assert [entry["code"] for entry in found] == [entry.code for entry in expected]
    load, others = float(rng.uniform(0, 4)), float(rng.uniform(0, 0.3))
    theirs = [(entry.code, entry.invalidates) for entry in noise_flags([load, 0, 0], others, 2)]
    assert [(f["code"], f["invalidates"]) for f in jetson.measuring.machine_flags(load, 2, others)] == theirs


@pytest.mark.parametrize("query", [1e-4, 0.004, 0.19, 0.3, 0.7])
@pytest.mark.parametrize("name", ["rapid", "quick", "normal"])
def test_as_many_samples_as_edgevl_asks_for(jetson, name, query):
    samples, began, ended = jetson.measuring.measure(lambda: query, jetson.measuring.PRESETS[name])
    assert not [entry for entry in minimum_flags(PRESETS[name], samples) if entry.invalidates] and began <= ended
    assert not PRESETS[name].meets(len(samples) - 2, query * (len(samples) - 2))  # 2: a sum of floats is not exact


@pytest.mark.parametrize("query", [8.2149e-5, 8.2151e-5])
def test_samples_are_enough_as_the_report_rounds_them(jetson, query):
    """24 000 samples that are all rounded down would lack more than a millisecond of the two seconds."""
    preset = jetson.measuring.PRESETS["rapid"]
    samples, *_ = jetson.measuring.measure(lambda: query, preset)
    reported = [round(1e3 * sample, 4) for sample in samples]
    assert sum(samples) >= preset.min_seconds and sum(reported) >= 1e3 * preset.min_seconds
    assert sum(reported[:-40]) < 1e3 * preset.min_seconds  # and no more than it takes


def test_tokens_are_those_of_edgevl(jetson, bundles):
    """Random text of all planes, and every code point that Unicode 8 assigned (later ones are not promised)."""
    words, reader = (each.texts["main"] for each in (Bundle.open(bundles["onnx"]).opened(run=False),
                                                     jetson.bundle_reader.Bundle(bundles["onnx"])))  # fmt: skip
    rng = random.Random(0)
    old = [chr(point) for point in range(0x110000) if unicodedata.ucd_3_2_0.category(chr(point)) not in ("Cs", "Cn")]
    texts = [
        "What COLOR is the car?",
        "naïve café",
        "猫 is left of it",
        "x" * 101,
        "it's [MASK] a-b",
        "a\u200bcat\ttwo",
    ]
    texts += ["the " + "".join(rng.choices(old, k=12)) + " cat" for _ in range(1500)]
    texts += [f"the cat{char}dog" for char in old[::29]]
    wrong = [text for text in texts if reader.encode(text).tolist() != words.encode(text).tolist()]
    assert len(wrong) <= 0.002 * len(texts), [ascii(text) for text in wrong[:5]]


def test_pixels_are_those_of_edgevl(jetson, tmp_path):
    rng = np.random.default_rng(0)
    for index, mode in enumerate(["RGB", "L", "LA", "RGBA", "P", "1", "I;16", "CMYK"]):
        height, width = (int(side) for side in rng.integers(20, 90, 2))
        grey = Image.fromarray(rng.integers(0, 65535, (height, width)).astype(np.uint16))
        color = Image.fromarray(rng.integers(0, 255, (height, width, 4)).astype(np.uint8))
        path = tmp_path / f"{index}.{'tiff' if mode in ('I;16', 'CMYK') else 'png'}"
        image = (
            grey
            if mode == "I;16"
            else color.convert("RGB").convert(mode)
            if mode in ("P", "CMYK")
            else color.convert(mode)
        )
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(1, 9))
        image.save(path, exif=exif)
        found = jetson.bundle_reader.to_pixels(jetson.bundle_reader.decode(path.read_bytes()), 32)
        np.testing.assert_array_equal(found, to_pixels(load_image(path), 32), mode)
    with pytest.raises(jetson.bundle_reader.Problem, match="is not an image"):
        jetson.bundle_reader.decode(b"no picture")
    floats, large = np.ones((9, 9), np.float32), np.full((9, 9), 70_000, np.int32)
    for values, words in ((floats, "floating-point"), (large, "65535")):
        Image.fromarray(values).save(tmp_path / "odd.tiff")
        with pytest.raises(jetson.bundle_reader.Problem, match=words):
            jetson.bundle_reader.decode((tmp_path / "odd.tiff").read_bytes())
        with pytest.raises(InputError, match=words):
            load_image(tmp_path / "odd.tiff")


# What the files may use


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_python_3_8_reads_it_and_it_imports_little(path):
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    names = set()
    for node in ast.walk(tree):
        names |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
        names |= {node.module or ""} if isinstance(node, ast.ImportFrom) and not node.level else set()
    roots = {name.split(".")[0] for name in names}
    inside = {"onnxruntime", "nvidia"}  # in functions
    own = {"pictures", *(file.stem for file in JETSON.glob("*.py"))}
    assert roots <= set(sys.stdlib_module_names) | {"numpy", "PIL"} | inside | own
    assert "__future__" in roots, "without it annotations such as list[str] are evaluated, which Python 3.8 cannot"


def test_no_call_is_newer_than_python_3_8():
    newer = {"removeprefix", "removesuffix", "pairwise", "bit_count", "is_relative_to", "with_stem", "hardlink_to"}
    found = {
        (path.name, node.attr)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in newer
    }
    unions = {path.name for path in FILES if "strict=" in path.read_text(encoding="utf-8")}  # of zip: 3.10
    assert not found and not unions


@pytest.mark.slow
def test_in_an_environment_of_numpy_pillow_and_onnxruntime(bundles, tmp_path):
    """A fresh environment from the registry, and the folder copied as a user copies it."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "numpy", "pillow", "onnxruntime"], check=True)
    script = shutil.copytree(JETSON, tmp_path / "jetson") / "benchmark.py"
    command = [python, script, bundles["onnx"], "--preset", "rapid", "--out", tmp_path / "report.json"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert BenchReport.model_validate_json((tmp_path / "report.json").read_bytes()).results
    packages = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, encoding="utf-8"
    ).stdout
    assert "torch" not in packages and "edgevl" not in packages
