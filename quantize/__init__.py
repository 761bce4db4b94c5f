"""edgevl.quantize: calibrate or train once, then place Q/DQ in the dialect of each target."""

from typing import TYPE_CHECKING

from edgevl.errors import MissingDependency
from edgevl.quantize.plan import DATA, OBSERVER, SAMPLES, Plan, load_plan

if TYPE_CHECKING:
    from edgevl.checkpoint import LoadedModel


def require_torchao() -> None:
    """Raise `MissingDependency` unless torchao, on which calibration and Q/DQ are built, can be imported."""
    try:
        import torchao.quantization.pt2e  # noqa: F401
    except ImportError as error:
        raise MissingDependency("torchao", "quantize", "quantization to w8a8") from error


def plan_for(loaded: "LoadedModel", data: str = DATA, samples: int = SAMPLES, observer: str = OBSERVER) -> Plan:
    """The plan for w8a8 that lies beside a model, or one from a calibration now. Raises as `calibrate` does."""
    if (plan := load_plan(loaded.path, loaded.sha256)) is not None and plan.precision == "w8a8":
        return plan
    require_torchao()
    from edgevl.quantize.calibrate import calibrate

    return calibrate(loaded, data, samples, observer)
