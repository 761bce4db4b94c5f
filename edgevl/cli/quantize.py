"""`edgevl quantize`: a model becomes a model with a plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgevl.cli import console
from edgevl.cli.command import Force, Json, command, model_argument
from edgevl.cli.show_audit import size

if TYPE_CHECKING:
    from edgevl.quantize.model_folder import Quantized

_WORST = 8  # modules in the table


def add_to(app: typer.Typer) -> None:
    command(app, "quantize", example="edgevl quantize --precision w8a8 --data scenes:val --samples 512")(quantize)


def quantize(
    model: Annotated[str | None, typer.Argument(help="A model folder. Default: the embedded nano.")] = None,
    precision: Annotated[str, typer.Option(help="w8a8: weights and values in int8.")] = "w8a8",
    data: Annotated[str, typer.Option(help="Data to calibrate on; not the data to judge on.")] = "scenes:val",
    samples: Annotated[int, typer.Option(min=1, help="Pictures, with a question each.")] = 512,
    observer: Annotated[
        str, typer.Option(help="How ranges are found: minmax, moving, histogram (mean squared error) or percentile.")
    ] = "minmax",
    seed: Annotated[int, typer.Option(help="Which samples of the data are drawn.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: NAME-PRECISION.")] = None,
    json: Json = False,
    force: Force = False,
) -> None:
    """Calibrate a model once and write it with a plan that every target's export reads."""
    from edgevl.quantize.model_folder import quantize_model

    with console.progress_bar("quantize") as progress:
        made = quantize_model(
            model_argument(model), precision, data, samples, observer, seed, out, force, progress=progress
        )
    report = _report(made)
    for text in report["coverage"]["warnings"]:
        console.note(f"warning: {text}")
    console.print_json(report) if json else _show(report)
    console.next_commands(f"edgevl export {made.folder} --precision {precision} --target onnx")


def _report(made: "Quantized") -> dict[str, Any]:
    """What `--json` prints: the plan without the ranges of values, modules as a list with the worst first."""
    plan = made.plan.model_dump(mode="json", exclude={"values"})
    modules = [{"name": name, **module} for name, module in plan.pop("modules").items()]
    parameters = {"int8": sum(module["weights"] for module in modules), "total": made.parameters}
    sizes = {path.name: path.stat().st_size for path in sorted(made.folder.iterdir())}
    return {
        "out": str(made.folder),
        **plan,
        "values": len(made.plan.values),
        "parameters": parameters,
        "bytes": sizes,
        "modules": modules,
    }


def _show(report: dict[str, Any]) -> None:
    from edgevl.quantize.plan import PLAN

    seen, sizes = report["coverage"], report["parameters"]
    console.result(report["out"])
    console.result(
        f"{seen['pictures']:,} different pictures, {seen['questions']:,} questions of {len(seen['kinds'])} kinds, "
        f"{seen['answers']} of {seen['labels']} answers; {seen['growing']:.0%} of {report['values']} ranges still moved"
    )
    console.result(
        f"{sizes['int8']:,} of {sizes['total']:,} parameters become int8; the folder has "
        f"{size(sum(report['bytes'].values()))}, the plan {size(report['bytes'][PLAN])} of it"
    )
    rows = [
        [module["name"], module["operator"], f"{module['sqnr_db']:.1f}", _range(module["input"])]
        for module in report["modules"][:_WORST]
    ]
    title = f"The {len(rows)} of {len(report['modules'])} modules that lose most when they alone are quantized"
    console.result(console.table(title, ["module", "operator", "SQNR dB", "input"], rows))


def _range(values: dict[str, float]) -> str:
    return f"{values['low']:.2f} to {values['high']:.2f}"
