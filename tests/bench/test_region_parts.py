"""The parts of the detectors against torchvision's own code, and the choice of regions against the published loop."""

import dataclasses

import pytest
import torch
from region_samples import TINY, settled_detector
from torch import nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import batched_nms, nms, roi_align
from torchvision.ops.poolers import LevelMapper

from edgevl.bench.picture import make_photo
from edgevl.errors import InputError
from edgevl.regions.answerer import RegionConfig
from edgevl.regions.export import background_bias, calibrate_classes, rois_of
from edgevl.regions.parts import (
    LAYOUTS,
    RegionHead,
    RegionTrunk,
    align_by_product,
    build_detector,
    make_anchors,
)
from edgevl.regions.stages import fill_up, propose, select_regions, split_by_level

FPN = TINY["resnet-fpn"]
TWO_STAGE = [name for name, config in TINY.items() if config.two_stage]


@pytest.fixture(scope="module", params=TINY)
def settled(request):
    """(config, detector, what its trunk says of a photo)."""
    config = TINY[request.param]
    detector = settled_detector(config)
    with torch.no_grad():
        outputs = RegionTrunk(detector, config)(photo_of(config))
    return config, detector, outputs


def photo_of(config):
    return torch.from_numpy(make_photo(config.height, config.width).copy())[None]


def their_maps(detector, config):
    """Feature maps by torchvision's own transform of a picture (of its own size) and backbone."""
    image = photo_of(config)[0].permute(2, 0, 1) / 255 - torch.tensor(detector.transform.image_mean)[:, None, None]
    image = image / torch.tensor(detector.transform.image_std)[:, None, None]
    detector.transform.size_divisible = config.padding if config.two_stage else 1
    with torch.no_grad():
        maps = detector.backbone(detector.transform.batch_images([image], detector.transform.size_divisible))
    return [maps] if isinstance(maps, torch.Tensor) else list(maps.values())


def test_maps_and_anchors_are_those_that_torchvision_makes(settled):
    config, detector, (*ours, _, _) = settled
    maps = their_maps(detector, config)
    for values, reference in zip(ours, maps, strict=False):
        torch.testing.assert_close(values, reference, rtol=1e-3, atol=1e-3)
    generator = detector.rpn.anchor_generator if config.two_stage else detector.anchor_generator
    theirs = generator(ImageList(torch.zeros(1, 3, *config.padded), [config.padded]), maps)[0]
    anchors, counts = make_anchors(detector, config)
    torch.testing.assert_close(anchors, theirs)
    assert sum(counts) == len(anchors)


def test_proposals_are_torchvisions(settled):
    config, detector, (*_, objectness, deltas) = settled
    anchors, counts = make_anchors(detector, config)
    ours = propose(config, objectness, deltas, anchors, counts)
    if config.two_stage:
        rpn = detector.rpn
        rpn._pre_nms_top_n["testing"], rpn._post_nms_top_n["testing"] = config.pre_nms, config.post_nms
        rpn.score_thresh = 0.0
        decoded = rpn.box_coder.decode(deltas, [anchors]).reshape(1, -1, 4)
        theirs = rpn.filter_proposals(decoded, objectness[:, None], [(config.height, config.width)], counts)[0][0]
    else:
        boxes = detector.box_coder.decode_single(deltas, anchors).clamp(min=0)
        boxes = torch.minimum(boxes, torch.tensor([config.width, config.height] * 2))
        best = objectness.topk(config.pre_nms).indices
        theirs = boxes[best[nms(boxes[best], objectness[best], config.proposal_iou)]][: config.post_nms]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_moves_of_anchors_have_the_size_that_is_claimed(settled):
    config, detector, (*_, deltas) = settled
    scale = torch.tensor((1.0, 1, 1, 1) if config.two_stage else detector.box_coder.weights)
    assert ((deltas / scale).std(dim=0) - 0.2).abs().max() < 0.05


def test_ssd_scores_are_the_best_class_of_torchvisions_head():
    config = TINY["ssdlite"]
    detector = settled_detector(config)
    with torch.no_grad():
        *_, scores, deltas = RegionTrunk(detector, config)(photo_of(config))
        theirs = detector.head(their_maps(detector, config))
    torch.testing.assert_close(scores, theirs["cls_logits"][0].softmax(-1)[:, 1:].amax(-1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(deltas, theirs["bbox_regression"][0], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kind", TWO_STAGE)
def test_region_features_and_scores_are_torchvisions(kind):
    config = TINY[kind]
    detector = settled_detector(config)
    maps = their_maps(detector, config)
    boxes = random_boxes(40, seed=3)
    heads = detector.roi_heads
    named = dict(zip(detector.backbone.body.return_layers.values(), maps)) if kind != "resnet-c4" else {"0": maps[0]}
    with torch.no_grad():
        head = RegionHead(detector, config).eval()
        levels = split_by_level(config, boxes)
        features, logits, *deltas = head(maps[: head.layout.pooled], rois_of(levels))
        theirs = heads.box_head(heads.box_roi_pool(named, [torch.cat(levels)], [(config.height, config.width)]))
        their_logits, their_deltas = heads.box_predictor(theirs)
    torch.testing.assert_close(features, theirs, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(logits, their_logits, rtol=1e-3, atol=1e-4)
    assert len(deltas) == config.refine
    for ours in deltas:
        torch.testing.assert_close(ours, their_deltas, rtol=1e-3, atol=1e-4)


def random_boxes(count, seed, side=150.0):
    rng = torch.Generator().manual_seed(seed)
    corner = 0.6 * side * torch.rand(count, 2, generator=rng)
    return torch.cat([corner, corner + 2 + 0.38 * side * torch.rand(count, 2, generator=rng)], dim=1)


@pytest.mark.parametrize(("cells", "samples"), [(7, 2), (1, 14), (3, 1)])
def test_roi_align_as_a_product_is_roi_align(cells, samples):
    values = torch.randn(1, 5, 10, 14, generator=torch.Generator().manual_seed(0))
    boxes = torch.cat([random_boxes(30, seed=4), torch.tensor([[0.0, 0, 224, 160], [200, 150, 224, 160]])])
    rois = rois_of([boxes])[0]
    theirs = roi_align(values, rois, cells, 1 / 16, samples)
    torch.testing.assert_close(align_by_product(values, rois, cells, 1 / 16, samples), theirs, rtol=1e-4, atol=1e-5)


def test_one_cell_of_14_points_is_the_mean_of_7_cells_of_2():
    values, rois = torch.randn(1, 5, 20, 20), rois_of([random_boxes(30, seed=5)])[0]
    mean = roi_align(values, rois, 7, 1 / 16, 2).mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(align_by_product(values, rois, 1, 1 / 16, 14), mean, rtol=1e-4, atol=1e-5)


def test_levels_are_torchvisions():
    rng = torch.Generator().manual_seed(0)
    corner, size = 500 * torch.rand(400, 2, generator=rng), 3 + 600 * torch.rand(400, 2, generator=rng) ** 3
    boxes = torch.cat([corner, corner + size], dim=1)
    theirs = LevelMapper(2, 5)([boxes])
    for level, ours in enumerate(split_by_level(FPN, boxes)):
        torch.testing.assert_close(ours, boxes[theirs == level])
    assert split_by_level(TINY["resnet-c4"], boxes)[0] is boxes


def test_the_detector_that_is_trained_here_has_the_maps_that_its_layout_says():
    config = RegionConfig(detector="scenes", height=80, width=80, padding=1, classes=9, post_nms=40, regions=8)
    detector, layout = build_detector(config), LAYOUTS["scenes"]
    with torch.no_grad():
        *maps, objectness, _ = RegionTrunk(detector, config).eval()(torch.zeros(1, 80, 80, 3, dtype=torch.uint8))
    assert [tuple(level.shape[2:]) for level in maps] == [(80 // stride,) * 2 for stride in layout.strides]
    anchors, counts = make_anchors(detector, config)
    assert len(anchors) == sum(counts) == len(objectness)
    pool = detector.roi_heads.box_roi_pool
    assert pool.output_size == (layout.cells,) * 2 and pool.sampling_ratio == layout.samples


def test_detections_are_torchvisions():
    """The same proposals survive, in the same order, as torchvision's own post-processing keeps."""
    rng = torch.Generator().manual_seed(1)
    heads = build_detector(FPN).roi_heads
    assert isinstance(heads, RoIHeads)
    corner, size = 100 * torch.rand(120, 2, generator=rng), 10 + 50 * torch.rand(120, 2, generator=rng)
    proposals = torch.cat([corner, corner + size], dim=1)
    logits = 2 * torch.randn(120, FPN.classes, generator=rng)
    deltas = 0.1 * torch.randn(120, FPN.classes * 4, generator=rng)
    heads.detections_per_img = 10_000
    boxes, _, _ = heads.postprocess_detections(logits, deltas, [proposals], [(FPN.height, FPN.width)])
    decoded = heads.box_coder.decode(deltas, [proposals]).clamp(min=0)
    decoded[..., 0::2].clamp_(max=FPN.width)
    decoded[..., 1::2].clamp_(max=FPN.height)
    order = [int((decoded - box).abs().sum(-1).amin(dim=1).argmin()) for box in boxes[0]]
    ours, candidates = select_regions(FPN, proposals, logits, deltas)
    assert ours.tolist() == list(dict.fromkeys(order))[: FPN.regions]
    assert candidates == int((logits.softmax(1)[:, 1:] > FPN.score_threshold).sum())


def test_regions_are_those_of_the_published_loop():
    """Anderson et al. give every score of every class to NMS, class by class: the same regions, in the same order."""
    config = dataclasses.replace(TINY["resnet-c4"], classes=40, score_threshold=0.05)
    proposals = random_boxes(300, seed=6)
    logits = 4 * torch.randn(300, config.classes, generator=torch.Generator().manual_seed(2))
    scores = logits.softmax(dim=1)
    best = torch.zeros(300)
    for column in range(1, config.classes):
        kept = nms(proposals, scores[:, column], config.class_iou)
        best[kept] = torch.maximum(best[kept], scores[kept, column])
    theirs = best.argsort(descending=True)[: config.regions]
    ours, candidates = select_regions(config, proposals, logits)
    assert best[theirs].min() > config.score_threshold  # else the threshold would have cut one of them
    assert ours.tolist() == theirs.tolist() and candidates < 300 * 39 / 4


def test_class_agnostic_suppression_ignores_classes():
    config = TINY["mobilenet-fpn"]
    proposals = random_boxes(150, seed=7)
    logits = torch.randn(150, config.classes, generator=torch.Generator().manual_seed(3))
    best = logits.softmax(dim=1)[:, 1:].amax(dim=1)
    one_class = batched_nms(proposals, best, torch.zeros(150), config.class_iou)
    ours, candidates = select_regions(config, proposals, logits)
    assert ours.tolist()[: len(one_class)] == one_class.tolist()[: config.regions] and candidates == 150


def test_too_few_detections_are_filled_up():
    proposals = torch.tensor([[0.0, 0, 50, 50]]).repeat(40, 1)  # all overlap: one survives per class
    chosen, candidates = select_regions(FPN, proposals, torch.zeros(40, 7), torch.zeros(40, 28))
    assert len(set(chosen.tolist())) == FPN.regions and candidates == 240
    assert fill_up(torch.tensor([3]), torch.tensor([0.1, 0.4, 0.2, 0.3]), wanted=3).tolist() == [3, 1, 2]


def test_the_class_layer_is_calibrated_to_the_number_of_candidates():
    config = dataclasses.replace(TINY["resnet-c4"], classes=200, candidates=250, logit_std=4.0)
    with torch.no_grad():
        features, layer = 0.3 * torch.randn(120, 32), nn.Linear(32, config.classes)
        assert not (layer(features).softmax(1)[:, 1:] > config.score_threshold).any()  # fresh weights pass none
        calibrate_classes(layer, layer(features), config)
        logits = layer(features)
    passed = int((logits.softmax(1)[:, 1:] > config.score_threshold).sum())
    assert passed == pytest.approx(250, rel=0.05)
    assert logits[:, 1:].std(dim=0).mean() == pytest.approx(4.0, rel=0.01)
    assert background_bias(logits, dataclasses.replace(config, candidates=20)) > 0  # fewer: more background


def test_an_unknown_detector_names_the_known_ones():
    with pytest.raises(InputError, match='unknown detector "resnet-c5"; did you mean "resnet-c4"'):
        build_detector(RegionConfig(detector="resnet-c5"))
