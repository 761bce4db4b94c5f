"""Training pictures in other light: factors stay within what was asked, hues stay, validation sees none of it."""

import colorsys
import random

import numpy as np
import pytest
import torch
from killed_runs import rows  # pyright: ignore[reportMissingImports]

from edgevl.data.scenes import Scenes
from edgevl.errors import InputError
from edgevl.training import finetune, objectives, pretrain
from edgevl.training.data import OtherLight, channels_first, in_other_light, relit
from edgevl.training.recipe import parse_recipe


def picture(index: int) -> np.ndarray:
    return channels_first(Scenes("train", size=64).scene(index).image)


class Fixed:
    """Factors that are given, in the order in which they are asked for."""

    def __init__(self, *factors: float):
        self.factors = [*factors]

    def uniform(self, low: float, high: float) -> float:
        assert (low, high) == (0.7, 1.3)
        return self.factors.pop(0)


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ((1.0, 1.0, 1.0), [[100, 60], [50, 60], [30, 60]]),
        ((1.2, 1.0, 1.0), [[120, 72], [60, 72], [36, 72]]),
        ((1.0, 1.2, 1.0), [[108, 60], [48, 60], [24, 60]]),  # away from the mean of all, 60
        ((1.0, 1.0, 0.7), [[88, 60], [53, 60], [39, 60]]),  # toward the mean of each pixel
    ],
)
def test_each_factor_does_what_it_says(factors, expected):
    pixels = np.array([[100, 60], [50, 60], [30, 60]], np.uint8).reshape(3, 1, 2)
    found = relit(pixels, 0.3, Fixed(*factors))  # pyright: ignore[reportArgumentType]
    assert found.dtype == np.uint8 and found.reshape(3, 2).tolist() == expected


def test_hues_stay_where_there_is_color():
    before, after = picture(3), relit(picture(3), 0.3, random.Random(1))
    assert not np.array_equal(before, after)
    pairs = zip(before.reshape(3, -1).T, after.reshape(3, -1).T, strict=True)
    kept = [(b, a) for b, a in pairs if b.min() > 20 and b.max() < 180 and int(b.max()) - int(b.min()) > 60]
    turned = [abs(colorsys.rgb_to_hsv(*(b / 255))[0] - colorsys.rgb_to_hsv(*(a / 255))[0]) for b, a in kept]
    assert len(turned) > 20 and max(min(each, 1 - each) for each in turned) < 0.03


def test_the_light_of_a_sample_is_always_the_same_and_no_other_part_of_it_changes():
    samples = [{"image": picture(index), "captions": np.arange(index)} for index in range(3)]
    lit = OtherLight(samples, 0.3)  # pyright: ignore[reportArgumentType]
    assert len(lit) == 3
    for index in range(3):
        first, again = lit[index], lit[index]
        assert np.array_equal(first["image"], again["image"]) and first["captions"] is samples[index]["captions"]
        assert not np.array_equal(first["image"], samples[index]["image"])
    assert in_other_light(samples, 0.0) is samples
    with pytest.raises(InputError, match=r"data\.light is for a model that sees pixels"):
        in_other_light(samples, 0.3, region_model=True)


@pytest.mark.parametrize("stage", [pretrain, finetune], ids=["pretrain", "finetune"])
def test_training_sees_other_light_and_validation_does_not(
    stage, tmp_path, pretrain_values, finetune_values, monkeypatch
):
    values = pretrain_values if stage is pretrain else finetune_values
    seen: list[torch.Tensor] = []
    place = pretrain if stage is pretrain else objectives

    def watched(core, batch, before=place.visual_tokens):
        seen.append(batch["image"])
        return before(core, batch)

    monkeypatch.setattr(place, "visual_tokens", watched)
    found = {}
    for light in (0.0, 0.3):
        seen.clear()
        recipe = parse_recipe(values | {"data": values["data"] | {"light": light}, "eval_every": 6}, "test")
        folder = stage.run(recipe, out=tmp_path / str(light))
        found[light] = [image.float().mean().item() for image in seen]
        assert rows(folder, "loss")
    trained = recipe.steps
    assert len(found[0.0]) > trained or stage is pretrain, "fine-tuning is validated"
    assert all(a != b for a, b in zip(found[0.0][:trained], found[0.3][:trained], strict=True))
    assert found[0.0][trained:] == found[0.3][trained:]


@pytest.mark.parametrize("light", [-0.1, 1.0, "much"])
def test_light_beyond_its_range_is_one_line(light, finetune_values):
    with pytest.raises(InputError, match=r"data\.light"):
        parse_recipe(finetune_values | {"data": {"light": light}}, "test")
