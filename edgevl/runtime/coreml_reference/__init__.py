"""A reference executor for Core ML ML Programs: runs a saved `.mlpackage` on any machine that has PyTorch.

    from edgevl.runtime.coreml_reference import MLProgram
    logits = MLProgram.load("model.mlpackage").predict({"image": pixels, "input_ids": ids})["logits"]

It needs coremltools (to read the file) and PyTorch (to compute); of EdgeVL only its errors, its registry and the check
of a session's inputs.
"""

from edgevl.runtime.coreml_reference.program import MLProgram

__all__ = ["MLProgram"]
