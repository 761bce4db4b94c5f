"""Does a teacher help a nano? Distilled against trained as long on the right answers alone, seed by seed.

    nice -n 10 python tools/distill_study.py --out runs/distill_study    # goes on where it was stopped
    python tools/distill_study.py --out runs/distill_study --show        # the table so far

Both arms of a seed start at the same weights and see the same pictures and questions; they differ in the teacher's
losses alone. The start is the embedded nano with its last three fusion blocks drawn anew, for the checkpoint of
pretraining is not in the repository; the teacher is the embedded nano. A small experiment on Scenes: it says what
distillation does in a few hundred steps, not what it does to a fully trained model.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from edgevl.atomic import write_json
from edgevl.bench.stats import t_interval
from edgevl.models.checkpoint import load_model, save_model
from edgevl.models.fusion import Fusion
from edgevl.models.question_answering import question_answering
from edgevl.opened import eager
from edgevl.training import distill, finetune
from edgevl.training.recipe import Recipe, parse_recipe
from edgevl.verify.measure import draw
from edgevl.verify.measure import measure as judged

NEW_BLOCKS = 3  # of the start: what there is to learn
TEACHER = {
    "logits": {"weight": 1.0, "temperature": 2.0},
    "features": {"weight": 1.0, "at": ["fusion"]},
    "attention": {"weight": 0.5},
}
ARMS: dict[str, dict[str, Any]] = {
    "alone": {},
    "distilled": TEACHER,
    "logits": {"logits": TEACHER["logits"]},  # the plainest distillation: asked for with --arms
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/distill_study"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["alone", "distilled"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--samples", type=int, default=2000, help="of scenes:test, one question each")
    parser.add_argument("--show", action="store_true", help="print the table of what is there and stop")
    args = parser.parse_args(argv)
    record = args.out / "study.json"
    results = json.loads(record.read_text(encoding="utf-8"))["results"] if record.is_file() else []
    if not args.show:
        for seed in range(args.seeds):
            for arm in args.arms:
                if not any((r["seed"], r["arm"], r["steps"]) == (seed, arm, args.steps) for r in results):
                    results.append(measure(args.out, seed, arm, args.steps, args.samples))
                    write_json(record, {"schema": 1, "results": results, "summary": summary(results)})
    print(table(results))


def measure(out: Path, seed: int, arm: str, steps: int, samples: int) -> dict[str, Any]:
    """Train one arm of one seed, or go on with it, and judge the model that it leaves."""
    recipe = arm_recipe(out, seed, arm, steps)
    stage = distill if ARMS[arm] else finetune
    folder = out / recipe.name
    stage.run(recipe, out=folder, resume=(folder / "recipe.yaml").is_file())
    loaded = load_model(folder / "model")
    drawn = draw("scenes:test", loaded.config.task, samples, loaded.config.image_size)
    (found,) = judged(eager(question_answering(loaded)), drawn).metrics
    return {
        "seed": seed,
        "arm": arm,
        "steps": steps,
        "samples": samples,
        "accuracy": found.value,
        "ci95": found.ci95,
        "per_kind": found.per_kind,
        "curve": [row for row in loaded.training["curve"] if "val_accuracy" in row],
    }


def arm_recipe(out: Path, seed: int, arm: str, steps: int) -> Recipe:
    teacher = {"stage": "distill", "teacher": "nano", "losses": ARMS[arm]} if ARMS[arm] else {"stage": "finetune"}
    values = {
        **teacher,
        "name": f"seed{seed}_{arm}",
        "init": str(start(out / f"seed{seed}_start", seed)),
        "data": {"seed": 100 + seed, "texts": 4, "workers": 0},
        "optimizer": {"lr": 1e-3, "warmup": 50},
        "steps": steps,
        "batch_size": 32,
        "seed": seed,
        "precision": "bf16",
        "log_every": 10,
        "eval_every": 100,
        "eval_samples": 256,
        "checkpoint_every": 25,
    }
    return parse_recipe(values, "tools/distill_study.py")


def start(folder: Path, seed: int) -> Path:
    """The embedded nano with its last blocks drawn anew, as a model folder."""
    if (folder / "training.json").is_file():
        return folder
    loaded = load_model()
    config, blocks = loaded.config, loaded.model.core.fusion.blocks
    torch.manual_seed(seed)
    fresh = Fusion(config.width, config.depth, config.heads, config.mlp_ratio)
    for index in range(config.depth - NEW_BLOCKS, config.depth):
        blocks[index] = fresh.blocks[index]
    save_model(folder, loaded.model, loaded.tokenizer, loaded.labels)
    write_json(folder / "training.json", {"made_by": "tools/distill_study.py", "seed": seed, "new_blocks": NEW_BLOCKS})
    return folder


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of each arm, and its lead over `alone` in points: of each seed, their mean, its 95 % interval."""
    scores = {arm: {r["seed"]: 100 * r["accuracy"] for r in results if r["arm"] == arm} for arm in ARMS}
    found: dict[str, Any] = {arm: {"mean": statistics.mean(s.values())} for arm, s in scores.items() if s}
    for arm in found.keys() - {"alone"}:
        leads = [score - scores["alone"][seed] for seed, score in scores[arm].items() if seed in scores["alone"]]
        if leads:
            interval = t_interval(leads)
            found[arm]["lead"] = {"points": leads, "mean": interval["mean"], "ci95": interval["ci95"]}
    return found


def table(results: list[dict[str, Any]]) -> str:
    if not results:
        return "nothing measured yet"
    arms = [arm for arm in ARMS if any(r["arm"] == arm for r in results)]
    cells = {(r["seed"], r["arm"]): f"{100 * r['accuracy']:.1f}" for r in results}
    lines = ["| seed | " + " | ".join(arms) + " |", "|---" * (len(arms) + 1) + "|"]
    for seed in sorted({r["seed"] for r in results}):
        lines.append(f"| {seed} | " + " | ".join(cells.get((seed, arm), "-") for arm in arms) + " |")
    found = summary(results)
    lines.append("| mean | " + " | ".join(f"{found[arm]['mean']:.1f}" for arm in arms) + " |")
    for arm in arms:
        if lead := found[arm].get("lead"):
            interval = "" if lead["ci95"] is None else " (95 % interval {:+.1f} to {:+.1f})".format(*lead["ci95"])
            lines.append(f"\n{arm}: {lead['mean']:+.1f} points over alone, {len(lead['points'])} seeds{interval}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
