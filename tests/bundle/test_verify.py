"""verify: what it measures on a good bundle, and that every kind of tampering is caught and named."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from photo_tables import photos

from edgevl.bundle.folder import Bundle
from edgevl.errors import InputError, VerificationFailed
from edgevl.precisions import PRECISIONS
from edgevl.runtime.session import CannotRunHere
from edgevl.tasks.metrics import wilson
from edgevl.verify.measure import MAX_DB, compare, compare_output, draw
from edgevl.verify.run import verify_bundle

TARGETS = ("onnx", "coreml")
N = 16


def problems(path: Path, **options) -> str:
    """Verify a tampered bundle: it must fail. Returns its sentences."""
    before = (path / "manifest.json").read_text(encoding="utf-8")
    report = verify_bundle(path, samples=N, **options)
    assert not report.ok and not report.audit.ok and report.audit.problems
    assert (path / "manifest.json").read_text(encoding="utf-8") == before, "a failed bundle must stay as it is"
    assert all("\n" not in problem for problem in report.audit.problems)
    return " | ".join(report.audit.problems)


@pytest.fixture
def no_runtime(monkeypatch):
    """Call it, and this machine can run no target: a bundle for an accelerator that is not here."""

    def sessions(self, threads=None):
        raise CannotRunHere("nothing here runs it")

    return lambda: monkeypatch.setattr(Bundle, "sessions", sessions)


def test_all_samples_are_taken_where_nobody_says_how_many(fresh, tmp_path):
    """A table of photos has fewer than the usual 1 000; who asks for more is told."""
    data = f"csv:{photos(tmp_path, 14, questions=5)}:train"
    bundle = fresh("onnx")
    report = verify_bundle(bundle, data=data, write=False)
    assert report.parity and report.parity.samples == 60
    with pytest.raises(InputError, match="has 60 samples for vqa, 61 were asked for: lower --samples"):
        verify_bundle(bundle, samples=61, data=data, write=False)


@pytest.mark.parametrize(("psnr_db", "said"), [(50.0, True), (20.0, False)])
def test_a_model_whose_values_hardly_depend_on_its_inputs_is_named_as_such(fresh, monkeypatch, psnr_db, said):
    """An untrained model in 8 bits fails, and its owner should know that no converter is to blame."""

    def alike(*arguments):
        parity = compare(*arguments)
        outputs = {
            name: each.model_copy(update={"snr_db": 5.0, "psnr_db": psnr_db}) for name, each in parity.outputs.items()
        }
        return parity.model_copy(update={"outputs": outputs})

    monkeypatch.setattr("edgevl.verify.run.compare", alike)
    report = verify_bundle(fresh("onnx"), samples=N, write=False)
    assert not report.ok and any("as one does that was not trained" in note for note in report.notes) is said


@pytest.mark.parametrize("target", TARGETS)
def test_a_good_bundle(fresh, target):
    path = fresh(target)
    seen = []
    report = verify_bundle(path, samples=N, progress=lambda *step: seen.append(step))
    assert report.ok, report.audit.problems
    assert report.parity and report.accuracy and report.golden
    limits = PRECISIONS[report.precision].thresholds
    assert report.parity.snr_db and report.parity.snr_db >= limits.snr_db and report.parity.cosine > 0.999
    assert report.parity.outputs.keys() == {"logits"} and report.accuracy.metric == "accuracy"
    assert (report.golden.passed, report.golden.total) == (6, 6)
    assert report.accuracy.samples == report.parity.samples == N
    assert abs(report.accuracy.artifact - (report.accuracy.reference or 0)) <= 1 / N + 1e-9
    assert sum(kind.samples for kind in report.accuracy.per_kind.values()) == N
    assert report.notes == [] and report.runtime.split(",")[0] in report.accuracy.runtime
    assert seen[-2][:2] == (N, N) and seen[-1] == (0, 0, "running the PyTorch reference")


@pytest.mark.parametrize("target", TARGETS)
def test_the_measurements_go_into_the_bundle(fresh, target):
    path = fresh(target)
    report = verify_bundle(path, samples=N)
    bundle = Bundle.open(path)
    assert bundle.check_digests() == []
    assert bundle.manifest.parity == report.parity and bundle.manifest.accuracy == report.accuracy
    card = (path / "README.md").read_text(encoding="utf-8")
    assert f"Accuracy on {N} samples of scenes:test" in card and card.count("not measured") == 1  # the times
    assert verify_bundle(path, samples=N).ok, "verifying again must find the bundle intact"


def test_write_false_changes_nothing(fresh):
    path = fresh("onnx")
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert verify_bundle(path, samples=N, write=False).ok
    assert before == {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_json_has_the_shape_of_the_design(fresh):
    values = json.loads(json.dumps(verify_bundle(fresh("onnx"), samples=N).model_dump()))
    assert values.keys() >= {"ok", "bundle", "target", "precision", "parity", "accuracy", "audit", "golden"}
    assert values["parity"].keys() >= {"max_abs", "psnr_db", "cosine", "top1_agreement", "samples"}
    assert values["accuracy"].keys() >= {"artifact", "reference", "samples", "data"}
    assert values["audit"].keys() >= {"ok", "weight_bytes", "problems"}
    assert values["golden"] == {"passed": 6, "total": 6}


def test_without_the_checkpoint_parity_is_null_with_a_reason(fresh, tiny_model):
    path = fresh("onnx")
    shutil.rmtree(path.parent / tiny_model.name)
    report = verify_bundle(path, samples=N, write=False)
    assert report.ok and report.parity is None and report.accuracy and report.accuracy.reference is None
    assert "tiny-test" in report.notes[0] and "golden values" in report.notes[0]
    assert verify_bundle(path, samples=N, write=False, checkpoint=tiny_model).parity is not None
    with pytest.raises(InputError, match="is not a model folder"):
        verify_bundle(path, samples=N, checkpoint=path)


def test_less_does_not_replace_what_was_measured(fresh, tiny_model, no_runtime):
    path = fresh("onnx")
    first = verify_bundle(path, samples=N)
    shutil.rmtree(path.parent / tiny_model.name)
    second = verify_bundle(path, samples=N)
    assert second.ok and second.parity is None and "of an earlier verify stay in the bundle" in second.notes[-1]
    no_runtime()
    third = verify_bundle(path, samples=N)
    assert third.ok and (third.parity, third.accuracy, third.golden) == (None, None, None)
    manifest = Bundle.open(path).manifest
    assert (manifest.parity, manifest.accuracy) == (first.parity, first.accuracy)


def test_a_checkpoint_cannot_be_known_without_its_digest(fresh, tools, tiny_model):
    path = fresh("onnx")
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    manifest["provenance"]["checkpoint_sha256"] = None
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(InputError, match="names no checkpoint"):
        verify_bundle(path, samples=N, checkpoint=tiny_model)


def test_a_checkpoint_with_other_weights_is_not_compared_with(fresh, tiny_model):
    path = fresh("onnx")
    weights = path.parent / tiny_model.name / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert verify_bundle(path, samples=N, write=False).parity is None


def flip_weights(path: Path, target: str, file: str, share: float = 0.01) -> None:
    """Flip bytes of the weights themselves, not of the headers between them."""
    rng = np.random.default_rng(0)
    if target == "onnx":
        model = onnx.load(str(path / file))
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                tensor.raw_data = flipped(np.frombuffer(tensor.raw_data, np.uint8), rng, share)
        onnx.save(model, str(path / file))
        return
    data = np.frombuffer((path / file).read_bytes(), np.uint8).copy()
    for place in range(64, len(data) - 63, 64):  # blocks are aligned to 64 bytes
        sentinel, _, size, offset = struct.unpack("<IIQQ", data[place : place + 24].tobytes())
        if sentinel == 0xDEADBEEF:
            block = data[offset : offset + size]
            block[:] = np.frombuffer(flipped(block, rng, share), np.uint8)
    (path / file).write_bytes(data.tobytes())


def flipped(data: np.ndarray, rng: np.random.Generator, share: float) -> bytes:
    data = data.copy()
    chosen = rng.random(len(data)) < share
    data[chosen] ^= rng.integers(1, 256, int(chosen.sum()), dtype=np.uint8)
    return data.tobytes()


@pytest.mark.parametrize("target", TARGETS)
def test_one_flipped_bit_in_the_weights(fresh, tools, target):
    path = fresh(target)
    file = path / tools.weights[target]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    assert f"{tools.weights[target]} has changed" in problems(path)


@pytest.mark.parametrize("target", TARGETS)
def test_flipped_weights_with_forged_digests(fresh, tools, target):
    path = fresh(target)
    flip_weights(path, target, tools.weights[target])
    tools.forge(path)
    assert "golden case" in problems(path)


def test_flipped_weights_with_forged_digests_and_golden_cases(fresh, tools):
    """A forger who also loosens the golden cases is caught by the checkpoint, whose digest is not his to choose."""
    path = fresh("onnx")
    model = onnx.load(str(path / "model.onnx"))
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("words.weight")]
    tensor.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, str(path / "model.onnx"))
    golden = json.loads((path / "golden.json").read_text(encoding="utf-8"))
    golden["tolerance"] = {"logits": 1e5}
    (path / "golden.json").write_text(json.dumps(golden), encoding="utf-8")
    tools.forge(path)
    assert "parity: the signal-to-noise ratio of logits" in problems(path)


@pytest.mark.parametrize("margins", [[0.0], []])
def test_a_decision_is_not_free_because_the_file_says_so(fresh, tools, margins):
    path = fresh("onnx")
    golden = json.loads((path / "golden.json").read_text(encoding="utf-8"))
    golden["cases"][0]["margins"] = margins
    (path / "golden.json").write_text(json.dumps(golden), encoding="utf-8")
    tools.forge(path)
    assert "the recorded margins do not follow from the recorded values" in problems(path)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("forged", [False, True])
def test_a_truncated_artifact(fresh, tools, target, forged):
    path = fresh(target)
    file = path / tools.weights[target]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    if forged:
        tools.forge(path)
    found = problems(path)
    assert "model" in found and (forged or "truncated" in found)


def test_missing_and_unexpected_files(fresh):
    path = fresh("coreml")
    (path / "labels.json").unlink()
    (path / "model.mlpackage" / "payload.bin").write_bytes(b"x")
    found = problems(path)
    assert "labels.json is missing" in found and "model.mlpackage/payload.bin is not in the manifest" in found


def test_a_bundle_without_its_artifact(fresh):
    path = fresh("coreml")
    shutil.rmtree(path / "model.mlpackage")
    assert "model.mlpackage" in problems(path)


@pytest.mark.parametrize("target,lie", [("onnx", "fp16"), ("coreml", "fp32")])
def test_a_false_precision(fresh, tools, target, lie):
    path = fresh(target)
    tools.claim(path, lie)
    assert f"claims {lie}" in problems(path)


@pytest.mark.parametrize("golden_answer", [True, False])
def test_swapped_labels(fresh, tools, golden_answer):
    path = fresh("onnx")
    labels = json.loads((path / "labels.json").read_text(encoding="utf-8"))
    cases = json.loads((path / "golden.json").read_text(encoding="utf-8"))["cases"]
    answers = {answer for case in cases for answer in case["result"]}
    first, second = [i for i, label in enumerate(labels) if label not in answers][:2]
    if golden_answer:
        first = labels.index(min(answers))
    labels[first], labels[second] = labels[second], labels[first]
    (path / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    tools.forge(path)
    assert "labels.json" in problems(path)


@pytest.mark.parametrize("file", ["labels.json", "golden.json", "golden/wide.png"])
def test_what_needs_no_runtime_is_checked_without_one(fresh, tools, no_runtime, file):
    path = fresh("onnx")
    if file == "labels.json":
        labels = json.loads((path / file).read_text(encoding="utf-8"))
        (path / file).write_text(json.dumps(labels[1:] + labels[:1]), encoding="utf-8")
    elif file == "golden.json":
        golden = json.loads((path / file).read_text(encoding="utf-8"))
        golden["cases"][0]["input_ids"]["main"][0][1] += 1
        (path / file).write_text(json.dumps(golden), encoding="utf-8")
    else:
        (path / file).write_bytes((path / "golden" / "tall.png").read_bytes())
    tools.forge(path)
    no_runtime()
    words = {"golden.json": "tokenizer.json gives other token ids"}
    assert words.get(file, file) in problems(path)


def test_a_changed_vocabulary(fresh, tools):
    path = fresh("onnx")
    tokenizer = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["what"], vocabulary["the"] = vocabulary["the"], vocabulary["what"]
    (path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    tools.forge(path)
    assert "tokenizer.json" in problems(path)


def test_a_changed_golden_picture(fresh, tools):
    from PIL import Image

    path = fresh("onnx")
    file = path / "golden" / "wide.png"
    Image.open(file).convert("L").save(file)
    tools.forge(path)
    assert "golden case golden/wide.png: the preprocessed picture" in problems(path)


def test_numbers_that_contradict_each_other(fresh, tools):
    path = fresh("onnx")
    tools.edit(path, lambda values: values["image_processing"]["main"].update(size=64))
    with pytest.raises(VerificationFailed, match=r"image is said to be .*\[1, 32, 32, 3\].*must be .*\[1, 64, 64, 3\]"):
        verify_bundle(path, samples=N)


def test_another_model_than_the_checkpoint_is_described(fresh, tools):
    path = fresh("onnx")
    tools.edit(path, lambda values: values["image_processing"]["main"].update(kernel="cubic"))
    found = problems(path)
    assert "golden case" in found and "image_processing is not that of the checkpoint" in found


@pytest.mark.parametrize(
    "change,word",
    [
        (lambda values: values.update(golden="../golden.json"), "golden"),
        (lambda values: values["files"].update({"../../etc/passwd": values["files"]["labels.json"]}), "leaves"),
        (lambda values: values.update(schema_version=99), "update|pip install"),
        (lambda values: values.pop("files"), "files"),
    ],
)
def test_manifests_that_cannot_be_trusted(fresh, tools, change, word):
    path = fresh("onnx")
    tools.edit(path, change)
    with pytest.raises(VerificationFailed, match=word):
        verify_bundle(path, samples=N)


@pytest.mark.parametrize("keep", [0, 1, 200])
def test_a_truncated_manifest(fresh, keep):
    path = fresh("onnx")
    file = path / "manifest.json"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(VerificationFailed, match=r"manifest\.json"):
        verify_bundle(path, samples=N)


def test_a_link_out_of_the_bundle(fresh):
    path = fresh("onnx")
    outside = path.parent / "model.onnx"
    shutil.move(path / "model.onnx", outside)
    (path / "model.onnx").symlink_to(outside)
    assert "model.onnx is a link" in problems(path)


def test_bad_options(exported):
    for options, word in [
        ({"samples": 0}, "at least 1"),
        ({"data": "scense:test"}, "scenes"),
        ({"data": "scenes:tset"}, "test"),
    ]:
        with pytest.raises(InputError, match=word):
            verify_bundle(exported["onnx"], **options)


def test_a_bundle_on_a_read_only_disk_is_still_verified(fresh):
    path = fresh("onnx")
    if not shutil.which("mount") or subprocess.run(["mount", "--bind", path, path], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", path], check=True)
        report = verify_bundle(path, samples=N)
        assert report.ok and "could not be written" in report.notes[0]
    finally:
        subprocess.run(["umount", path], check=True)


def test_parity_by_hand():
    reference = np.array([[1.0, 2.0], [0.0, 10.0]])
    difference = np.array([[0.5, -0.6], [0.0, 0.0]])
    parity = compare_output(reference + difference, reference)
    assert parity.max_abs == pytest.approx(0.6)
    assert parity.psnr_db == pytest.approx(20 * np.log10(10 / np.sqrt((0.25 + 0.36) / 4)))
    assert parity.snr_db == pytest.approx(10 * np.log10((2 * 0.25 + 2 * 16) / (0.25 + 0.36)))
    equal = compare_output(reference, reference)
    assert (equal.snr_db, equal.psnr_db, equal.max_abs) == (MAX_DB, MAX_DB, 0)
    assert equal.cosine == pytest.approx(1)
    assert compare_output(reference[:1], reference[:1]).snr_db is None


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_a_file_that_always_gives_the_mean_has_no_signal(offset):
    """PSNR and cosine would let it pass where all values lie far from zero."""
    reference = np.random.default_rng(0).normal(size=(200, 8)) + offset
    constant = np.broadcast_to(reference.mean(axis=0), reference.shape)
    parity = compare_output(constant, reference)
    assert parity.snr_db is not None and parity.snr_db == pytest.approx(0)
    assert all(parity.snr_db < limits.snr_db for limits in (each.thresholds for each in PRECISIONS.values()))
    assert offset == 0 or (parity.psnr_db > 39 and parity.cosine > 0.999)


def test_wilson():
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(10, 10)[1] == pytest.approx(1) and wilson(0, 0) == (0, 1)


def test_samples_are_the_same_every_time():
    code = (
        "import hashlib; from edgevl.verify.measure import draw; s = draw('scenes:test', 'vqa', 5, 32); "
        "print(hashlib.sha256(b''.join(each.query.pictures[0].tobytes() for each in s) + "
        "repr([(each.query.texts, each.target, each.kind) for each in s]).encode()).hexdigest())"
    )
    root = Path(__file__).parents[2]
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True, encoding="utf-8"
        ).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1] and len(runs[0]) == 65
    more, few = (draw("scenes:test", "vqa", count, 32) for count in (8, 5))
    assert [each.query.texts for each in more[:5]] == [each.query.texts for each in few]
