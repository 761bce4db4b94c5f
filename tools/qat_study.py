"""How much of what rounding costs does quantization-aware training win back?

    nice -n 10 python tools/qat_study.py qat_scenes_nano_w4a8 --out runs/qat_w4a8    # goes on where it was stopped
    nice -n 10 python tools/qat_study.py qat_scenes_nano_w4a8 quantize.per_channel=false --out runs/qat_w4a8_tensor

Four accuracies on the same samples: the start in float, the start rounded (PTQ), the trained model rounded (QAT) and,
so that nobody takes more training for better rounding, a model trained as long in float, then rounded (control).
Rounded models run in PyTorch with fake quantization, for no target here offers 4-bit weights with 8-bit values.
"""

import argparse
from pathlib import Path
from typing import Any

from edgevl.atomic import write_json
from edgevl.checkpoint import LoadedModel, load_model
from edgevl.embedded import model_folder
from edgevl.evaluate import Evaluation, Samples, draw_samples, evaluate_model
from edgevl.quantize.qat import evaluate_rounded
from edgevl.training import finetune
from edgevl.training.qat import plan_of, scheme_of
from edgevl.training.recipe import Recipe, load_recipe


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="one with a quantize section")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=2000, help="of scenes:test, one question each")
    parser.add_argument("--no-control", action="store_true", help="leave out the model trained without rounding")
    args = parser.parse_args(argv)
    recipe = load_recipe(args.recipe, args.overrides)
    if recipe.quantize is None or recipe.init is None:
        parser.error(f"{args.recipe} has no quantize section")
    start = load_model(model_folder(recipe.init))
    samples = draw_samples("scenes:test", args.samples, start.config.image_size)
    rows = {"float": evaluate_model(start, samples), "PTQ": rounded(start, recipe, samples)}
    show(recipe, rows, args.out)
    rows["QAT"] = rounded(trained(recipe, args.out / "qat"), recipe, samples)
    show(recipe, rows, args.out)
    if not args.no_control:
        plain = recipe.model_copy(update={"quantize": None})
        rows["control"] = rounded(trained(plain, args.out / "control"), recipe, samples)
        show(recipe, rows, args.out)


def trained(recipe: Recipe, folder: Path) -> LoadedModel:
    """Train, or go on, or find what is there already."""
    if not (folder / "model" / "training.json").is_file():
        finetune.run(recipe, out=folder, resume=True)
    return load_model(folder / "model")


def rounded(loaded: LoadedModel, recipe: Recipe, samples: Samples) -> Evaluation:
    assert recipe.quantize
    return evaluate_rounded(loaded, plan_of(loaded, recipe), scheme_of(recipe.quantize), samples)


def show(recipe: Recipe, rows: dict[str, Evaluation], out: Path) -> None:
    """Print what is known so far, and write it to `study.json`."""
    result: dict[str, Any] = {"schema": 1, "recipe": recipe.model_dump(mode="json"), "data": "scenes:test"}
    for name, row in rows.items():
        result[name] = {"accuracy": row.accuracy, "ci95": row.ci95, "samples": len(row.correct_N)}
    lost = rows["float"].accuracy - rows["PTQ"].accuracy
    print("| " + " | ".join(rows) + " |\n" + "|---" * len(rows) + "|")
    print("| " + " | ".join(f"{100 * row.accuracy:.2f}" for row in rows.values()) + " |")
    for name in rows.keys() & {"QAT", "control"}:
        if lost > 0:
            result[name]["recovered"] = (rows[name].accuracy - rows["PTQ"].accuracy) / lost
            print(f"{name} recovers {100 * result[name]['recovered']:.0f} % of the {100 * lost:.2f} points")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "study.json", result)


if __name__ == "__main__":
    main()
