"""ONNX Runtime on the processor: every kind of plan, loops too. See runtimes.py for what a runner is."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from calls import Leaf, State, Value
from onnx_wire import keeps_weights_elsewhere
from problems import MISSING, REFUSED, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bundle_reader import Bundle
    from calls import Call, Loop, Plan

    Arrays = Mapping[str, np.ndarray]

ORT_TYPES = {
    "uint8": "tensor(uint8)", "int8": "tensor(int8)", "int32": "tensor(int32)", "int64": "tensor(int64)",
    "float32": "tensor(float)", "float16": "tensor(float16)",
}  # fmt: skip


def fit(array: np.ndarray, spec: Mapping[str, Any]) -> np.ndarray:
    """What an input takes: `array` as it is, or its first row repeated for a program with another batch."""
    if list(array.shape) == spec["shape"]:
        return array
    return repeat(array[0], spec)


def repeat(row: np.ndarray, spec: Mapping[str, Any]) -> np.ndarray:
    """One sample for an artifact of a fixed batch B: repeated B times, contiguous, of the input's dtype."""
    return np.ascontiguousarray(np.broadcast_to(row[None].astype(spec["dtype"], copy=False), spec["shape"]))


class OnnxRunner:
    """ONNX Runtime on the processor; the calls of a plan one after the other, then its loop."""

    def __init__(self, bundle: Bundle, threads: int):
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else it reports to its maker; read when the library is loaded
        try:
            import onnxruntime
        except ImportError:
            raise Problem(MISSING, "onnxruntime is not installed here: python3 -m pip install onnxruntime") from None
        self.threads = threads
        self.runtime = f"onnxruntime {onnxruntime.__version__}, CPU"
        self.versions = {"onnxruntime": onnxruntime.__version__}
        self.notes: list[str] = []
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        started = time.perf_counter()
        self._sessions: dict[str, Any] = {}
        for program in bundle.manifest["programs"]:
            data = read_onnx(bundle, program["artifact"])
            try:
                session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # ONNX Runtime has exceptions of its own for a file that it does not like
                raise Problem(REFUSED, f"{self.runtime}, refuses {program['artifact']}: {error}") from None
            check_interface(session, program)
            self._sessions[program["name"]] = session
        self.load_seconds = time.perf_counter() - started
        self._plan: Plan | None = None
        self._given: dict[tuple[str, Leaf], np.ndarray] = {}  # by the program and what it reads
        self._values: list[Arrays] = []  # of each call
        self._scores: list[np.ndarray] = []  # of each step of the loop

    def put(self, plan: Plan, leaves: Mapping[Leaf, np.ndarray]) -> None:
        """`leaves`: pixels uint8 [S, S, 3] and ids int32 [T], by where they come from in the query."""
        self._plan, self._given = plan, {}
        for call in [*plan.calls, *([plan.loop.call] if plan.loop else [])]:
            for spec, origin in call.specs():
                if isinstance(origin, Leaf):
                    self._given[call.program["name"], origin] = repeat(leaves[origin], spec)

    def run(self, along: Sequence[int] | None = None) -> float:
        """Run the plan. `along`: tokens that a sequence follows at every step, whatever is best here."""
        plan = self._plan
        assert plan, "put comes first"
        started = time.perf_counter()
        self._values = []
        for call in plan.calls:
            self._values.append(self._call(call, {}))
        self._scores = self._loop(plan.loop, along) if plan.loop else []
        return time.perf_counter() - started

    def get(self) -> dict[str, np.ndarray]:
        """Return the rows of each output that the decoding reads."""
        plan = self._plan
        assert plan, "put comes first"
        if plan.loop:
            return {plan.loop.output: np.stack(self._scores)}
        rows = {name: [self._values[value.call][name][0] for value in values] for name, values in plan.rows.items()}
        return {name: np.stack(each) for name, each in rows.items()}

    def _call(self, call: Call, states: Arrays, token: int = 0, step: int = 0) -> dict[str, np.ndarray]:
        """The outputs of one call, with the batch of its program."""
        program, feeds = call.program, {}
        for spec, origin in call.specs():
            if isinstance(origin, Leaf):
                feeds[spec["name"]] = self._given[program["name"], origin]
            elif isinstance(origin, Value):
                feeds[spec["name"]] = fit(self._values[origin.call][origin.name], spec)
            elif isinstance(origin, State):
                feeds[spec["name"]] = states[spec["name"]]
            else:
                feeds[spec["name"]] = np.full(spec["shape"], token if origin.kind == "token" else step, spec["dtype"])
        names = [spec["name"] for spec in program["outputs"]]
        try:
            return dict(zip(names, self._sessions[program["name"]].run(names, feeds)))
        except Exception as error:  # of ONNX Runtime's own, again
            raise Problem(REFUSED, f"{program['artifact']} fails when it runs: {error}") from None

    def _loop(self, loop: Loop, along: Sequence[int] | None) -> list[np.ndarray]:
        """Scores [A] of each step, until the stop token or the last step."""
        states, token, scores = self._first_states(loop.call), loop.start, []
        for step in range(loop.steps if along is None else min(loop.steps, len(along))):
            given = self._call(loop.call, states, token, step)
            scores.append(given[loop.output][0])
            carried = ((spec["name"], origin) for spec, origin in loop.call.specs())
            states = {name: given[origin.name] for name, origin in carried if isinstance(origin, State)}
            token = int(scores[-1].argmax()) if along is None else along[step]
            if token == loop.stop:
                break
        return scores

    def _first_states(self, call: Call) -> dict[str, np.ndarray]:
        """By the input's name: the value that it starts with, or zeros."""
        states = {}
        for spec, origin in call.specs():
            if isinstance(origin, State):
                start = origin.start and self._values[origin.start.call][origin.start.name]
                states[spec["name"]] = np.zeros(spec["shape"], spec["dtype"]) if start is None else fit(start, spec)
        return states


def read_onnx(bundle: Bundle, name: str) -> bytes:
    """The bytes of an ONNX file, which have the manifest's digest and keep all weights inside."""
    data = bundle.read(name, bundle.manifest["files"][name]["bytes"])
    try:
        elsewhere = keeps_weights_elsewhere(data)
    except ValueError as error:
        raise Problem(REFUSED, f"{name} is truncated or not ONNX: {error}") from None
    if elsewhere:
        raise Problem(REFUSED, f"{name} keeps weights in other files, a bundle has them inside: export it again")
    return data


def check_interface(session: Any, program: dict[str, Any]) -> None:
    """Raise `Problem` unless the artifact takes and gives what the manifest says."""
    for key, found in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
        opened = {value.name: (value.type, list(value.shape)) for value in found}
        said = {spec["name"]: (ORT_TYPES[spec["dtype"]], spec["shape"]) for spec in program[key]}
        if opened != said:
            raise Problem(REFUSED, f"the {key} of {program['artifact']} are {opened}, the manifest says {said}")
