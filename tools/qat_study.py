"""How much of what rounding costs does quantization-aware training win back?

    nice -n 10 python tools/qat_study.py qat_scenes_nano_w4a8 --out runs/qat_w4a8    # goes on where it was stopped
    nice -n 10 python tools/qat_study.py qat_scenes_nano_w4a8 quantize.per_channel=false --out runs/qat_w4a8_tensor
    nice -n 10 python tools/qat_study.py qat_scenes_retrieval_w8a8 quantize.weight_bits=4 --samples 500 --out runs/find

The first metric of the task (accuracy, or recall@1 of pictures by text) four times on the same samples: the start in
float, the start rounded (PTQ), the trained model rounded (QAT) and, so that nobody takes more training for better
rounding, a model trained as long in float, then rounded (control). Rounded models run in PyTorch with fake
quantization, for no target here offers 4-bit weights with 8-bit values.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgevl.atomic import write_json
from edgevl.contracts import Metric, Sample
from edgevl.embedded import model_folder
from edgevl.models.checkpoint import Loaded, open_model
from edgevl.models.kinds import deployable_of
from edgevl.opened import eager
from edgevl.quantize.qat import measure_rounded
from edgevl.training import finetune
from edgevl.training.qat import plan_of, scheme_of
from edgevl.training.recipe import Recipe, load_recipe
from edgevl.verify.measure import draw, measure


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="one with a quantize section")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=2000, help="of scenes:test, one a picture")
    parser.add_argument("--no-control", action="store_true", help="leave out the model trained without rounding")
    args = parser.parse_args(argv)
    recipe = load_recipe(args.recipe, args.overrides)
    if recipe.quantize is None or recipe.init is None:
        parser.error(f"{args.recipe} has no quantize section")
    start = open_model(model_folder(recipe.init))
    samples = draw("scenes:test", recipe.task, args.samples, start.config.image_size)
    rows = {"float": measure(eager(deployable_of(start)), samples).metrics[0], "PTQ": rounded(start, recipe, samples)}
    show(recipe, rows, args.out)
    rows["QAT"] = rounded(trained(recipe, args.out / "qat"), recipe, samples)
    show(recipe, rows, args.out)
    if not args.no_control:
        plain = recipe.model_copy(update={"quantize": None})
        rows["control"] = rounded(trained(plain, args.out / "control"), recipe, samples)
        show(recipe, rows, args.out)


def trained(recipe: Recipe, folder: Path) -> Loaded:
    """Train, or go on, or find what is there already."""
    if not (folder / "model" / "training.json").is_file():
        finetune.run(recipe, out=folder, resume=(folder / "recipe.yaml").is_file())
    return open_model(folder / "model")


def rounded(loaded: Loaded, recipe: Recipe, samples: Sequence[Sample]) -> Metric:
    assert recipe.quantize
    model, scheme = deployable_of(loaded), scheme_of(recipe.quantize)
    return measure_rounded(model, loaded.model, plan_of(model, loaded.path, recipe), scheme, samples).metrics[0]


def show(recipe: Recipe, rows: dict[str, Metric], out: Path) -> None:
    """Print what is known so far, and write it to `study.json`."""
    result: dict[str, Any] = {"schema": 1, "recipe": recipe.model_dump(mode="json"), "data": "scenes:test"}
    for name, row in rows.items():
        result[name] = {row.name: row.value, "ci95": row.ci95, "samples": row.samples}
    lost = rows["float"].value - rows["PTQ"].value
    print("| " + " | ".join(rows) + " |\n" + "|---" * len(rows) + "|")
    print("| " + " | ".join(f"{100 * row.value:.2f}" for row in rows.values()) + " |")
    for name in rows.keys() & {"QAT", "control"}:
        if lost > 0:
            result[name]["recovered"] = (rows[name].value - rows["PTQ"].value) / lost
            print(f"{name} recovers {100 * result[name]['recovered']:.0f} % of the {100 * lost:.2f} points")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "study.json", result)


if __name__ == "__main__":
    main()
