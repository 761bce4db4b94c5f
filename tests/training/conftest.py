"""A model small enough to train in seconds, and recipes for it."""

import pytest

TINY = {
    "config": "nano",
    "name": "test",
    "backbone": "resnet10t",
    "image_size": 64,
    "width": 32,
    "depth": 2,
    "heads": 2,
}


@pytest.fixture
def pretrain_values() -> dict:
    return {
        "stage": "pretrain",
        "name": "tiny_pretrain",
        "model": TINY,
        "data": {"texts": 2, "workers": 0},
        "losses": {"mlm": {}, "itm": {}, "itc": {}, "object": {}, "semantic_map": {"weight": 0.5}},
        "optimizer": {"warmup": 2},
        "steps": 4,
        "batch_size": 4,
        "log_every": 1,
        "checkpoint_every": 2,
    }


@pytest.fixture
def finetune_values() -> dict:
    return {
        "stage": "finetune",
        "name": "tiny_finetune",
        "model": TINY,
        "data": {"texts": 3, "workers": 0},
        "optimizer": {"warmup": 2},
        "steps": 6,
        "batch_size": 4,
        "log_every": 1,
        "checkpoint_every": 2,
        "eval_every": 6,
        "eval_samples": 64,
    }


DETECTOR = {
    "backbone": "mobilenetv4_conv_small_050",
    "backbone_options": {},
    "image_size": 64,
    "channels": 16,
    "feature_width": 32,
    "proposals": 20,
}


@pytest.fixture(scope="session")
def detect_values() -> dict:
    return {
        "stage": "detect",
        "name": "tiny_detector",
        "model": DETECTOR,
        "data": {"workers": 0},
        "optimizer": {"lr": 4e-3, "warmup": 5},
        "steps": 60,
        "batch_size": 2,
        "log_every": 10,
        "checkpoint_every": 60,
        "eval_samples": 0,
    }


@pytest.fixture(scope="session")
def overfitted(tmp_path_factory, detect_values):
    """The run folder of a detector that saw two scenes only, sixty times (two seconds)."""
    from edgevl.training import detect
    from edgevl.training.recipe import parse_recipe

    class TwoScenes(detect.DetectSamples):
        def __getitem__(self, index):
            return super().__getitem__(index % 2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detect, "DetectSamples", TwoScenes)
        return detect.run(parse_recipe(detect_values, "test"), out=tmp_path_factory.mktemp("detector") / "run")
