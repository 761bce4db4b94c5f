"""Fine-tuning a pretrained core: for questions or statements (an answer head, cross entropy), or for retrieval."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from edgevl.atomic import write_json
from edgevl.config import ModelConfig
from edgevl.contracts import Dataset
from edgevl.data import open_dataset
from edgevl.data.order import for_training, in_portions
from edgevl.data.scenes import ANSWERS
from edgevl.embedded import model_folder
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import VqaModel, build_model
from edgevl.models.checkpoint import check_size, load_weights, read_labels
from edgevl.plans import require_torchao
from edgevl.progress import Progress
from edgevl.regions.model import RegionVqaModel, is_region_model
from edgevl.training.adapt import Start, adapted, labels_for, with_words
from edgevl.training.backbones import load_backbone, pixel_statistics
from edgevl.training.contrast import ContrastObjective, ContrastSamples, starting_encoder
from edgevl.training.data import VqaSamples, in_other_light, make_samples
from edgevl.training.domain import fit_trained
from edgevl.training.embedding_teacher import Teacher
from edgevl.training.grow import grow
from edgevl.training.loop import Note, Run, fit
from edgevl.training.losses import Criterion
from edgevl.training.losses.base import check_weights, loss_weights
from edgevl.training.objectives import AnswerObjective, VqaObjective
from edgevl.training.recipe import Recipe, build_config
from edgevl.training.regions import model_regions, region_start
from edgevl.training.retrieval import RetrievalObjective, retrieval_heads
from edgevl.training.run_folder import open_run, recipe_of, run_folder

MakeObjective = Callable[[Recipe, Start, Any], AnswerObjective | RetrievalObjective | ContrastObjective]


class Parts(NamedTuple):
    """What is trained, on what, and the words that it is saved with."""

    objective: Any  # a module that fulfills `edgevl.training.loop.Objective`, with `save(folder, tokenizer)`
    samples: Any
    tokenizer: Tokenizer


def retrieval_objective(recipe: Recipe, start: Start, validation: Any) -> RetrievalObjective:
    heads = retrieval_heads(start.model.config, model_folder(recipe.init) if recipe.init else None)
    return RetrievalObjective(start.model, heads, validation, recipe.eval_samples)


def answer_objective(recipe: Recipe, start: Start, validation: VqaSamples) -> AnswerObjective:
    if recipe.quantize:
        from edgevl.training.qat import QuantizedAnswers

        return QuantizedAnswers(recipe, start, validation)
    return VqaObjective(start.model, validation, recipe.eval_samples, start.labels)


def contrast_objective(recipe: Recipe, start: Start, validation: Dataset) -> ContrastObjective:
    if recipe.quantize:
        from edgevl.training.qat import QuantizedContrast

        return QuantizedContrast(recipe, start, validation)
    return ContrastObjective(start.model, start.tokenizer, validation, recipe)


def run(
    recipe: str | Path | Recipe,
    overrides: list[str] | None = None,
    out: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    note: Note = lambda text: None,
) -> Path:
    """Fine-tune by a recipe; return the run folder. The model is `RUN/model`, a folder that every command takes.

    Raises `InputError` when `init` is not a pretrained model, or the recipe is wrong.
    """
    recipe = recipe_of("finetune", recipe, overrides)
    folder = run_folder(recipe, out, resume)
    if recipe.quantize:
        require_torchao()
    if recipe.model.get("kind"):
        check_weights(recipe.weights, ("contrast",))
        return train_parts(recipe, contrast_parts(recipe, contrast_objective), folder, resume, progress, note)
    check_weights(recipe.weights, ("itc", "itm") if recipe.task == "retrieval" else (recipe.task,))
    make_objective: MakeObjective = retrieval_objective if recipe.task == "retrieval" else answer_objective
    return train_answers(recipe, make_objective, folder, resume, progress, note)


def contrast_parts(recipe: Recipe, make_objective: MakeObjective, teacher: Teacher | None = None) -> Parts:
    """Return a dual encoder and pictures with captions; with a teacher, also as that one reads them."""
    torch.manual_seed(recipe.seed)
    start = starting_encoder(recipe, model_folder(recipe.init) if recipe.init else None)
    data, side = recipe.data, start.model.config.image_size
    train = open_dataset(data.train, seed=data.seed, size=max(side, teacher.side if teacher else 0))
    val = open_dataset(data.val, seed=data.seed, size=side)
    start = with_words(start, train.texts())
    order = for_training(train, data.seed)
    samples = ContrastSamples(order, start.tokenizer, start.model.config, data.texts, data.mirror, teacher)
    samples = in_other_light(samples, data.light)
    return Parts(make_objective(recipe, start, val), samples, start.tokenizer)


def train_answers(
    recipe: Recipe,
    make_objective: MakeObjective,
    folder: Path,
    resume: bool,
    progress: Progress | None,
    note: Note,
    image_size: int = 0,
) -> Path:
    """What fine-tuning and distillation share: a model, questions, an objective between them, and the loop.

    Training pictures have the side `image_size` where that is larger than the model's; the objective makes them
    smaller.
    Nothing is written before everything that the recipe names has been found.
    """
    torch.manual_seed(recipe.seed)
    data = recipe.data
    train = open_dataset(data.train, seed=data.seed)
    start = starting_model(recipe, train)
    model, tokenizer, labels = start
    model.config = model.config.replace(task=recipe.task)  # which is saved with it
    config, side = model.config, max(image_size, model.config.image_size)
    train = in_portions(open_dataset(data.train, seed=data.seed, size=side), data.texts)
    val = in_portions(open_dataset(data.val, seed=data.seed, size=config.image_size), data.texts)
    note_epochs(train, recipe, tokenizer, config.text_length, note)
    order = for_training(train, recipe.data.seed)
    samples = make_samples(recipe, order, tokenizer, config, labels, data.focus, side)
    samples = in_other_light(samples, data.light, isinstance(model, RegionVqaModel))
    validation = make_samples(recipe, val, tokenizer, config, labels, training=False)
    if isinstance(model, RegionVqaModel):
        samples = model_regions(samples, model, recipe, data.train, recipe.last_step * recipe.batch_size, progress)
        validation = model_regions(validation, model, recipe, data.val, recipe.eval_samples, progress)
    parts = Parts(make_objective(recipe, start, validation), samples, tokenizer)
    return train_parts(recipe, parts, folder, resume, progress, note)


def train_parts(
    recipe: Recipe, parts: Parts, folder: Path, resume: bool, progress: Progress | None, note: Note
) -> Path:
    """Train to the end and write the model folder with its record."""
    criterion = Criterion(loss_weights(recipe.losses) | recipe.weights)
    saved = folder / "model"
    with open_run(recipe, folder, resume):
        rows = fit(Run(recipe, parts.objective.train(), parts.samples, criterion, folder, progress, note), resume)
        parts.objective.save(saved, parts.tokenizer)
        write_json(saved / "training.json", training_record(recipe, rows))
        if not is_region_model(saved):
            fit_trained(saved, recipe, progress)
    return folder


def note_epochs(train: Dataset, recipe: Recipe, tokenizer: Tokenizer, length: int, note: Note) -> None:
    """Say how often finite data is seen, and how many of its texts are longer than what the model reads."""
    if not train.finite:
        return
    epochs = recipe.last_step * recipe.batch_size / len(train)
    note(f"{train.name}: {recipe.last_step:,} steps are {epochs:.1f} epochs")
    if long := sum(tokenizer.is_truncated(text, length) for text in train.texts()):
        note(f"{long:,} texts are longer than the model's {length} tokens and lose their end")


def starting_model(recipe: Recipe, dataset: Dataset) -> Start:
    """Return the model of `init`, grown if the recipe says so, or a fresh one of `model`, for the words and answers of
    the data.

    Raises `InputError` when `init` holds no model, one that does not fit its config, or another than `model` asks for.
    """
    retrieval = recipe.task == "retrieval"
    if recipe.init is None:
        tokenizer = Tokenizer.from_words(()).extended(dataset.texts())
        labels = ANSWERS if retrieval else labels_for(dataset, recipe.task)
        return Start(fresh_model(recipe, tokenizer, len(labels)), tokenizer, labels)
    start = pretrained_model(recipe, recipe.init)
    return start if retrieval or isinstance(start.model, RegionVqaModel) else adapted(start, dataset, recipe.task)


def fresh_model(recipe: Recipe, tokenizer: Tokenizer, num_answers: int) -> VqaModel:
    """Return the model that the recipe describes, its backbone with the weights that it names."""
    config = build_config(recipe, tokenizer, num_answers)
    if not recipe.backbone_weights:
        return build_model(config)
    seen = {key: value for key, value in pixel_statistics(config.backbone).items() if key not in recipe.model}
    model = build_model(config.replace(**seen))
    load_backbone(model, recipe.backbone_weights)
    return model


def pretrained_model(recipe: Recipe, init: str) -> Start:
    """Return the model of a folder, grown if the recipe says so."""
    folder = model_folder(init)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"no pretrained model at {folder}; run `edgevl pretrain` first, or set init= to its model folder"
        )
    tokenizer, labels = Tokenizer.from_file(folder / "tokenizer.json"), read_labels(folder / "labels.json")
    if is_region_model(folder):
        model = region_start(recipe, folder)
        load_pretrained(model, folder, tokenizer, recipe.task)
        return Start(model, tokenizer, labels)
    config = ModelConfig.from_file(folder / "config.json")
    own, asked = (json.loads(json.dumps(values)) for values in (config.to_dict(), recipe.model))
    if (name := asked.pop("config", "nano")) != "nano":  # which is what a recipe says that says nothing
        raise InputError(f"model.config is {name}, but init={init} says which model: remove one of them")
    for key, value in asked.items():
        if own.get(key) != value:
            raise InputError(f"model.{key} is {value}, but {folder} has {own.get(key)}: remove it, or remove init")
    check_size(config, folder / "model.safetensors")
    model = build_model(config)
    load_pretrained(model, folder, tokenizer, recipe.task)
    return Start(grow(model, recipe.grow) if recipe.grow else model, tokenizer, labels)


def load_pretrained(model: VqaModel, folder: Path, tokenizer: Tokenizer, task: str = "vqa") -> None:
    """Copy the weights. For `vqa` [CLS] then starts as [MASK]: the answer is read where a masked word would be.

    The other tasks keep [CLS], where pretraining read whether a text describes its picture. A model that is fine-tuned
    already (it has a `training.json`) goes on as it is.
    """
    load_weights(model, folder / "model.safetensors")
    if task != "vqa" or (folder / "training.json").is_file():
        return
    words = model.core.text.words.weight
    with torch.no_grad():
        words[tokenizer.cls_id] = words[tokenizer.mask_id]


def training_record(recipe: Recipe, rows: list[dict[str, float]]) -> dict[str, object]:
    kept = ("step", recipe.task, "contrast")
    curve = [{key: row[key] for key in row if key in kept or key.startswith("val_")} for row in rows]
    return {"recipe": json.loads(recipe.model_dump_json()), "curve": curve}
