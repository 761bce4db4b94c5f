"""A reference executor for Core ML ML Programs: runs a saved `.mlpackage` on any machine that has PyTorch.

    from edgevl.runtime.coreml_reference import MLProgram
    logits = MLProgram.load("model.mlpackage").predict({"image": pixels, "input_ids": ids})["logits"]

`MLProgram.find_fault` names the first operator that half precision breaks; `precision` is `fp16`, `fp32` or
`strict_fp16`. Documentation: docs/coreml-reference.md.

It needs coremltools (to read the file) and PyTorch (to compute). It stands alone: a copy of this folder under any name
is a package of its own; `seam.py` is all that it takes from EdgeVL, where EdgeVL is there.
"""

from .diagnosis import Fault
from .interface import TensorSpec
from .limits import LimitReached, Limits
from .node import UnsupportedOp
from .program import MLProgram
from .refusals import Location

__all__ = ["Fault", "LimitReached", "Limits", "Location", "MLProgram", "TensorSpec", "UnsupportedOp"]
