"""Our model against its opponents: one run, one runtime, the same pixels and words to an answer."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgevl import contracts
from edgevl.bench.harness import Subject, Trace, interleave
from edgevl.bench.machine import pinned_threads, usable_cores
from edgevl.bench.opponents import expand, find_opponent
from edgevl.bench.picture import encode, make_photo
from edgevl.bench.pipelines import CANDIDATE, Query
from edgevl.bench.presets import PRESETS
from edgevl.bench.race import Contestant, Steps, Track, race
from edgevl.bench.schema import BenchReport
from edgevl.bundle.folder import Bundle, is_bundle
from edgevl.errors import InputError
from edgevl.progress import Progress
from edgevl.targets import TARGETS

if TYPE_CHECKING:
    from edgevl.opened import Opened

QUESTION = "what color is the car?"


def run_bench(
    bundle_or_model: str | Path | None = None,
    against: Sequence[str] = ("region-heavy-fpn",),
    preset: str = "rapid",
    threads: int | None = None,
    progress: Progress | None = None,
) -> BenchReport:
    """Time our model and detector pipelines, interleaved, from encoded picture and text to the answer.

    Args:
        bundle_or_model: a bundle, a model folder, or None for the embedded model; the last two are exported
            to ONNX first.
        against: names of opponents (`edgevl.bench.OPPONENTS`), of groups of them (`region-heavy`), or folders of
            region-feature models that were trained here.
        preset: `rapid` (about a minute), `quick`, or `normal` (close to an hour against a detector).
        threads: for every runtime, at least 1 and at most the cores that this process may use. None is 2, or 1 where
            there is one core.
        progress: called with (done, total, text).
    Raises:
        InputError: an unknown name, an impossible number of threads, or a bundle whose times would mean nothing here.
        MissingDependency: a runtime or torchvision is not installed.
    """
    began = time.perf_counter()
    plan, opponents = PRESETS[preset], expand(against)
    threads = check_threads(threads)
    setup = 3 + 2 * len(opponents) + plan.processes
    steps, cores = Steps(progress, setup, plan.rounds), usable_cores()
    query = Query(encode(make_photo()), QUESTION)
    with tempfile.TemporaryDirectory(prefix="edgevl-bench-") as scratch, pinned_threads(threads) as bound:
        track = Track(plan, query, threads, bound, cores, Path(scratch))
        bundle = _as_bundle(bundle_or_model, track.scratch, steps)
        contestants = [Contestant(CANDIDATE, bundle.path)]
        contestants += [Contestant(name, _build(name, bundle, track, steps)) for name in opponents]
        report = race(contestants, track, steps)
    report.seconds = round(time.perf_counter() - began, 1)
    return report


def race_bundles(
    old: Bundle, new: Bundle, preset: str = "quick", threads: int | None = None, progress: Progress | None = None
) -> BenchReport:
    """Two bundles interleaved in one run. The ratio of each scope is old / new: below 1, `new` is slower.

    Raises `InputError` for a bundle whose times would mean nothing here, and as `run_bench` does.
    """
    began = time.perf_counter()
    plan, threads, cores = PRESETS[preset], check_threads(threads), usable_cores()
    for bundle in (old, new):
        _check_target(bundle)
    old, new = old.checked(), new.checked()
    query = Query(encode(make_photo()), QUESTION)
    with tempfile.TemporaryDirectory(prefix="edgevl-bench-") as scratch, pinned_threads(threads) as bound:
        track = Track(plan, query, threads, bound, cores, Path(scratch))
        contestants = [Contestant(CANDIDATE, new.path, "new"), Contestant(CANDIDATE, old.path, "old")]
        report = race(contestants, track, Steps(progress, 3 + plan.processes, plan.rounds))
    report.seconds = round(time.perf_counter() - began, 1)
    return report


def check_threads(threads: int | None) -> int:
    cores = usable_cores()
    threads = min(2, cores) if threads is None else threads
    if not 1 <= threads <= cores:
        raise InputError(f"threads is {threads}; this process may use 1 to {cores}: pass --threads {cores} or fewer")
    return threads


def _as_bundle(source: str | Path | None, scratch: Path, steps: Steps) -> Bundle:
    """The bundle to measure; a model folder is exported to ONNX in `scratch`."""
    if source is not None and is_bundle(source):
        bundle = Bundle.open(source)
        _check_target(bundle)
        steps("opening the bundle")
        return bundle.checked()
    from edgevl.bundle_export import export_bundle

    steps("exporting the model to ONNX")
    return Bundle.open(export_bundle(source, "onnx", out=scratch / "model.edgevl"))


def why_not_timed(target: str) -> str:
    """Why the times of a target would mean nothing on this machine; "" if they mean something."""
    record = TARGETS[target]
    return "" if record.is_native else record.not_timed


def _check_target(bundle: Bundle) -> None:
    manifest = bundle.manifest
    if reason := why_not_timed(manifest.target):
        raise InputError(
            f'"{bundle.path}": {reason}, so its times would mean nothing. '
            "Give an ONNX bundle (edgevl export --target onnx)"
        )
    if manifest.batch > 1:
        raise InputError(f'"{bundle.path}" takes {manifest.batch} samples at once; the benchmark asks one: --batch 1')


def _build(name: str, bundle: Bundle, track: Track, steps: Steps) -> Path:
    import numpy as np

    from edgevl.inputs.preprocess import load_image

    steps(f"building {name}")
    folder = track.scratch / name.replace("/", "-")
    folder.mkdir()
    find_opponent(name).build(folder, bundle, np.asarray(load_image(track.query.image)))
    return folder


def time_calls(
    calls: Mapping[str, Callable[[], object]], preset: str, threads: int, progress: Progress | None = None
) -> dict[str, Trace]:
    """Time calls against each other, interleaved: the scope `model`. Returns a trace for each name."""
    subjects = [Subject(name, "model", lambda watch, call=call: call()) for name, call in calls.items()]
    with pinned_threads(threads):
        return {trace.subject.name: trace for trace in interleave(subjects, PRESETS[preset], progress=progress)}


def model_call(model: "Opened", query: contracts.Query) -> Callable[[], object]:
    """Return a call of the model alone: pictures and texts are arrays before it. Open it to remember nothing."""
    assert model.runner
    runner = model.runner.holding()
    for kind in ("picture", "text"):
        runner.read(query, kind)
    return lambda: model.decoder.run(runner, [query])
