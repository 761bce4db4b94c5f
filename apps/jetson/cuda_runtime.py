"""CUDA's runtime library through ctypes, and buffers on the GPU: no further package is needed. Python 3.8 and numpy.

Written to NVIDIA's documentation; it has not been run on a GPU yet.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import glob
import os
from typing import Any, Hashable, Mapping

import numpy as np
from problems import MISSING, Problem

CUDART = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
CUDART_PLACES = ("/usr/local/cuda/lib64/libcudart.so*", "/usr/local/cuda*/targets/*/lib/libcudart.so*")
TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind


class Cuda:
    """The few functions of CUDA's runtime library that are needed. Each raises `Problem` with CUDA's own words."""

    def __init__(self) -> None:
        self._library = self._load()
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        self("cudaFree", ctypes.c_void_p())  # makes the context now, so that no query pays for it

    @staticmethod
    def _load() -> Any:
        places = [*CUDART, ctypes.util.find_library("cudart") or ""]
        for pattern in CUDART_PLACES:
            places += sorted(glob.glob(pattern))
        with contextlib.suppress(ImportError):  # the packages that `pip install tensorrt` brings along
            import nvidia

            for folder in nvidia.__path__:
                places += sorted(glob.glob(os.path.join(folder, "*", "lib", "libcudart.so*")))
        for place in filter(None, places):
            with contextlib.suppress(OSError):
                return ctypes.CDLL(place)
        raise Problem(MISSING, "libcudart is not here: install JetPack's CUDA (sudo apt-get install nvidia-jetpack)")

    def __call__(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            reason = self._library.cudaGetErrorString(status).decode()
            raise Problem(MISSING if function == "cudaFree" else 1, f"CUDA says after {function}: {reason}")

    def handle(self, function: str, *arguments: Any) -> ctypes.c_void_p:
        """What a function hands out through its first argument: a stream, an event, memory."""
        made = ctypes.c_void_p()
        self(function, ctypes.byref(made), *arguments)
        return made

    def host_array(self, shape: list[int], dtype: str) -> tuple[ctypes.c_void_p, np.ndarray]:
        """Pinned memory, from which and to which the GPU copies without the processor, and an array that views it."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        pointer = self.handle("cudaMallocHost", ctypes.c_size_t(size))
        raw: Any = (ctypes.c_uint8 * size).from_address(pointer.value or 0)
        return pointer, np.frombuffer(raw, dtype).reshape(shape)

    def milliseconds(self, start: ctypes.c_void_p, end: ctypes.c_void_p) -> float:
        """Between two events that have both happened; CUDA's resolution is about half a microsecond."""
        elapsed = ctypes.c_float()
        self("cudaEventElapsedTime", ctypes.byref(elapsed), start, end)
        return elapsed.value


class Buffers:
    """Memory on the GPU by key, with pinned memory beside it once it is copied from or to. All of it stays."""

    def __init__(self, cuda: Cuda, stream: ctypes.c_void_p):
        self._cuda, self._stream = cuda, stream
        self._device: dict[Hashable, ctypes.c_void_p] = {}
        self._host: dict[Hashable, tuple[ctypes.c_void_p, np.ndarray]] = {}
        self._kinds: dict[Hashable, tuple[list[int], str]] = {}  # shape and dtype

    def add(self, key: Hashable, spec: Mapping[str, Any]) -> Hashable:
        """Make the buffer of a tensor as a manifest describes it, where there is none. Returns the key."""
        if key not in self._device:
            shape, dtype = spec["shape"], spec["dtype"]
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            self._device[key] = self._cuda.handle("cudaMalloc", ctypes.c_size_t(size))
            self._kinds[key] = list(shape), dtype
        return key

    def address(self, key: Hashable) -> int:
        """Return where a buffer lies on the GPU."""
        return self._device[key].value or 0

    def shape(self, key: Hashable) -> list[int]:
        return self._kinds[key][0]

    def host(self, key: Hashable) -> np.ndarray:
        """Return the pinned array of a buffer. `send` and `fetch` copy it to the GPU and from there, once the stream is
        synchronized.
        """
        if key not in self._host:
            self._host[key] = self._cuda.host_array(*self._kinds[key])
        return self._host[key][1]

    def send(self, key: Hashable) -> None:
        self._copy(self._device[key], self._host[key][0], self.host(key).nbytes, TO_DEVICE)

    def fetch(self, key: Hashable) -> None:
        array = self.host(key)
        self._copy(self._host[key][0], self._device[key], array.nbytes, TO_HOST)

    def _copy(self, target: Any, source: Any, size: int, kind: int) -> None:
        self._cuda("cudaMemcpyAsync", target, source, ctypes.c_size_t(size), ctypes.c_int(kind), self._stream)
