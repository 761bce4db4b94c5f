"""`MLProgram`: a saved `.mlpackage`, loaded and ready to predict, with the interface that Core ML gives it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgevl.errors import unknown_name
from edgevl.runtime.coreml_reference.diagnosis import MIN_SNR_DB, Fault, find_fault, overflowing
from edgevl.runtime.coreml_reference.executor import PRECISIONS, Executor
from edgevl.runtime.coreml_reference.image_input import ImageInput
from edgevl.runtime.coreml_reference.package import Package, read_package
from edgevl.runtime.session import TensorSpec, check_feeds

_ARRAY_DTYPES = {"FLOAT16": "float16", "FLOAT32": "float32", "DOUBLE": "float64", "INT32": "int32", "INT8": "int8"}


class MLProgram:
    """An ML Program compiled for the CPU with torch. Load one with `MLProgram.load`."""

    def __init__(self, package: Package, precision: str = "fp16", function: str = "main"):
        """Compile the function of `package`. See `load`."""
        if precision not in PRECISIONS:
            raise unknown_name("precision of the Core ML reference executor", precision, PRECISIONS)
        self.path, self.precision, self._function = package.path, precision, function
        self._images = {
            item.name: ImageInput.from_description(item)
            for item in package.description.input
            if item.type.WhichOneof("Type") == "imageType"
        }
        with torch.inference_mode():
            self._executor = Executor(package, precision)
        self._exact = self._executor if precision == "fp32" else None  # what `find_fault` compares with
        self._inputs = tuple(self._input_spec(name, item) for name, item in package.function.inputs.items())
        self._outputs = tuple(_output_spec(item) for item in package.function.outputs)

    @classmethod
    def load(cls, path: str | Path, precision: str = "fp16", function: str = "main") -> "MLProgram":
        """Load the package at `path`, weights included, and compile it.

        Args:
            precision: `fp16` (default): the result of every operator is rounded to the dtype that the program declares
                for it, so that half-precision storage shows its cost and its overflows. `fp32`: nothing is rounded, so
                that the structure and the weights alone are judged. Both compute and accumulate in float32.
                `strict_fp16`: sums and the steps inside an operator are rounded too, as plain half-precision code would
                do it, to find what may break on hardware that adds in half precision.
            function: which function of a multi-function package.
        Raises:
            InputError: not an ML Program package, or an unknown precision or function.
            EdgeVLError: a damaged package, or an operator that the executor does not know.
            MissingDependency: coremltools is not installed.
        """
        return cls(read_package(path, function), precision, function)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `predict` takes. An image input is uint8 [1, H, W, 3] (grayscale: [1, H, W, 1])."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `predict` returns."""
        return self._outputs

    @property
    def op_types(self) -> dict[str, int]:
        """How often each operator type is executed (constants and what folds into constants are not)."""
        counts: dict[str, int] = {}
        for step in self._executor.steps:
            counts[step.type] = counts.get(step.type, 0) + 1
        return counts

    def predict(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once. Raises `InputError`, naming what is expected, for inputs of another name, dtype or shape."""
        with torch.inference_mode():
            results = self._executor.run(self._tensors(inputs))
        return {spec.name: results[spec.name].numpy().astype(spec.dtype, copy=True) for spec in self._outputs}

    def find_fault(self, inputs: Mapping[str, np.ndarray], min_snr_db: float = MIN_SNR_DB) -> Fault | None:
        """Return the operator where this program's precision starts to break the result; `None` if nothing breaks.

        The program runs twice, side by side: as it was loaded, and in float32 (its file is read again for that, once).
        Broken is a result that is infinite or not a number where float32 is finite; and one that is all zeros, all the
        same, or of a signal-to-noise ratio below `min_snr_db` against float32, if an output of the program is so too.
        Load with `precision="strict_fp16"` to look inside operators. Raises `InputError` as `predict` does.
        """
        return find_fault(self._executor, self._float32(), self._tensors(inputs), min_snr_db)

    def overflows(self, inputs: Mapping[str, np.ndarray]) -> list[str]:
        """Return `"type output"` of every operator that overflows, in order: the first one is the cause."""
        found = overflowing(self._executor, self._float32(), self._tensors(inputs))
        return [f"{fault.op_type} {fault.output}" for fault in found]

    def _float32(self) -> Executor:
        if self._exact is None:
            with torch.inference_mode():
                self._exact = Executor(read_package(self.path, self._function), "fp32")
        return self._exact

    def _tensors(self, inputs: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        check_feeds(self._inputs, inputs)
        tensors = {}
        for spec in self._inputs:
            array = inputs[spec.name]
            if spec.name in self._images:
                array = self._images[spec.name].to_planes(array)
            array = array.astype(np.float32) if array.dtype == np.float16 else array
            tensors[spec.name] = torch.from_numpy(np.array(array, order="C"))
        return tensors

    def _input_spec(self, name: str, variable: Any) -> TensorSpec:
        if name in self._images:
            return TensorSpec(name, "uint8", self._images[name].shape)
        return _output_spec(variable)


def _output_spec(variable: Any) -> TensorSpec:
    from coremltools.converters.mil.mil import types

    dtype = np.dtype(types.nptype_from_builtin(variable.dtype)).name
    return TensorSpec(variable.name, dtype, tuple(int(side) for side in variable.shape))
