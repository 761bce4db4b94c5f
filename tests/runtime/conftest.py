"""Helpers of the runtime tests: tiny ML Programs, built, saved, loaded and run."""

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil_programs import Arrays, save_mil  # pyright: ignore[reportMissingImports]

from edgevl.runtime.coreml_quiet import import_coremltools
from edgevl.runtime.coreml_reference import MLProgram


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
