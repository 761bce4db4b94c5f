"""Run a program of a Deployable with PyTorch as it is: the float reference of every artifact."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from edgevl.bundle.specs import InputSpec, PictureSource
from edgevl.contracts import Deployable, Program
from edgevl.decodings.runner import Runner
from edgevl.runtime.session import Arrays, TensorSpec, check_feeds

BATCH = 32


class EagerSession:
    """Eager PyTorch on the CPU. A picture goes in as uint8 [B, S, S, 3], as into every session. B is any number."""

    runtime = "PyTorch (CPU)"
    thread_safe = True

    def __init__(self, program: Program, threads: int | None = None):
        self._call = getattr(program.module, program.method)
        self._threads, self._program = threads, program
        self.inputs = tuple(_taken(spec) for spec in program.inputs)
        self.outputs = tuple(TensorSpec(spec.name, spec.dtype, spec.shape) for spec in program.outputs)

    def run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        batch = _batch(self.inputs, feeds)
        check_feeds([TensorSpec(spec.name, spec.dtype, (batch, *spec.shape[1:])) for spec in self.inputs], feeds)
        arguments = [as_taken(spec, as_tensor(feeds[spec.name])) for spec in self._program.inputs]
        with torch.inference_mode(), torch_threads(self._threads):
            found = self._call(*arguments)
        outputs = found if isinstance(found, tuple | list) else (found,)
        return {spec.name: tensor.numpy() for spec, tensor in zip(self._program.outputs, outputs)}


def eager_runner(
    model: Deployable, layout: str | None = None, batch: int = BATCH, threads: int | None = None, fill: bool = True
) -> Runner:
    """Return a runner over the float programs of a Deployable, `batch` samples at a time.

    fill: run `batch` samples also where there are fewer, so that the last bits of a value depend on nothing else: for a
    reference. One question costs a batch then.
    """
    programs: Sequence[Program] = model.programs(layout or model.layouts[0])
    sessions = {program.name: EagerSession(program, threads) for program in programs}
    batches = dict.fromkeys(sessions, batch)
    specs = [program.spec for program in programs]
    return Runner(specs, sessions, model.images, model.texts, batches, fill=fill)


def _batch(inputs: Sequence[TensorSpec], feeds: Mapping[str, np.ndarray]) -> int:
    """The samples of the first array that has as many sides as it should; else 1."""
    arrays = [(np.asarray(feeds[spec.name]), spec) for spec in inputs if spec.name in feeds]
    return next((array.shape[0] for array, spec in arrays if array.ndim == len(spec.shape)), 1)


def _taken(spec: InputSpec) -> TensorSpec:
    if isinstance(spec.source, PictureSource):
        batch, channels, height, width = spec.shape
        return TensorSpec(spec.name, "uint8", (batch, height, width, channels))
    return TensorSpec(spec.name, spec.dtype, spec.shape)


def as_taken(spec: InputSpec, tensor: torch.Tensor) -> torch.Tensor:
    """A picture as a program takes it: float32 [B, 3, S, S]."""
    return tensor.permute(0, 3, 1, 2).contiguous().float() if isinstance(spec.source, PictureSource) else tensor


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor over `array`, copied where torch could not share it (read-only memory, negative strides)."""
    return torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Run a block with that many torch threads; `None` changes nothing. It is put back, as it is the caller's.

    The number is that of the calling thread (OpenMP's `omp_set_num_threads`), so threads do not disturb each other.
    """
    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
