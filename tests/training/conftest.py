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
