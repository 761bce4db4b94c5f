"""The region-feature pipeline: its files against PyTorch, the counts that it claims, its stages' sum."""

import json
import time

import numpy as np
import pytest
import torch
from region_samples import TINY, settled_detector

from edgevl.bench.harness import Stopwatch
from edgevl.bench.picture import encode, make_photo
from edgevl.bench.pipelines import Query, run_pipeline
from edgevl.bench.probe import ask_fresh_process
from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models.fusion import Fusion
from edgevl.models.vqa import AnswerHead
from edgevl.regions.answerer import REGION_CONFIGS, RegionAnswerer, RegionConfig
from edgevl.regions.export import export_region, rois_of
from edgevl.regions.parts import LAYOUTS, RegionHead, RegionTrunk
from edgevl.regions.pipeline import RegionPipeline
from edgevl.regions.stages import split_by_level

WORDS = ModelConfig(text_length=8, vocab_size=128, num_answers=5, width=16, depth=2, heads=2)
STAGES = ["backbone", "proposals", "region features", "detection NMS", "fusion"]
ONE_STAGE = ["backbone", "detection NMS", "region features", "fusion"]


def picture_of(config):
    return make_photo(config.height, config.width)


# The export of MobileNet takes longest; SSDLite has the same backbone and the rest of its path is that of the others.
@pytest.fixture(scope="module", params=[
    "resnet-fpn", "resnet-c4", "ssdlite", pytest.param("mobilenet-fpn", marks=pytest.mark.slow)
])  # fmt: skip
def pipeline(request, tmp_path_factory):
    config = TINY[request.param]
    folder = export_region(tmp_path_factory.mktemp("region"), config, WORDS, picture_of(config))
    Tokenizer.from_words(["what", "color"]).save(folder / "tokenizer.json")
    (folder / "labels.json").write_text(json.dumps(["a", "b", "c", "d", "e"]), encoding="utf-8")
    return RegionPipeline(folder, threads=1)


def test_top_36_features_and_boxes(pipeline):
    features, boxes = pipeline.regions(picture_of(pipeline.config)[None], Stopwatch())
    assert features.shape == (36, pipeline.config.feature_width) and boxes.shape == (36, 4)
    assert (boxes >= 0).all() and (boxes <= 1).all() and (boxes[:, 2:] > boxes[:, :2]).all()
    assert len(np.unique(boxes, axis=0)) == 36  # a proposal counts once
    assert np.isfinite(features).all() and features.std() > 0.01


def test_the_suppressions_get_the_work_that_is_claimed(pipeline):
    config = pipeline.config
    pipeline.regions(picture_of(config)[None], Stopwatch())
    assert pipeline.proposals == config.post_nms
    assert pipeline.notes[0] == "untrained weights: only time is claimed"
    if config.two_stage and config.per_class:
        assert pipeline.candidates == pytest.approx(config.candidates, rel=0.1)
        assert f"{pipeline.candidates} class scores" in pipeline.notes[1]
    else:
        assert "class-agnostic" in pipeline.notes[1]


def test_answers_from_bytes_and_words_and_stages_sum_to_the_total(pipeline):
    query = Query(encode(picture_of(pipeline.config), "PNG"), "what color?")
    run_pipeline(pipeline, query, Stopwatch())
    watch = Stopwatch()
    start = time.perf_counter()
    assert run_pipeline(pipeline, query, watch) in "abcde"
    total = time.perf_counter() - start
    neural = STAGES if pipeline.config.two_stage else ONE_STAGE
    assert list(watch.stages) == ["decode", "resize", "tokenize", *neural, "answer"]
    assert sum(watch.stages.values()) == pytest.approx(total, rel=0.05)


def test_the_exported_files_agree_with_pytorch(pipeline):
    config = pipeline.config
    picture = picture_of(config)
    detector = settled_detector(config)
    theirs = RegionTrunk(detector, config)(torch.from_numpy(picture.copy())[None])
    ours = pipeline._run_trunk(picture[None])
    for values, reference in zip(ours, theirs, strict=True):
        assert_near(values if isinstance(values, np.ndarray) else values.numpy(), reference)
    boxes = torch.tensor([[0.0, 0, 50, 60], [3, 30, 90, 140], [10, 2, 30, 22.5]])
    levels = split_by_level(config, boxes)
    features = RegionHead(detector, config).eval()(list(theirs[:-2]), rois_of(levels))[0]
    assert_near(pipeline._run_boxes(ours[:-2], levels)[0], features)


def assert_near(ours, reference):
    reference = reference.detach().numpy()
    assert np.abs(ours - reference).max() < 2e-3 * np.abs(reference).max()


@pytest.mark.parametrize("pipeline", ["resnet-fpn"], indirect=True)
def test_a_fresh_process_opens_the_files_alone(pipeline, tmp_path):
    picture = tmp_path / "picture"
    picture.write_bytes(encode(picture_of(pipeline.config), "PNG"))
    _, cold = ask_fresh_process("region-r50", pipeline.folder, 1, picture, "what color?")
    assert cold.load_ms > 0 and cold.first_ms["pipeline"] > cold.first_ms["model"] > 0
    assert cold.peak_mb is not None and cold.peak_mb > 50


def test_the_fusion_transformer_is_our_models_own_or_as_large_as_bert():
    answerer = RegionAnswerer(RegionConfig().fusion(WORDS), feature_width=12)
    assert type(answerer.fusion) is Fusion and type(answerer.head) is AnswerHead
    ids = torch.tensor([[2, 9, 3, 0, 0, 0, 0, 0]])
    logits = answerer(torch.randn(1, 36, 12), torch.rand(1, 36, 4), ids)
    assert logits.shape == (1, WORDS.num_answers)
    bert = RegionConfig(bert=True).fusion(WORDS)
    assert (bert.width, bert.depth, bert.heads, bert.vocab_size) == (768, 12, 12, 30522)
    assert (bert.text_length, bert.num_answers) == (WORDS.text_length, WORDS.num_answers)


def test_every_variant_keeps_36_regions_of_a_known_detector():
    for name, config in REGION_CONFIGS.items():
        assert config.name == name and config.detector in LAYOUTS and config.regions == 36
    assert all(config.bert == ("heavy" in name) for name, config in REGION_CONFIGS.items())


def test_more_regions_than_proposals_is_refused():
    with pytest.raises(InputError, match="regions 36 is more than the proposals that leave NMS, 20"):
        RegionConfig(post_nms=20)
