"""The region-feature pipeline: its steps against torchvision's own, its files against PyTorch, its stages' sum."""

import dataclasses
import json
import time

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops.poolers import LevelMapper

from edgevl.bench.harness import Stopwatch
from edgevl.bench.picture import encode, make_photo
from edgevl.bench.pipelines import Query, run_pipeline
from edgevl.bench.probe import ask_fresh_process
from edgevl.bench.region_export import export_region
from edgevl.bench.region_pipeline import RegionPipeline
from edgevl.bench.region_stages import propose, select_regions, split_by_level
from edgevl.config import ModelConfig
from edgevl.errors import InputError
from edgevl.models.fusion import Fusion
from edgevl.models.region import RegionAnswerer, RegionConfig, RegionTrunk, build_detector, make_anchors, settle
from edgevl.models.vqa import AnswerHead
from edgevl.tokenizer import Tokenizer

TINY = RegionConfig(
    name="tiny", backbone="resnet18", height=160, width=224, classes=7, pre_nms=300, post_nms=120, candidates=60
)
WORDS = ModelConfig(text_length=8, vocab_size=128, num_answers=5, width=16, depth=2, heads=2)


@pytest.fixture(scope="module")
def photo():
    return make_photo(TINY.height, TINY.width)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, photo):
    folder = export_region(tmp_path_factory.mktemp("region"), TINY, WORDS, photo, threads=1)
    Tokenizer.from_words(["what", "color"]).save(folder / "tokenizer.json")
    (folder / "labels.json").write_text(json.dumps(["a", "b", "c", "d", "e"]))
    return RegionPipeline(folder, threads=1)


@pytest.fixture(scope="module")
def query(photo):
    return Query(encode(photo, "PNG"), "what color?")


def test_top_36_features_and_boxes(pipeline, photo):
    features, boxes = pipeline.regions(photo[None], Stopwatch())
    assert features.shape == (36, 1024) and boxes.shape == (36, 4)
    assert (boxes >= 0).all() and (boxes <= 1).all() and (boxes[:, 2:] > boxes[:, :2]).all()
    assert len(np.unique(boxes, axis=0)) == 36  # a proposal counts once


def test_the_suppressions_get_the_work_that_is_claimed(pipeline, photo):
    pipeline.regions(photo[None], Stopwatch())
    assert pipeline.proposals == TINY.post_nms
    assert pipeline.candidates == pytest.approx(TINY.candidates, rel=0.1)
    assert f"{pipeline.candidates} class scores" in pipeline.notes[1]
    assert any("untrained" in note for note in pipeline.notes)


def test_answers_from_bytes_and_words_and_stages_sum_to_the_total(pipeline, query):
    run_pipeline(pipeline, query, Stopwatch())
    watch = Stopwatch()
    start = time.perf_counter()
    assert run_pipeline(pipeline, query, watch) in "abcde"
    total = time.perf_counter() - start
    before = ["decode", "resize", "tokenize"]
    neural = ["backbone", "proposals", "region features", "detection NMS", "fusion"]
    assert list(watch.stages) == [*before, *neural, "answer"]
    assert sum(watch.stages.values()) == pytest.approx(total, rel=0.05)


def test_a_fresh_process_opens_the_files_alone(pipeline, query, tmp_path):
    (tmp_path / "picture").write_bytes(query.image)
    _, cold = ask_fresh_process("region-r50", pipeline.folder, 1, tmp_path / "picture", query.question)
    assert cold.load_ms > 0 and cold.first_ms["pipeline"] > cold.first_ms["model"] > 0
    assert cold.peak_mb is not None and cold.peak_mb > 50


def test_the_exported_trunk_agrees_with_pytorch(pipeline, photo):
    torch_outputs = RegionTrunk(settled_detector(photo), TINY)(torch.from_numpy(photo.copy())[None])
    for ours, output in zip(pipeline._run_trunk(photo[None]), torch_outputs, strict=True):
        reference = output.detach().numpy()
        values = ours if isinstance(ours, np.ndarray) else ours.numpy()
        assert np.abs(values - reference).max() < 2e-3 * np.abs(reference).max()


def settled_detector(photo):
    """The same detector as `export_region` builds: the same seed, settled on the same half-size picture."""
    detector = build_detector(TINY)
    half = dataclasses.replace(TINY, height=TINY.height // 2, width=TINY.width // 2)
    settle(detector, half, torch.from_numpy(photo[::2, ::2].copy())[None])
    return detector


def test_proposals_are_torchvisions(photo):
    detector = settled_detector(photo)
    anchors, counts = make_anchors(detector, TINY)
    with torch.no_grad():
        *_, objectness, deltas = RegionTrunk(detector, TINY)(torch.from_numpy(photo.copy())[None])
        rpn = detector.rpn
        decoded = rpn.box_coder.decode(deltas, [anchors]).reshape(1, -1, 4)
        theirs, _ = rpn.filter_proposals(decoded, objectness[:, None], [(TINY.height, TINY.width)], counts)
    ours = propose(TINY, objectness, deltas, anchors, counts)
    torch.testing.assert_close(ours, theirs[0])


def test_anchors_are_those_that_torchvision_makes_for_its_own_features(photo):
    from torchvision.models.detection.image_list import ImageList

    detector = settled_detector(photo)
    with torch.no_grad():
        padded = torch.zeros(1, 3, *TINY.padded)
        maps = list(detector.backbone(padded).values())
        theirs = detector.rpn.anchor_generator(ImageList(padded, [TINY.padded]), maps)[0]
    torch.testing.assert_close(make_anchors(detector, TINY)[0], theirs)


def test_levels_are_torchvisions():
    rng = torch.Generator().manual_seed(0)
    corner, size = 500 * torch.rand(400, 2, generator=rng), 3 + 600 * torch.rand(400, 2, generator=rng) ** 3
    boxes = torch.cat([corner, corner + size], dim=1)
    theirs = LevelMapper(2, 5)([boxes])
    for level, ours in enumerate(split_by_level(boxes)):
        torch.testing.assert_close(ours, boxes[theirs == level])


def test_detections_are_torchvisions(photo):
    """The same proposals survive, in the same order, as torchvision's own post-processing keeps."""
    rng = torch.Generator().manual_seed(1)
    heads = settled_detector(photo).roi_heads
    assert isinstance(heads, RoIHeads)
    corner, size = 100 * torch.rand(120, 2, generator=rng), 10 + 50 * torch.rand(120, 2, generator=rng)
    proposals = torch.cat([corner, corner + size], dim=1)
    logits = 2 * torch.randn(120, TINY.classes, generator=rng)
    deltas = 0.1 * torch.randn(120, TINY.classes * 4, generator=rng)
    heads.detections_per_img = 10_000
    boxes, _, _ = heads.postprocess_detections(logits, deltas, [proposals], [(TINY.height, TINY.width)])
    decoded = heads.box_coder.decode(deltas, [proposals]).clamp(min=0)
    decoded[..., 0::2].clamp_(max=TINY.width)
    decoded[..., 1::2].clamp_(max=TINY.height)
    order = [int((decoded - box).abs().sum(-1).amin(dim=1).argmin()) for box in boxes[0]]
    ours, candidates = select_regions(TINY, proposals, logits, deltas)
    assert ours.tolist() == list(dict.fromkeys(order))[: TINY.regions]
    assert candidates == int((logits.softmax(1)[:, 1:] > TINY.score_threshold).sum())


def test_too_few_detections_are_filled_up():
    proposals = torch.tensor([[0.0, 0, 50, 50]]).repeat(40, 1)  # all overlap: one survives per class
    chosen, candidates = select_regions(TINY, proposals, torch.zeros(40, 7), torch.zeros(40, 28))
    assert len(set(chosen.tolist())) == TINY.regions and candidates == 240


def test_the_fusion_transformer_is_our_models_own():
    answerer = RegionAnswerer(WORDS, feature_width=12)
    assert type(answerer.fusion) is Fusion and type(answerer.head) is AnswerHead
    ids = torch.tensor([[2, 9, 3, 0, 0, 0, 0, 0]])
    logits = answerer(torch.randn(1, 36, 12), torch.rand(1, 36, 4), ids)
    assert logits.shape == (1, WORDS.num_answers)


def test_more_regions_than_proposals_is_refused():
    with pytest.raises(InputError, match="regions 36 is more than the proposals that leave NMS, 20"):
        RegionConfig(post_nms=20)
