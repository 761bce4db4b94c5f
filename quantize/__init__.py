"""edgevl.quantize: calibrate or train once, then place Q/DQ in the dialect of each target."""

from edgevl.errors import MissingDependency


def require_torchao() -> None:
    """Raise `MissingDependency` unless torchao, on which calibration and Q/DQ are built, can be imported."""
    try:
        import torchao.quantization.pt2e  # noqa: F401
    except ImportError as error:
        raise MissingDependency("torchao", "quantize", "quantization to w8a8") from error
