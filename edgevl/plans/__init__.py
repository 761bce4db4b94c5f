"""Quantization as far as making plans and exporting share it: the plan, the dialects, and Q/DQ placed by both."""

from edgevl.errors import MissingDependency


def require_torchao() -> None:
    """Raise `MissingDependency` unless torchao, on which calibration and Q/DQ are built, can be imported."""
    try:
        import torchao.quantization.pt2e  # noqa: F401
    except ImportError as error:
        raise MissingDependency("torchao", "quantize", "quantization to w8a8") from error
