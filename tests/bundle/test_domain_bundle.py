"""domain.json on its way: from a model folder into bundles and quantized folders, and refused when it is damaged."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mutations_json import WEIRD

from edgevl.bundle.folder import Bundle
from edgevl.bundle_export import export_bundle
from edgevl.domain import DOMAIN, parse_domain
from edgevl.errors import InputError, VerificationFailed
from edgevl.models.checkpoint import EMBEDDED
from edgevl.predict import Answerer, predict
from edgevl.training.domain import fit_domain
from edgevl.verify.run import verify_bundle

JETSON = Path(__file__).parents[2] / "apps" / "jetson"
QUESTION = "what color is the car?"


@pytest.fixture(scope="module")
def known(tiny_model, tmp_path_factory) -> Path:
    """The tiny random model with a domain.json."""
    folder = Path(shutil.copytree(tiny_model, tmp_path_factory.mktemp("known") / tiny_model.name))
    fit_domain(folder, pictures=200, questions=200)
    return folder


@pytest.fixture(scope="module")
def bundle(known) -> Path:
    return export_bundle(known, "onnx", out=known.parent / "known.edgevl")


def test_an_export_takes_it_along(known, bundle):
    assert (bundle / DOMAIN).read_bytes() == (known / DOMAIN).read_bytes()
    opened = Bundle.open(bundle)
    assert (
        opened.check_digests() == []
        and opened.manifest.provenance.data == "Scenes: emoji pictures (scenes:train, scenes:val)"
    )
    assert "Scenes: emoji pictures" in (bundle / "README.md").read_text(encoding="utf-8")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for source in (known, bundle):
        assert predict(source, noise, QUESTION).in_domain is False
        score = predict(source, "sample", QUESTION).domain_score
        assert score is not None and score < 1
    assert verify_bundle(bundle, samples=8, write=False).ok


def test_the_board_reads_a_bundle_with_one(bundle):
    code = "import sys, pathlib, bundle_reader; print(len(bundle_reader.Bundle(pathlib.Path(sys.argv[1])).labels))"
    run = subprocess.run(
        [sys.executable, "-c", code, bundle], cwd=JETSON, capture_output=True, text=True, encoding="utf-8"
    )
    assert run.stdout.strip() == "167", run.stderr


def test_a_bundle_without_one_has_no_opinion(exported):
    assert Bundle.open(exported["onnx"]).domain() is None
    assert predict(exported["onnx"], "sample", QUESTION).in_domain is None


@pytest.mark.parametrize("damage", ["{", "{}", '{"schema_version": 2}', "\udcff"])
def test_a_damaged_one_is_a_finding_of_verify_and_not_used(bundle, tmp_path, tools, damage):
    path = Path(shutil.copytree(bundle, tmp_path / "x.edgevl"))
    (path / DOMAIN).write_bytes(damage.encode("utf-8", "surrogateescape"))
    tools.forge(path)
    report = verify_bundle(path, samples=1, write=False)
    assert not report.ok and DOMAIN in report.audit.problems[0]
    with pytest.raises(VerificationFailed, match=r"domain\.json"):
        Answerer.load(path)


def test_one_of_another_model_is_refused(bundle, tmp_path, tools):
    path = Path(shutil.copytree(bundle, tmp_path / "x.edgevl"))
    shutil.copy(EMBEDDED / DOMAIN, path / DOMAIN)
    tools.forge(path)
    assert "other weights" in verify_bundle(path, samples=1, write=False).audit.problems[0]


def test_strange_values_are_refused_or_used_but_never_a_crash(bundle):
    values = json.loads((bundle / DOMAIN).read_text(encoding="utf-8"))
    pixels, logits, sha = np.zeros((32, 32, 3), np.uint8), np.zeros(167, np.float32), values["checkpoint_sha256"]
    accepted = []
    for field in values:
        for name, strange in {**WEIRD, "a list of it": [values[field]]}.items():
            try:
                domain = parse_domain(json.dumps({**values, field: strange}), sha, 32)
            except VerificationFailed:
                continue
            assert np.isfinite(domain.score(pixels)) and np.isfinite(domain.confidence(logits))
            accepted.append((field, name))
    free = {"about", "data", "questions", "characters", "neighbors", "picture_limit", "logit_limit", "temperature"}
    assert {field for field, _ in accepted} - {"schema_version"} <= free  # Python's true is 1


def test_quantizing_takes_it_along(known, tmp_path):
    from edgevl.quantize.model_folder import quantize_model

    found = quantize_model(known, "w4", samples=64, out=tmp_path / "w4")
    assert (found.folder / DOMAIN).read_bytes() == (known / DOMAIN).read_bytes()


def test_too_few_samples_say_nothing(tiny_model):
    for count in (100, 6000):
        with pytest.raises(InputError, match="200 to 5,000 pictures"):
            fit_domain(tiny_model, pictures=count)


def test_the_embedded_model_has_its_own():
    """Made by `edgevl domain fit`: fewer samples give the same kind of numbers, and the right digest."""
    embedded = json.loads((EMBEDDED / DOMAIN).read_text(encoding="utf-8"))
    assert (len(embedded["pictures"]), embedded["questions"], embedded["about"]) == (
        500,
        2000,
        "Scenes: emoji pictures",
    )
