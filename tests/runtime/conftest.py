"""Helpers of the runtime tests: tiny ML Programs, built, saved, loaded and run."""

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevl.runtime.coreml_quiet import import_coremltools, quiet_coremltools
from edgevl.runtime.coreml_reference import MLProgram

Arrays = dict[str, np.ndarray]


def save_mil(path: Path, build: Callable[..., Any], inputs: Arrays, target: str = "iOS16", precision: str = "fp32"):
    """Save the program that `build(mb, **variables)` describes, untouched by coremltools' graph passes."""
    ct = import_coremltools("a test")
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


@pytest.fixture(scope="session")
def run_mil() -> Callable[..., list[np.ndarray]]:
    """`run_mil(build, inputs, ...)`: save a program, load it from disk, run it, return its outputs in order."""
    import_coremltools("a test")
    gc.freeze()  # ct.convert collects garbage; with all of torch and coremltools in reach that is most of its time

    def run(build: Callable[..., Any], inputs: Arrays, target: str = "iOS16", mode: str = "fp32") -> list[np.ndarray]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "op.mlpackage"
            save_mil(path, build, inputs, target)
            program = MLProgram.load(path, precision=mode)
        outputs = program.predict(inputs)
        for spec in program.outputs:
            assert outputs[spec.name].shape == spec.shape, "the shape that the program declares"
        return list(outputs.values())

    return run
