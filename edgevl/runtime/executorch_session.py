"""Run an ExecuTorch program with ExecuTorch's own runtime: XNNPACK on the CPU, or Core ML on macOS."""

import io
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgevl.errors import EdgeVLError
from edgevl.formats.executorch_program import METHOD, PteProgram, Tensor
from edgevl.formats.xnnpack_graph import BACKEND, XnnpackGraph
from edgevl.quiet import with_streams
from edgevl.runtime.executorch_arguments import check_arguments
from edgevl.runtime.executorch_quiet import captured_log, import_executorch, quiet_executorch
from edgevl.runtime.session import Arrays, ArtifactSession, CannotRunHere, Session, TensorSpec

_PURPOSE = "running an ExecuTorch program"
# Not `portable_lib`, which offers the same names: it imports all of `executorch.exir`, seconds, for one warning.
_BINDINGS = "executorch.extension.pybindings._C"
_BACKENDS = {BACKEND: "XNNPACK, CPU", "CoreMLBackend": "Core ML"}


class ExecutorchSession(ArtifactSession):
    """An ExecuTorch program loaded once. Its delegates must be registered in the ExecuTorch that is installed.

    ExecuTorch has one pool of threads for the whole process and XNNPACK keeps a pointer to it, so a session that wants
    another number of threads unloads the others; they load again when they run. For that pool, and because a method
    holds the values of one run, threads take turns with all sessions together.
    """

    def __init__(self, path: str | Path, threads: int | None = None):
        """Load `path`.

        The file is taken apart and checked first: XNNPACK trusts the numbers in its graphs.

        Args:
            threads: of ExecuTorch's pool; `None` is its default, the cores of the machine.
        Raises:
            MissingDependency: executorch is not installed.
            CannotRunHere: the program needs a delegate that this ExecuTorch has not.
            EdgeVLError: the file is truncated or damaged, or ExecuTorch cannot run it.
        """
        super().__init__(_pool.turn)
        self.path, self.threads = Path(path), threads
        self._program, self.inputs, self.outputs = self._checked()
        backends = sorted({delegate.backend for delegate in self._program.forward.delegates})
        self.runtime = f"ExecuTorch ({', '.join(_BACKENDS.get(name, name) for name in backends) or 'portable, CPU'})"
        self._loaded: Any = None  # the program and its method; the runtime points into the first from the second
        with _pool.turn, with_streams():  # the binding's calls write to both, whatever there is to say
            self._native = _import_runtime()
            self._require(backends)
            self._require_operators()
            self._load()

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        if self._loaded is None or not _pool.fits(self.threads):
            self._load()
        assert self._loaded is not None, "loaded just above"
        arrays = [np.require(feeds[spec.name], requirements=["C", "W"]) for spec in self.inputs]
        with with_streams(), captured_log() as log:
            try:
                outputs = self._loaded[1]([torch.from_numpy(array) for array in arrays])
            except RuntimeError as error:
                raise EdgeVLError(f"{self.path.name} fails when it runs: {_said(log, error)}") from error
        return {spec.name: tensor.numpy() for spec, tensor in zip(self.outputs, outputs)}

    def unload(self) -> None:
        """Free what the runtime holds; the next run loads it again."""
        self._loaded = None

    def _load(self) -> None:
        _pool.resize(self._native, self.threads)
        with captured_log() as log:
            try:
                program = self._native._load_program_from_buffer(
                    self._program.data, program_verification=self._native.Verification.InternalConsistency
                )
                self._loaded = (program, program.load_method(METHOD))
            except RuntimeError as error:
                failure = error
            else:
                failure = None
        if failure:
            raise self._refused(_said(log, failure)) from failure
        _pool.users.add(self)

    def _checked(self) -> tuple[PteProgram, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """The program, what it takes and what it gives."""
        try:
            program = PteProgram.load(self.path)
            for method in program.methods.values():
                check_arguments(method)
            graphs: dict[int, XnnpackGraph] = {}
            for call in program.forward.calls:
                delegate = None if call.operator else program.forward.delegates[call.delegate]
                if delegate and delegate.backend == BACKEND:
                    if call.delegate not in graphs:
                        graphs[call.delegate] = XnnpackGraph(delegate.payload, program.named_data)
                    graphs[call.delegate].check_call(len(call.args))
            return program, _specs(program.inputs), _specs(program.outputs)
        except (EdgeVLError, OSError) as error:
            raise self._refused(str(error)) from error

    def _refused(self, reason: str) -> EdgeVLError:
        return EdgeVLError(
            f"{self.path} cannot be loaded by ExecuTorch ({reason}). If it is truncated or was changed, export it again"
        )

    def _require(self, backends: list[str]) -> None:
        registered = self._native._get_registered_backend_names()
        missing = [name for name in backends if name not in registered]
        if missing:
            where = "macOS or iOS" if "CoreMLBackend" in missing else "a build of ExecuTorch that has it"
            raise CannotRunHere(
                f"the program needs the delegate {', '.join(missing)}, which runs on {where}; "
                f"this ExecuTorch has {', '.join(sorted(registered)) or 'none'}"
            )

    def _require_operators(self) -> None:
        known = set(self._native._get_operator_names())
        for call in self._program.forward.calls:
            if call.operator and call.operator not in known:
                raise self._refused(f"it has no operator {call.operator!a}")


def _said(log: io.StringIO, error: RuntimeError) -> str:
    """What the runtime logged last, as a rule the operator that failed; else the error, which is a number."""
    lines = [line.split("] ", 1)[-1] for line in log.getvalue().splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("arg ")]  # a failed kernel is followed by its arguments
    return lines[-1] if lines else str(error)


class _ThreadPool:
    """ExecuTorch's pool of threads: one for the process."""

    def __init__(self) -> None:
        self.users: weakref.WeakSet[ExecutorchSession] = weakref.WeakSet()  # whose methods point to the pool
        self.default = self.size = 0  # 0: not asked yet
        self.turn = threading.RLock()  # of whoever uses the pool or catches what the runtime logs

    def fits(self, threads: int | None) -> bool:
        return self.size == (threads or self.default)

    def resize(self, native: Any, threads: int | None) -> None:
        """Give the pool `threads` threads (None: as many as it began with). Who points to the old one is unloaded."""
        if not self.size:
            with captured_log():  # how it counts the cores
                self.default = self.size = native._threadpool_get_thread_count()
        if not self.fits(threads):
            for session in list(self.users):
                session.unload()
            self.users.clear()
            self.size = threads or self.default
            with captured_log():
                native._unsafe_reset_threadpool(self.size)


_pool = _ThreadPool()


def open_executorch(path: Path, threads: int | None = None) -> Session:
    return ExecutorchSession(path, threads)


def _import_runtime() -> Any:
    with quiet_executorch(), captured_log():  # loading the library starts the pool, which logs
        return import_executorch(_BINDINGS, _PURPOSE)


def _specs(named: tuple[tuple[str, Tensor], ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, tensor.dtype, tensor.shape) for name, tensor in named)
