"""ML Programs that a test describes, saved exactly as described; and cases of single operators, many to a program."""

import functools
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgevl.runtime.coreml_quiet import import_coremltools, quiet_coremltools

Arrays = dict[str, np.ndarray]


@functools.cache
def coremltools() -> Any:
    """Import coremltools, and take what is loaded by then out of the garbage collector's sight.

    `ct.convert` collects garbage many times; with all of torch and coremltools in reach that is most of its time.
    """
    ct = import_coremltools("a test")
    gc.freeze()
    return ct


def save_mil(path: Path, build: Callable[..., Any], inputs: Arrays, target: str = "iOS16", precision: str = "fp32"):
    """Save the program that `build(mb, **variables)` describes, untouched by coremltools' graph passes."""
    ct = coremltools()
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    names = {"float32": types.fp32, "float16": types.fp16, "int32": types.int32, "bool": types.bool}
    specs = [mb.TensorSpec(shape=value.shape, dtype=names[value.dtype.name]) for value in inputs.values()]
    # mb.program names the inputs after the function's parameters, so the function needs real ones.
    scope: dict[str, Any] = {"build": build, "mb": mb}
    exec(f"def body({', '.join(inputs)}): return build(mb, {', '.join(inputs)})", scope)
    opset = getattr(ct.target, target)
    with quiet_coremltools():
        program = mb.program(input_specs=specs, opset_version=opset)(scope["body"])
        pipeline = ct.PassPipeline.EMPTY if precision == "fp32" else ct.PassPipeline.DEFAULT
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=opset,
            compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
            pass_pipeline=pipeline,
            skip_model_load=True,
        )
        model.save(str(path))


@dataclass(frozen=True)
class Case:
    """One operator: how to build it, on what, and what torch says."""

    op: str
    inputs: dict[str, np.ndarray]
    reference: Callable[..., Any]
    build: Callable[..., Any] | None = None  # (mb, **variables); by default the operator on its inputs and `params`
    params: dict[str, Any] = field(default_factory=dict)
    target: str = "iOS16"
    tolerance: float = 1e-5

    def variables(self, mb: Any, inputs: dict[str, Any]) -> list[Any]:
        result = self.build(mb, **inputs) if self.build else getattr(mb, self.op)(**inputs, **self.params)
        return list(result) if isinstance(result, (list, tuple)) else [result]

    def check(self, got: list[np.ndarray]) -> None:
        """Compare a program's outputs with the reference's."""
        expected = self.reference(**{name: torch.tensor(value) for name, value in self.inputs.items()})
        expected = [expected] if isinstance(expected, torch.Tensor) else list(expected)
        assert len(got) == len(expected)
        for one, want in zip(got, expected):
            assert one.shape == tuple(want.shape), self
            want = want.double().numpy()
            close = {"rtol": self.tolerance, "atol": self.tolerance, "err_msg": str(self)}
            np.testing.assert_allclose(one.astype(np.float64), want, **close)


def run_cases(run_mil: Callable, cases: Sequence[Case]) -> dict[int, list[np.ndarray]]:
    """Run cases, one program for each deployment target. Returns the outputs of each, by its index."""
    found: dict[int, list[np.ndarray]] = {}
    for target in sorted({case.target for case in cases}):
        found.update(_run_together(run_mil, cases, target))
    return found


def _run_together(run_mil: Callable, cases: Sequence[Case], target: str) -> dict[int, list[np.ndarray]]:
    chosen = [(index, case) for index, case in enumerate(cases) if case.target == target]
    inputs = {f"c{index}_{name}": value for index, case in chosen for name, value in case.inputs.items()}
    counts: dict[int, int] = {}

    def build(mb: Any, *variables: Any) -> tuple[Any, ...]:
        named, outputs = dict(zip(inputs, variables)), []
        for index, case in chosen:
            made = case.variables(mb, {name: named[f"c{index}_{name}"] for name in case.inputs})
            counts[index] = len(made)
            outputs += made
        return tuple(outputs)

    arrays = iter(run_mil(build, inputs, target=target))
    return {index: [next(arrays) for _ in range(counts[index])] for index, _ in chosen}
