"""Distillation of a dual encoder: losses, teachers of any family, and pairs that cannot be compared."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killed_runs import rows  # pyright: ignore[reportMissingImports]

from edgevl.config import DualEncoderConfig, ModelConfig
from edgevl.data import open_dataset
from edgevl.data.scenes import ANSWERS, VOCABULARY
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import DualEncoder, build_model
from edgevl.models.checkpoint import open_model, save_dual_encoder, save_model
from edgevl.models.dual_encoder import PICTURES, TEXTS
from edgevl.models.kinds import open_deployable
from edgevl.models.pooling import unit_length
from edgevl.training import distill, finetune
from edgevl.training.contrast import ContrastSamples, mirrored
from edgevl.training.embedding_teacher import Teacher
from edgevl.training.losses.base import make_losses
from edgevl.training.losses.embedding_distillation import EMBEDDING_DISTILLATION
from edgevl.training.recipe import parse_recipe

SIZES: dict[str, Any] = {"backbone": "test_resnet", "backbone_options": {}, "heads": 2, "depth": 1, "vocab_size": 480}
LOSSES = {"similarities": {"weight": 1.0}, "embeddings": {"project": True}}


def dual(folder: Path, seed: int, embedding: int = 16, side: int = 32, words=VOCABULARY, **sizes: Any) -> Path:
    torch.manual_seed(seed)
    config = DualEncoderConfig(name="t", embedding=embedding, queries=2, width=32, image_size=side, **(SIZES | sizes))
    return save_dual_encoder(folder, DualEncoder(config).eval(), Tokenizer.from_words(words))


@pytest.fixture
def teacher(tmp_path) -> Path:
    """Larger pictures, larger embeddings, other words than the student's."""
    return dual(tmp_path / "teacher", 7, embedding=24, side=64, words=[*VOCABULARY, "aardvark"])


@pytest.fixture
def values(tmp_path, teacher) -> dict[str, Any]:
    student = dual(tmp_path / "student", 1)
    return {
        "stage": "distill",
        "name": "tiny",
        "task": "retrieval",
        "model": {"kind": "dual_encoder"},
        "init": str(student),
        "teacher": str(teacher),
        "losses": LOSSES,
        "data": {"texts": 2, "mirror": True, "workers": 0},
        "optimizer": {"lr": 2e-3, "warmup": 1},
        "steps": 3,
        "batch_size": 8,
        "log_every": 1,
        "eval_every": 3,
        "eval_samples": 16,
        "checkpoint_every": 3,
    }


def embedded(seed: int, channels: int, scale: float = 20.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pictures, texts = (unit_length(torch.randn(6, channels, generator=generator)) for _ in range(2))
    return {PICTURES: pictures, TEXTS: texts, "scale": torch.tensor(scale)}


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_is_zero_for_the_teacher_itself_and_positive_for_another(name):
    loss = make_losses({name: {}}, EMBEDDING_DISTILLATION, 12, 12)[name]
    same, other = loss(embedded(0, 12), embedded(0, 12)), loss(embedded(0, 12), embedded(1, 12))
    assert all(key.split(".")[0] == name and abs(value.item()) < 1e-6 for key, value in same.items())
    assert all(value.item() > 0.1 for value in other.values()), other


def test_similarities_are_the_divergence_that_the_decoding_measures_both_ways():
    ours, theirs = embedded(0, 12), embedded(1, 20)
    loss = make_losses({"similarities": {}}, EMBEDDING_DISTILLATION, 12, 20)["similarities"]
    shares = [torch.softmax(each["scale"] * each[TEXTS] @ each[PICTURES].T, -1) for each in (ours, theirs)]
    columns = [torch.softmax(each["scale"] * each[PICTURES] @ each[TEXTS].T, -1) for each in (ours, theirs)]
    expected = sum((own[1] * (own[1] / own[0]).log()).sum(-1).mean() for own in (shares, columns)) / 2
    torch.testing.assert_close(loss(ours, theirs)["similarities"], torch.as_tensor(expected))


def test_the_teacher_reads_the_very_picture_and_words_in_its_own_way(teacher):
    model, tokenizer = open_deployable(teacher), Tokenizer.from_words(VOCABULARY)
    sizes: dict[str, Any] = SIZES | {"width": 32, "image_size": 32}
    config = DualEncoderConfig(**sizes)
    samples = ContrastSamples(open_dataset("scenes:train", size=64), tokenizer, config, 2, True, Teacher(model, 2))
    turned = 0
    for index in range(6):
        sample, record = samples[index], samples.dataset[index]
        assert sample["image"].shape == (3, 32, 32) and sample["teacher/image"].shape == (64, 64, 3)
        said = samples.captions(record)
        if not np.array_equal(sample["teacher/image"], record.pictures[0]):
            turned, said = turned + 1, [mirrored(text) for text in said]
            assert np.array_equal(sample["teacher/image"], record.pictures[0][:, ::-1])
        assert np.array_equal(sample["teacher/input_ids"], [model.texts["main"].encode(text) for text in said])
    assert 0 < turned < 6


def test_a_student_learns_from_a_teacher_of_other_sizes_and_words(tmp_path, values):
    longer = values | {"steps": 30, "eval_samples": 0, "checkpoint_every": 30, "optimizer": {"lr": 5e-3, "warmup": 1}}
    longer |= {"weights": {"contrast": 0.0}}
    folder = distill.run(parse_recipe(longer, "test"), out=tmp_path / "run")
    for name in ("similarities", "embeddings.pictures", "embeddings.texts"):
        logged = list(rows(folder, name).values())
        assert np.mean(logged[-5:]) < 0.8 * np.mean(logged[:3]), name
    loaded = open_model(folder / "model")
    assert loaded.training["recipe"]["stage"] == "distill" and loaded.config.image_size == 32


def test_without_the_teachers_losses_in_the_sum_it_is_fine_tuning(tmp_path, values):
    values |= {"losses": {"similarities": {"weight": 1e-30}}, "teacher": str(dual(tmp_path / "twin", 3))}
    tuned = {key: value for key, value in values.items() if key not in ("teacher", "losses")} | {"stage": "finetune"}
    with_teacher = distill.run(parse_recipe(values, "test"), out=tmp_path / "a")
    without = finetune.run(parse_recipe(tuned, "test"), out=tmp_path / "b")
    assert rows(with_teacher, "contrast") == rows(without, "contrast")
    assert rows(with_teacher, "val_text_to_image_r1") == rows(without, "val_text_to_image_r1")


def test_clip_can_teach(tmp_path, values):
    pytest.importorskip("transformers", reason="a CLIP model is written by transformers")
    from clip_folder import write_clip

    clip = write_clip(tmp_path / "clip")
    folder = distill.run(parse_recipe(values | {"teacher": str(clip), "steps": 2}, "test"), out=tmp_path / "run")
    assert len(rows(folder, "similarities")) == 2 and list(rows(folder, "val_text_to_image_r1")) == [2]


def test_a_pair_that_cannot_be_compared_is_one_line_and_writes_nothing(tmp_path, values):
    words = Tokenizer.from_words(VOCABULARY)
    config = ModelConfig(name="a", num_answers=len(ANSWERS), width=32, image_size=32, **SIZES)
    answers = save_model(tmp_path / "answers", build_model(config), words, list(ANSWERS))
    said = save_model(tmp_path / "said", build_model(config.replace(task="statement")), words, list(ANSWERS))
    asks = {"task": "vqa", "model": {}, "init": str(answers), "losses": {"logits": {}}, "data": {"workers": 0}}
    for change, message in (
        ({"teacher": str(answers)}, "the teacher a is for vqa, and a dual encoder learns to find pictures"),
        ({"losses": {"embeddings": {}}}, "have 24 channels, the student's 16: set losses.embeddings.project=true"),
        ({"losses": {"logits": {}}}, 'distillation loss of a dual encoder "logits"'),
        ({"losses": {}}, "the recipe has no losses; add at least one of: similarities, embeddings"),
        ({"weights": {"vqa": 0.0}}, 'loss in weights "vqa"'),
        ({"teacher": None}, "has no teacher"),
        (asks, "is a dual encoder, which answers no questions"),
        (asks | {"teacher": str(said)}, "was trained for statement, not for vqa"),
        ({"model": {}}, "distill with task retrieval is for a dual encoder"),
    ):
        with pytest.raises(InputError, match=message) as error:
            distill.run(parse_recipe(values | change, "test"), out=tmp_path / "x")
        assert "\n" not in str(error.value), message
    assert not (tmp_path / "x").exists()
