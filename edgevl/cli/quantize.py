"""`edgevl quantize`: a model becomes a model with a plan."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgevl.cli import console
from edgevl.cli.command import Force, Json, command, model_argument
from edgevl.cli.progress import progress_bar
from edgevl.cli.show_audit import size
from edgevl.errors import InputError

if TYPE_CHECKING:
    from edgevl.quantize.model_folder import Quantized

_WORST = 8  # modules in the table


def add_to(app: typer.Typer) -> None:
    command(app, "quantize", example="edgevl quantize --precision w8a8 --data scenes:val --samples 512")(quantize)


def quantize(
    model: Annotated[
        str | None, typer.Argument(help="A model folder, ours or CLIP's. Default: the embedded nano.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="w8a8: weights and values in int8; w4: weights in 4 bits (coreml).")
    ] = "w8a8",
    data: Annotated[
        str | None,
        typer.Option(help="Data to calibrate and to judge on. Default: what the model was validated on in training."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Pictures, with a text each, to calibrate on.")] = 512,
    observer: Annotated[
        str, typer.Option(help="How ranges are found: moving, minmax, histogram (mean squared error) or percentile.")
    ] = "moving",
    seed: Annotated[int, typer.Option(help="Which samples of the data are drawn.")] = 0,
    max_drop: Annotated[
        float | None, typer.Option(help="Points of accuracy that may be lost: modules stay in float until that holds.")
    ] = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Measure size, speed and accuracy of mixtures of int8 and float.")
    ] = False,
    verdict: Annotated[
        bool, typer.Option("--verdict", help="Export to each target, verify, time, and say whether it is worth it.")
    ] = False,
    targets: Annotated[
        str | None, typer.Option(help="Of --verdict, separated by commas. Default: every target that has w8a8.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: NAME-PRECISION.")] = None,
    json: Json = False,
    force: Force = False,
) -> None:
    """Calibrate a model once and write it with a plan that every target's export reads."""
    from edgevl.quantize.model_folder import quantize_model

    if precision == "w4" and (pareto or verdict):
        raise InputError("--pareto and --verdict are for the precision w8a8; judge w4 with `edgevl verify`")
    if targets and not verdict:
        raise InputError("--targets says where --verdict judges: add --verdict, or leave it out")
    judged = _targets(targets) if verdict else []
    with progress_bar("quantize") as progress:
        made = quantize_model(
            model_argument(model), precision, data, samples, observer, seed, out, force, progress,
            sensitivity=pareto, max_drop=max_drop,
        )  # fmt: skip
        progress(0, 0, "timing mixtures of int8 and float" if pareto else "")
        extra: dict[str, Any] = {"pareto": _front(made.folder)} if pareto else {}
        extra |= {"verdict": _verdicts(made, judged, max_drop, progress)} if verdict else {}
    report = _report(made) | extra
    for text in report["coverage"]["warnings"]:
        console.note(f"warning: {text}")
    console.print_json(report) if json else _show(report)
    target = "coreml" if precision == "w4" else "onnx"
    console.next_commands(["edgevl", "export", made.folder, "--precision", precision, "--target", target])


def _targets(text: str | None) -> list[str]:
    """Raises `InputError` for a target that does not exist or has no w8a8."""
    from edgevl.bench.verdict import int8_targets
    from edgevl.export.registry import get_exporter

    if text is None:
        return int8_targets()
    named = [get_exporter(name.strip()) for name in text.split(",")]
    return [exporter.name for exporter in named if exporter.check_precision("w8a8")]


def _front(folder: Path) -> list[dict[str, Any]]:
    from edgevl.bench.pareto import write_front

    return write_front(folder)


def _verdicts(made: "Quantized", targets: list[str], max_drop: float | None, progress: Any) -> list[dict[str, Any]]:
    from edgevl.bench.verdict import MAX_DROP, judge_target

    found = []
    with tempfile.TemporaryDirectory(prefix="edgevl-verdict-") as scratch:
        for number, target in enumerate(targets):
            progress(number, len(targets), f"judging {target}")
            limit = MAX_DROP if max_drop is None else max_drop
            kept = made.plan.kept_for_budget
            verdict = judge_target(
                made.folder, target, Path(scratch), made.plan.calibration.data, max_drop=limit, kept_float=kept
            )
            found.append(verdict.model_dump(mode="json", exclude={"speed": {"pairs"}}))
    return found


def _report(made: "Quantized") -> dict[str, Any]:
    """What `--json` prints: the plan without the ranges of values, modules as a list with the worst first."""
    plan = made.plan.model_dump(mode="json", exclude={"values"})
    modules = [{"name": name, **module} for name, module in plan.pop("modules").items()]
    parameters = {
        "quantized": sum(module["weights"] for module in modules if module["precision"] != "fp32"),
        "total": made.parameters,
    }
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
    from edgevl.plans.plan import PLAN

    seen, sizes = report["coverage"], report["parameters"]
    console.result(report["out"])
    moved = "" if seen["growing"] is None else f"; {seen['growing']:.0%} of {report['values']} ranges still moved"
    answers = f", {seen['answers']} of {seen['labels']} answers" if seen["labels"] else ""
    console.result(
        f"calibrated on {report['calibration']['data']}: {seen['pictures']:,} different pictures, "
        f"{seen['questions']:,} texts of {_count(len(seen['kinds']), 'kind')}{answers}{moved}"
    )
    into = "int4" if report["precision"] == "w4" else "int8"
    console.result(
        f"{sizes['quantized']:,} of {sizes['total']:,} parameters become {into}; the folder has "
        f"{size(sum(report['bytes'].values()))}, the plan {size(report['bytes'][PLAN])} of it"
    )
    if report["precision"] == "w4":
        return
    rows = [
        [module["name"], module["operator"], f"{module['sqnr_db']:.1f}", _range(module["input"])]
        for module in report["modules"][:_WORST]
    ]
    title = f"The {len(rows)} of {len(report['modules'])} modules that lose most when they alone are quantized"
    console.table(title, ["module", "operator", "SQNR dB", "input"], rows)
    if report["budget"]:
        kept = [module["name"] for module in report["modules"] if module["precision"] == "fp32"]
        lost = f"{report['budget']['drop']:.2f} points lost on {report['budget']['samples']} samples"
        console.result(f"in float: {', '.join(kept) or 'nothing'}; {lost}, at most {report['budget']['max_drop']:g}")
    if "pareto" in report:
        _show_front(report["pareto"])
    for each in report.get("verdict", []):
        kept = f" ({', '.join(each['kept_float'])})" if each["kept_float"] else ""
        console.result(f"{each['target']:<11} {each['verdict']}{kept}: {each['reason']}{_numbers(each)}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _numbers(verdict: dict[str, Any]) -> str:
    if verdict["lost_points"] is None:
        return ""
    text = f" ({verdict['lost_points']:+.2f} points lost on {verdict['samples']} samples of {verdict['data']}"
    if verdict["speed"]:
        low, high = verdict["speed"]["ci95"]
        text += f"; speed {verdict['speed']['ratio']:.2f}x, 95 %: {low:.2f} to {high:.2f}"
    return text + ")"


def _show_front(points: list[dict[str, Any]]) -> None:
    rows = [
        [
            str(len(point["kept_float"])),
            f"{point['bytes'] / 1e6:.2f}",
            f"{point['speed']:.2f} ({point['speed_ci95'][0]:.2f} to {point['speed_ci95'][1]:.2f})",
            f"{point['kl_nats']:.2e}",
            f"{point['drop']:+.2f}",
        ]
        for point in points
    ]
    title = f"ONNX files; the dearest modules in float; {points[0]['samples']} samples"
    console.table(title, ["in float", "MB", "times as fast", "KL nats", "points lost"], rows)


def _range(values: dict[str, float]) -> str:
    return f"{values['low']:.2f} to {values['high']:.2f}"
