"""A look at a new artifact before anybody gets it: one that is not of its precision, or cannot run, is not written."""

from typing import TYPE_CHECKING

import numpy as np

from edgevl.audit import claim_problems, read_contents
from edgevl.bundle import Bundle
from edgevl.errors import EdgeVLError, MissingDependency, VerificationFailed, first_line
from edgevl.golden import RELATIVE_TOLERANCE, GoldenCase, read_golden
from edgevl.preprocess import load_image, to_pixels
from edgevl.runtime.session import CannotRunHere, run_one

if TYPE_CHECKING:
    from edgevl.export.registry import Exporter

# As a share of the largest logit. An untrained backbone in w4 has been seen at 0.3; a file that ignores its inputs, or
# a converter that got an operator wrong, is beyond.
_SLACK, _NONSENSE = 10, 0.6


def try_out(bundle: Bundle, exporter: "Exporter") -> None:
    """Look into the artifact, and run the first golden case where this machine has the runtime for it.

    Raises `VerificationFailed`, with what to do instead, for an artifact that is not of its precision, that fails when
    it is loaded or run, or whose logits are far from those of PyTorch. How far exactly is for `edgevl verify` to say.
    """
    if problem := _false_claim(bundle):
        others = [each for each in exporter.precisions if each != bundle.manifest.precision]
        advice = f"Try another precision ({', '.join(others)})"
        raise VerificationFailed(f"{_converted(bundle)} is not what that says: {problem}. {advice}")
    case = read_golden(bundle).cases[0]
    try:
        logits_A = _run(bundle, case)
    except (CannotRunHere, MissingDependency):
        return
    except Exception as error:  # each runtime fails in its own ways
        reason = (str(error) if isinstance(error, EdgeVLError) else first_line(error)).replace(f"{bundle.path}/", "")
        raise VerificationFailed(f"{_converted(bundle)} does not run here: {reason}. {exporter.advice}") from error
    expected_A = np.array(case.logits)
    allowed = min(_SLACK * RELATIVE_TOLERANCE[bundle.manifest.precision], _NONSENSE) * float(np.abs(expected_A).max())
    difference = float(np.abs(logits_A - expected_A).max()) if logits_A.shape == expected_A.shape else np.inf
    if not difference <= allowed:  # also when it is not a number
        raise VerificationFailed(
            f"{_converted(bundle)} answers nonsense: on one sample a logit differs by {difference:.3g} from that of "
            f"PyTorch, and rounding explains {allowed:.3g} at most. {exporter.advice}"
        )


def _false_claim(bundle: Bundle) -> str | None:
    """What the audit of `edgevl verify` says first about the artifact, before it is run; None for nothing."""
    try:
        return next(iter(claim_problems(bundle.manifest, read_contents(bundle))), None)
    except VerificationFailed as error:
        return str(error)
    except MissingDependency:
        return None


def _run(bundle: Bundle, case: GoldenCase) -> np.ndarray:
    """The logits [A] of one case, float64."""
    pixels = to_pixels(load_image(bundle.file(case.image)), bundle.manifest.preprocessing.size)
    feeds = {"image": pixels[None], "input_ids": np.array([case.input_ids], np.int32)}
    return run_one(bundle.session(), feeds)["logits"][0].astype(np.float64)


def _converted(bundle: Bundle) -> str:
    manifest = bundle.manifest
    return f"nothing was written: {manifest.name} was converted for {manifest.target} {manifest.precision}, but it"
