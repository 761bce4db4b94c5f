"""What a report can hold. Every section is optional; None inside one means "not measured" and is printed so."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image

from edgevl.bundle.manifest import Audit

Picture = Image.Image | np.ndarray | bytes  # uint8 [H, W, 3] RGB, or the bytes of an image file


@dataclasses.dataclass(frozen=True)
class Point:
    """One line of the verdict. ok: True is met, False is not, None was not measured."""

    text: str
    ok: bool | None = None
    doubtful: bool = False  # a number that its own preset does not trust: shown small


@dataclasses.dataclass(frozen=True)
class Verdict:
    headline: str  # one sentence
    points: Sequence[Point] = ()

    @property
    def ok(self) -> bool:
        return all(point.ok is not False for point in self.points)


@dataclasses.dataclass(frozen=True)
class Example:
    """A question answered on a picture."""

    image: Picture
    question: str
    scores: Sequence[tuple[str, float]]  # (answer, probability 0..1), best first; the page shows three
    truth: str | None = None  # the right answer, when it is known
    source: str = ""  # which artifact or model answered
    sha256: str | None = None  # of `source`

    @property
    def right(self) -> bool | None:
        return None if self.truth is None or not self.scores else self.scores[0][0] == self.truth


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A row of the table of exported artifacts; `artifact_from_bundle` fills one from a manifest."""

    name: str  # of the bundle
    target: str
    precision: str
    bytes: int | None = None  # of the artifact alone
    sha256: str | None = None
    ok: bool | None = None  # did `verify` pass
    runtime: str | None = None  # what ran it
    max_abs: float | None = None  # parity with the float program: largest difference of a logit
    psnr_db: float | None = None
    snr_db: float | None = None
    top1: float | None = None  # share 0..1 of equal best answers
    parity_samples: int | None = None
    metric: str = "accuracy"  # the name of what `accuracy` is
    accuracy: float | None = None  # share 0..1, of the artifact
    reference: float | None = None  # of PyTorch on the same samples
    ci95: tuple[float, float] | None = None  # Wilson interval of `accuracy`
    samples: int | None = None
    data: str | None = None  # data spec, such as scenes:test
    problems: Sequence[str] = ()
    audit: Audit | None = None  # what is inside the file

    @property
    def parts(self) -> list[tuple[str, int]]:
        """(dtype or "other", bytes) that add up to the artifact, the most first; "unknown" alone without an audit."""
        if self.bytes is None:
            return []
        if self.audit is None:
            return [("unknown", self.bytes)]
        weights = sorted(self.audit.weight_bytes.items(), key=lambda item: -item[1])
        return [*weights, ("other", max(0, self.bytes - sum(self.audit.weight_bytes.values())))]


@dataclasses.dataclass(frozen=True)
class KindAccuracy:
    kind: str  # of question, or a metric
    accuracy: float  # share 0..1
    samples: int | None = None
    blind: float | None = None  # of a model that sees no picture


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Accuracy by kind of question, best compared with what the words alone give away; or by metric."""

    data: str  # data spec
    kinds: Sequence[KindAccuracy]
    overall: float | None = None
    blind: float | None = None
    source: str = ""  # which artifact or model was measured
    sha256: str | None = None  # of `source`
    by: str = "kind of question"  # what `kinds` are: or "metric", where the task has several
