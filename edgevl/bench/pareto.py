"""Size, speed and accuracy of mixtures of int8 and float, as ONNX files on this machine: a table and a plot."""

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevl.bench.run import time_models
from edgevl.bench.summary import ratio_of
from edgevl.export.registry import get_exporter
from edgevl.opened import over_artifacts

if TYPE_CHECKING:
    from edgevl.quantize.sensitivity import Judge, Point


def counts_of(modules: int) -> list[int]:
    """How many modules stay in float at each point: 0, 1, 2, 4 ... and all but one."""
    doubling = [2**power for power in range(modules.bit_length()) if 2**power < modules - 1]
    return sorted({0, *doubling, modules - 1})


TABLE, PLOT = "pareto.json", "pareto.png"


def write_front(folder: Path, preset: str = "rapid", threads: int = 2, samples: int = 500) -> list[dict[str, Any]]:
    """Measure the mixtures of a quantized model, write `pareto.json` and `pareto.png` into its folder, return the rows.

    The plan must hold the costs of its modules (`edgevl quantize --pareto` sees to that).
    """
    from edgevl.models.kinds import open_deployable
    from edgevl.plans.plan import load_plan
    from edgevl.quantize.sensitivity import Judge, order_of

    model = open_deployable(folder)
    plan = load_plan(folder, model.sha256)
    assert plan is not None, "edgevl quantize wrote one"
    with tempfile.TemporaryDirectory(prefix="edgevl-pareto-") as scratch:
        judge = Judge(model, plan, plan.calibration.data, samples)
        rows = measure_front(judge, order_of(plan), Path(scratch), preset, threads)
    (folder / TABLE).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8", newline="\n")
    plot_front(rows, folder / PLOT)
    return rows


def measure_front(
    judge: "Judge", order: Sequence[str], scratch: Path, preset: str, threads: int
) -> list[dict[str, Any]]:
    """A row for each mixture of `counts_of`: what it loses, its bytes, how much faster than the float file it is."""
    from edgevl.quantize.sensitivity import mixtures

    points = list(mixtures(judge, order, counts_of(len(order))))
    files = dict(_files(judge, points, scratch))
    (sample,) = judge.samples[:1]
    models = {name: over_artifacts(judge.model, paths, "onnx", threads) for name, paths in files.items()}
    traces = time_models(models, sample.query, preset, threads)
    sizes = {name: sum(path.stat().st_size for path in paths.values()) for name, paths in files.items()}
    rows = []
    for point in points:
        name = _name(point)
        ratio = ratio_of(traces["fp32"], traces[name])
        size = {"bytes": sizes[name], "float_bytes": sizes["fp32"]}
        rows.append({**dataclasses.asdict(point), **size, "speed": ratio.ratio, "speed_ci95": list(ratio.ci95)})
    return rows


def _name(point: "Point") -> str:
    return f"float-{len(point.kept_float)}"


def _files(judge: "Judge", points: Sequence["Point"], scratch: Path) -> Iterator[tuple[str, dict[str, Path]]]:
    """The float model and each mixture: name, and the file of each program."""
    from edgevl.quantize.sensitivity import with_float

    exporter, layout = get_exporter("onnx"), judge.model.layouts[0]
    files = exporter.files(judge.model.programs(layout))
    plans = {"fp32": None} | {_name(point): with_float(judge.plan, point.kept_float) for point in points}
    for name, plan in plans.items():
        exporter.export(judge.model, scratch / name, "w8a8" if plan else "fp32", layout, plan=plan)
        yield name, {program: scratch / name / path for program, path in files.items()}


def plot_front(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Three panels over the number of modules in float: how far the answers move, the size, the speed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    lost, size, speed = figure.subplots(1, 3)
    places = range(len(rows))
    lost.plot(places, [row["kl_nats"] for row in rows], "o-", color="#2a6fb0")
    size.plot(places, [row["bytes"] / 1e6 for row in rows], "o-", color="#4c8c4a")
    size.axhline(rows[0]["float_bytes"] / 1e6, color="gray", linewidth=0.8)
    low = [row["speed"] - row["speed_ci95"][0] for row in rows]
    high = [row["speed_ci95"][1] - row["speed"] for row in rows]
    speed.errorbar(places, [row["speed"] for row in rows], [low, high], fmt="o-", color="#b0562a", capsize=3)
    speed.axhline(1, color="gray", linewidth=0.8)
    titles = ("lost: KL from float, nats", "size of the ONNX file, MB", "times as fast as float, 95 %")
    for axes, title in zip((lost, size, speed), titles):
        axes.set(title=title, xlabel="modules in float, the dearest first", ylim=(0, None))
        axes.set_xticks(places, [str(len(row["kept_float"])) for row in rows])
    figure.savefig(path, dpi=120)
