"""What this machine can do at most: multiply-adds of a large matrix product, and bytes read from memory.

The product runs in onnxruntime, on the threads that the model gets and with the second operand as a weight, so that it
is packed as a model's weights are: the fastest that the model's own runtime does here.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgevl.bench.schema import Peak
from edgevl.bench.sessions import open_onnx

SIZES = (512, 1024)  # square; 2048 was 2 to 10 % slower wherever it was tried
SECONDS = 0.25  # of each size and dtype
MEMORY_BYTES = 256 * 2**20  # larger than a last-level cache
SMALLEST_READ = 2**20  # bytes: below it starting the threads is what takes the time


class Yardstick:
    """An fp32 matrix product that is kept open, to see whether the machine kept its speed."""

    def __init__(self, threads: int):
        self._run = product(SIZES[0], "fp32", threads)

    def gmacs(self) -> float:
        """1e9 multiply-adds per second of its fastest run in a quarter of a second."""
        return SIZES[0] ** 3 / fastest(self._run) / 1e9


def measure_peak(threads: int) -> Peak:
    """Run both products and read a large buffer. Takes about a second and a half. Torch's threads are the caller's."""
    rates = {
        dtype: max(size**3 / fastest(product(size, dtype, threads)) / 1e9 for size in SIZES)
        for dtype in ("fp32", "int8")
    }
    sizes = " and ".join(map(str, SIZES))
    how = (
        f"onnxruntime MatMul and MatMulInteger (uint8 by int8), square, {sizes}, the best run; "
        f"torch.sum over {MEMORY_BYTES // 2**20} MiB of float32"
    )
    rounded = {dtype: round(rate, 1) for dtype, rate in rates.items()}
    return Peak(threads=threads, gmacs=rounded, bandwidth_gbs=round(read_bandwidth(MEMORY_BYTES), 1), how=how)


def read_bandwidth(count: int) -> float:
    """1e9 bytes per second, read again and again from a buffer of `count` bytes: from a cache where it fits in one."""
    import torch

    buffer = torch.ones(max(count, SMALLEST_READ) // 4)
    return 4 * buffer.numel() / fastest(buffer.sum) / 1e9


def fastest(run: Callable[[], object], seconds: float = SECONDS) -> float:
    """Seconds of the fastest run: a peak is what the machine can do, and neighbors only take from it."""
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def product(size: int, dtype: str, threads: int) -> Callable[[], Any]:
    """A square matrix product in onnxruntime, ready to run."""
    from onnx import TensorProto, helper, numpy_helper

    whole = dtype == "int8"
    element, result = (TensorProto.UINT8, TensorProto.INT32) if whole else (TensorProto.FLOAT, TensorProto.FLOAT)
    weight = np.random.default_rng(0).integers(-127, 127, (size, size)).astype(np.int8 if whole else np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger" if whole else "MatMul", ["left", "right"], ["out"])],
        "product",
        [helper.make_tensor_value_info("left", element, [size, size])],
        [helper.make_tensor_value_info("out", result, [size, size])],
        [numpy_helper.from_array(weight, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = open_onnx(model.SerializeToString(), threads)
    feeds = {"left": np.ones((size, size), np.uint8 if whole else np.float32)}
    return lambda: session.run(None, feeds)
