"""docs/bundle.md is enough: a reader written from it alone agrees with EdgeVL, bit for bit."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import second_implementation as second

from edgevl.app.conformance.bundles import small_bundle
from edgevl.app.conformance.small_models import MODELS, PICTURES, TEXTS, query_for
from edgevl.contracts import Query

LENGTH = 24


def test_it_is_independent():
    """In a process of its own it loads nothing of EdgeVL, nor what EdgeVL's preprocessing is made of."""
    code = "import sys, second_implementation; print(sorted({name.split('.')[0] for name in sys.modules}))"
    folder = Path(__file__).parent
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert not set(json.loads(run.stdout.replace("'", '"'))) & {"edgevl", "tokenizers", "PIL", "torch", "transformers"}


def test_it_knows_no_task_and_no_tensor_by_name():
    """`input_ids` is a field of golden cases, too."""
    text = Path(second.__file__).read_text(encoding="utf-8").replace('case["input_ids"]', "")
    assert not re.findall(r"logits|\"image\"|input_ids|visual|vqa|caption|retrieval|statement|ground", text)


# ---- bundles ---------------------------------------------------------------------------------------------------------
def answering(layout: str = "single", batch: int = 1) -> dict:
    return {"layout": layout, "batch": batch}


SLOW = [pytest.param(answering(*each), id="-".join(map(str, each)), marks=pytest.mark.slow)
        for each in (("split", 1), ("single", 2))]  # fmt: skip


@pytest.mark.parametrize("options", [pytest.param(answering(), id="single"), *SLOW])
def test_the_golden_cases_of_the_embedded_model(tmp_path, options):
    from edgevl.bundle_export import export_bundle

    bundle = second.SecondBundle(export_bundle(None, "onnx", out=tmp_path / "x.edgevl", **options))
    assert bundle.replay() == 6


def test_a_picture_is_encoded_once(bundles):
    bundle = second.SecondBundle(bundles["split"])
    (picture, *_) = [name for name in bundle.manifest["files"] if name.endswith(".png")]
    values, result = bundle.answer(second.Query((picture,), TEXTS))
    assert bundle.calls == {"vision": 1, "fusion": len(TEXTS)} and len(result) == len(TEXTS)
    single, same = second.SecondBundle(bundles["onnx"]).answer(second.Query((picture,), TEXTS))
    assert same == result
    for name, rows in values.items():
        np.testing.assert_allclose(rows, single[name], atol=1e-4)


# A model of each decoding, and what each program is called for: two queries, of which `query_for` is the first.
SMALL = [
    ("statement", "split", 1, {"vision": 4, "fusion": 4}),
    ("grounding", "split", 1, {"vision": 2, "fusion": 4}),
    ("towers", "towers", 2, {"image_encoder": 4, "text_encoder": 3}),
    ("captioner", "split", 1, None),
    ("answerer", "split", 2, None),
]


@pytest.fixture(scope="module", params=SMALL, ids=[each[0] for each in SMALL])
def small(request, tmp_path_factory):
    """(bundle, calls) of a small model with two golden cases."""
    name, layout, batch, calls = request.param
    model = MODELS[name]()
    first = query_for(model)
    other = Query(tuple(reversed(PICTURES))[: len(first.pictures)], first.texts[:1])
    folder = tmp_path_factory.mktemp("small") / f"{name}.edgevl"
    return small_bundle(model, (first, other), folder, layout, batch), calls


def test_a_bundle_of_every_decoding(small):
    folder, calls = small
    bundle = second.SecondBundle(folder)
    assert bundle.replay() == 2
    assert calls is None or bundle.calls == calls
    assert calls is not None or all(bundle.calls.values())


def damaged(folder: Path, change) -> Path:
    """The bundle with `change` made to its golden file; the manifest says nothing of it."""
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    change(golden)
    (folder / "golden.json").write_text(json.dumps(golden), encoding="utf-8")
    return folder


def test_values_and_results_that_are_not_recorded_are_noticed(small, tmp_path):
    """Of each kind of decoding: a value that is off by three times the tolerance, and another result."""
    folder = small[0]

    def other_value(golden):
        (name, values), tolerance = next(iter(golden["cases"][0]["values"].items())), golden["tolerance"]
        if "data" in values:
            smallest = values["data"].index(min(values["data"]))
            values["data"][smallest] -= 3 * tolerance[name]
        else:
            values["top"][0][-1][1] -= 3 * tolerance[name]

    def other_result(golden):
        golden["cases"][0]["result"] = golden["cases"][0]["result"][:-1]

    for number, change in enumerate((other_value, other_result)):
        bundle = second.SecondBundle(Path(shutil.copytree(folder, tmp_path / str(number))))
        damaged(bundle.folder, change)
        with pytest.raises(AssertionError):
            bundle.replay()


def test_a_damaged_golden_case_is_noticed(bundles, tmp_path):
    """The replay can fail: other pixels, other ids."""
    wrong = {"pixels_sha256": {"main": ["0" * 64]}, "input_ids": {"main": [[0] * LENGTH]}}
    for change, value in wrong.items():
        bundle = second.SecondBundle(Path(shutil.copytree(bundles["onnx"], tmp_path / change)))
        damaged(bundle.folder, lambda golden, change=change, value=value: golden["cases"][3].update({change: value}))
        with pytest.raises(AssertionError):
            bundle.replay()


UNKNOWN = [
    lambda values: values["decoding"].update(kind="rerank"),
    lambda values: values["decoding"].update(rerank="logits"),
    lambda values: values["programs"][0]["inputs"][0]["from"].update(kind="sound"),
    lambda values: values["image_processing"]["main"].update(geometry="stretch"),
    lambda values: values["image_processing"]["main"].update(kernel="lanczos"),
    lambda values: values["text_processing"]["main"].update(kind="unigram"),
]


@pytest.mark.parametrize("change", UNKNOWN)
def test_what_it_does_not_know_is_refused(bundles, tmp_path, change):
    folder = Path(shutil.copytree(bundles["onnx"], tmp_path / "x.edgevl"))
    values = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    change(values)
    (folder / "manifest.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises((ValueError, KeyError)):
        second.SecondBundle(folder).replay()
