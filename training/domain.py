"""From a model folder and the data that it was trained on to its `domain.json`: training writes one at its end."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgevl.atomic import write_atomically
from edgevl.data import open_dataset
from edgevl.data.order import in_portions
from edgevl.domain.features import MIN_SIDE, picture_features
from edgevl.domain.fit import SHARE, best_temperature
from edgevl.domain.judge import DOMAIN, MOST, Domain, distance
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import CHARACTERS, Tokenizer
from edgevl.models.checkpoint import LoadedModel, load_model
from edgevl.progress import Progress
from edgevl.training.data import OUTSIDE, make_samples
from edgevl.training.recipe import Recipe, parse_recipe

PICTURES, QUESTIONS = 500, 2000  # of training, and held out
FEWEST = 200  # of each: the limits are at one sample in 200
NEIGHBORS = 5  # the nearest alone may be a chance likeness
FLOOR = 2.55  # of 255, added to spreads: a feature that hardly varies in training must not decide alone
_BATCH = 64


def fit_domain(
    folder: Path,
    train: str | None = None,
    val: str | None = None,
    pictures: int = PICTURES,
    questions: int = QUESTIONS,
    progress: Progress | None = None,
) -> Domain:
    """Write `folder/domain.json`: what the model was trained on, as numbers.

    Args:
        folder: a model folder; its `training.json` says what the model was trained for.
        train, val: data specifications; default: those of its recipe, else Scenes.
        pictures, questions: how many of `train` and of `val` to use, at least 200 each, at most 5,000 pictures.

    Raises:
        InputError: no such model or data, too few samples, or a model that answers no questions of the data.
    """
    if min(pictures, questions) < FEWEST or pictures > MOST:
        allowed = f"{FEWEST} to {MOST:,} pictures and at least {FEWEST} questions"
        raise InputError(f"{allowed} are needed, got {pictures:,} and {questions:,}")
    loaded = load_model(folder)
    recipe = _recipe(loaded, train, val)
    known = open_dataset(recipe.data.train).labels.get(recipe.task, ())
    if not set(loaded.labels) & set(known) or loaded.config.image_size < MIN_SIDE:
        raise InputError(f"{folder} answers no questions of {recipe.data.train}: nothing can be said of its answers")
    domain = _measure(loaded, recipe, pictures, questions, progress)
    write_atomically(folder / DOMAIN, domain.to_json())
    return domain


def fit_trained(folder: Path, recipe: Recipe, progress: Progress | None) -> None:
    """What fine-tuning does at its end: `fit_domain`, unless the run was too short to say anything."""
    (folder / DOMAIN).unlink(missing_ok=True)  # of other weights
    if recipe.task == "retrieval":
        return
    pictures = min(PICTURES, recipe.last_step * recipe.batch_size, len(open_dataset(recipe.data.train)))
    questions = min(QUESTIONS, recipe.eval_samples, len(in_portions(open_dataset(recipe.data.val), 1)))
    if min(pictures, questions) >= FEWEST:
        fit_domain(folder, pictures=pictures, questions=questions, progress=progress)


def _recipe(loaded: LoadedModel, train: str | None, val: str | None) -> Recipe:
    """The recipe that the model was trained by, with the data that was named, and one question a picture."""
    values = loaded.training.get("recipe") or {"stage": "finetune", "name": loaded.config.name}
    recipe = parse_recipe(values, f"{loaded.path / 'training.json'}: recipe")
    named = {key: value for key, value in (("train", train), ("val", val)) if value}
    data = recipe.data.model_copy(update={"texts": 1, "focus": (), "focus_texts": 0, **named})
    return recipe.model_copy(update={"data": data})


def _measure(loaded: LoadedModel, recipe: Recipe, pictures: int, questions: int, progress: Progress | None) -> Domain:
    data, tell = recipe.data, progress or (lambda done, total, text: None)
    tell(0, questions, "pictures of training")
    seen = _samples(loaded, recipe, data.train, pictures)(0, pictures)
    known = np.stack([picture_features(_pixels(sample)) for sample in seen])
    spread = known.std(axis=0) + FLOOR
    distances, logits, targets = [], [], []
    held = _samples(loaded, recipe, data.val, questions, portions=True)
    for start in range(0, questions, _BATCH):
        batch = held(start, min(start + _BATCH, questions))
        distances += [distance(picture_features(_pixels(sample)), known, spread, NEIGHBORS) for sample in batch]
        logits.append(_logits(loaded, batch))
        targets += [int(sample["answers"][0]) for sample in batch]
        tell(len(targets), questions, "held-out questions")
    logits_NA = np.concatenate(logits)
    known_N = np.array(targets) != OUTSIDE
    return Domain(
        checkpoint_sha256=loaded.sha256,
        about=open_dataset(data.train).about,
        data=f"{data.train}, {data.val}",
        questions=questions,
        pictures=tuple(row.tobytes().hex() for row in known),
        spread=tuple(map(_rounded, spread)),
        neighbors=NEIGHBORS,
        picture_limit=max(1e-6, _rounded(np.quantile(distances, 1 - SHARE))),
        logit_limit=_rounded(np.quantile(logits_NA.max(axis=1), SHARE)),
        temperature=_rounded(best_temperature(logits_NA[known_N], np.array(targets)[known_N])),
        characters=_characters(loaded.tokenizer, [sample["questions"][0] for sample in seen]),
    )


def _samples(
    loaded: LoadedModel, recipe: Recipe, spec: str, count: int, portions: bool = False
) -> Callable[[int, int], list[Any]]:
    """Return a function of (first, end) that draws these samples: a question of each picture, or every question.

    Raises `InputError` for data with fewer than `count` of them.
    """
    dataset = open_dataset(spec, seed=recipe.data.seed, size=loaded.config.image_size)
    dataset = in_portions(dataset, 1) if portions else dataset
    if len(dataset) < count:
        raise InputError(f"{spec} has {len(dataset):,} {'questions' if portions else 'pictures'}, not {count:,}")
    samples = make_samples(recipe, dataset, loaded.tokenizer, loaded.config, loaded.labels, training=False)
    return lambda first, end: [samples[index] for index in range(first, end)]


def _pixels(sample: Any) -> np.ndarray:
    return sample["image"].transpose(1, 2, 0)


def _logits(loaded: LoadedModel, batch: Sequence[Any]) -> np.ndarray:
    image, ids = (np.stack(values) for values in zip(*((each["image"], each["questions"][0]) for each in batch)))
    with torch.inference_mode():
        return loaded.model(torch.from_numpy(image).float(), torch.from_numpy(ids)).double().numpy()


def _characters(tokenizer: Tokenizer, ids_NT: Sequence[np.ndarray]) -> str:
    """The letters and digits that stand as words of their own in the questions: every vocabulary has all of them."""
    names = [tokenizer.backend.id_to_token(index) or "" for index in range(tokenizer.vocab_size)]
    found = set()
    for ids in ids_NT:
        words = [names[index] for index in ids]
        found |= {word for word, after in zip(words, [*words[1:], ""]) if not after.startswith("##")}
    return "".join(character for character in CHARACTERS if character in found)


def _rounded(value: float) -> float:
    return float(f"{value:.7g}")
