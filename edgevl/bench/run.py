"""Our model against its opponents: one run, one runtime, the same pixels and words to an answer."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgevl import contracts
from edgevl.bench.harness import Subject, Trace, interleave
from edgevl.bench.machine import pinned_threads, usable_cores
from edgevl.bench.opponents import DEFAULT, expand, find_opponent, why_incomparable
from edgevl.bench.picture import encode, make_photo
from edgevl.bench.pipelines import CANDIDATE
from edgevl.bench.presets import PRESETS
from edgevl.bench.race import Contestant, Steps, Track, race
from edgevl.bench.schema import BenchReport
from edgevl.bundle.folder import Bundle, is_bundle
from edgevl.bundle.golden import read_golden
from edgevl.errors import InputError
from edgevl.inputs.preprocess import load_image
from edgevl.pictures import Frame, frame_of
from edgevl.pictures.frames import KINDS
from edgevl.progress import Progress
from edgevl.targets import TARGETS

if TYPE_CHECKING:
    from edgevl.opened import Opened

FRAME = "nv12"  # what cameras hand out


def run_bench(
    bundle_or_model: str | Path | None = None,
    against: Sequence[str] | None = None,
    preset: str = "rapid",
    threads: int | None = None,
    progress: Progress | None = None,
    frame: str | None = FRAME,
) -> BenchReport:
    """Time our model and detector pipelines, interleaved, from encoded picture and text to the answer.

    The text is that of the bundle's first golden case: what the model is asked in its own words.

    Args:
        bundle_or_model: a bundle, a model folder, or None for the embedded model; the last two are exported
            to ONNX first.
        against: names of opponents (`edgevl.bench.OPPONENTS`), of groups of them (`region-heavy`), or folders of
            region-feature models that were trained here. None: the heavy detector for a model that answers a question
            about a picture, nobody for another one.
        preset: `rapid` (about a minute), `quick`, or `normal` (close to an hour against a detector).
        threads: for every runtime, at least 1 and at most the cores that this process may use. None is 2, or 1 where
            there is one core.
        progress: called with (done, total, text).
        frame: what the scope `frame` begins with, "nv12" or "rgb": a camera's frame of 1920 x 1080 in memory. None
            leaves the scope out, as a model without a picture does.
    Raises:
        InputError: an unknown name, an impossible number of threads, a bundle whose times would mean nothing here, or
            opponents that do something else than it.
        MissingDependency: a runtime or torchvision is not installed.
    """
    began = time.perf_counter()
    plan, opponents = PRESETS[preset], expand(DEFAULT if against is None else against)
    threads, cores = check_threads(threads), usable_cores()
    _check_frame(frame)
    steps = Steps(progress, 3 + 2 * len(opponents) + plan.processes, plan.rounds)
    with tempfile.TemporaryDirectory(prefix="edgevl-bench-") as scratch, pinned_threads(threads) as bound:
        bundle = _as_bundle(bundle_or_model, Path(scratch), steps)
        if opponents and (reason := why_incomparable(bundle)):
            if against is not None:
                raise InputError(f'{reason}: leave --against out, or time the model alone with --against ""')
            opponents = []
        image = encode(make_photo())
        seen = _frame(image, frame if bundle.opened(run=False).reads[0] else None)
        track = Track(plan, image, text_of(bundle), threads, bound, cores, Path(scratch), seen)
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
    with tempfile.TemporaryDirectory(prefix="edgevl-bench-") as scratch, pinned_threads(threads) as bound:
        track = Track(plan, encode(make_photo()), text_of(old), threads, bound, cores, Path(scratch))
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


def text_of(bundle: Bundle) -> str:
    """Return the first text of a bundle's own golden cases; "" where it reads none."""
    return next((text for case in read_golden(bundle).cases for text in case.texts if text), "")


def _check_frame(kind: str | None) -> None:
    if kind is not None and kind not in KINDS:
        raise InputError(f'frame is "{kind}": it can be {" or ".join(KINDS)}')


def _frame(image: bytes, kind: str | None) -> Frame | None:
    """The timed picture as a frame of 1920 x 1080."""
    return frame_of(load_image(image), kind) if kind else None


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

    steps(f"building {name}")
    folder = track.scratch / name.replace("/", "-")
    folder.mkdir()
    find_opponent(name).build(folder, bundle, np.asarray(load_image(track.image)))
    return folder


def time_models(models: Mapping[str, "Opened"], query: contracts.Query, preset: str, threads: int) -> dict[str, Trace]:
    """Time opened models against each other, interleaved: the scope `model`. Returns a trace for each name."""
    calls = {name: model_call(model, query) for name, model in models.items()}
    subjects = [Subject(name, "model", lambda watch, call=call: call()) for name, call in calls.items()]
    with pinned_threads(threads):
        return {trace.subject.name: trace for trace in interleave(subjects, PRESETS[preset])}


def model_call(model: "Opened", query: contracts.Query) -> Callable[[], object]:
    """Return a call of the model alone: pictures and texts are arrays before it. Open it to remember nothing."""
    assert model.runner
    runner = model.runner.holding()
    for kind in ("picture", "text"):
        runner.read(query, kind)
    return lambda: model.decoder.run(runner, [query])
