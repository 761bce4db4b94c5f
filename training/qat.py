"""Quantization-aware training: fine-tuning of a model that rounds as it will when it is deployed."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from edgevl.apps.jetson.bundle_files import sha256_file
from edgevl.checkpoint import LoadedModel, load_model, save_model
from edgevl.embedded import model_folder
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models.kinds import deployable_of
from edgevl.plans.plan import Plan, save_plan
from edgevl.plans.spec import get_dialect
from edgevl.quantize import plan_for
from edgevl.quantize.qat import RoundedModel, Scheme, trainable
from edgevl.training.adapt import Start
from edgevl.training.data import VqaSamples
from edgevl.training.objectives import AnswerObjective
from edgevl.training.recipe import QuantizeSection, Recipe


class QuantizedObjective(AnswerObjective):
    """Fine-tuning of a `RoundedModel`; what is saved is the model that it was made of, and the plan."""

    def __init__(self, start: Start, plan: Plan, scheme: Scheme, recipe: Recipe, validation: VqaSamples):
        samples = min(recipe.eval_samples, len(validation))
        whole = samples - samples % recipe.batch_size
        if recipe.eval_samples and not whole:
            raise InputError(
                f"eval_samples is {samples}, but quantization-aware training evaluates in whole batches "
                f"of {recipe.batch_size}; raise it, or set it to 0"
            )
        super().__init__(validation, whole)
        self.model = RoundedModel(start.model, plan, scheme, recipe.batch_size, recipe.data.texts)
        self.eval_batch = recipe.batch_size  # the programs take this many pictures, no more and no less
        self._start, self._plan = [start], plan  # in a list: no part of this module's parameters

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        image = batch["image"].float().contiguous(memory_format=torch.channels_last)
        return self.model(image, batch["questions"].flatten(0, 1))

    def save(self, folder: Path, tokenizer: Tokenizer) -> None:
        """Write the model folder and its plan: the ranges that training has seen, for the weights that it has made."""
        (start,) = self._start
        self.model.write_back(start.model)
        save_model(folder, start.model, tokenizer, list(start.labels))
        digest = sha256_file(folder / "model.safetensors")
        save_plan(self._plan.model_copy(update={"checkpoint_sha256": digest}), folder)


def quantized_objective(recipe: Recipe, start: Start, validation: VqaSamples) -> QuantizedObjective:
    """Raises `InputError` for an unknown dialect, data or observer, or a calibration set that cannot be trusted."""
    assert recipe.quantize and recipe.init
    scheme = scheme_of(recipe.quantize)
    loaded = dataclasses.replace(load_model(model_folder(recipe.init)), model=start.model.eval())
    if loaded.labels != list(start.labels):
        raise InputError(
            f"{recipe.init} has other labels than {recipe.data.train}: fine-tune it on that data first, then quantize"
        )
    return QuantizedObjective(start, trainable(plan_of(loaded, recipe)), scheme, recipe, validation)


def scheme_of(section: QuantizeSection) -> Scheme:
    return Scheme(get_dialect(section.dialect), section.weight_bits, section.per_channel)


def plan_of(loaded: LoadedModel, recipe: Recipe) -> Plan:
    """The plan in the model folder, or one of a calibration now."""
    section = recipe.quantize
    assert section
    data = section.data or recipe.data.val
    return plan_for(deployable_of(loaded), loaded.path, data, section.samples, section.observer)
