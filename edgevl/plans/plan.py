"""The plan: what one calibration found, for every exporter to read. A file `quantization.json` in a model folder."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from edgevl.errors import InputError
from edgevl.plain import command_line
from edgevl.reading import read_text

if TYPE_CHECKING:
    from edgevl.contracts import Program

T = TypeVar("T")
PLAN = "quantization.json"
INT8 = "int8, one scale for each output channel"
_IN = "/"  # between a program and what is in it
SAMPLES, OBSERVER = 512, "moving"  # of a calibration that nobody asked for in detail


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Range(_Model):
    """Where a value lies: what is outside is clipped."""

    low: float
    high: float


class ModulePlan(_Model):
    """One module with products: a convolution, a linear layer, or matrix products of values."""

    operator: str = ""  # conv, linear or matmul
    precision: Literal["w8a8", "w4", "fp32"] = "w8a8"
    scheme: str = INT8
    weights: int = 0  # numbers that become int8
    input: Range | None = None  # of the values that it multiplies; of several, from the lowest to the highest
    sqnr_db: float | None = None  # what rounding this module alone leaves: see `edgevl.quantize.module_errors`
    kl_nats: float | None = None  # what it alone in int8 does to the answers: see `edgevl.quantize.sensitivity`


class Calibration(_Model):
    data: str
    samples: int
    seed: int  # which samples of the data were drawn
    observer: str

    def __str__(self) -> str:
        return f"{self.samples} samples of {self.data}, seed {self.seed}, observer {self.observer}"


class Coverage(_Model):
    """What the audit found in a calibration set (`edgevl.quantize.calibration_audit`)."""

    pictures: int  # that are no near copies of others
    questions: int  # different ones
    answers: int  # different ones that are labels of the model
    labels: int  # of the model
    kinds: dict[str, int]  # kind of question -> samples
    growing: float | None = None  # share of values whose range the second half of the batches still moved
    warnings: tuple[str, ...] = ()


class Budget(_Model):
    """The search for modules that stay in float (`edgevl.quantize.sensitivity`)."""

    max_drop: float  # points of accuracy that may be lost
    drop: float  # that the mixture found loses, on these samples
    samples: int


class Plan(_Model):
    """Names are of modules and values; in a plan of several programs they begin with the program: `text/project`."""

    schema_version: Literal[1] = 1
    precision: Literal["w8a8", "w4"] = "w8a8"
    checkpoint_sha256: str
    calibration: Calibration
    coverage: Coverage | None = None
    values: dict[str, Range]
    modules: dict[str, ModulePlan]
    budget: Budget | None = None
    weights_sha256: str | None = None  # w4: of the rounded weights beside the plan (`edgevl.quantize.weights`)
    bias_shifts: dict[str, tuple[float, ...]] = {}  # module -> what int8 adds to the bias of each channel

    @property
    def kept_float(self) -> tuple[str, ...]:
        """The modules that stay in float."""
        return tuple(name for name, module in self.modules.items() if module.precision == "fp32")

    @property
    def kept_for_budget(self) -> tuple[str, ...]:
        """Of those, the modules that `--max-drop` asked for; the answer head stays in float in any case."""
        return tuple(name for name in self.kept_float if self.modules[name].kl_nats is not None)

    def is_float(self, module: str) -> bool:
        """Does the plan keep the products of this module in float?"""
        return module in self.modules and self.modules[module].precision == "fp32"

    def of(self, program: str) -> "Plan":
        """Return the plan of one program, with the names that it has inside.

        In a layout other than the calibrated one a module keeps its name, and so finds what it had there.
        """
        names = ("values", "modules", "bias_shifts")
        return self.model_copy(update={name: _inside(getattr(self, name), program) for name in names})


def _inside(named: Mapping[str, T], program: str) -> dict[str, T]:
    own = f"{program}{_IN}"
    inside = {name.split(_IN, 1)[-1]: value for name, value in named.items()}
    return inside | {name.removeprefix(own): value for name, value in named.items() if name.startswith(own)}


def prefixes(programs: "Sequence[Program]") -> dict[str, str]:
    """Return what the names of each program begin with in a plan of all of them."""
    return {program.name: f"{program.name}{_IN}" if len(programs) > 1 else "" for program in programs}


def load_plan(folder: Path, checkpoint_sha256: str) -> Plan | None:
    """The plan of a model folder, or None.

    Raises `InputError` for one that cannot be read, or that was made for other weights than `checkpoint_sha256`.
    """
    path = folder / PLAN
    if not path.is_file():
        return None
    try:
        plan = Plan.model_validate_json(read_text(path))
    except ValidationError as error:
        raise InputError(f"{path} is not a quantization plan: make it again with `edgevl quantize`") from error
    if plan.checkpoint_sha256 != checkpoint_sha256:
        again = command_line(["edgevl", "quantize", folder])
        raise InputError(f"{path} was made for other weights: make it again with `{again}`")
    return plan


def save_plan(plan: Plan, folder: Path) -> None:
    """Write the plan into a model folder: the same plan gives the same bytes."""
    text = plan.model_dump_json(indent=1)
    text = re.sub(r"\[[-+.\de,\s]+\]", lambda found: " ".join(found[0].split()), text)  # a list of numbers is one line
    (folder / PLAN).write_text(text + "\n", encoding="utf-8", newline="\n")
