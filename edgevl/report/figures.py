"""Pictures inside the page: thumbnails as data URIs, and the geometry of its charts.

A chart is an SVG path in a box of plain numbers that the page stretches to its width, while all words stay text of the
page: they keep their size on a phone, and the colors are those of the style sheet, light or dark. y grows downward.
"""

import base64
import dataclasses
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from PIL import Image

from edgevl.report.sections import Picture

THUMBNAIL = 256  # pixels, the longer side
BINS = 240  # of a strip, over its whole axis: about a pixel and a half on a phone
STRIP = 24  # height of its box
FAINTEST = 3  # of STRIP: a single query among thousands is still drawn


def thumbnail_uri(picture: Picture) -> str:
    """A JPEG data URI of at most `THUMBNAIL` pixels a side. Raises `InputError` for bytes that are no picture."""
    from edgevl.inputs.preprocess import load_image

    image = load_image(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclasses.dataclass(frozen=True)
class LogAxis:
    """Where a value above 0 lies between `low` (0) and `high` (1) on a logarithmic axis."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float]) -> "LogAxis":
        """From a round number below the least to one above the largest: 1, 2 or 5 times a power of ten."""
        values = list(values)
        return cls(_round_number(min(values), down=True), _round_number(max(values), down=False))

    def place(self, value: float) -> float:
        return math.log(value / self.low) / math.log(self.high / self.low)

    def ticks(self) -> list[float]:
        """Three or more where the axis is short, powers of ten only where it is long."""
        decades = math.log10(self.high / self.low)
        steps = (1, 2, 5) if decades < 2 else (1,)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [step * 10.0**power for power in powers for step in steps]
        return [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]


def _round_number(value: float, down: bool) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    steps = [step * power for step in (0.5, 1, 2, 5, 10, 20)]
    return max(step for step in steps if step < value) if down else min(step for step in steps if step > value)


def strip_path(samples: Sequence[float], axis: LogAxis) -> str:
    """A histogram in the box `BINS` × `STRIP`: as high as many samples lie there."""
    counts = Counter(min(BINS - 1, int(BINS * axis.place(sample))) for sample in samples)
    most = max(counts.values())
    bars = []
    for bin_, count in sorted(counts.items()):
        height = FAINTEST + (STRIP - FAINTEST) * count / most
        bars.append(f"M{bin_} {STRIP}v-{height:.1f}h1V{STRIP}z")
    return "".join(bars)


@dataclasses.dataclass(frozen=True)
class Roof:
    """What a machine allows at each intensity: shares of the width and height, y downward."""

    label: str
    path: str  # in a box of 100 × 100
    y: float  # of the level part, 0..1


def roof(label: str, peak: float, slope: float, x: LogAxis, y: LogAxis) -> Roof:
    """A ceiling of `peak` GMAC/s behind a slope of `slope` GB/s: multiply-adds a byte (x) to GMAC/s (y)."""
    points = [(x.low, slope * x.low), (peak / slope, peak), (x.high, peak)]
    if peak / slope <= x.low:
        points = [(x.low, peak), (x.high, peak)]
    path = "M" + "L".join(f"{100 * x.place(a):.2f} {100 * (1 - y.place(b)):.2f}" for a, b in points)
    return Roof(label, path, 1 - y.place(peak))
