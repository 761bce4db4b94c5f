"""Calibration: run samples through the float program, with an observer on every value."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver, MovingAverageMinMaxObserver, ObserverBase
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

from edgevl.errors import unknown_name
from edgevl.evaluate import Samples, draw_samples
from edgevl.export.program import export_program
from edgevl.quantize.plan import Calibration, Plan, Range
from edgevl.quantize.quantizer import ObservingQuantizer

if TYPE_CHECKING:
    from edgevl.checkpoint import LoadedModel

DATA, SAMPLES, OBSERVER = "scenes:val", 512, "histogram"  # of a calibration that nobody asked for in detail
_BATCH = 16
OBSERVERS: dict[str, Callable[..., ObserverBase]] = {
    "minmax": MinMaxObserver,
    "moving": MovingAverageMinMaxObserver,
    "histogram": HistogramObserver,
}


def calibrate(
    loaded: "LoadedModel", data: str = DATA, samples: int = SAMPLES, observer: str = OBSERVER, seed: int = 0
) -> Plan:
    """Run `samples` pictures with a question each through the float model and return the plan.

    Raises `InputError` for unknown data or an unknown observer.
    """
    program = export_program(loaded.model, "raw", _BATCH)
    drawn = draw_samples(data, samples, loaded.config.image_size)
    values = observe(program, _batches(loaded, drawn), observer)
    settings = Calibration(data=data, samples=samples, seed=seed, observer=observer)
    return Plan(checkpoint_sha256=loaded.sha256, calibration=settings, values=values, modules={})


def _batches(loaded: "LoadedModel", samples: Samples) -> Iterator[tuple[Tensor, ...]]:
    ids_NT = loaded.tokenizer.encode_batch(list(samples.questions), loaded.config.text_length)
    for start in range(0, len(samples) - _BATCH + 1, _BATCH):
        chosen = slice(start, start + _BATCH)
        yield torch.from_numpy(samples.pixels_NSS3[chosen].copy()), torch.from_numpy(ids_NT[chosen])


def observe(program: ExportedProgram, batches: Iterable[tuple[Tensor, ...]], observer: str) -> dict[str, Range]:
    """Return the range of every value of `program` over `batches`, by the names of `edgevl.quantize.values`."""
    if observer not in OBSERVERS:
        raise unknown_name("observer", observer, OBSERVERS)
    quantizer = ObservingQuantizer(OBSERVERS[observer])
    prepared = prepare_pt2e(program.module(), quantizer)
    with torch.no_grad():
        for batch in batches:
            prepared(*batch)
    nodes = {node.name: node for node in prepared.graph.nodes}
    return {name: _range(prepared, nodes[node]) for name, node in quantizer.names.items()}


def _range(prepared: torch.fx.GraphModule, node: torch.fx.Node) -> Range:
    """What the observer behind `node` found."""
    observer: Any = prepared.get_submodule(str(next(user for user in node.users if user.op == "call_module").target))
    scale, zero_point = observer.calculate_qparams()
    low = -float(scale) * int(zero_point)
    return Range(low=low, high=low + 255 * float(scale))
