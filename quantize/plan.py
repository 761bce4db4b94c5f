"""The plan: what one calibration found, for every exporter to read. A file `quantization.json` in a model folder."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from edgevl.errors import InputError

PLAN = "quantization.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Range(_Model):
    """Where a value lies: what is outside is clipped."""

    low: float
    high: float


class ModulePlan(_Model):
    """One convolution, linear layer or matrix product."""

    precision: Literal["w8a8", "fp32"] = "w8a8"
    scheme: str = "int8, one scale for each output channel"


class Calibration(_Model):
    data: str
    samples: int
    seed: int
    observer: str


class Plan(_Model):
    schema_version: Literal[1] = 1
    precision: Literal["w8a8"] = "w8a8"
    checkpoint_sha256: str
    calibration: Calibration
    values: dict[str, Range]
    modules: dict[str, ModulePlan]

    def is_float(self, module: str) -> bool:
        """Does the plan keep the products of this module in float?"""
        return module in self.modules and self.modules[module].precision == "fp32"


def load_plan(folder: Path) -> Plan | None:
    """The plan of a model folder, or None. Raises `InputError` for one that cannot be read."""
    path = folder / PLAN
    if not path.is_file():
        return None
    try:
        return Plan.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a quantization plan: make it again with `edgevl quantize`") from error
