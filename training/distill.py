"""Distillation: fine-tuning with a teacher beside the right answers.

The loop, the data and the start are those of fine-tuning (`edgevl.training.finetune`). Added are a frozen teacher that
sees the same pictures and texts, and the losses of `edgevl.training.losses.distillation`, or of a dual encoder those of
`embedding_distillation`. Their heads live in the objective and are not saved with the model.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevl.contracts import Dataset
from edgevl.embedded import model_folder
from edgevl.errors import InputError
from edgevl.models import VqaModel
from edgevl.models.checkpoint import LoadedModel, load_model
from edgevl.models.kinds import open_deployable
from edgevl.progress import Progress
from edgevl.training.adapt import Start
from edgevl.training.batch import trim
from edgevl.training.contrast import ContrastObjective, by_caption, mean_of
from edgevl.training.data import VqaSamples
from edgevl.training.embedding_teacher import Teacher
from edgevl.training.finetune import contrast_parts, train_answers, train_parts
from edgevl.training.loop import Note
from edgevl.training.losses.base import check_weights, make_losses
from edgevl.training.losses.distillation import DISTILLATION, Trace
from edgevl.training.losses.embedding_distillation import EMBEDDING_DISTILLATION
from edgevl.training.objectives import VqaObjective
from edgevl.training.recipe import Recipe
from edgevl.training.run_folder import recipe_of, run_folder


class DistillObjective(VqaObjective):
    """The loss of fine-tuning, called after the task, and the teacher losses by name."""

    def __init__(
        self,
        model: VqaModel,
        validation: VqaSamples,
        eval_samples: int,
        teacher: VqaModel,
        losses: Mapping[str, nn.Module],
        labels: Sequence[str],
    ):
        super().__init__(model, validation, eval_samples, labels)
        self.losses = nn.ModuleDict(losses)
        # In a list: it is frozen, stays in eval mode, and is no part of a checkpoint.
        self._teacher = [teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)]  # pyright: ignore

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        batch = trim(batch, "questions")
        student = trace(self.model, batch)
        with torch.no_grad():
            teacher = trace(self._teacher[0].to(student.logits_NA.device), batch)
        named = self.task_losses(student.logits_NA, batch)
        for loss in self.losses.values():
            named |= loss(student, teacher)
        return named


class DistillContrast(ContrastObjective):
    """`contrast`, the loss of fine-tuning, and the teacher losses by name."""

    def __init__(self, recipe: Recipe, start: Start, validation: Dataset, teacher: Teacher):
        super().__init__(start.model, start.tokenizer, validation, recipe)
        sizes = start.model.config.embedding, teacher.embedding
        self.losses = nn.ModuleDict(make_losses(recipe.losses, EMBEDDING_DISTILLATION, *sizes))
        self._teacher = teacher

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        student, teacher = self.embeddings(batch), self._teacher.embeddings(batch)
        pairs = list(zip(by_caption(student), by_caption(teacher)))
        named = self.task_losses(student, batch)
        for loss in self.losses.values():
            named |= mean_of([loss(*pair) for pair in pairs])
        return named


def trace(model: VqaModel, batch: Mapping[str, Tensor]) -> Trace:
    """Run `model` on a batch, at its own picture size, and keep what the losses compare."""
    questions_BKT = batch["questions"]
    ids_NT = questions_BKT.flatten(0, 1)
    read: list[Tensor] = []
    hook = model.core.fusion.blocks[-1].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    try:
        visual_BVD = model.core.encode_image(to_size(batch["image"], model.config.image_size))
        logits_NA = model.answer(visual_BVD.repeat_interleave(questions_BKT.shape[1], 0), ids_NT)
    finally:
        hook.remove()
    return Trace(model, ids_NT, visual_BVD, read[0].unflatten(0, (len(ids_NT), -1)), logits_NA)


def to_size(image_B3SS: Tensor, side: int) -> Tensor:
    """Float pictures of `side`, by the triangle filter of preprocessing, rounded as it rounds."""
    image = image_B3SS.float()
    if image.shape[-1] != side:
        image = F.interpolate(image, (side, side), mode="bilinear", antialias=True).round()
    return image.contiguous(memory_format=torch.channels_last)


def run(
    recipe: str | Path | Recipe,
    overrides: list[str] | None = None,
    out: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    note: Note = lambda text: None,
) -> Path:
    """Distill by a recipe; return the run folder. The student is `RUN/model`, a folder that every command takes.

    Raises `InputError` when there is no teacher, when the two cannot be compared (another task, other labels, another
    tokenizer, embeddings of another size), or when the recipe is wrong.
    """
    recipe = recipe_of("distill", recipe, overrides)
    folder = run_folder(recipe, out, resume)
    if recipe.teacher is None:
        raise InputError(f'the recipe "{recipe.name}" has no teacher; set teacher= to a model folder, or to nano')
    if recipe.model.get("kind"):
        check_weights(recipe.weights, ("contrast", *EMBEDDING_DISTILLATION))
        finder = Teacher(open_deployable(model_folder(recipe.teacher)), recipe.data.texts)
        parts = contrast_parts(recipe, partial(DistillContrast, teacher=finder), finder)
        return train_parts(recipe, parts, folder, resume, progress, note)
    check_weights(recipe.weights, (recipe.task, *DISTILLATION))
    teacher = load_model(model_folder(recipe.teacher))

    def make_objective(recipe: Recipe, start: Start, validation: VqaSamples) -> DistillObjective:
        model = start.model
        check_teacher(teacher, start)
        losses = make_losses(recipe.losses, DISTILLATION, model.config, teacher.config)
        return DistillObjective(model, validation, recipe.eval_samples, teacher.model, losses, start.labels)

    # Pictures are drawn for whoever sees the larger ones; the other gets them smaller, as an app would hand them over.
    return train_answers(recipe, make_objective, folder, resume, progress, note, teacher.config.image_size)


def check_teacher(teacher: LoadedModel, start: Start) -> None:
    """Raises `InputError` for a teacher whose answers or words do not mean the same as the student's."""
    tokenizer, student = start.tokenizer, start.model.config
    if teacher.config.task != student.task:
        raise InputError(f"the teacher {teacher.path} was trained for {teacher.config.task}, not for {student.task}")
    if teacher.labels != list(start.labels):
        raise InputError(
            f"the teacher {teacher.path} has other labels than the student ({len(teacher.labels)}, not "
            f"{len(start.labels)} in the same order): its logits mean other answers"
        )
    if teacher.tokenizer.backend.to_str() != tokenizer.backend.to_str():
        raise InputError(
            f"the teacher {teacher.path} has another tokenizer than the student: it would read other words"
        )
    if teacher.config.text_length < student.text_length:
        raise InputError(
            f"the teacher {teacher.path} reads {teacher.config.text_length} tokens, the student "
            f"{student.text_length}: choose a teacher that reads as many"
        )
