"""The detector: it learns, it resumes exactly, its regions are what they say, and its folder is checked."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torchvision.ops import box_iou

from edgevl.cli import main
from edgevl.data.scenes import CATEGORIES, COLORS, SIZES, Scenes
from edgevl.errors import EdgeVLError, InputError
from edgevl.regions.detector import Detector, DetectorConfig, load_detector, save_detector
from edgevl.training import checkpoints, detect, pretrain
from edgevl.training.compute import forward_macs
from edgevl.training.recipe import load_recipe, parse_recipe


@pytest.fixture(scope="module")
def loaded(overfitted):
    return load_detector(overfitted / "model")


def pictures(indices, size=64):
    return torch.stack(
        [torch.from_numpy(Scenes("train", size=size).scene(i).image.transpose(2, 0, 1)) for i in indices]
    )


def test_two_scenes_are_learned_by_heart(overfitted, loaded):
    losses = [
        json.loads(line)["loss"] for line in (overfitted / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert losses[-1] < losses[0] / 3
    regions = loaded.detector.regions(pictures([0, 1]), 8)
    right = []
    for picture in range(2):
        objects = Scenes("train", size=64).scene(picture).objects
        overlaps, places = box_iou(torch.tensor([o.box for o in objects]), 64 * regions.boxes[picture]).max(1)
        for item, overlap, place in zip(objects, overlaps, places, strict=True):
            seen = regions.classes[picture, place], regions.attributes["size"][picture, place]
            right.append(overlap > 0.5 and seen == (item.category_id, SIZES.index(item.size)))
    assert sum(right) >= 0.75 * len(right)


def test_mean_average_precision_of_what_was_learned_and_of_what_was_not(loaded):
    pytest.importorskip("torchmetrics", reason='needs pip install "edgevl[detect]"')
    pytest.importorskip("faster_coco_eval", reason='needs pip install "edgevl[detect]"')
    known = detect.average_precision(loaded.detector, Scenes("train", size=64), 2)
    unknown = detect.average_precision(loaded.detector, Scenes("val", size=64), 2)
    assert known["val_map_50"] > 0.6 and known["val_map"] > 0.5
    assert unknown["val_map"] < 0.2


def test_regions_are_sorted_separate_and_inside_the_picture(loaded):
    regions = loaded.detector.regions(pictures(range(4)), 8)
    assert regions.features.shape == (4, 8, 32) and regions.boxes.shape == (4, 8, 4)
    assert (regions.scores.diff(dim=1) <= 0).all() and (regions.boxes >= 0).all() and (regions.boxes <= 1).all()
    overlaps = box_iou(regions.boxes[0], regions.boxes[0]).triu(1)
    assert overlaps.max() <= 0.5


def test_where_fewer_regions_are_found_the_rest_is_zero(loaded):
    regions = loaded.detector.regions(pictures([0]), 60)  # there are 20 proposals
    found = int((regions.scores[0] > 0).sum())
    assert 0 < found <= 20
    assert not regions.boxes[0, found:].any() and not regions.features[0, found:].any()


def test_a_box_of_another_picture_of_the_batch_is_never_taken(loaded):
    together = loaded.detector.regions(pictures([0, 5]), 6)
    for row, index in enumerate([0, 5]):
        alone = loaded.detector.regions(pictures([index]), 6)
        torch.testing.assert_close(together.boxes[row], alone.boxes[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.features[row], alone.features[0], atol=1e-3, rtol=1e-3)


def test_a_resumed_run_ends_as_one_that_was_never_stopped(tmp_path, detect_values):
    values = detect_values | {"steps": 6, "log_every": 1, "checkpoint_every": 3}
    whole = detect.run(parse_recipe(values, "test"), out=tmp_path / "whole")
    cut = tmp_path / "cut"
    shutil.copytree(whole, cut)
    shutil.rmtree(checkpoints.list_checkpoints(cut)[-1])  # as if it was killed after step 3
    shutil.rmtree(cut / "model")
    detect.run(parse_recipe(values, "test"), out=cut, resume=True)
    ends = [load_file(folder / "model" / "model.safetensors") for folder in (whole, cut)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_cost_of_training_is_counted(overfitted, detect_values):
    record = json.loads((overfitted / "model" / "training.json").read_text(encoding="utf-8"))
    assert record["pictures"] == 120
    assert record["training_macs"] == pytest.approx(3 * record["forward_macs_per_picture"] * 120, rel=1e-6)
    layer = torch.nn.Linear(8, 4)
    assert forward_macs(lambda: layer(torch.zeros(5, 8))) == 5 * 8 * 4


def test_a_saved_detector_loads_as_it_was(tmp_path, loaded):
    again = load_detector(save_detector(tmp_path / "copy", loaded.detector))
    assert again.config == loaded.config and again.sha256 == loaded.sha256
    assert again.config.classes == CATEGORIES and again.config.attributes == {"color": COLORS, "size": SIZES}
    assert torch.equal(again.detector.regions(pictures([0]), 4).features, loaded.detector.regions(pictures([0]), 4)[2])


def test_what_is_no_detector_is_one_clear_line(tmp_path, loaded):
    from edgevl.models.checkpoint import EMBEDDED

    with pytest.raises(InputError, match="edgevl data detector detect_scenes"):
        load_detector(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is not a detector: unknown detector config field"):
        load_detector(EMBEDDED)
    broken = save_detector(tmp_path / "broken", loaded.detector)
    (broken / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_detector(broken)


def test_boxes_stay_exact_where_the_backbone_is_not():
    torch.manual_seed(0)
    detector = Detector(DetectorConfig(image_size=64, channels=16, feature_width=32, classes=("a", "b"))).train()
    target = {"boxes": torch.tensor([[8.0, 8.0, 24.0, 28.0]]), "labels": torch.tensor([1])}
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector.losses(pictures([0]), [target])
    assert all(value.dtype == torch.float32 for value in losses.values())


def test_the_other_stages_send_a_detector_recipe_to_its_command(tmp_path, detect_values):
    with pytest.raises(InputError, match="edgevl data detector"):
        pretrain.run(parse_recipe(detect_values, "test"), out=tmp_path / "x")
    with pytest.raises(InputError, match="losses is for pretrain and distill"):
        parse_recipe(detect_values | {"losses": {"mlm": {}}}, "test")
    assert load_recipe("detect_scenes").stage == "detect"


def test_without_torchmetrics_a_run_does_not_begin(tmp_path, detect_values, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchmetrics.detection", None)
    with pytest.raises(EdgeVLError, match=r"edgevl\[detect\]") as caught:
        detect.run(parse_recipe(detect_values | {"eval_samples": 2}, "test"), out=tmp_path / "x")
    assert caught.value.exit_code == 3 and not (tmp_path / "x").exists()


def test_the_command_trains_one(tmp_path, capsys, detect_values):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(detect_values), encoding="utf-8")
    out = tmp_path / "run"
    assert main(["data", "detector", str(tmp_path / "tiny.yaml"), "steps=1", "--out", str(out)]) == 0
    assert "data annotate scenes:train" in "".join(capsys.readouterr())
    assert load_detector(out / "model").config.feature_width == 32
