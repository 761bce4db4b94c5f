"""`MLProgram`: a saved `.mlpackage`, loaded and ready to predict, with the interface that Core ML gives it."""

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .diagnosis import MIN_SNR_DB, Fault, find_fault, overflowing
from .executor import PRECISIONS, Executor
from .feeds import to_arrays, to_output, to_tensor
from .interface import TensorSpec
from .limits import Limits
from .package import Package, read_package
from .seam import InputError, unknown_name

State = MutableMapping[str, np.ndarray]
Feeds = Mapping[str, Any]


class MLProgram:
    """An ML Program compiled for the CPU with torch. Load one with `MLProgram.load`."""

    def __init__(self, package: Package, precision: str, limits: Limits):
        """Compile the function of `package`. See `load`."""
        self.path, self.precision, self.function = package.path, precision, package.name
        self._limits, self._states = limits, package.states
        self.inputs = package.inputs
        self._shapes = {spec.name: spec.shape for spec in self.inputs if spec.flexible is None}
        with torch.inference_mode():
            self._executor = Executor(package, precision, limits)
        self._exact = self._executor if precision == "fp32" else None  # what `find_fault` compares with
        self.outputs, self._labels = package.outputs, package.labels

    @classmethod
    def load(
        cls,
        path: str | Path,
        precision: str = "fp16",
        function: str | None = None,
        shapes: Mapping[str, Iterable[int]] | None = None,
        limits: Limits | None = None,
    ) -> "MLProgram":
        """Load the package at `path`, weights included, and compile it.

        Args:
            precision: `fp16` (default): the result of every operator is rounded to the dtype that the program declares
                for it, so that half-precision storage shows its cost and its overflows. `fp32`: nothing is rounded, so
                that the structure and the weights alone are judged. Both compute and accumulate in float32.
                `strict_fp16`: sums and the steps inside an operator are rounded too, as plain half-precision code would
                do it, to find what may break on hardware that adds in half precision.
            function: which function of a multi-function package; by default the package's own default.
            shapes: what flexible inputs are bound to, by name. The others take any shape that the package allows, at
                each `predict`.
            limits: how many operators, how much memory and time a run may take.
        Raises:
            InputError: not an ML Program package, a damaged one, or an unknown precision, function or shape.
            UnsupportedOp: an operator that the executor does not know.
            LimitReached: constants larger than `limits` allow.
            MissingDependency: coremltools is not installed.
        """
        if precision not in PRECISIONS:
            raise unknown_name("precision of the Core ML reference executor", precision, PRECISIONS)
        limits = limits or Limits()
        return cls(read_package(path, function, shapes, limits), precision, limits)

    @property
    def op_types(self) -> dict[str, int]:
        """How many steps of each operator type there are, those of branches and loops once (constants and what folds
        into constants are not counted)."""
        counts: dict[str, int] = {}
        for step in self._executor.steps:
            counts[step.type] = counts.get(step.type, 0) + 1
        return counts

    @property
    def states(self) -> tuple[TensorSpec, ...]:
        """What the program keeps between predictions; empty for most programs."""
        return self._states

    def make_state(self) -> dict[str, np.ndarray]:
        """Return new states for `predict`: zeros, as Core ML's `MLModel.makeState`."""
        return {spec.name: np.zeros(spec.shape, self._state_dtype(spec)) for spec in self._states}

    def predict(self, inputs: Feeds, state: State | None = None) -> dict[str, Any]:
        """Run once.

        Args:
            inputs: an array or tensor for each of `inputs`; optional ones may be missing.
            state: for a program with states, what `make_state` returned; the run replaces its arrays.
        Returns:
            An array for each of `outputs`; a classifier's label (a string or a number) and its dictionary of
            probabilities.
        Raises:
            InputError: inputs or states of another name, dtype or shape, or an operator that fails on them.
            LimitReached: the run takes more than the limits given to `load`.
        """
        tensors, states = self._tensors(inputs), self._state_tensors(state)
        with torch.inference_mode():
            results, after = self._executor.run(tensors, states)
        if state is not None:
            for spec in self._states:
                state[spec.name] = after[spec.name].numpy().astype(self._state_dtype(spec), copy=True)
        return {spec.name: self._output(spec, results) for spec in self.outputs}

    def find_fault(self, inputs: Feeds, min_snr_db: float = MIN_SNR_DB, state: State | None = None) -> Fault | None:
        """Return the operator where this program's precision starts to break the result; `None` if nothing breaks.

        The program runs twice, side by side: as it was loaded, and in float32 (its file is read again for that, once).
        Broken is a result that is infinite or not a number where float32 is finite; and one that is all zeros, all the
        same, or of a signal-to-noise ratio below `min_snr_db` against float32, if an output of the program is so too.
        Load with `precision="strict_fp16"` to look inside operators. States are left as they are; without `state`, new
        ones are used. Raises `InputError` as `predict` does.
        """
        tensors, states = self._tensors(inputs), self._state_tensors(self.make_state() if state is None else state)
        return find_fault(self._executor, self._float32(), (tensors, states), min_snr_db)

    def overflows(self, inputs: Feeds) -> list[str]:
        """Return `"type output"` of every operator that overflows, in order: the first one is the cause."""
        tensors, states = self._tensors(inputs), self._state_tensors(self.make_state())
        found = overflowing(self._executor, self._float32(), (tensors, states))
        return [f"{fault.op_type} {fault.output}" for fault in found]

    def _float32(self) -> Executor:
        if self._exact is None:
            with torch.inference_mode():
                package = read_package(self.path, self.function, self._shapes, self._limits)
                self._exact = Executor(package, "fp32", self._limits)
        return self._exact

    def _tensors(self, inputs: Feeds) -> dict[str, Tensor]:
        arrays = to_arrays(self.inputs, inputs)
        return {spec.name: to_tensor(spec, arrays[spec.name]) for spec in self.inputs}

    def _state_tensors(self, state: Mapping[str, np.ndarray] | None) -> dict[str, Tensor]:
        if state is None and self._states:
            raise InputError(
                f"{self.path}: the program keeps states ({', '.join(map(str, self._states))}): "
                "state = program.make_state(), then program.predict(inputs, state)"
            )
        specs = [replace(spec, dtype=self._state_dtype(spec)) for spec in self._states]
        arrays = to_arrays(specs, state or {}, "state")
        return {spec.name: to_tensor(spec, arrays[spec.name]) for spec in specs}

    def _state_dtype(self, spec: TensorSpec) -> str:
        """Where nothing is rounded, states are not rounded between two runs either."""
        return "float32" if self.precision == "fp32" and spec.dtype == "float16" else spec.dtype

    def _output(self, spec: TensorSpec, results: Mapping[str, Tensor]) -> Any:
        if spec.dtype == "label":
            return self._labels[int(results[spec.name])]
        if spec.dtype == "dict":
            return dict(zip(self._labels, results[spec.name].tolist()))
        return to_output(spec, results[spec.name])
