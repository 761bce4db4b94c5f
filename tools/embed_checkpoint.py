"""Make a fine-tuned run the embedded nano: weights, scores on every split, the curves, and the model card.

    python tools/embed_checkpoint.py runs/pretrain_scenes_nano runs/finetune_scenes_nano
    python tools/embed_checkpoint.py runs/retrieval_scenes_nano     # a dual encoder: the embedded nano-retrieval

Runs that begin at the embedded nano (`init=nano`) go on from its stages and its curves. The card holds only what is
measured here: accuracy per kind of question on every split, with Wilson intervals, beside a baseline that never sees
the picture.
"""

import argparse
import io
import json
import shutil
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image
from retrieval_table import measure as measure_recall
from retrieval_table import table

from edgevl.atomic import write_json
from edgevl.bench.machine import cpu_name
from edgevl.data.scenes import CATEGORIES, QUESTION_KINDS, SPLITS
from edgevl.data.scenes.blind import BlindBaseline, blind_accuracy, questions_of
from edgevl.embedded import EMBEDDED, FINDS_PICTURES
from edgevl.models.checkpoint import FILES, Loaded, LoadedDualEncoder, LoadedModel, load_model, open_model
from edgevl.models.question_answering import question_answering
from edgevl.opened import eager
from edgevl.training.domain import fit_domain
from edgevl.training.recipe import load_recipe
from edgevl.verify.measure import draw
from edgevl.verify.measure import measure as judged

EVALUATED = [split for split in SPLITS if split != "train"]
CARD, RECALL_CARD = (Path(__file__).with_name(f"{name}_card.md.jinja") for name in ("model", "retrieval"))
VISUAL = ["semantic_map", "object.class", "object.color", "object.box_giou", "region_distillation"]
BLIND_SCENES = 20000  # training scenes that the blind baseline learns from


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="each stage, in order")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="runs of other seeds, for the card")
    parser.add_argument("--machine", default=cpu_name(), help="what trained, for the card")
    parser.add_argument("--out", type=Path, help="default: the embedded model of its kind")
    args = parser.parse_args(argv)
    found = open_model(args.runs[-1] / "model")
    stages = [stage(run) | {"machine": args.machine} for run in args.runs]
    finds = isinstance(found, LoadedDualEncoder)
    args.out = args.out or (FINDS_PICTURES if finds else EMBEDDED)
    args.out.mkdir(parents=True, exist_ok=True)
    embed_dual_encoder(found, stages, args) if finds else embed_answering(stages, args)


def embed_dual_encoder(loaded: LoadedDualEncoder, stages: list[dict[str, Any]], args: argparse.Namespace) -> None:
    for name in FILES[:3]:
        shutil.copyfile(loaded.path / name, args.out / name)
    scores = {key: value for key, value in measure_recall(str(loaded.path)).items() if isinstance(value, dict)}
    write_json(args.out / "training.json", loaded.training | {"scores": scores, "stages": stages})
    card = jinja2.Template(RECALL_CARD.read_text(encoding="utf-8")).render(
        **_of_any_card(loaded, stages, args), name=FINDS_PICTURES.name, table=table(scores)
    )
    (args.out / "README.md").write_text(card + "\n", encoding="utf-8")
    print(table(scores))


def embed_answering(stages: list[dict[str, Any]], args: argparse.Namespace) -> None:
    loaded = load_model(args.runs[-1] / "model")
    earlier = earlier_stages(args.runs[0])
    stages = [*earlier, *stages]
    for name in FILES:
        shutil.copyfile(loaded.path / name, args.out / name)
    scores = measure(loaded, args.samples)
    seeds = [
        seed_row(args.runs[-1], scores),
        *(seed_row(run, measure(load_model(run / "model"), args.samples)) for run in args.beside),
    ]
    write_json(args.out / "training.json", loaded.training | {"scores": scores, "stages": stages, "seeds": seeds})
    fit_domain(args.out)
    curves = [EMBEDDED / "curves.png"] if earlier else []
    stack([*curves, draw_curves(args.runs, len(earlier))]).save(args.out / "curves.png")
    (args.out / "README.md").write_text(render_card(loaded, scores, stages, seeds, args), encoding="utf-8")
    print(json.dumps({split: row["accuracy"] for split, row in scores.items()}, indent=1))


def measure(loaded: LoadedModel, samples: int) -> dict[str, Any]:
    """Accuracy of the model and of the blind baseline per split; per kind as [accuracy, number of questions]."""
    baseline = BlindBaseline(questions_of("train", BLIND_SCENES))
    scores = {}
    for split in EVALUATED:
        drawn = draw(f"scenes:{split}", loaded.config.task, samples, loaded.config.image_size)
        (found,) = judged(eager(question_answering(loaded)), drawn).metrics
        scores[split] = {
            "accuracy": found.value,
            "ci95": found.ci95,
            "per_kind": found.per_kind,
            "samples": samples,
            "blind": blind_accuracy(baseline, questions_of(split, samples)),
        }
    return scores


def seed_row(run: Path, scores: dict[str, Any]) -> dict[str, Any]:
    """What the card says of a seed: its number, accuracy per split, and of counting on `test`."""
    found = {split: row["accuracy"] for split, row in scores.items()}
    return {"seed": load_recipe(run / "recipe.yaml").seed, **found, "count": scores["test"]["per_kind"]["count"][0]}


def earlier_stages(run: Path) -> list[dict[str, Any]]:
    """The stages of the embedded nano, if the run went on from there."""
    if load_recipe(run / "recipe.yaml").init != "nano":
        return []
    return json.loads((EMBEDDED / "training.json").read_text(encoding="utf-8"))["stages"]


def stage(run: Path) -> dict[str, Any]:
    """What the card says of a run; its hours are from the rates in its log."""
    recipe = load_recipe(run / "recipe.yaml")
    rate = [row["samples_per_second"] for row in rows(run) if "samples_per_second" in row][-1]
    return {
        "name": recipe.name,
        "trained": recipe.last_step,
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "texts": recipe.data.texts,
        "losses": [name for name, given in recipe.losses.items() if given.get("after", 0) < recipe.last_step],
        "precision": recipe.precision,
        "hours": round(recipe.last_step * recipe.batch_size / rate / 3600, 2),
    }


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def draw_curves(runs: list[Path], earlier: int) -> io.BytesIO:
    """A PNG of the losses and validation accuracies of runs that come after `earlier` stages."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = [] if earlier else [
        (runs[0], "pretraining: language losses", ["words.pictures", "words.twins", "mlm", "itm", "itc"]),
        (runs[0], "pretraining: visual losses", VISUAL),
    ]  # fmt: skip
    tuned = runs if earlier else runs[1:]
    panels += [(run, f"fine-tuning {n}", ["vqa", "val_accuracy"]) for n, run in enumerate(tuned, max(1, earlier))]
    figure, axes = plt.subplots(1, len(panels), figsize=(4.3 * len(panels), 3.6), constrained_layout=True)
    for axis, (run, title, names) in zip(np.atleast_1d(axes), panels, strict=True):
        for name in names:
            points = [(row["step"], row[name]) for row in rows(run) if name in row]
            if not points:
                continue
            marker = "o" if len(points) < 10 else None
            axis.plot([step for step, _ in points], [y for _, y in points], label=name, linewidth=1.2, marker=marker)
        axis.set(title=title, xlabel="step", ylim=(0, None))
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(buffer := io.BytesIO(), format="png", dpi=80, metadata={"Software": None})
    return buffer


def stack(pictures: list[Path | io.BytesIO]) -> Image.Image:
    """Pictures below each other, on white."""
    opened = [Image.open(picture).convert("RGB") for picture in pictures]
    whole = Image.new("RGB", (max(each.width for each in opened), sum(each.height for each in opened)), "white")
    top = 0
    for each in opened:
        whole.paste(each, (0, top))
        top += each.height
    return whole


def _of_any_card(loaded: Loaded, stages: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    return {
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "config": loaded.config,
        "sha256": loaded.sha256,
        "machine": args.machine,
        "stages": stages,
        "runs": " ".join(map(str, args.runs)),
    }


def render_card(
    loaded: LoadedModel,
    scores: dict[str, Any],
    stages: list[dict[str, Any]],
    seeds: list[dict[str, Any]],
    args: argparse.Namespace,
) -> str:
    return jinja2.Template(CARD.read_text(encoding="utf-8")).render(
        **_of_any_card(loaded, stages, args),
        classes=len(CATEGORIES),
        samples=args.samples,
        blind_scenes=BLIND_SCENES,
        scores=scores,
        seeds=seeds,
        kinds=QUESTION_KINDS,
        losses=", ".join(stages[0]["losses"]),
        percent=lambda share: f"{100 * share:.1f}",
    )


if __name__ == "__main__":
    main()
