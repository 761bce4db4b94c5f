"""Pretraining: language losses (MLM, ITM, ITC) and the three visual losses over captioned, annotated pictures."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from edgevl.config import ModelConfig
from edgevl.data import open_scenes
from edgevl.data.annotations import Annotations
from edgevl.data.scenes import ANSWERS, CATEGORIES, COLORS, SIZES, VOCABULARY
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models import VqaModel, build_model
from edgevl.models.checkpoint import save_model, save_weights
from edgevl.models.core import VisionLanguageCore
from edgevl.progress import Progress
from edgevl.regions.detector import LoadedDetector
from edgevl.regions.model import RegionVqaModel, new_region_model
from edgevl.training.batch import trim, visual_tokens
from edgevl.training.data import PretrainSamples, in_other_light
from edgevl.training.loop import Note, Run, fit
from edgevl.training.losses import LOSSES, Criterion, LossContext, MaskedLanguageLoss, PretrainingLoss
from edgevl.training.losses.base import check_weights, loss_weights, make_losses
from edgevl.training.recipe import Recipe, build_config
from edgevl.training.regions import pretraining_detector, with_regions
from edgevl.training.run_folder import open_run, recipe_of, run_folder

RETRIEVAL_HEADS = "retrieval.safetensors"  # in a model folder; optional


class PretrainObjective(nn.Module):
    """The core and the losses with their heads. `objective(batch) -> named losses` of those that have begun."""

    def __init__(self, core: VisionLanguageCore | RegionVqaModel, losses: Mapping[str, nn.Module]):
        super().__init__()
        self.core, self.step = core, 0
        self.losses = nn.ModuleDict(losses)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        batch = trim(batch, "captions", "negatives")
        visual_BVD = visual_tokens(self.core, batch)
        named: dict[str, Tensor] = {}
        for loss in cast(Iterable[PretrainingLoss], self.losses.values()):
            if self.step >= loss.reading.after:
                named |= loss(self.core, *loss.reading.of(batch, visual_BVD))
        return named

    def evaluate(self) -> dict[str, float]:
        return {}


def run(
    recipe: str | Path | Recipe,
    overrides: list[str] | None = None,
    out: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    note: Note = lambda text: None,
) -> Path:
    """Pretrain by a recipe; return the run folder, whose `model` is what fine-tuning starts from.

    Raises `InputError` when the folder holds another run and `resume` is not set, or the recipe is wrong.
    """
    recipe = recipe_of("pretrain", recipe, overrides)
    folder = run_folder(recipe, out, resume)
    check_weights(recipe.weights, LOSSES)
    tokenizer = Tokenizer.from_words(VOCABULARY)
    config = build_config(recipe, tokenizer, len(ANSWERS))
    detector = pretraining_detector(recipe)
    torch.manual_seed(recipe.seed)
    as_regions = recipe.detector is not None
    model = new_region_model(config, detector, recipe.regions) if detector and as_regions else build_model(config)
    losses = build_losses(recipe, config, tokenizer, detector if as_regions else None)
    objective = PretrainObjective(model.core, losses)
    data, count = recipe.data, recipe.last_step * recipe.batch_size
    scenes = open_scenes(data.train, seed=data.seed, size=config.image_size)
    notes = Annotations(data.annotations, data.train, data.seed, count) if data.annotations else None
    samples = PretrainSamples(scenes, tokenizer, config, data.texts, notes)
    samples = in_other_light(samples, data.light, as_regions)
    if detector:
        samples = with_regions(samples, detector, recipe, data.train, count, recipe.regions, not as_regions, progress)
    criterion = Criterion(loss_weights(recipe.losses) | recipe.weights)
    begun = {name: loss for name, loss in losses.items() if loss.reading.after < recipe.last_step}
    if late := [name for name in losses if name not in begun]:
        note(f"this run ends with step {recipe.last_step}, before these losses begin: {', '.join(late)}")
    with open_run(recipe, folder, resume):
        fit(Run(recipe, objective.train(), samples, criterion, folder, progress, note), resume)
        if "mlm" in objective.losses:
            start_head_from_mlm(model, objective.losses["mlm"], tokenizer, ANSWERS)
        save_model(folder / "model", model, tokenizer, list(ANSWERS))
        save_retrieval_heads(folder / "model", begun)
    return folder


def save_retrieval_heads(model_folder: Path, losses: Mapping[str, nn.Module]) -> None:
    """Keep the heads of contrast and matching beside the model: with them it finds pictures, untuned or tuned."""
    if "itc" in losses and "itm" in losses:
        save_weights(model_folder / RETRIEVAL_HEADS, nn.ModuleDict({name: losses[name] for name in ("itc", "itm")}))


def start_head_from_mlm(
    model: VqaModel | RegionVqaModel, mlm: nn.Module, tokenizer: Tokenizer, labels: Sequence[str]
) -> None:
    """Hand the masked-word head on as the answer head: an answer is a masked word, scored by its words' mean embedding.

    A fresh head had not learned a single category after 200 steps of fine-tuning (docs/log.md).
    """
    assert isinstance(mlm, MaskedLanguageLoss)
    model.head.load_state_dict(mlm.transform.state_dict(), strict=False)  # all but the last layer, which follows
    last = model.head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        for index, label in enumerate(labels):
            pieces = torch.tensor(tokenizer.pieces(label))
            last.weight[index] = model.core.text.words.weight[pieces].mean(0)
            last.bias[index] = mlm.bias[pieces].mean()


def build_losses(
    recipe: Recipe, config: ModelConfig, tokenizer: Tokenizer, eyes: LoadedDetector | None = None
) -> dict[str, PretrainingLoss]:
    """The recipe's losses by name; a weight of 0 switches one off. Those of a region-feature model know its `eyes`.

    Raises `InputError` for an unknown loss or option, and where none begins at once.
    """
    context = LossContext(config, tokenizer, CATEGORIES, {"color": COLORS, "size": SIZES})
    if eyes:
        context = LossContext(config, tokenizer, eyes.config.classes, eyes.config.attributes)
    losses = make_losses(recipe.losses, LOSSES, context)
    if all(loss.reading.after for loss in losses.values()):
        raise InputError(f"losses: none begins with the first step: lower {' or '.join(f'{n}.after' for n in losses)}")
    return losses
