"""edgevl.quantize: calibrate or train once, so that every target can place Q/DQ in its dialect."""

from collections.abc import Callable
from pathlib import Path

from edgevl.contracts import Deployable
from edgevl.plain import command_line
from edgevl.plans import require_torchao
from edgevl.plans.plan import OBSERVER, SAMPLES, Plan, load_plan


def plan_for(
    model: Deployable,
    folder: Path,
    data: str | None = None,
    samples: int = SAMPLES,
    observer: str = OBSERVER,
    note: Callable[[str], None] = lambda text: None,
) -> Plan:
    """The plan for w8a8 in a model's folder, or one from a calibration now, which `note` hears of.

    Raises as `edgevl.quantize.calibrate.calibrate` does, and `InputError` for a plan of other weights.
    """
    if (plan := load_plan(folder, model.sha256)) is not None and plan.precision == "w8a8":
        return plan
    require_torchao()
    from edgevl.models.checkpoint import EMBEDDED
    from edgevl.quantize.calibrate import calibrate

    plan = calibrate(model, data, samples, observer)
    again = command_line(["edgevl", "quantize", "nano" if folder == EMBEDDED else folder])
    note(f"ranges were calibrated for this use alone ({plan.calibration}); `{again}` keeps them for every target")
    return plan
