"""`edgevl quantize`: from a model folder to a model folder with a plan, in one atomic step."""

import dataclasses
import shutil
from pathlib import Path

from torch.nn import Parameter

from edgevl.atomic import Kind, atomic_folder, check_destination
from edgevl.contracts import Deployable
from edgevl.data import open_dataset
from edgevl.data.own import calibrated_on
from edgevl.domain.judge import DOMAIN
from edgevl.errors import InputError, unknown_precision
from edgevl.models.checkpoint import EMBEDDED, FILES
from edgevl.models.kinds import is_foreign, open_deployable
from edgevl.plans import require_torchao
from edgevl.plans.plan import OBSERVER, PLAN, SAMPLES, Plan, save_plan
from edgevl.progress import Progress
from edgevl.quantize.weights import ROUNDED, plan_weights, save_weights

PRECISIONS = ("w8a8", "w4")
QUANTIZED = Kind("quantized model", PLAN, "FOLDER/NAME-w8a8")
_FURTHER = ("README.md", "training.json", "curves.png", DOMAIN)  # of a model folder, where it has them
_FOREIGN = ("*.json", "*.txt", "*.model", "*.safetensors", "README.md")  # of a folder of Hugging Face


@dataclasses.dataclass(frozen=True)
class Quantized:
    folder: Path
    plan: Plan
    parameters: int  # of the programs


def quantize_model(
    model: str | Path | None = None,
    precision: str = "w8a8",
    data: str | None = None,
    samples: int = SAMPLES,
    observer: str = OBSERVER,
    seed: int = 0,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    *,
    sensitivity: bool = False,
    max_drop: float | None = None,
) -> Quantized:
    """Calibrate a model and write it, with its plan, as the folder NAME-w8a8.

    Args:
        model: a model folder of ours or a Hugging Face folder; None is the embedded nano.
        data, samples, observer, seed: see `edgevl.quantize.calibrate.calibrate`.
        out: the folder to write; default: NAME-PRECISION in the current folder.
        force: replace an earlier folder of this kind; it is deleted only when the new one is in place.
        progress: called as progress(done, total, text).
        sensitivity: also measure what each module alone in int8 does to the answers.
        max_drop: points of accuracy that may be lost; modules stay in float until that holds. Implies `sensitivity`.

    Raises:
        BudgetFailed: no mixture of int8 and float keeps within `max_drop`.
        InputError: no such model, precision, data or observer; the calibration set cannot be trusted; the destination
            exists or cannot be written; the disk is full.
        MissingDependency: torchao is not installed.
    """
    if precision not in PRECISIONS:
        raise unknown_precision("precision to quantize to", precision, PRECISIONS)
    if precision == "w4" and (sensitivity or max_drop is not None):
        raise InputError("what modules cost and --max-drop are for the precision w8a8; w4 keeps no module in float")
    if precision == "w8a8":
        require_torchao()
        from edgevl.quantize.calibrate import check_observer

        check_observer(observer)
    deployable = open_deployable(model)
    data = data or calibrated_on(deployable)
    open_dataset(data)  # a misspelled name fails before any work
    destination = Path(out) if out is not None else Path(f"{deployable.name}-{precision}")
    check_destination(destination, force, QUANTIZED)
    with atomic_folder(destination, force, QUANTIZED) as folder:
        if precision == "w4":
            plan, weights = plan_weights(deployable, data, samples, seed, progress)
            plan = plan.model_copy(update={"weights_sha256": save_weights(weights, folder)})
        else:
            plan = _calibrated(deployable, data, samples, observer, seed, progress, sensitivity, max_drop)
        for path in files_of(Path(model) if model is not None else EMBEDDED):
            shutil.copyfile(path, folder / path.name)
        save_plan(plan, folder)
    learned = dict[str, Parameter]()
    for program in deployable.programs(deployable.layouts[0]):
        learned |= program.weights()
    return Quantized(destination, plan, sum(each.numel() for each in learned.values()))


def files_of(model: Path) -> list[Path]:
    """Return the files that make a model folder, without what an earlier quantization left there."""
    if not is_foreign(model):
        return [model / name for name in (*FILES, *_FURTHER) if (model / name).is_file()]
    found = {path for pattern in _FOREIGN for path in model.glob(pattern) if path.is_file()}
    return sorted(path for path in found if path.name not in (PLAN, ROUNDED))


def _calibrated(
    model: Deployable,
    data: str,
    samples: int,
    observer: str,
    seed: int,
    progress: Progress | None,
    sensitivity: bool,
    max_drop: float | None,
) -> Plan:
    from edgevl.quantize.calibrate import calibrate
    from edgevl.quantize.sensitivity import with_costs

    plan = calibrate(model, data, samples, observer, seed, progress)
    return with_costs(model, plan, max_drop, progress) if sensitivity or max_drop is not None else plan
