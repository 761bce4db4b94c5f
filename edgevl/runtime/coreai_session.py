"""Run a Core AI asset with Core AI's own runtime: that of coreai-core on Linux, the system's on macOS 27."""

import asyncio
import os
import platform
import threading
import weakref
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from edgevl.errors import EdgeVLError, MissingDependency, first_line
from edgevl.runtime.coreai_asset import check_asset, import_coreai, quiet_coreai
from edgevl.runtime.session import Arrays, ArtifactSession, CannotRunHere, Session, TensorSpec

ENTRY = "main"  # the function that `edgevl export` writes


class CoreAISession(ArtifactSession):
    """A Core AI asset, compiled and loaded. On Linux its runtime uses one thread, and there is no switch.

    On Linux, `AIModel.load` wants a compiled program, which an asset does not hold ("No such file or directory");
    `AIModelAsset.executable` compiles one into a temporary folder, which lives as long as the session. A call goes
    through the event loop of a worker; callers in several threads have a worker each, loaded when it is first needed.
    """

    thread_safe = True

    def __init__(self, path: str | Path):
        """Load `path`.

        Raises:
            MissingDependency: coreai-torch, which brings Core AI, is not installed.
            CannotRunHere: a macOS without Core AI.
            EdgeVLError: the asset is damaged, or Core AI cannot load it.
        """
        super().__init__()
        self.path = Path(path)
        check_asset(self.path)
        self.runtime = "Core AI" if platform.system() == "Darwin" else "Core AI (coreai-core, CPU)"
        self.lanes = 1 if platform.system() == "Darwin" else len(os.sched_getaffinity(0))
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._missing = threading.Semaphore(self.lanes - 1)  # workers that are still to be loaded
        try:
            self._array = import_coreai("coreai.runtime", "running a Core AI asset").NDArray
            worker = self._new_worker()
            self.inputs, self.outputs = _specs(worker.function.desc)
            self._idle.put(worker)
        except MissingDependency:
            raise
        except Exception as error:  # RuntimeError of the runtime, or what importing it raises on an older system
            raise self._refused(error) from error

    def _run(self, feeds: Mapping[str, np.ndarray]) -> Arrays:
        arrays = {name: self._array(np.require(array, requirements=["C", "W"])) for name, array in feeds.items()}
        try:
            worker = self._next_worker()
        except Exception as error:  # as when the session was opened
            raise self._refused(error) from error
        try:
            results = worker.wait(worker.function(arrays))
        except RuntimeError as error:
            raise EdgeVLError(f"{self.path.name} fails when it runs: {error}") from error
        finally:
            self._idle.put(worker)
        return {spec.name: np.array(results[spec.name].numpy()) for spec in self.outputs}

    def _next_worker(self) -> "_Worker":
        """An idle worker, or a new one, or, if there are as many as cores, the next that is done."""
        try:
            return self._idle.get_nowait()
        except Empty:
            return self._new_worker() if self._missing.acquire(blocking=False) else self._idle.get()

    def _new_worker(self) -> "_Worker":
        worker = _Worker()
        with quiet_coreai():
            worker.function = worker.wait(self._load(worker))
        return worker

    async def _load(self, worker: "_Worker") -> Any:
        from coreai.authoring import AIModelAsset

        context = AIModelAsset.load(self.path).executable()
        model = await context.__aenter__()
        worker.leave_at_the_end(context)
        return model.load_function(ENTRY)

    def _refused(self, error: Exception) -> EdgeVLError:
        reason = first_line(error)
        version = platform.mac_ver()[0]
        if platform.system() == "Darwin" and int(version.split(".")[0] or 0) < 27:
            return CannotRunHere(f"Core AI is part of macOS 27, this is macOS {version} ({reason})")
        return EdgeVLError(f"Core AI cannot load {self.path}: {reason}")


class _Worker:
    """An event loop in a thread of its own: Core AI is asynchronous, and the caller may have a running loop already."""

    function: Any  # of the asset, in this loop

    def __init__(self) -> None:
        self._pool, self._loop = ThreadPoolExecutor(1, "coreai"), asyncio.new_event_loop()
        self._contexts: list[Any] = []
        weakref.finalize(self, _shut_down, self._pool, self._loop, self._contexts)

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._pool.submit(self._loop.run_until_complete, work).result()

    def leave_at_the_end(self, context: Any) -> None:
        self._contexts.append(context)


def _shut_down(pool: ThreadPoolExecutor, loop: asyncio.AbstractEventLoop, contexts: list[Any]) -> None:
    async def leave() -> None:
        for context in contexts:
            await context.__aexit__(None, None, None)

    work = leave()
    try:
        pool.submit(loop.run_until_complete, work).result()
    except RuntimeError:  # the interpreter is ending and has shut down the pool: nothing else runs the loop
        loop.run_until_complete(work)
    pool.shutdown()
    loop.close()


def _specs(described: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    def spec(name: str, value: Any) -> TensorSpec:
        return TensorSpec(name, value.dtype.lower(), tuple(value.shape))

    inputs = tuple(spec(name, described.input_descriptor(name)) for name in described.input_names)
    return inputs, tuple(spec(name, described.output_descriptor(name)) for name in described.output_names)


def open_coreai(path: Path, threads: int | None = None) -> Session:
    return CoreAISession(path)
