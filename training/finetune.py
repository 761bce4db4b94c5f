"""Fine-tuning for visual question answering: the pretrained core, an answer head, cross entropy."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgevl.checkpoint import load_weights, save_model, write_json
from edgevl.config import ModelConfig
from edgevl.data import open_dataset
from edgevl.data.scenes import ANSWERS, VOCABULARY
from edgevl.errors import InputError
from edgevl.models import VqaModel, build_model
from edgevl.tokenizer import Tokenizer
from edgevl.training.data import Positions, VqaSamples, batches
from edgevl.training.loop import Progress, Run, fit
from edgevl.training.losses import Criterion
from edgevl.training.pretrain import build_config, open_run, require_stage, trim
from edgevl.training.recipe import Recipe, load_recipe


class VqaTask(nn.Module):
    """Cross entropy over the answers of K questions a picture; the picture is encoded once."""

    def __init__(self, model: VqaModel, validation: VqaSamples, eval_samples: int):
        super().__init__()
        self.model = model
        self._validation, self._eval_samples = validation, eval_samples

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits [B * K, A]."""
        image = batch["image"].float().contiguous(memory_format=torch.channels_last)
        questions = trim(batch, "questions")["questions"]
        visual_NVD = self.model.core.encode_image(image).repeat_interleave(questions.shape[1], 0)
        return self.model.answer(visual_NVD, questions.flatten(0, 1))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"vqa": F.cross_entropy(self.logits(batch).float(), batch["answers"].flatten())}

    def evaluate(self) -> dict[str, float]:
        right = total = 0
        device = next(self.parameters()).device
        for batch in batches(self._validation, Positions(64, 0, self._eval_samples // 64), workers=0):
            batch = {key: value.to(device) for key, value in batch.items()}
            right += int((self.logits(batch).argmax(-1) == batch["answers"].flatten()).sum())
            total += batch["answers"].numel()
        return {"val_accuracy": right / total} if total else {}


def run(
    recipe: str | Path | Recipe,
    overrides: list[str] | None = None,
    out: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Fine-tune by a recipe; return the run folder. The model is `RUN/model`, a folder that every command takes.

    Raises `InputError` when `init` is not a pretrained model, or the recipe is wrong.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    require_stage(recipe, "finetune")
    tokenizer, config = load_tokenizer_and_config(recipe)
    folder = open_run(recipe, out, resume)
    torch.manual_seed(recipe.seed)
    model = build_model(config).train()
    if recipe.init:
        load_pretrained(model, Path(recipe.init), tokenizer)
    data = recipe.data
    train, val = (open_dataset(spec, seed=data.seed, size=config.image_size) for spec in (data.train, data.val))
    samples = VqaSamples(train, tokenizer, config, ANSWERS, data.texts, data.focus, data.focus_texts)
    task = VqaTask(model, VqaSamples(val, tokenizer, config, ANSWERS, data.texts), recipe.eval_samples)
    rows = fit(Run(recipe, task, samples, Criterion(), folder, progress), resume)
    save_model(folder / "model", model, tokenizer, list(ANSWERS))
    write_json(folder / "model" / "training.json", training_record(recipe, rows))
    return folder


def load_tokenizer_and_config(recipe: Recipe) -> tuple[Tokenizer, ModelConfig]:
    """Those of the pretrained model, or fresh ones when the recipe starts from nothing."""
    if recipe.init is None:
        tokenizer = Tokenizer.from_words(VOCABULARY)
        return tokenizer, build_config(recipe, tokenizer, len(ANSWERS))
    folder = Path(recipe.init)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"no pretrained model at {folder}; run `edgevl pretrain` first, or set init= to its model folder"
        )
    return Tokenizer.from_file(folder / "tokenizer.json"), ModelConfig.from_file(folder / "config.json")


def load_pretrained(model: VqaModel, folder: Path, tokenizer: Tokenizer) -> None:
    """Copy the weights. After pretraining [CLS] starts as [MASK]: the answer is read where a masked word would be.

    A model that is fine-tuned already (it has a `training.json`) goes on as it is.
    """
    load_weights(model, folder / "model.safetensors")
    if (folder / "training.json").is_file():
        return
    words = model.core.text.words.weight
    with torch.no_grad():
        words[tokenizer.cls_id] = words[tokenizer.mask_id]


def training_record(recipe: Recipe, rows: list[dict[str, float]]) -> dict[str, object]:
    curve = [{key: row[key] for key in ("step", "vqa", "val_accuracy") if key in row} for row in rows]
    return {"recipe": json.loads(recipe.model_dump_json()), "curve": curve}
