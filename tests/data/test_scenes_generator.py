"""Would break if the same (split, seed, index) gave other bytes, or if the annotations did not match the pixels."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgevl.data import open_scenes
from edgevl.data.scenes import (
    ANSWERS,
    CATEGORIES,
    COLORS,
    FEW_CATEGORIES,
    GROUP_OF,
    GROUPS,
    SPLITS,
    Scenes,
    artwork,
    layout,
)
from edgevl.data.scenes.names import HELD_OUT_SET
from edgevl.errors import InputError

GOLDEN = Path(__file__).parents[1] / "golden/scenes_digests.json"


def digest(scene) -> str:
    """One number for everything a scene shows and says."""
    texts = [scene.captions(3), scene.negative_caption(3), [vars(q) for q in scene.questions(6)]]
    texts += [[vars(s) for s in scene.statements(4)], [vars(r) for r in scene.referring(3)]]
    texts += [[(o.category, o.color, o.size, o.box) for o in scene.objects]]
    hashed = hashlib.sha256(scene.image.tobytes() + scene.owner.tobytes() + json.dumps(texts).encode())
    return hashed.hexdigest()


def digests() -> dict[str, str]:
    cases = [(split, 0, 128) for split in SPLITS] + [("train", 7, 128), ("train", 0, 96), ("test", 0, 224)]
    return {
        f"{split}/{seed}/{size}px/{index}": digest(Scenes(split, seed, size).scene(index))
        for split, seed, size in cases
        for index in (0, 1, 2, 1000, 123456)
    }


def test_scenes_are_the_golden_ones():
    """When a change is meant: python tests/data/test_scenes_generator.py rewrites them; retrain the checkpoint."""
    assert digests() == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_another_process_makes_the_same_bytes():
    code = "from edgevl.data.scenes import Scenes; print(Scenes('val').scene(9).image.tobytes().hex()[:4000])"
    made = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout.strip()
    assert made == Scenes("val").scene(9).image.tobytes().hex()[:4000]


def test_scenes_of_one_split_differ():
    assert len({Scenes("train").scene(i).image.tobytes() for i in range(200)}) == 200
    assert Scenes("train", seed=1).scene(0).image.tobytes() != Scenes("train").scene(0).image.tobytes()
    assert Scenes("test").scene(0).image.tobytes() != Scenes("train").scene(0).image.tobytes()


def test_there_is_enough_to_see():
    assert len(CATEGORIES) >= 120 and len(GROUPS) >= 12 and len(COLORS) == 8
    assert set(GROUP_OF) == set(CATEGORIES) and set(CATEGORIES) | set(GROUPS) | set(COLORS) <= set(ANSWERS)


@pytest.mark.parametrize("family", ["fluent", "noto"])
def test_every_sprite_is_there_and_alone(family):
    sprites = artwork.load_family(family)
    assert len(sprites) == len(CATEGORIES)
    small = []
    for item in sprites:
        assert item.solid.mean() > 0.1 and max(item.alpha.shape) >= 40
        square = np.zeros((16, 16))
        ys, xs = np.nonzero(item.solid)
        np.add.at(square, (ys * 16 // item.alpha.shape[0], xs * 16 // item.alpha.shape[1]), item.luminance[ys, xs])
        small.append((square / np.linalg.norm(square)).ravel())
    likeness = np.array(small) @ np.array(small).T - np.eye(len(small))
    assert likeness.max() < 0.99, "two categories have nearly the same artwork"


@pytest.mark.parametrize("split", SPLITS)
def test_objects_are_visible_and_sizes_are_clear(split):
    data = Scenes(split)
    for index in range(300):
        scene = data.scene(index)
        assert 2 <= len(scene.objects) <= 6
        for number, item in enumerate(scene.objects):
            x0, y0, x1, y1 = item.box
            assert 0 <= x0 < x1 <= 128 and 0 <= y0 < y1 <= 128
            side = max(x1 - x0, y1 - y0)
            assert 42 <= side <= 56 if item.size == "large" else 26 <= side <= 34
            whole = artwork.sprite(data.family, item.category_id, int(side)).solid
            assert item.mask.sum() >= 0.8 * whole.sum()
            ys, xs = np.nonzero(item.mask)
            assert x0 <= xs.min() and xs.max() < x1 and y0 <= ys.min() and ys.max() < y1
            assert (scene.owner[item.mask] == number).all()
            assert (scene.class_map[item.mask] == item.category_id + 1).all()
        covered = np.any([item.mask for item in scene.objects], axis=0)
        assert (scene.class_map[~covered] == 0).all() and scene.class_map.dtype == np.uint8


def test_an_object_has_the_color_that_it_is_said_to_have():
    hues = {name: np.array(rgb) / np.linalg.norm(rgb) for name, rgb in artwork.RGB.items()}
    for index in range(150):
        scene = Scenes("train").scene(index)
        for item in scene.objects:
            mean = scene.image[item.mask].astype(float).mean(0)
            nearest = max(hues, key=lambda name: hues[name] @ mean / np.linalg.norm(mean))
            assert nearest == item.color, (index, item)


def test_held_out_pairs_appear_only_in_test_pairs():
    assert 0.06 < len(HELD_OUT_SET) / (len(CATEGORIES) * len(COLORS)) < 0.11
    for split in SPLITS:
        for scene in (Scenes(split, size=64).scene(i) for i in range(1000)):
            held = [(o.category, o.color) in HELD_OUT_SET for o in scene.objects]
            assert any(held) == (split == "test_pairs")


def test_some_scenes_repeat_a_category():
    scenes = [Scenes("train", size=64).scene(i) for i in range(1000)]
    repeated = sum(len({o.category for o in s.objects}) < len(s.objects) for s in scenes)
    assert 0.12 < repeated / 1000 < 0.24


@pytest.mark.parametrize("cells", [4, 8, 9, 16])
def test_a_cell_belongs_to_the_object_that_covers_most_of_it(cells):
    for index in range(20):
        scene = Scenes("train").scene(index)
        grid = scene.grid(cells)
        edges = [i * 128 // cells for i in range(cells + 1)]
        for y in range(cells):
            for x in range(cells):
                part = scene.owner[edges[y] : edges[y + 1], edges[x] : edges[x + 1]]
                counts = [int((part == i).sum()) for i in range(len(scene.objects))]
                best = int(np.argmax(counts)) if 4 * sum(counts) >= part.size else -1
                assert grid["objects"][y, x] == best
                item = scene.objects[best] if best >= 0 else None
                assert grid["class_ids"][y, x] == (item.category_id + 1 if item else 0)
                assert grid["color_ids"][y, x] == (item.color_id + 1 if item else 0)
                assert grid["size_ids"][y, x] == (0 if item is None else 1 + (item.size == "large"))


def test_another_size_shows_larger_objects():
    scene = Scenes("train", size=256).scene(0)
    assert scene.image.shape == (256, 256, 3)
    for item in scene.objects:
        side = max(item.box[2] - item.box[0], item.box[3] - item.box[1])
        assert 84 <= side <= 112 if item.size == "large" else 52 <= side <= 68


def test_shuffling_keeps_everything():
    import random

    assert sorted(layout.shuffled(random.Random(1), range(9))) == list(range(9))


def test_wrong_arguments_are_named():
    with pytest.raises(InputError, match='unknown split of Scenes "tests"; did you mean "test"'):
        Scenes("tests")
    with pytest.raises(InputError, match="Scenes of 8 pixels: the smallest side is 32"):
        Scenes("test", size=8)
    with pytest.raises(InputError, match="a grid of 0 cells"):
        Scenes("test").scene(0).grid(0)
    with pytest.raises(IndexError):
        Scenes("test").scene(-1)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(digests(), indent=1) + "\n", encoding="utf-8")


@pytest.mark.parametrize("split", ["train", "test_style", "test_pairs"])
def test_a_data_set_of_few_categories_shows_and_names_no_others(split):
    """What is asked about and is not there is one of the few too: else a text would give its answer away."""
    data, named = open_scenes(f"scenes16:{split}", size=64), set()
    others = [name for name in CATEGORIES if name not in FEW_CATEGORIES]
    groups = [name for name in GROUPS if name not in {GROUP_OF[category] for category in FEW_CATEGORIES}]
    for scene in (data.scene(i) for i in range(150)):
        assert {o.category for o in scene.objects} <= {*FEW_CATEGORIES}
        texts = [*scene.captions(4), *scene.negative_caption(4), *(s.text for s in scene.statements(4))]
        texts += [f"{q.text} {q.answer}" for q in scene.questions(12)]
        words = {f" {word} " for text in texts for word in text.replace("?", "").replace(",", "").split()}
        named |= {word.strip() for word in words} & {*FEW_CATEGORIES}
        assert not [name for name in (*others, *groups) for text in texts if f" {name} " in f" {text} "]
    assert named == {*FEW_CATEGORIES}


def test_few_categories_are_other_scenes_of_the_same_kind():
    assert len(FEW_CATEGORIES) == 16 and {*FEW_CATEGORIES} < {*CATEGORIES}
    assert len({GROUP_OF[name] for name in FEW_CATEGORIES}) == 8
    usual = open_scenes("scenes:test").scene(5).image
    assert Scenes("test", categories=CATEGORIES).scene(5).image.tobytes() == usual.tobytes()
