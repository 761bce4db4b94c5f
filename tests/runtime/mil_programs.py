"""Save an ML Program that a test describes, exactly as described."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgevl.runtime.coreml_quiet import import_coremltools, quiet_coremltools

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
