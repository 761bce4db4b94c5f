"""One run of a new artifact before anybody gets it: one that cannot run, or answers nonsense, is not written."""

import numpy as np

from edgevl.bundle import Bundle
from edgevl.errors import EdgeVLError, MissingDependency, VerificationFailed, first_line
from edgevl.golden import RELATIVE_TOLERANCE, GoldenCase, read_golden
from edgevl.preprocess import load_image, to_pixels
from edgevl.runtime.session import CannotRunHere, run_one

# As a share of the largest logit. An untrained backbone in w4 has been seen at 0.3; a file that ignores its inputs, or
# a converter that got an operator wrong, is beyond.
_SLACK, _NONSENSE = 10, 0.6


def try_out(bundle: Bundle, advice: str) -> None:
    """Run the first golden case; nothing happens where this machine has no runtime for the target.

    Raises `VerificationFailed`, with `advice` at its end, for an artifact that fails when it is loaded or run, or whose
    logits are far from those of PyTorch. How far exactly is for `edgevl verify` to say.
    """
    case = read_golden(bundle).cases[0]
    try:
        logits_A = _run(bundle, case)
    except (CannotRunHere, MissingDependency):
        return
    except Exception as error:  # each runtime fails in its own ways
        reason = (str(error) if isinstance(error, EdgeVLError) else first_line(error)).replace(f"{bundle.path}/", "")
        raise VerificationFailed(f"{_converted(bundle)} does not run here: {reason}. {advice}") from error
    expected_A = np.array(case.logits)
    allowed = min(_SLACK * RELATIVE_TOLERANCE[bundle.manifest.precision], _NONSENSE) * float(np.abs(expected_A).max())
    difference = float(np.abs(logits_A - expected_A).max()) if logits_A.shape == expected_A.shape else np.inf
    if not difference <= allowed:  # also when it is not a number
        raise VerificationFailed(
            f"{_converted(bundle)} answers nonsense: on one sample a logit differs by {difference:.3g} from that of "
            f"PyTorch, and rounding explains {allowed:.3g} at most. {advice}"
        )


def _run(bundle: Bundle, case: GoldenCase) -> np.ndarray:
    """The logits [A] of one case, float64."""
    pixels = to_pixels(load_image(bundle.file(case.image)), bundle.manifest.preprocessing.size)
    feeds = {"image": pixels[None], "input_ids": np.array([case.input_ids], np.int32)}
    return run_one(bundle.session(), feeds)["logits"][0].astype(np.float64)


def _converted(bundle: Bundle) -> str:
    manifest = bundle.manifest
    return f"nothing was written: {manifest.name} was converted for {manifest.target} {manifest.precision}, but it"
