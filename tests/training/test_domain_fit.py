"""Fine-tuning leaves a domain.json beside its model, unless the run was too short to say anything."""

import json

import pytest

from edgevl.apps.jetson.bundle_files import sha256_file
from edgevl.domain import DOMAIN
from edgevl.models.checkpoint import load_model
from edgevl.training.domain import fit_domain
from edgevl.training.finetune import run
from edgevl.training.recipe import parse_recipe

TINY = {"config": "nano", "name": "t", "backbone": "test_resnet", "image_size": 32, "width": 32, "depth": 1, "heads": 2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    values = {
        "stage": "finetune",
        "name": "tiny",
        "model": TINY,
        "data": {"texts": 2, "workers": 0, "seed": 3},
        "steps": 4,
        "batch_size": 50,
        "eval_samples": 200,
        "optimizer": {"warmup": 1},
    }
    return run(parse_recipe(values, "test"), out=tmp_path_factory.mktemp("runs") / "tiny")


def test_a_run_ends_with_the_numbers_of_its_own_weights(trained):
    domain = load_model(trained / "model").domain
    assert domain is not None and domain.checkpoint_sha256 == sha256_file(trained / "model" / "model.safetensors")
    assert (len(domain.pictures), domain.questions, domain.data) == (200, 200, "scenes:train, scenes:val")


def test_the_command_gives_the_same_numbers(trained, tmp_path):
    """It takes data, seed and task from the record of the training."""
    written = (trained / "model" / DOMAIN).read_text(encoding="utf-8")
    fit_domain(trained / "model", pictures=200, questions=200)
    assert (trained / "model" / DOMAIN).read_text(encoding="utf-8") == written
    fit_domain(trained / "model", train="scenes16:train", pictures=200, questions=200)
    other = json.loads((trained / "model" / DOMAIN).read_text(encoding="utf-8"))
    assert other["data"] == "scenes16:train, scenes:val" and other["pictures"] != json.loads(written)["pictures"]


def test_a_short_run_leaves_none_and_removes_an_old_one(finetune_values, tmp_path):
    folder = tmp_path / "short"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / DOMAIN).write_text("{}", encoding="utf-8")
    run(parse_recipe({**finetune_values, "model": TINY, "steps": 1, "eval_samples": 0}, "test"), out=folder)
    assert (folder / "model" / "config.json").is_file() and not (folder / "model" / DOMAIN).exists()
