"""Calibration: run samples through the float programs of a model, with an observer on every value."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

from edgevl.bundle.specs import ProgramSpec
from edgevl.contracts import Deployable, Program, Sample
from edgevl.data.own import calibrated_on
from edgevl.decodings.runner import Runner, Runs
from edgevl.errors import unknown_name
from edgevl.models.capture import capture
from edgevl.opened import Opened, opened
from edgevl.plans.bias import bias_shifts
from edgevl.plans.plan import OBSERVER, SAMPLES, Calibration, ModulePlan, Plan, Range, prefixes
from edgevl.plans.quantizer import ObservingQuantizer
from edgevl.progress import Progress
from edgevl.quantize.calibration_audit import audit_ranges, audit_samples
from edgevl.quantize.module_errors import judge_modules
from edgevl.quantize.observers import OBSERVERS, observed
from edgevl.runtime.eager_session import as_tensor
from edgevl.verify.measure import draw, side_of

BATCH = 16
_JUDGED = 4  # batches that errors and means of modules are measured on

Batch = tuple[Tensor, ...]


def calibrate(
    model: Deployable,
    data: str | None = None,
    samples: int = SAMPLES,
    observer: str = OBSERVER,
    seed: int = 0,
    progress: Progress | None = None,
) -> Plan:
    """Ask the float model `samples` samples of its task and return the plan of its first layout.

    `data` is that of training (`edgevl.data.own.calibrated_on`) if not named. `seed` says which samples are drawn:
    the same seed gives the same plan, byte for byte, on one machine with one number of threads.

    Raises `InputError` for unknown data, an unknown observer, and a calibration set that cannot be trusted
    (`edgevl.quantize.calibration_audit`).
    """
    tell = progress or (lambda done, total, text: None)
    check_observer(observer)
    data = data or calibrated_on(model)
    tell(0, samples, "drawing samples")
    programs = model.programs(model.layouts[0])
    watched = {program.name: Observation(program, observer) for program in programs}
    answering = answering_model(model, watched)
    drawn = draw(data, model.task, samples, side_of(answering), seed)
    coverage = audit_samples(answering, drawn, data)
    early: dict[str, Range] = {}
    batches = batches_of(drawn)
    for number, batch in enumerate(batches):
        if number == len(batches) // 2:
            early = _ranges(watched, programs)
        answering.answer([sample.query for sample in batch])
        tell(BATCH * (number + 1), samples, "observing values")
    values = _ranges(watched, programs)
    coverage = audit_ranges(coverage, early, values, samples)
    tell(samples, samples, "judging modules")
    modules, shifts = _judged(watched, programs)
    return Plan(
        checkpoint_sha256=model.sha256,
        calibration=Calibration(data=data, samples=samples, seed=seed, observer=observer),
        coverage=coverage,
        values=values,
        modules=modules,
        bias_shifts=shifts,
    )


def check_observer(name: str) -> None:
    """Raises `InputError` for an unknown observer."""
    if name not in OBSERVERS:
        raise unknown_name("observer", name, OBSERVERS)


def batches_of(samples: Sequence[Sample]) -> list[Sequence[Sample]]:
    """All samples; where they do not fill the last batch, it begins earlier."""
    last = max(0, len(samples) - BATCH)
    return [samples[start : start + BATCH] for start in (*range(0, last, BATCH), last)]


class GraphSession:
    """Runs a captured program, or one that rounds, as a session of a `Runner`, `BATCH` samples at a time."""

    def __init__(self, spec: ProgramSpec, call: Callable[..., Any]):
        self.spec, self.call = spec, call

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = self._outputs(tuple(as_tensor(feeds[each.name]) for each in self.spec.inputs))
        outputs = found if isinstance(found, tuple | list) else (found,)
        return {each.name: tensor.numpy() for each, tensor in zip(self.spec.outputs, outputs)}

    def _outputs(self, batch: Batch) -> Any:
        with torch.no_grad():
            return self.call(*batch)


class Observation(GraphSession):
    """A float program with an observer on every value. `first` holds the first batches that it ran."""

    def __init__(self, program: Program, observer: str, batch: int = BATCH):
        check_observer(observer)
        quantizer = ObservingQuantizer(OBSERVERS[observer])
        self.program = prepare_pt2e(capture(program, "raw", batch).module(), quantizer)
        super().__init__(program.spec, self.program)
        self.keep, self.first = program.keep, list[Batch]()
        self.nodes = quantizer.names  # value -> its node in `program`
        found = {node.name: node for node in self.program.graph.nodes}
        self._observers = {name: _observer_of(found[node]) for name, node in self.nodes.items()}

    def _outputs(self, batch: Batch) -> Any:
        if len(self.first) < _JUDGED:
            self.first.append(batch)
        return super()._outputs(batch)

    def ranges(self) -> dict[str, Range]:
        """The range of every value so far, by the names of `edgevl.plans.values`."""
        return {name: observed(self.program.get_submodule(path), name) for name, path in self._observers.items()}

    def by_node(self, values: Mapping[str, Range]) -> dict[str, Range]:
        """The ranges of the values that it has, by the names of nodes of `program`."""
        return {node: values[name] for name, node in self.nodes.items() if name in values}


def answering_model(model: Deployable, sessions: Mapping[str, Runs]) -> Opened:
    """Open a model over sessions of its first layout that take `BATCH` samples. A picture is read once, and kept."""
    programs = model.programs(model.layouts[0])
    batches = dict.fromkeys(sessions, BATCH)
    runner = Runner([program.spec for program in programs], sessions, model.images, model.texts, batches, remember=0)
    return opened(model, runner.holding())


def _ranges(watched: Mapping[str, Observation], programs: Sequence[Program]) -> dict[str, Range]:
    return {
        prefix + name: found for program, prefix in prefixes(programs).items()
        for name, found in watched[program].ranges().items()
    }  # fmt: skip


def _judged(
    watched: Mapping[str, Observation], programs: Sequence[Program]
) -> tuple[dict[str, ModulePlan], dict[str, tuple[float, ...]]]:
    """What rounding costs each module, worst first, and what is added to its biases."""
    modules, shifts = dict[str, ModulePlan](), dict[str, tuple[float, ...]]()
    for name, prefix in prefixes(programs).items():
        seen = watched[name]
        ranges = seen.by_node(seen.ranges())
        judged, means = judge_modules(seen.program, ranges, seen.first, seen.keep)
        corrected = bias_shifts(seen.program, ranges, means, seen.first)
        modules |= {prefix + module: found for module, found in judged.items()}
        shifts |= {prefix + module: found for module, found in corrected.items()}
    return dict(sorted(modules.items(), key=lambda pair: (pair[1].sqnr_db, pair[0]))), shifts


def _observer_of(node: torch.fx.Node) -> str:
    """The path of the observer behind a node."""
    return str(next(user.target for user in node.users if user.op == "call_module"))
