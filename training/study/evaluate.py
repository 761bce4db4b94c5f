"""What is measured on a finished run. Everything here is a function of the weights: the same each time.

Shapes: N samples, A answers, B pictures of a batch, T text tokens.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgevl.data import annotations, open_scenes
from edgevl.data.scenes import SIZES
from edgevl.data.scenes.blind import BlindBaseline, blind_accuracy, questions_of
from edgevl.models.checkpoint import LoadedModel, load_model
from edgevl.progress import Progress
from edgevl.reading import read_json
from edgevl.regions.detector import load_detector
from edgevl.regions.model import is_region_model, load_region_model
from edgevl.training.data import RetrievalSamples, channels_first
from edgevl.training.metric_log import METRICS, read_rows
from edgevl.training.retrieval import recall, retrieval_heads
from edgevl.training.study.answers import Evaluation, Samples, draw_kinds, draw_samples, evaluate_model
from edgevl.training.study.intervals import calibration_error
from edgevl.training.study.preset import Preset, Sprint
from edgevl.training.study.worst import worst_samples

SPLITS = ("test", "test_style", "test_pairs")
BATCH = 64
SPRINT_SAMPLES = 1000


def open_model(folder: Path) -> LoadedModel:
    """Our model or a region-feature model."""
    return load_region_model(folder) if is_region_model(folder) else load_model(folder)


def pretrained(preset: Preset, folder: Path) -> dict[str, Any]:
    return {"zero_shot": find(preset, open_model(folder / "model"))}


def finetuned(preset: Preset, task: str, keep_worst: bool, folder: Path) -> dict[str, Any]:
    """`score` is the number that the claims are about: accuracy, or mean recall@1 of both ways."""
    loaded = open_model(folder / "model")
    if task == "retrieval":
        found = find(preset, loaded)
        score = (found["text_to_image_reranked_r1"] + found["image_to_text_reranked_r1"]) / 2
        return {"score": score, "retrieval": found}
    splits, answers = {}, None
    for split in SPLITS:
        samples = draw_samples(f"{preset.data}:{split}", preset.test_samples, loaded.config.image_size, task)
        evaluation = evaluate_model(loaded, samples, BATCH)
        splits[split] = _report(evaluation, samples if task == "vqa" else None)
        answers = answers or evaluation
    found = {"score": splits["test"]["accuracy"], "splits": splits}
    if keep_worst and answers:
        samples = draw_samples(f"{preset.data}:test", preset.test_samples, loaded.config.image_size, task)
        found["worst"] = worst_samples(loaded, samples, answers, preset.worst)
    return found


def last_losses(folder: Path) -> dict[str, Any]:
    """The losses at the end of a pretraining, each the mean of the last five rows of its log."""
    rows = [row for row in read_rows(folder / METRICS) if "loss" in row][-5:]
    names = [name for name in rows[-1] if f"{name}_scaled" in rows[-1]]
    return {"losses": {name: round(float(np.mean([row[name] for row in rows])), 4) for name in names}}


def by_kind(preset: Sprint, folder: Path) -> dict[str, Any]:
    """Accuracy on `SPRINT_SAMPLES` questions of `test`, of the kinds that the sprint asks."""
    loaded, kinds = open_model(folder / "model"), tuple(preset.finetune["data"]["kinds"])
    samples = draw_kinds(f"{preset.data}:test", SPRINT_SAMPLES, loaded.config.image_size, kinds)
    evaluation = evaluate_model(loaded, samples, BATCH)
    found = {kind: [round(share, 6), n] for kind, (share, n) in evaluation.per_kind.items()}
    return {"score": round(evaluation.accuracy, 6), "per_kind": found}


def detector(folder: Path) -> dict[str, Any]:
    """mAP on `val` (null where it was not computed), and what training cost."""
    record = read_json(folder / "model" / "training.json")
    rows = {key: value for row in record["curve"] for key, value in row.items()}
    return {key: rows.get(key) for key in ("val_map", "val_map_50")} | {"training_macs": record["training_macs"]}


def blind(preset: Preset, _folder: Path, _progress: Progress | None) -> dict[str, Any]:
    """What the text alone gives away, per split, on the very questions of the test."""
    categories = open_scenes(preset.data).categories
    baseline = BlindBaseline(questions_of("train", preset.blind_scenes, categories=categories))
    found = {}
    for split in SPLITS:
        scenes = open_scenes(f"{preset.data}:{split}", size=preset.model.get("image_size", 128))
        asked = [scenes.scene(i).questions(1)[0] for i in range(preset.test_samples)]
        found[split] = {kind: round(value, 6) for kind, value in blind_accuracy(baseline, asked).items()}
    return {"result": found, "timing": {}}


def annotate(preset: Preset, detector: Path, seed: int, folder: Path, progress: Progress | None) -> dict[str, Any]:
    """Write the boxes that a detector finds in the pictures of pretraining."""
    out = folder / "boxes.jsonl"
    count = preset.pretrain["steps"] * preset.pretrain["batch_size"]
    annotations.annotate(
        load_detector(detector), f"{preset.data}:train", count, out, seed, preset.label_score, progress
    )
    boxes = sum(len(json.loads(line).get("objects", ())) for line in out.read_text(encoding="utf-8").splitlines())
    return {"result": {"pictures": count, "boxes": boxes}, "timing": {}}


def find(preset: Preset, loaded: LoadedModel) -> dict[str, float]:
    """Recall among the first pictures of the split `test`, each with its most specific caption."""
    scenes, count = open_scenes(f"{preset.data}:test", size=loaded.config.image_size), preset.retrieval_pictures
    heads = retrieval_heads(loaded.config, loaded.path)
    samples = RetrievalSamples(scenes, loaded.tokenizer, loaded.config, 1)
    captions = [samples.pairs(scenes.scene(i))[0][0] for i in range(count)]
    ids_NT = torch.from_numpy(loaded.tokenizer.encode_batch(captions, loaded.config.text_length)).long()
    core = loaded.model.core
    with torch.no_grad():
        visual = [core.encode_image(image) for image in _pictures(scenes, count)]
        found = recall(core, heads, torch.cat(visual), ids_NT)
    return {name: round(value, 6) for name, value in found.items()}


def _pictures(scenes: Any, count: int) -> Iterator[torch.Tensor]:
    for start in range(0, count, BATCH):
        images = [channels_first(scenes.scene(i).image) for i in range(start, min(start + BATCH, count))]
        yield torch.from_numpy(np.stack(images)).float()


def _report(evaluation: Evaluation, samples: Samples | None) -> dict[str, Any]:
    shifted_NA = evaluation.logits_NA - evaluation.logits_NA.max(1, keepdims=True)
    odds_NA = np.exp(shifted_NA.astype(np.float64))
    confidence_N = (odds_NA / odds_NA.sum(1, keepdims=True)).max(1)
    found: dict[str, Any] = {
        "accuracy": round(evaluation.accuracy, 6),
        "calibration_error": round(calibration_error(confidence_N, evaluation.correct_N), 6),
        "correct": np.packbits(evaluation.correct_N).tobytes().hex(),
    }
    if samples:
        sizes = np.array(_object_sizes(samples))
        groups = {size: evaluation.correct_N[sizes == size] for size in SIZES}
        found["per_kind"] = {kind: [round(share, 6), n] for kind, (share, n) in evaluation.per_kind.items()}
        found["per_size"] = {s: [round(float(hits.mean()), 6), len(hits)] for s, hits in groups.items() if len(hits)}
    return found


def _object_sizes(samples: Samples) -> list[str]:
    """Of each question: the size of the one object whose category it names; empty where it names none, or several."""
    scenes, found = open_scenes(samples.data, size=samples.pixels_NSS3.shape[1]), []
    for index, text in enumerate(samples.questions):
        named = [o for o in scenes.scene(index).objects if f" {o.category} " in f" {text.replace('?', ' ')} "]
        found.append(named[0].size if len(named) == 1 else "")
    return found
