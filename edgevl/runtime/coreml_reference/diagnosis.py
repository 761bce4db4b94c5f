"""Where half precision breaks a program: two runs side by side, operator by operator, one of them in float32."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .executor import Executor, Tensors
from .refusals import Location
from .steps import Ran, Step

Feeds = tuple[Tensors, Tensors]  # inputs and states
MIN_SNR_DB = 20.0  # below it the error is a tenth of the signal, or more
_CERTAIN = ("overflow", "inner overflow", "not a number")
_VARIES = 1e-3  # a tensor whose spread is under this part of its size may become constant by one rounding: no fault

_TINIEST = 2.0**-24  # smallest half-precision number above 0
_IN_FLOAT32 = "keep the operator in float32 (ct.transform.FP16ComputePrecision(op_selector=...))"
_ADVICE = {
    "overflow": f"half precision ends at 65504: scale the operands down, use -1e4 for masks, or {_IN_FLOAT32}",
    "inner overflow": "a sum or a square inside the operator passes 65504 where nothing is added in more than half "
    f"precision: scale the operands down, or {_IN_FLOAT32}",
    "not a number": "it is not a number in float32 either: the program divides 0 by 0 or subtracts infinities",
    "underflow": f"half precision knows nothing below 6e-8: scale the operands up, or {_IN_FLOAT32}",
    "constant": "its values differ by less than one part in 2048 of what they were computed from, which half precision "
    f"cannot hold: take the common part off earlier, or {_IN_FLOAT32}",
    "other path": "a condition decides otherwise than in float32, and the result shows it: compare with a margin, or "
    "keep what the condition is computed from in float32",
    "noise": f"rounding errors have grown as large as the signal: find what amplifies them, or {_IN_FLOAT32}",
}


@dataclass(frozen=True)
class Fault:
    """An operator whose result half precision breaks, and the numbers that show it."""

    # overflow, inner overflow, not a number, underflow (all zeros), constant (all the same), noise; or, of a condition,
    # other path: `found` and `expected` are then 1 for true and 0 for false
    kind: str
    op_type: str
    output: str
    location: Location
    reads: float  # largest magnitude among the operands, in float32
    expected: float  # largest magnitude of the result in float32
    found: float  # largest magnitude of the result in half precision; inf and nan included
    snr_db: float | None  # signal to noise; None where the result is not finite

    @property
    def advice(self) -> str:
        """What a user should do."""
        return _ADVICE[self.kind]

    def __str__(self) -> str:
        noise = "" if self.snr_db is None else f", {self.snr_db:.0f} dB"
        return (
            f'{self.kind} in operator "{self.op_type}" with output "{self.output}" ({self.location}): it reads up to '
            f"{self.reads:.4g}, should give up to {self.expected:.4g} and gives {self.found:.4g}{noise}; {self.advice}"
        )


def find_fault(tested: Executor, exact: Executor, feeds: Feeds, min_snr_db: float) -> Fault | None:
    """Run both executors side by side, each on its own values, and return the operator where the damage starts.

    An overflow counts wherever it happens. A lost signal counts if it is still lost in an output of the program: a mean
    that is zero but for rounding errors is noise, and harms nothing. A damaged result that was computed from a damaged
    operand is traced back to the operator where the first of them came from.
    """
    origins: dict[int, Fault] = {}  # slot of a damaged value -> where its damage started
    with torch.inference_mode():
        for ran, model in zip(tested.trace(*feeds), exact.trace(*feeds)):
            if ran.decision != model.decision:
                return _other_path(tested, exact, feeds, min_snr_db, ran)
            inherited = [origins[slot] for slot in ran.reads if slot in origins]
            for slot, fault in zip(ran.writes, _compare(ran, model, min_snr_db)):
                origins.pop(slot, None)
                if fault is None:
                    continue
                origins[slot] = min(inherited, key=lambda item: item.location.order) if inherited else fault
                if fault.kind in _CERTAIN:
                    return origins[slot]
    return next((origins[slot] for slot in tested.output_slots if slot in origins), None)


def _other_path(tested: Executor, exact: Executor, feeds: Feeds, min_snr_db: float, ran: Ran) -> Fault | None:
    """The control flow of the two decides differently: a fault if that shows in an output."""
    found, expected = tested.run(*feeds)[0], exact.run(*feeds)[0]
    for name, tensor in found.items():
        same_shape = tensor.shape == expected[name].shape
        verdict = judge(tensor, expected[name], min_snr_db) if same_shape else ("shape", None)
        if tensor.is_floating_point() and verdict is not None:
            step, taken = ran.step, float(bool(ran.decision))
            return Fault("other path", step.type, step.name, step.location, taken, 1 - taken, taken, verdict[1])
    return None


def overflowing(tested: Executor, exact: Executor, feeds: Feeds) -> list[Fault]:
    """Return every operator that overflows, in the order of execution: the first one is the cause of the others."""
    found: list[Fault | None] = []
    with torch.inference_mode():
        for ran, model in zip(tested.trace(*feeds), exact.trace(*feeds)):
            if ran.decision != model.decision:
                break
            found += _compare(ran, model, -math.inf)
    return [fault for fault in found if fault is not None and fault.kind == "overflow"]


def _compare(ran: Ran, model: Ran, min_snr_db: float) -> Iterator[Fault | None]:
    """For each result of an operator: what is wrong with it."""
    for result, expected in zip(ran.results, model.results):
        verdict = None
        if result.is_floating_point() and result.numel() and result.shape == expected.shape:
            verdict = judge(result, expected, min_snr_db)
        if verdict is None or (verdict[0] == "not a number" and _has_nan(model)):
            yield None
            continue
        kind, ratio = verdict
        kind = "inner overflow" if ratio is not None and _overflows_inside(ran) else kind
        yield _fault(kind, ratio, model, result, expected)


def judge(found: Tensor, expected: Tensor, min_snr_db: float) -> tuple[str, float | None] | None:
    """Return what is wrong with a result, and its signal-to-noise ratio in dB; `None` for nothing.

    Infinities that float32 has in the same places (masks of -inf) are no fault.
    """
    if expected.isnan().any():
        return "not a number", None
    finite = expected.isfinite()
    if not found[finite].isfinite().all():
        return "overflow", None
    found, expected = found[finite].double(), expected[finite].double()
    if not len(expected):
        return None
    ratio = snr_db(found, expected)
    if not found.any() and 0 < expected.abs().max() <= _TINIEST:
        return "underflow", ratio
    if len(found) > 1 and found.min() == found.max() and expected.std() > _VARIES * expected.abs().max():
        return "constant", ratio
    return ("noise", ratio) if ratio < min_snr_db else None


def snr_db(found: Tensor, expected: Tensor) -> float:
    """10 log10(mean square of the expected values / mean square of the error), in dB; `inf` where there is no error."""
    noise = float((found - expected).square().sum())
    signal = float(expected.square().sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


class _HalfOverflow(TorchDispatchMode):
    """Notices when a finite number becomes infinite by rounding to half precision."""

    def __init__(self):
        super().__init__()
        self.happened = False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == torch.float16 and args[0].dtype == torch.float32:
            self.happened |= bool((result.isinf() & args[0].isfinite()).any())
        return result


def _overflows_inside(ran: Ran) -> bool:
    """Run the operator again on what it read, and watch its steps. Only strict half precision rounds inside."""
    with _HalfOverflow() as watch:
        if isinstance(ran.step, Step):
            ran.step.kernel(*ran.operands)
    return watch.happened


def _has_nan(ran: Ran) -> bool:
    """Did the operator read a value that is not a number? Then the cause is further up."""
    return any(operand is not None and operand.isnan().any() for operand in ran.operands)


def _fault(kind: str, ratio: float | None, model: Ran, result: Tensor, expected: Tensor) -> Fault:
    reads = max((_largest(item) for item in model.operands if item is not None), default=0.0)
    step = model.step
    return Fault(kind, step.type, step.name, step.location, reads, _largest(expected), _largest(result), ratio)


def _largest(tensor: Tensor) -> float:
    """Largest magnitude; `nan` where there is one."""
    return float(tensor.float().abs().max()) if tensor.numel() else 0.0
