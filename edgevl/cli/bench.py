"""`edgevl bench` and `edgevl compare`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgevl.cli import console, show_bench
from edgevl.cli.command import Json, command, model_argument
from edgevl.cli.limited import SECONDS, MaxMemory, MaxSeconds, in_child
from edgevl.cli.progress import progress_bar
from edgevl.errors import BudgetFailed, InputError

if TYPE_CHECKING:
    from edgevl.bench.schema import Ratio


def add_to(app: typer.Typer) -> None:
    command(app, "bench", example="edgevl bench nano-onnx-fp32.edgevl --preset quick --out bench.json")(bench)
    command(app, "compare", example="edgevl compare old.edgevl new.edgevl --max-slowdown 5% --max-drop 0.5")(compare)


def bench(
    bundle: Annotated[
        str | None, typer.Argument(help="A bundle or a model folder. Default: the embedded nano.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Opponents, comma-separated: names, or folders of region-feature models. Default: the heavy detector, "
            "where the model answers a question about a picture."
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="rapid, quick or normal: how many runs.")] = "rapid",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads for every opponent alike. Default: 2, or 1 on a single core.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here.")] = None,
    min_ratio: Annotated[
        float | None, typer.Option(help="Fail (exit code 5) if any opponent is fewer times slower than this.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Run on another machine instead: ssh:user@host or ssh:user@host:port.")
    ] = None,
    frame: Annotated[
        str, typer.Option(help="What the scope frame begins with: a camera's frame of 1080p in nv12 or rgb; or none.")
    ] = "nv12",
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of what bench writes.")] = False,
    max_seconds: MaxSeconds = SECONDS,
    max_memory: MaxMemory = None,
    json: Json = False,
) -> None:
    """Time the model, and against it detector pipelines, from picture and words to the answer, in one run."""
    in_child(max_seconds, max_memory)
    from edgevl.atomic import write_atomically
    from edgevl.bench import BenchReport, run_bench
    from edgevl.bench.opponents import DEFAULT
    from edgevl.bench.record import record_bench
    from edgevl.bench.remote import bench_on_device
    from edgevl.bundle.folder import Bundle, is_bundle
    from edgevl.pictures.frames import KINDS

    if schema:
        console.print_json(BenchReport.model_json_schema())
        return
    _check_out(out)
    if device:
        _check_device(bundle, against, min_ratio)
    if min_ratio is not None and not (min_ratio > 0 and (against is None or against.strip(" ,"))):
        raise InputError("--min-ratio needs a number above 0, and an opponent to compare with: name one with --against")
    if frame not in (*KINDS, "none"):
        raise InputError(f'--frame is "{frame}": it can be {", ".join(KINDS)} or none')
    opponents = None if against is None else [name.strip() for name in against.split(",") if name.strip()]
    if min_ratio is not None and opponents is None:
        opponents = list(DEFAULT)  # named, so that a model that cannot be compared with them is refused
    options = {"preset": preset, "threads": threads, "frame": None if frame == "none" else frame}
    with progress_bar("bench") as progress:
        if device:
            result = bench_on_device(str(bundle), device, progress=progress, **options)
        else:
            result = run_bench(model_argument(bundle), opponents, progress=progress, **options)
    if against is None and not device and not result.ratios:
        console.note("timed alone: the opponents answer a question about a picture, and this model does something else")
    measured = [bundle] if bundle and is_bundle(bundle) else []
    if measured and (why_not := record_bench(Bundle.open(measured[0]), result)):
        console.note(why_not)
    data = result.to_json()
    if out:
        write_atomically(out, console.to_json(data))
    console.print_json(data) if json else show_bench.bench(data)
    if min_ratio is not None:
        _check_ratios(result.ratios, min_ratio)
    if out:
        console.next_commands(["edgevl", "report", *measured, "--bench", out])
    else:
        console.next_commands(["edgevl", "bench", *([bundle] if bundle else []), "--out", "bench.json"])


def compare(
    old: Annotated[Path, typer.Argument(help="A bundle, or JSON written by edgevl bench --out.")],
    new: Annotated[Path, typer.Argument(help="Another of the same kind.")],
    max_slowdown: Annotated[str, typer.Option(help="How much slower the new one may be at p50.")] = "5%",
    max_drop: Annotated[
        float | None,
        typer.Option(min=0, help="Points of accuracy that may be lost. Default: 0.5, where both are known."),
    ] = None,
    preset: Annotated[str, typer.Option(help="Of the measurement of two bundles: rapid, quick or normal.")] = "quick",
    threads: Annotated[int | None, typer.Option(min=1, help="For two bundles. Default: 2, or 1 on one core.")] = None,
    max_seconds: MaxSeconds = SECONDS,
    max_memory: MaxMemory = None,
    json: Json = False,
) -> None:
    """Is the new one slower or less accurate? Bundles are timed side by side. Exit code 5 unless it is proved fine."""
    in_child(max_seconds, max_memory)
    from edgevl.bench.compare import compare as compare_artifacts

    limit = _percent(max_slowdown)
    with progress_bar("compare") as progress:
        found = compare_artifacts(old, new, limit, max_drop, preset, threads, progress)
    data = found.model_dump(mode="json")
    console.print_json(data) if json else show_bench.comparison(found)
    if not found.ok:
        raise BudgetFailed("; ".join(found.failures))
    console.next_commands(["edgevl", *(["inspect"] if new.is_dir() else ["report", "--bench"]), new])


def _percent(text: str) -> float:
    """ "5%" or "5" is 0.05. Raises `InputError`."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise InputError(f'--max-slowdown is "{text}": give a percentage, for example 5%')
    return value / 100


def _check_out(out: Path | None) -> None:
    """Before the work, not after minutes of it."""
    if out and (out.is_dir() or not out.parent.is_dir() or not _can_write(out.parent)):
        raise InputError(f'"{out}" cannot be written: give a file in a folder that exists with --out')


def _can_write(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _check_device(bundle: str | None, against: str | None, min_ratio: float | None) -> None:
    """A device times the bundle alone."""
    if bundle is None:
        raise InputError("--device needs a bundle: make one with edgevl export --target onnx, or --target tensorrt")
    if against or min_ratio is not None:  # --against "" asks for the model alone
        option = "--against" if against else "--min-ratio"
        raise InputError(f"{option} compares on this machine; with --device the bundle is timed alone: leave it out")


def _check_ratios(ratios: "Sequence[Ratio]", wanted: float) -> None:
    low = [show_bench.faster(ratio) for ratio in ratios if ratio.scope == "pipeline" and not ratio.ratio >= wanted]
    if low:
        raise BudgetFailed(f"{'; '.join(low)}; wanted {wanted:g}x")
