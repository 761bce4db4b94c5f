"""CLIP from the folder to bundles that answer as transformers does: ONNX fp32 and Core ML fp16, verified."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from clip_folder import PICTURES, TEXTS, horizontal_first, opaque, transformers, write_clip

import edgevl
from edgevl.bundle.folder import Bundle
from edgevl.bundle.golden import read_golden, replay
from edgevl.contracts import Query
from edgevl.verify.measure import compare_output
from edgevl.verify.reference import find_reference, measured_reference

SAMPLES = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="module")
def onnx(folder):
    """Exported by the command line, beside the folder."""
    out = folder.parent / "tiny-clip-onnx-fp32.edgevl"
    line = [sys.executable, "-m", "edgevl", "export", str(folder), "--target", "onnx", "--out", str(out)]
    answer = subprocess.run(line, capture_output=True, text=True, encoding="utf-8")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == str(out) and "Loading weights" not in answer.stderr
    return out


@pytest.fixture(scope="module")
def coreml(folder):
    return edgevl.export_bundle(folder, "coreml", out=folder.parent / "tiny-clip-coreml-fp16.edgevl")


@pytest.fixture(scope="module")
def expected(folder):
    """Embeddings of transformers with its own processor: of pictures and of texts."""
    with pytest.MonkeyPatch.context() as patch:
        horizontal_first(patch)
        pixels = transformers.CLIPImageProcessorPil.from_pretrained(folder)(
            [opaque(picture) for picture in PICTURES], return_tensors="pt"
        )
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    ids = tokenizer(TEXTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    model = transformers.CLIPModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        outputs = model(**pixels, **ids)
    return {name: outputs[name].numpy() for name in ("image_embeds", "text_embeds")}


def embeddings(bundle):
    (answer,) = Bundle.open(bundle).checked().opened().answer([Query(tuple(PICTURES), tuple(TEXTS))])
    return answer.values


def test_onnx_gives_the_embeddings_of_transformers(onnx, expected):
    assert len(PICTURES) >= 20 and len(TEXTS) >= 50
    own = embeddings(onnx)
    for name, reference in expected.items():
        assert np.abs(own[name] - reference).max() < 1e-4, name


def test_coreml_in_half_precision_is_far_above_the_noise(coreml, expected):
    own = embeddings(coreml)
    for name, reference in expected.items():
        found = compare_output(own[name], reference)
        assert found.snr_db is not None and found.snr_db > 40, (name, found)


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_verify_finds_the_folder_and_compares_with_it(target, request):
    bundle = request.getfixturevalue(target)
    report = edgevl.verify_bundle(bundle, samples=SAMPLES)
    assert report.ok, report.audit.problems
    assert report.parity and set(report.parity.outputs) == {"image_embeds", "text_embeds"}
    assert report.parity.top1_agreement == 1 and report.parity.snr_db and report.parity.snr_db > 40
    assert report.accuracy and report.accuracy.metric == "text_to_image_r1"


def test_verify_refuses_other_weights_of_that_name(onnx, folder, tmp_path):
    other = write_clip(tmp_path / "tiny-clip")
    model = transformers.CLIPModel.from_pretrained(other)
    with torch.no_grad():
        model.visual_projection.weight.mul_(1.01)
    model.save_pretrained(other)
    found = find_reference(Bundle.open(onnx))
    assert found.path == folder and measured_reference(
        folder, Bundle.open(onnx).manifest.provenance.checkpoint_sha256, "scenes:test", 8
    )
    with pytest.raises(edgevl.InputError, match="does not hold the weights"):
        edgevl.verify_bundle(onnx, samples=8, checkpoint=other)


def test_golden_cases_ask_several_texts_so_that_another_order_is_seen(onnx, tmp_path):
    bundle = Bundle.open(onnx)
    cases = read_golden(bundle).cases
    assert min(len(case.texts) for case in cases) >= 4
    opened = bundle.opened()
    many = opened.runner.many  # pyright: ignore[reportOptionalMemberAccess]

    def backwards(value, queries, progress=None):
        rows = many(value, queries, progress)
        return rows[::-1] if value == "text_embeds" else rows

    assert replay(bundle, opened).passed == len(cases)
    opened.runner.many = backwards  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    assert replay(bundle, opened).passed == 0


def test_predict_ranks_texts(onnx):
    line = [sys.executable, "-m", "edgevl", "predict", str(onnx), "sample", *TEXTS[:2], "--json"]
    answer = subprocess.run(line, capture_output=True, text=True, encoding="utf-8")
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert {text for text, _ in found["scores"]} == set(TEXTS[:2]) and found["answer"] == found["scores"][0][0]
