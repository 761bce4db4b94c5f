"""The detector without NMS: its file computes what its module does, and its pipeline answers."""

import json

import numpy as np
import pytest
import torch

from edgevl.bench.harness import Stopwatch
from edgevl.bench.picture import encode, make_photo
from edgevl.bench.pipelines import Query, run_pipeline
from edgevl.config import CONFIGS
from edgevl.data.scenes.vocabulary import VOCABULARY
from edgevl.inputs.tokenizer import Tokenizer

pytest.importorskip("transformers")
from edgevl.regions.pipeline import SetPipeline
from edgevl.regions.set_detector import SetConfig, SetRegions, build_detector, export_set_detector

SMALL = SetConfig(size=96, queries=45, regions=45)  # all there are, so that near ties change the order only
LABELS = ["yes", "no", "red"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, words = tmp_path_factory.mktemp("dfine"), Tokenizer.from_words(VOCABULARY)
    model = CONFIGS["nano"].replace(depth=1, vocab_size=words.vocab_size, num_answers=len(LABELS))
    export_set_detector(folder, SMALL, model)
    words.save(folder / "tokenizer.json")
    (folder / "labels.json").write_text(json.dumps(LABELS), encoding="utf-8")
    return folder


def in_order(features: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    rows = np.concatenate([boxes, features], axis=1)
    return rows[np.lexsort(rows[:, :4].round(3).T)]


def test_the_file_computes_what_the_module_does(folder):
    pipeline = SetPipeline(folder, 1)
    image = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), np.uint8)
    with torch.no_grad():
        features, boxes = SetRegions(SMALL).eval()(torch.from_numpy(image))
    found = in_order(*pipeline.regions(image, Stopwatch()))
    np.testing.assert_allclose(found, in_order(features[0].numpy(), boxes[0].numpy()), atol=1e-3)


def test_a_photo_and_a_question_become_an_answer(folder):
    pipeline, watch = SetPipeline(folder, 1), Stopwatch()
    assert run_pipeline(pipeline, Query(encode(make_photo()), "what color is the car?"), watch) in LABELS
    assert list(watch.stages) == ["decode", "resize", "tokenize", "detector", "fusion", "answer"]
    assert pipeline.notes[1] == "no NMS: the 45 best of 45 queries are the regions"


def test_it_has_the_size_that_was_published():
    """3.8 M parameters: the paper's table 1."""
    assert sum(each.numel() for each in build_detector(SetConfig()).parameters()) == pytest.approx(3.8e6, rel=0.03)


def test_the_best_regions_come_first():
    config = SetConfig(size=96, queries=45, regions=4)
    image = torch.randint(0, 256, (1, 96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        some, every = SetRegions(config).eval()(image), SetRegions(SMALL).eval()(image)
    torch.testing.assert_close(some[1], every[1][:, :4])
    assert some[0].shape == (1, 4, 128) and bool((some[1][..., 2:] >= some[1][..., :2]).all())
