"""Quantization-aware training: fine-tuning of a model that rounds as it will when it is deployed."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgevl.apps.jetson.bundle_files import sha256_file
from edgevl.contracts import Dataset, Deployable
from edgevl.embedded import model_folder
from edgevl.errors import InputError
from edgevl.inputs.tokenizer import Tokenizer
from edgevl.models.checkpoint import Loaded, LoadedModel, open_model
from edgevl.models.dual_encoder import PICTURES, TEXTS
from edgevl.models.kinds import deployable_of
from edgevl.models.pulling import leaves_of
from edgevl.plans.plan import Plan, save_plan
from edgevl.plans.spec import get_dialect
from edgevl.quantize import plan_for
from edgevl.quantize.qat import RoundedModel, Scheme, programs_to_train, rounded_runner, trainable
from edgevl.training.adapt import Start, save_start
from edgevl.training.contrast import ContrastObjective
from edgevl.training.data import VqaSamples
from edgevl.training.objectives import AnswerObjective
from edgevl.training.recipe import QuantizeSection, Recipe


class Rounding:
    """A start, the plan that its ranges are in, and the model that rounds: what is trained, and how it is saved."""

    def __init__(self, recipe: Recipe, start: Start):
        """Calibrate, unless the start has a plan. Raises as `edgevl.quantize.plan_for` does."""
        assert recipe.quantize and recipe.init
        loaded = open_model(model_folder(recipe.init))
        if type(loaded.model) is not type(start.model):
            raise InputError(
                f"{recipe.init} is another kind of model: fine-tune it first, then quantize what came of it"
            )
        if isinstance(loaded, LoadedModel) and loaded.labels != list(start.labels):
            raise InputError(
                f"{recipe.init} has other labels than {recipe.data.train}: fine-tune it on that data first, then "
                "quantize"
            )
        self.start = start
        self.deployable: Deployable = deployable_of(as_trained(loaded, start))
        self.plan = trainable(plan_of(self.deployable, loaded.path, recipe))
        programs, scheme = programs_to_train(self.deployable), scheme_of(recipe.quantize)
        self.model = RoundedModel(start.model, programs, self.plan, scheme, recipe.batch_size, recipe.data.texts)

    def values(self, batch: Mapping[str, Tensor], texts: str) -> dict[str, Tensor]:
        """Return the values of a batch whose texts [B, K, T] are called `texts`."""
        image = batch["image"].float().contiguous(memory_format=torch.channels_last)
        return self.model(leaves_of(self.model.pulling.programs, image, batch[texts].flatten(0, 1)))

    def save(self, folder: Path, tokenizer: Tokenizer) -> None:
        """Write the model folder and its plan: the ranges that training has seen, for the weights that it has made."""
        self.model.write_back(self.start.model)
        save_start(folder, self.start._replace(tokenizer=tokenizer))
        digest = sha256_file(folder / "model.safetensors")
        save_plan(self.plan.model_copy(update={"checkpoint_sha256": digest}), folder)


class QuantizedAnswers(AnswerObjective):
    """Fine-tuning of a `RoundedModel` that chooses from labels; what is saved is the model that it was made of."""

    def __init__(self, recipe: Recipe, start: Start, validation: VqaSamples):
        samples = min(recipe.eval_samples, len(validation))
        whole = samples - samples % recipe.batch_size
        if recipe.eval_samples and not whole:
            raise InputError(
                f"eval_samples is {samples}, but quantization-aware training evaluates in whole batches "
                f"of {recipe.batch_size}; raise it, or set it to 0"
            )
        super().__init__(validation, whole, recipe.task)
        self._rounding = Rounding(recipe, start)
        self.model = self._rounding.model
        self.eval_batch = recipe.batch_size  # the programs take this many pictures, no more and no less
        self._output = str(self._rounding.deployable.decoding["output"])

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self._rounding.values(batch, "questions")[self._output]

    def save(self, folder: Path, tokenizer: Tokenizer) -> None:
        self._rounding.save(folder, tokenizer)


class QuantizedContrast(ContrastObjective):
    """The same for a dual encoder. The scale of its products is not rounded, and stays."""

    def __init__(self, recipe: Recipe, start: Start, validation: Dataset):
        rounding = Rounding(recipe, start)
        super().__init__(rounding.model, start.tokenizer, validation, recipe)
        self._rounding = rounding

    def embeddings(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        values = self._rounding.values(batch, "captions")
        return {PICTURES: values[PICTURES], TEXTS: values[TEXTS], "scale": self._rounding.start.model.scale.detach()}

    def answering(self) -> Any:
        model = self._rounding.deployable
        return model, rounded_runner(model, self._rounding.model)

    def save(self, folder: Path, tokenizer: Tokenizer) -> None:
        self._rounding.save(folder, tokenizer)


def as_trained(loaded: Loaded, start: Start) -> Loaded:
    """Return the model folder with the module that is trained in its place."""
    model = start.model.eval()
    return dataclasses.replace(loaded, model=model, config=model.config, tokenizer=start.tokenizer)


def scheme_of(section: QuantizeSection) -> Scheme:
    return Scheme(get_dialect(section.dialect), section.weight_bits, section.per_channel)


def plan_of(model: Deployable, folder: Path, recipe: Recipe) -> Plan:
    """Return the plan in the model folder, or one of a calibration now."""
    section = recipe.quantize
    assert section
    return plan_for(model, folder, section.data or recipe.data.val, section.samples, section.observer)
