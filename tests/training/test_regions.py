"""Regions in training: kept features are those of a fresh forward, and a region-feature model is trained on them.

Pseudo-labels and region distillation with a detector are here too: all of it reads one detector's regions.
"""

import json
from typing import Any

import numpy as np
import pytest
import torch

from edgevl.bench.harness import Stopwatch
from edgevl.bench.opponents import expand, find_opponent
from edgevl.cli import main
from edgevl.data.annotations import Annotations, annotate, inside
from edgevl.data.scenes import CATEGORIES, Scenes
from edgevl.errors import InputError
from edgevl.models.checkpoint import EMBEDDED, load_model
from edgevl.regions.cache import cache_regions, find_regions
from edgevl.regions.detector import load_detector, save_detector
from edgevl.regions.model import load_region_model, new_region_model
from edgevl.regions.pipeline import RegionPipeline
from edgevl.training import distill, finetune, pretrain, regions
from edgevl.training.recipe import load_recipe, parse_recipe
from edgevl.training.study.answers import draw_samples, evaluate_model

COUNT = 16  # scenes that four steps of the tiny recipes see


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    from edgevl.regions import cache as files

    monkeypatch.setattr(files, "SCENES_PER_FILE", 64)


@pytest.fixture(scope="module")
def loaded(overfitted):
    return load_detector(overfitted / "model")


@pytest.fixture
def region_values(pretrain_values, loaded, tmp_path):
    data = pretrain_values["data"] | {"region_cache": str(tmp_path / "regions")}
    return pretrain_values | {
        "detector": str(loaded.path),
        "regions": 6,
        "losses": {"mlm": {}, "itm": {}, "itc": {}, "region_labels": {"min_score": 0.0}},
        "data": data,
    }


def losses_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_kept_regions_are_those_of_a_fresh_forward(tmp_path, loaded):
    cache = cache_regions(loaded, "scenes:val", 3, 70, 5, tmp_path)
    for index in (0, 63, 64, 69):
        fresh = find_regions(loaded, Scenes("val", 3, 64), range(index, index + 1), 5)
        kept = cache[index]
        assert kept["region_boxes"] == pytest.approx(fresh.boxes[0].numpy(), abs=1e-4)
        assert kept["region_scores"] == pytest.approx(fresh.scores[0].numpy(), abs=1e-4)
        assert kept["region_features"] == pytest.approx(fresh.features[0].numpy(), abs=2e-3, rel=2e-3)
        assert kept["region_classes"].tolist() == fresh.classes[0].tolist()
        assert kept["region_color"].tolist() == fresh.attributes["color"][0].tolist()


def test_regions_are_computed_once_for_a_data_set_and_a_detector(tmp_path, loaded, monkeypatch):
    cache_regions(loaded, "scenes:val", 0, 64, 5, tmp_path)
    monkeypatch.setattr("edgevl.regions.cache.find_regions", lambda *_: pytest.fail("computed again"))
    cache_regions(loaded, "scenes:val", 0, 10, 5, tmp_path)
    for other in (("scenes:test", 0, 5), ("scenes:val", 1, 5), ("scenes:val", 0, 6)):
        with pytest.raises(pytest.fail.Exception, match="computed again"):
            cache_regions(loaded, *other[:2], 10, other[2], tmp_path)


def test_damaged_or_missing_regions_say_so(tmp_path, loaded):
    cache = cache_regions(loaded, "scenes:val", 0, 8, 5, tmp_path)
    with pytest.raises(InputError, match="scene 8 is not among the 8"):
        cache[8]
    next(cache.folder.glob("*.safetensors")).write_bytes(b"half")
    with pytest.raises(InputError, match="damaged"):
        cache[0]


def test_the_calls_of_the_model_agree_with_the_module_that_is_timed(loaded):
    model = new_region_model(load_model().config.replace(image_size=64), loaded, 6).see_with(loaded).eval()
    image = torch.from_numpy(Scenes("train", size=64).scene(0).image.transpose(2, 0, 1))[None].float()
    ids = torch.tensor([[2, 9, 11, 3, 0, 0]])
    found = loaded.detector.regions(image, 6)
    torch.testing.assert_close(model(image, ids), model.answerer(found.features, found.boxes, ids))
    assert not any("detector" in name or "backbone" in name for name in model.state_dict())


def test_a_region_feature_model_goes_through_pretraining_finetuning_and_evaluation(
    tmp_path, region_values, finetune_values, loaded, monkeypatch
):
    pre = pretrain.run(parse_recipe(region_values, "test"), out=tmp_path / "pre")
    assert {"mlm", "itm", "itc", "region_labels.classes", "region_labels.size"} <= losses_of(pre)[0].keys()
    values = finetune_values | {"init": str(pre / "model"), "data": finetune_values["data"] | region_values["data"]}
    tuned = finetune.run(parse_recipe(values, "test"), out=tmp_path / "ft")
    assert "val_accuracy" in losses_of(tuned)[-1]
    model = load_region_model(tuned / "model")
    scores = evaluate_model(model, draw_samples("scenes:val", 8, 64))
    assert scores.logits_NA.shape == (8, len(model.labels)) and np.isfinite(scores.logits_NA).all()
    monkeypatch.setattr("edgevl.regions.cache.find_regions", lambda *_: pytest.fail("a step ran the detector"))
    again = pretrain.run(parse_recipe(region_values, "test"), out=tmp_path / "again")
    assert [row["mlm"] for row in losses_of(again)] == [row["mlm"] for row in losses_of(pre)]


def test_the_files_that_are_timed_answer_as_the_trained_model_does(tmp_path, region_values):
    values = region_values | {"regions": 20}  # as many as proposals: mostly fewer survive, and the rest is zero
    pre = pretrain.run(parse_recipe(values, "test"), out=tmp_path / "pre") / "model"
    assert expand([str(pre), "vilt"]) == [str(pre), "vilt"]
    (tmp_path / "files").mkdir()
    find_opponent(str(pre)).build(tmp_path / "files", None, Scenes("val", size=64).scene(0).image)  # type: ignore[arg-type]
    pipeline = RegionPipeline(tmp_path / "files", threads=1)
    model: Any = load_region_model(pre).model
    fewer = 0
    for index in range(12):
        scene = Scenes("val", size=64).scene(index)
        image = torch.from_numpy(scene.image.transpose(2, 0, 1))[None].float()
        found = model.detector.detector.regions(image, 20)
        fewer += int((found.scores[0] > 0).sum()) < 20
        features, boxes = pipeline.regions(scene.image[None], Stopwatch())
        torch.testing.assert_close(torch.from_numpy(boxes), found.boxes[0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(torch.from_numpy(features), found.features[0], rtol=1e-3, atol=1e-3)
        words = pipeline.tokenizer.encode(scene.questions(1)[0].text, pipeline.length)[None]
        logits = pipeline.infer({"image": scene.image[None], "input_ids": words}, Stopwatch())
        with torch.no_grad():
            reference = model(image, torch.from_numpy(words))
        torch.testing.assert_close(torch.from_numpy(logits), reference, rtol=1e-3, atol=1e-3)
    assert fewer and "untrained" not in " ".join(pipeline.notes)


def test_a_region_feature_model_is_refused_where_it_does_not_fit(tmp_path, region_values, finetune_values):
    with pytest.raises(InputError, match=r"losses.object is not for it"):
        pretrain.run(parse_recipe(region_values | {"losses": {"mlm": {}, "object": {}}}, "test"), out=tmp_path / "x")
    with pytest.raises(InputError, match=r"losses.region_labels is for a region-feature model"):
        pretrain.run(parse_recipe(region_values | {"detector": None}, "test"), out=tmp_path / "x")
    with pytest.raises(InputError, match="no detector at"):
        pretrain.run(parse_recipe(region_values | {"detector": "no/where"}, "test"), out=tmp_path / "x")
    pre = pretrain.run(parse_recipe(region_values | {"steps": 1}, "test"), out=tmp_path / "pre")
    with pytest.raises(InputError, match="region-feature model"):
        load_model(pre / "model")
    with pytest.raises(InputError, match="grow is not for it"):
        finetune.run(
            parse_recipe(finetune_values | {"init": str(pre / "model"), "grow": 3}, "test"), out=tmp_path / "x"
        )
    values = finetune_values | {"stage": "distill", "init": str(pre / "model"), "teacher": "nano"}
    with pytest.raises(InputError, match="which cannot be distilled"):
        distill.run(parse_recipe(values | {"losses": {"logits": {}}}, "test"), out=tmp_path / "x")
    with pytest.raises(InputError, match="no region-feature model"):
        load_region_model(EMBEDDED)
    assert not (tmp_path / "x").exists()


def test_another_detector_than_the_one_trained_with_is_refused(tmp_path, region_values, loaded):
    other = save_detector(tmp_path / "other", loaded.detector)
    values = region_values | {"detector": str(other), "steps": 1}
    pre = pretrain.run(parse_recipe(values, "test"), out=tmp_path / "pre")
    changed: Any = load_detector(other).detector
    with torch.no_grad():
        changed.attributes["color"].bias.add_(1.0)
    save_detector(other, changed)
    with pytest.raises(InputError, match="is not the detector that"):
        load_region_model(pre / "model")


def test_region_distillation_with_a_detector_needs_no_boxes_and_reaches_the_eyes(pretrain_values, loaded, tmp_path):
    losses = {"region_distillation": {"teacher": str(loaded.path), "fraction": 1.0, "min_score": 0.0}}
    data = pretrain_values["data"] | {"region_cache": str(tmp_path / "regions")}
    values = pretrain_values | {"losses": losses, "data": data, "steps": 30, "optimizer": {"warmup": 1, "lr": 3e-3}}
    rows = losses_of(pretrain.run(parse_recipe(values, "test"), out=tmp_path / "run"))
    assert rows[-1]["region_distillation"] < 0.6 * rows[0]["region_distillation"]
    with pytest.raises(InputError, match="no detector at"):
        bad = {"region_distillation": {"teacher": "no/where"}}
        pretrain.run(parse_recipe(values | {"losses": bad}, "test"), out=tmp_path / "x")


def test_regions_below_the_score_are_left_out(pretrain_values, loaded):
    from edgevl.training.losses import RegionDistillationLoss

    recipe = parse_recipe(pretrain_values, "test")
    tokenizer = load_model().tokenizer
    config = pretrain.build_config(recipe, tokenizer, 5)
    context = pretrain.LossContext(config, tokenizer, CATEGORIES, {})
    loss = RegionDistillationLoss(context, str(loaded.path), min_score=0.5)
    torch.manual_seed(0)
    batch = {
        "region_features": torch.rand(2, 3, 32),
        "region_boxes": torch.tensor([0.1, 0.1, 0.6, 0.7]).expand(2, 3, 4),
        "region_scores": torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.1, 0.0]]),
    }
    visual = torch.rand(2, config.grid**2, config.width)
    value = loss(None, batch, visual)  # pyright: ignore
    batch["region_features"][0, 1:] = 100 * torch.rand(2, 32)
    batch["region_features"][1] = 100 * torch.rand(3, 32)
    assert torch.equal(value["region_distillation"], loss(None, batch, visual)["region_distillation"])  # pyright: ignore
    batch["region_scores"].zero_()
    assert loss(None, batch, visual)["region_distillation"] == 0  # pyright: ignore


def test_region_tokens_learn_the_names_that_the_detector_gave(region_values):
    from edgevl.training.losses import RegionLabelLoss

    tokenizer = load_model().tokenizer
    config = pretrain.build_config(parse_recipe(region_values, "test"), tokenizer, 5)
    loss = RegionLabelLoss(pretrain.LossContext(config, tokenizer, CATEGORIES[:3], {"color": ("red", "blue")}))
    torch.manual_seed(0)
    core = pretrain.build_model(config).core
    batch = {
        "region_scores": torch.tensor([[0.9, 0.6, 0.4]]),
        "region_classes": torch.tensor([[2, 0, 1]]),
        "region_color": torch.tensor([[1, 0, 1]]),
    }
    names = {name: classifier.name_vectors(core.text) for name, classifier in loss.classifiers.items()}  # pyright: ignore
    tokens = 100 * (names["classes"][batch["region_classes"]] + names["color"][batch["region_color"]])
    right, wrong = loss(core, batch, tokens), loss(core, batch, -tokens)
    assert {*right} == {"region_labels.classes", "region_labels.color"}
    assert all(right[name] < 0.1 and wrong[name] > 1 for name in right)
    unsure = {**batch, "region_classes": torch.tensor([[2, 0, 0]])}  # of the third region, which does not count
    assert torch.equal(loss(core, unsure, tokens)["region_labels.classes"], right["region_labels.classes"])
    empty = loss(core, {**batch, "region_scores": torch.zeros(1, 3)}, tokens)
    assert all(value == 0 for value in empty.values())


def test_annotations_come_back_as_the_detector_saw_them(tmp_path, loaded):
    out = annotate(loaded, "scenes:train", 40, tmp_path / "boxes.jsonl", seed=0, threshold=0.05)
    notes = Annotations(out, "scenes:train", 0, 40)
    for index in (0, 39):
        found = find_regions(loaded, Scenes("train", 0, 64), range(index, index + 1), 8)
        scene = notes.scene(Scenes("train", 0, 128).scene(index))  # twice as large as what the detector saw
        kept = (found.scores[0] >= 0.05).sum()
        assert len(scene.objects) == kept > 0
        assert [o.category_id for o in scene.objects] == found.classes[0, :kept].tolist()
        assert scene.objects[0].box == pytest.approx((128 * found.boxes[0, 0]).tolist(), abs=0.05)
        assert set(np.unique(scene.owner)) <= {-1, *range(int(kept))}
        first = inside(
            json.loads(out.read_text(encoding="utf-8").splitlines()[index + 1])["objects"][0]["box"], 2.0, 128
        )
        assert (scene.owner[first] == 0).all(), "the best object lies on top"


def test_an_ellipse_covers_its_box_and_no_more():
    mask = inside([2.0, 4.0, 10.0, 8.0], 2.0, 32)
    rows, columns = np.nonzero(mask)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (4, 19, 8, 15)
    assert mask.sum() == pytest.approx(16 * 8 * np.pi / 4, rel=0.05)


def test_visual_losses_are_trained_from_a_file_of_annotations(tmp_path, pretrain_values, loaded):
    out = annotate(loaded, "scenes:train", COUNT, tmp_path / "boxes.jsonl", threshold=0.0)
    data = pretrain_values["data"] | {"annotations": str(out)}
    found = losses_of(pretrain.run(parse_recipe(pretrain_values | {"data": data}, "test"), out=tmp_path / "found"))
    true = losses_of(pretrain.run(parse_recipe(pretrain_values, "test"), out=tmp_path / "true"))
    assert found[0]["mlm"] == true[0]["mlm"], "captions are the data set's"
    assert found[0]["semantic_map"] != true[0]["semantic_map"]


def test_annotations_of_other_scenes_or_labels_are_refused(tmp_path, loaded):
    out = annotate(loaded, "scenes:train", 4, tmp_path / "boxes.jsonl", seed=1)
    for asked, message in (
        (("scenes:val", 1, 4), "annotates scenes:train with seed 1"),
        (("scenes:train", 0, 4), "trains on scenes:train with 0"),
        (("scenes:train", 1, 5), "run `edgevl data annotate scenes:train --count 5`"),
    ):
        with pytest.raises(InputError, match=message):
            Annotations(out, *asked)
    head, *rest = out.read_text(encoding="utf-8").splitlines()
    out.write_text("\n".join([json.dumps(json.loads(head) | {"classes": ["cat", "dog"]}), *rest]), encoding="utf-8")
    with pytest.raises(InputError, match="other classes"):
        Annotations(out, "scenes:train", 1, 4)
    for damaged in ("", "{}\n", "not json\n"):
        out.write_text(damaged, encoding="utf-8")
        with pytest.raises(InputError, match="not a file of `edgevl data annotate`"):
            Annotations(out, "scenes:train", 1, 4)
    with pytest.raises(InputError, match="no annotations at"):
        Annotations(tmp_path / "nowhere.jsonl", "scenes:train", 1, 4)


def test_annotations_that_somebody_changed_are_one_line(tmp_path, loaded):
    out = annotate(loaded, "scenes:train", 2, tmp_path / "boxes.jsonl", threshold=0.0)
    head, first, second = out.read_text(encoding="utf-8").splitlines()
    whole = json.loads(first)["objects"][0]
    wrong = {"deep": "[" * 10**5, "a list": "[]", "no objects": '{"index": 0}', "another scene": second}
    for change in ({"box": [1, 2, 3]}, {"box": [1, 2, 3, 1e300]}, {"box": "abcd"}, {"category": "x"}, {"color": 7}):
        wrong[str(change)] = json.dumps({"index": 0, "objects": [whole | change]})
    wrong["nine objects"] = json.dumps({"index": 0, "objects": [whole] * 9})
    wrong["a huge size"] = "\n".join([json.dumps(json.loads(head) | {"size": 10**9}), first])
    for name, text in wrong.items():
        lines = text if name == "a huge size" else f"{head}\n{text}\n{second}"
        out.write_text(lines, encoding="utf-8")
        with pytest.raises(InputError, match=r"line [12]: ") as error:
            Annotations(out, "scenes:train", 0, 1)
        assert "\n" not in str(error.value) and len(str(error.value)) < len(str(out)) + 300, name


def test_the_command_annotates_and_does_not_replace(tmp_path, loaded, capsys):
    out = tmp_path / "new" / "boxes.jsonl"
    command = ["data", "annotate", "scenes:train", "--detector", str(loaded.path), "--out", str(out), "--count", "3"]
    assert main(command) == 0 and len(out.read_text(encoding="utf-8").splitlines()) == 4
    assert "data.annotations=" in "".join(capsys.readouterr())
    assert main(command) == 2 and "--force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert main(["data", "annotate", "scenes:train", "--detector", str(tmp_path), "--out", str(tmp_path / "b")]) == 2


def test_the_recipe_of_the_region_model_is_equal_to_ours_in_what_it_shares():
    theirs, ours = load_recipe("pretrain_scenes_region"), load_recipe("pretrain_scenes_nano")
    same = ("model", "optimizer", "steps", "batch_size", "seed", "precision")
    assert [getattr(theirs, key) for key in same] == [getattr(ours, key) for key in same]
    assert theirs.data == ours.data.model_copy(update={"light": 0.0}), "regions are of pictures as they are"
    language = {key: value for key, value in ours.losses.items() if key not in regions.GRID_LOSSES}
    assert theirs.losses == language | {"region_labels": {"weight": 1.0}}
