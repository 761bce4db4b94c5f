"""A reference executor for Core ML ML Programs: runs a saved `.mlpackage` on any machine that has PyTorch.

    from edgevl.runtime.coreml_reference import MLProgram
    logits = MLProgram.load("model.mlpackage").predict({"image": pixels, "input_ids": ids})["logits"]

`MLProgram.find_fault` names the first operator that half precision breaks; `precision` is `fp16`, `fp32` or
`strict_fp16`. Documentation: docs/coreml-reference.md.

It needs coremltools (to read the file) and PyTorch (to compute); of EdgeVL only its errors, its registry and the check
of a session's inputs.
"""

from edgevl.runtime.coreml_reference.diagnosis import Fault
from edgevl.runtime.coreml_reference.ops import UnsupportedOp
from edgevl.runtime.coreml_reference.program import MLProgram
from edgevl.runtime.coreml_reference.refusals import Location

__all__ = ["Fault", "Location", "MLProgram", "UnsupportedOp"]
