"""Run a model folder, or a model in memory, with PyTorch: the reference that every artifact is compared with."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgevl.models.capture import raw_pixels
from edgevl.runtime.session import Arrays, ArtifactSession, Session, TensorSpec, sessions

if TYPE_CHECKING:
    from edgevl.models.vqa import VqaModel


class TorchSession(ArtifactSession):
    """Eager PyTorch on the CPU in float32, behind the raw-pixel adapter."""

    runtime = "PyTorch (CPU)"
    thread_safe = True

    def __init__(self, model: "VqaModel", threads: int | None = None):
        """`model`: see `edgevl.models.VqaModel`; it is put in eval mode."""
        super().__init__()
        self._model = model.float().eval()
        self._threads = threads
        config = model.config
        self.inputs = (
            TensorSpec("image", "uint8", (1, config.image_size, config.image_size, 3)),
            TensorSpec("input_ids", "int32", (1, config.text_length)),
        )
        self.outputs = (TensorSpec("logits", "float32", (1, config.num_answers)),)

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        with torch.inference_mode(), torch_threads(self._threads):
            logits = self._model(raw_pixels(as_tensor(feeds["image"])), as_tensor(feeds["input_ids"]))
        return {"logits": logits.numpy()}


@sessions.register("torch")
def open_torch(path: Path, threads: int | None = None) -> Session:
    from edgevl.checkpoint import load_model

    return TorchSession(load_model(path).model, threads)


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
