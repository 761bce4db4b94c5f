"""TensorRT on the GPU: every kind of plan, loops too, timed by CUDA events. See runtimes.py for what a runner is.

TensorRT's Python API is used where 10 and 11 agree: named tensors and execute_async_v3. Written to NVIDIA's
documentation; it has not been run on a GPU yet.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Hashable, NamedTuple

import build_engine
import numpy as np
from calls import Leaf, Number, State, Value
from cuda_runtime import Buffers, Cuda
from problems import BAD_INPUT, REFUSED, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bundle_reader import Bundle
    from calls import Call, Loop, Plan

LOOP_NOTE = "model: a sequence has the scores and the token of each step copied from and to the GPU, which counts"


class Bound(NamedTuple):
    """A call whose inputs and outputs have buffers. Keys of buffers by the name of the tensor."""

    program: str
    keys: dict[str, Hashable]


class TensorRTRunner:
    """TensorRT engines of this GPU on one CUDA stream; values that go from one program to the next stay on the GPU.

    Each call of a plan has buffers of its own for what it gives, so a program may be called several times: between two
    calls its context gets other addresses, which the GPU does not wait for.
    """

    threads = 1  # one host thread feeds the GPU

    def __init__(self, bundle: Bundle, trt: Any, files: list[Path]):
        self.notes = ["model: CUDA events around enqueue; copies of inputs and outputs are in the scope pipeline"]
        started = time.perf_counter()
        self._cuda = Cuda()
        self._stream = self._cuda.handle("cudaStreamCreate")
        self._start, self._end = self._cuda.handle("cudaEventCreate"), self._cuda.handle("cudaEventCreate")
        self._buffers = Buffers(self._cuda, self._stream)
        self._runtime = trt.Runtime(build_engine.log_of(trt))
        self._kept: list[Any] = []
        self._contexts: dict[str, Any] = {}  # by program
        self._addresses: dict[tuple[str, str], int] = {}  # that a context has now, by program and tensor
        for program, file in zip(bundle.manifest["programs"], files):
            self._open(program, file)
        self.load_seconds = time.perf_counter() - started
        record = json.loads(files[0].with_name(files[0].name + ".json").read_text(encoding="utf-8"))
        self.runtime = f"{trt.__name__} {trt.__version__}, {record['gpu']['name']}"
        self.versions = {trt.__name__: trt.__version__}
        self.notes.append(f"engine built in {record['engine']['seconds']} s by {record['tensorrt']['package']}")
        self.enqueue_seconds: list[float] = []
        self._launching = 0.0
        self._plan: Plan | None = None
        self._inputs: dict[Hashable, Leaf] = {}  # by the buffer that each goes into
        self._bound: list[Bound] = []  # the calls of the plan
        self._steps: list[Bound] = []  # of its loop: the first step, then odd and even ones
        self._numbers: dict[Hashable, str] = {}  # buffer -> "token" or "step"
        self._scores: list[np.ndarray] = []  # of each step of the loop

    def _open(self, program: dict[str, Any], file: Path) -> None:
        engine = self._runtime.deserialize_cuda_engine(file.read_bytes())
        context = engine and engine.create_execution_context()
        if not context:
            raise Problem(REFUSED, f"TensorRT cannot load {file}: delete it, and it is built again")
        for spec in [*program["inputs"], *program["outputs"]]:
            name = spec["name"]
            dtype, shape = build_engine.dtype_name(engine.get_tensor_dtype(name)), list(engine.get_tensor_shape(name))
            if (dtype, shape) != (spec["dtype"], spec["shape"]):
                raise Problem(REFUSED, f"the engine's {name} is {dtype} {shape}, the manifest says {spec}")
        self._kept.append(engine)  # a context is of no use without its engine
        self._contexts[program["name"]] = context

    # ---- from a query to the GPU -------------------------------------------------------------------------------------
    def put(self, plan: Plan, leaves: Mapping[Leaf, np.ndarray]) -> None:
        """Copy to the GPU, and wait: the clock of `run` starts with the inputs and the addresses in place."""
        if plan is not self._plan:
            self._prepare(plan)
        for key, leaf in self._inputs.items():
            self._buffers.host(key)[:] = leaves[leaf]  # broadcast over the batch
            self._buffers.send(key)
        for bound in reversed(self._bound):  # so that each context has those of its first call
            self._bind(bound)
        self._cuda("cudaStreamSynchronize", self._stream)

    def _prepare(self, plan: Plan) -> None:
        """Give each input and output of the plan's calls a buffer."""
        self._inputs, self._numbers, self._bound = {}, {}, []
        for number, call in enumerate(plan.calls):
            self._bound.append(Bound(call.program["name"], {**self._read(call), **self._given(call, number)}))
        self._steps = [self._step(plan.loop.call, step) for step in range(3)] if plan.loop else []
        if plan.loop and LOOP_NOTE not in self.notes:
            self.notes.append(LOOP_NOTE)
        self._plan = plan

    def _read(self, call: Call) -> dict[str, Hashable]:
        """Return the buffer of each input; of a state that of the first step."""
        keys: dict[str, Hashable] = {}
        for spec, origin in call.specs():
            value = origin.start if isinstance(origin, State) else origin
            if isinstance(value, Value):
                keys[spec["name"]] = self._value(spec, value)
                continue
            keys[spec["name"]] = key = self._buffers.add((call.program["name"], spec["name"], value), spec)
            if isinstance(value, Leaf):
                self._inputs[key] = value
            elif isinstance(value, Number):
                self._numbers[key] = value.kind
            else:  # a state that starts with zeros
                self._buffers.host(key)[...] = 0
                self._buffers.send(key)
        return keys

    def _step(self, call: Call, step: int) -> Bound:
        """Return a step of a loop. It reads what the step before gave: odd and even ones have buffers of their own."""
        name, keys = call.program["name"], self._read(call)
        for spec, origin in call.specs() if step else ():
            if isinstance(origin, State):
                keys[spec["name"]] = (name, origin.name, f"step {(step - 1) % 2}")
        return Bound(name, {**keys, **self._given(call, f"step {step % 2}")})

    def _value(self, spec: Mapping[str, Any], value: Value) -> Hashable:
        """Return the buffer that another call fills. Raises `Problem` (2) where an input takes another batch."""
        key = self._bound[value.call].keys[value.name]
        if self._buffers.shape(key) != spec["shape"]:
            raise Problem(BAD_INPUT, f"{value.name} goes between programs of different batches: export them with one")
        return key

    def _given(self, call: Call, which: Hashable) -> dict[str, Hashable]:
        """Return a buffer for each output of one call."""
        name = call.program["name"]
        return {spec["name"]: self._buffers.add((name, spec["name"], which), spec) for spec in call.program["outputs"]}

    # ---- on the GPU --------------------------------------------------------------------------------------------------
    def run(self, along: Sequence[int] | None = None) -> float:
        """Seconds on the GPU between two events on the stream, with nothing but the engines between them.

        Where kernels are so short that the processor cannot launch them as fast as they run, the gaps count too, as
        they do for whoever waits for the answer; `launch_note` says so. A sequence has its scores and tokens copied in
        each step besides. `along`: tokens that it follows at every step, whatever is best here.
        """
        plan, self._launching = self._plan, 0.0
        assert plan, "put comes first"
        self._cuda("cudaEventRecord", self._start, self._stream)
        for bound in self._bound:
            self._enqueue(bound)
        self._scores = self._loop(plan.loop, along) if plan.loop else []
        self._cuda("cudaEventRecord", self._end, self._stream)
        self._cuda("cudaEventSynchronize", self._end)
        self.enqueue_seconds.append(self._launching)
        return self._cuda.milliseconds(self._start, self._end) / 1e3

    def _enqueue(self, bound: Bound) -> None:
        started = time.perf_counter()
        self._bind(bound)
        if not self._contexts[bound.program].execute_async_v3(self._stream.value):
            raise Problem(1, "TensorRT could not enqueue the engine")
        self._launching += time.perf_counter() - started

    def _bind(self, bound: Bound) -> None:
        """Tell a context where the tensors of a call lie, where that is not known to it already."""
        for name, key in bound.keys.items():
            address = self._buffers.address(key)
            if self._addresses.get((bound.program, name)) != address:
                if not self._contexts[bound.program].set_tensor_address(name, address):
                    raise Problem(REFUSED, f"TensorRT does not take an address for {name}")
                self._addresses[bound.program, name] = address

    def _loop(self, loop: Loop, along: Sequence[int] | None) -> list[np.ndarray]:
        """Scores [A] of each step, until the stop token or the last step."""
        token, scores = loop.start, []
        for step in range(loop.steps if along is None else min(loop.steps, len(along))):
            bound = self._steps[0 if step == 0 else 2 - step % 2]
            for key, kind in self._numbers.items():
                self._buffers.host(key)[...] = token if kind == "token" else step
                self._buffers.send(key)
            self._enqueue(bound)
            scores.append(self._fetched([bound.keys[loop.output]])[0])
            token = int(scores[-1].argmax()) if along is None else along[step]
            if token == loop.stop:
                break
        return scores

    # ---- and back ----------------------------------------------------------------------------------------------------
    def get(self) -> dict[str, np.ndarray]:
        """Copy the rows that the decoding reads from the GPU, and wait."""
        plan = self._plan
        assert plan, "put comes first"
        if plan.loop:
            return {plan.loop.output: np.stack(self._scores)}
        wanted = {name: [self._bound[value.call].keys[name] for value in rows] for name, rows in plan.rows.items()}
        return {name: np.stack(self._fetched(keys)) for name, keys in wanted.items()}

    def _fetched(self, keys: Sequence[Hashable]) -> list[np.ndarray]:
        """Return the first sample of each buffer."""
        for key in dict.fromkeys(keys):
            self._buffers.fetch(key)
        self._cuda("cudaStreamSynchronize", self._stream)
        return [self._buffers.host(key)[0].copy() for key in keys]


def launch_note(enqueue_seconds: list[float], model_seconds: list[float]) -> str:
    """A remark where the processor needs most of the model's time to launch its kernels; "" else."""
    launch, whole = float(np.median(enqueue_seconds)), float(np.median(model_seconds))
    if launch < 0.8 * whole:
        return ""
    return f"the GPU waits for the processor: launching the kernels takes {1e3 * launch:.3f} of {1e3 * whole:.3f} ms"
