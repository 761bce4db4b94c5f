"""Calibration: run samples through the float program, with an observer on every value."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

from edgevl.errors import unknown_name
from edgevl.evaluate import Samples, draw_samples
from edgevl.models.question_answering import export_program
from edgevl.progress import Progress
from edgevl.quantize.bias import bias_shifts
from edgevl.quantize.calibration_audit import audit_ranges, audit_samples
from edgevl.quantize.module_errors import judge_modules
from edgevl.quantize.observers import OBSERVERS, observed
from edgevl.quantize.plan import DATA, OBSERVER, SAMPLES, Calibration, Plan, Range
from edgevl.quantize.quantizer import ObservingQuantizer

if TYPE_CHECKING:
    from edgevl.checkpoint import LoadedModel

BATCH = 16
_JUDGED = 4  # batches that errors and means of modules are measured on

Batch = tuple[Tensor, ...]


def calibrate(
    loaded: "LoadedModel",
    data: str = DATA,
    samples: int = SAMPLES,
    observer: str = OBSERVER,
    seed: int = 0,
    progress: Progress | None = None,
) -> Plan:
    """Run `samples` pictures with a question each through the float model and return the plan.

    `seed` says which pictures of `data` are drawn: the same seed gives the same plan, byte for byte, on one machine
    with one number of threads.

    Raises `InputError` for unknown data, an unknown observer, and a calibration set that cannot be trusted
    (`edgevl.quantize.calibration_audit`).
    """
    tell = progress or (lambda done, total, text: None)
    check_observer(observer)
    tell(0, samples, "drawing samples")
    drawn = draw_samples(data, samples, loaded.config.image_size, seed)
    coverage = audit_samples(drawn, loaded.labels)
    observation = Observation(export_program(loaded.model, "raw", BATCH), observer)
    batches = list(batches_of(loaded, drawn))
    early: dict[str, Range] = {}
    for number, batch in enumerate(batches):
        if number == len(batches) // 2:
            early = observation.ranges()
        observation.run([batch])
        tell(BATCH * (number + 1), samples, "observing values")
    values = observation.ranges()
    coverage = audit_ranges(coverage, early, values, samples)
    tell(samples, samples, "judging modules")
    ranges = observation.by_node(values)
    modules, means = judge_modules(observation.program, ranges, batches[:_JUDGED])
    return Plan(
        checkpoint_sha256=loaded.sha256,
        calibration=Calibration(data=data, samples=samples, seed=seed, observer=observer),
        coverage=coverage,
        values=values,
        modules=modules,
        bias_shifts=bias_shifts(observation.program, ranges, means, batches[:_JUDGED]),
    )


def check_observer(name: str) -> None:
    """Raises `InputError` for an unknown observer."""
    if name not in OBSERVERS:
        raise unknown_name("observer", name, OBSERVERS)


def batches_of(loaded: "LoadedModel", samples: Samples) -> Iterator[Batch]:
    """All samples; where they do not fill the last batch, it begins earlier."""
    ids_NT = loaded.tokenizer.encode_batch(list(samples.questions), loaded.config.text_length)
    last = len(samples) - BATCH
    for start in (*range(0, last, BATCH), last):
        chosen = slice(start, start + BATCH)
        yield torch.from_numpy(samples.pixels_NSS3[chosen].copy()), torch.from_numpy(ids_NT[chosen])


class Observation:
    """A float program with an observer on every value."""

    def __init__(self, program: ExportedProgram, observer: str):
        check_observer(observer)
        quantizer = ObservingQuantizer(OBSERVERS[observer])
        self.program = prepare_pt2e(program.module(), quantizer)
        self.nodes = quantizer.names  # value -> its node in `program`
        found = {node.name: node for node in self.program.graph.nodes}
        self._observers = {name: _observer_of(found[node]) for name, node in self.nodes.items()}

    def run(self, batches: Iterable[Batch]) -> None:
        with torch.no_grad():
            for batch in batches:
                self.program(*batch)

    def ranges(self) -> dict[str, Range]:
        """The range of every value so far, by the names of `edgevl.quantize.values`."""
        return {name: observed(self.program.get_submodule(path), name) for name, path in self._observers.items()}

    def by_node(self, values: Mapping[str, Range]) -> dict[str, Range]:
        """The same ranges by the names of nodes of `program`."""
        return {self.nodes[name]: found for name, found in values.items()}


def _observer_of(node: torch.fx.Node) -> str:
    """The path of the observer behind a node."""
    return str(next(user.target for user in node.users if user.op == "call_module"))
