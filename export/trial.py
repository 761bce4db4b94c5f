"""A look at a new artifact before anybody gets it: one that is not of its precision, or cannot run, is not written."""

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevl.bundle.folder import Bundle
from edgevl.bundle.golden import (
    GoldenCase,
    largest_difference,
    query_of,
    read_golden,
    recorded_answer,
)
from edgevl.contracts import Answer
from edgevl.errors import EdgeVLError, MissingDependency, VerificationFailed, first_line
from edgevl.precisions import PRECISIONS
from edgevl.runtime.session import CannotRunHere
from edgevl.verify.audit import claim_problems, read_contents

if TYPE_CHECKING:
    from edgevl.export.registry import Exporter
    from edgevl.opened import Opened

# As a share of the largest value. An untrained backbone in w4 has been seen at 0.3; a file that ignores its inputs, or
# a converter that got an operator wrong, is beyond.
_SLACK, _NONSENSE = 10, 0.6


def try_out(bundle: Bundle, exporter: "Exporter") -> None:
    """Look into the artifact, and run the first golden case where this machine has the runtime for it.

    Raises `VerificationFailed`, with what to do instead, for an artifact that is not of its precision, that fails when
    it is loaded or run, or whose values are far from those of PyTorch. How far exactly is for `edgevl verify` to say.
    """
    if problem := _false_claim(bundle):
        others = [each for each in exporter.precisions if each != bundle.manifest.precision]
        advice = f"Try another precision ({', '.join(others)})"
        raise VerificationFailed(f"{_converted(bundle)} is not what that says: {problem}. {advice}")
    golden = read_golden(bundle)
    case = golden.cases[0]
    try:
        model = bundle.opened()
        expected = recorded_answer(case, model.decoder).values
        own = _answered(bundle, exporter, model, case)
    except (CannotRunHere, MissingDependency):
        return
    except _Nonsense:
        raise
    except Exception as error:  # each runtime fails in its own ways
        reason = (str(error) if isinstance(error, EdgeVLError) else first_line(error)).replace(f"{bundle.path}/", "")
        raise VerificationFailed(f"{_converted(bundle)} does not run here: {reason}. {exporter.advice}") from error
    precisions = {spec.name: program.precision for program in bundle.manifest.programs for spec in program.outputs}
    for name, array in expected.items():
        largest = float(np.abs(array[np.isfinite(array)]).max())
        allowed = min(_SLACK * PRECISIONS[precisions[name]].golden, _NONSENSE) * largest
        difference = largest_difference(own.values, array, name)
        if not difference <= allowed:  # also when it is not a number
            raise VerificationFailed(
                f"{_converted(bundle)} answers nonsense: on one sample {name} differs by {difference:.3g} from that of "
                f"PyTorch, and rounding explains {allowed:.3g} at most. {exporter.advice}"
            )


class _Nonsense(VerificationFailed):
    """Values that no decoding takes, such as what is not finite."""


def _answered(bundle: Bundle, exporter: "Exporter", model: "Opened", case: GoldenCase) -> Answer[Any]:
    try:
        return model.answer([query_of(bundle, case)], [recorded_answer(case, model.decoder)])[0]
    except VerificationFailed as error:
        raise _Nonsense(f"{_converted(bundle)} answers nonsense: {error}. {exporter.advice}") from None


def _false_claim(bundle: Bundle) -> str | None:
    """What the audit of `edgevl verify` says first about the artifact, before it is run; None for nothing."""
    try:
        return next(iter(claim_problems(bundle.manifest, read_contents(bundle))), None)
    except VerificationFailed as error:
        return str(error)
    except MissingDependency:
        return None


def _converted(bundle: Bundle) -> str:
    manifest = bundle.manifest
    return f"nothing was written: {manifest.name} was converted for {manifest.target} {manifest.precision}, but it"
