"""Pictures inside the page: thumbnails as data URIs, plots as inline SVG in the page's light or dark colors."""

import base64
import io
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image

from edgevl.bench.schema import BenchResult
from edgevl.report.sections import Picture

THUMBNAIL = 256  # pixels, the longer side
DOTS = 300  # samples drawn per row; the numbers beside the plot are of all samples
# Colors that the page replaces by its own variables, so that one plot serves light and dark.
INK, MUTED, HAIRLINE, ACCENT, OTHER = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "--ink", MUTED: "--muted", HAIRLINE: "--line", ACCENT: "--accent", OTHER: "--other"}


def thumbnail_uri(picture: Picture) -> str:
    """A JPEG data URI of at most `THUMBNAIL` pixels a side. Raises `InputError` for bytes that are no picture."""
    from edgevl.preprocess import load_image

    image = load_image(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def latency_plot(results: Sequence[BenchResult], candidate: str) -> str:
    """One row of samples per result on a logarithmic axis of milliseconds, as an inline `<svg>`."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "edgevl", "font.size": 10}):
        figure = Figure(figsize=(4.6, 0.4 + 0.46 * len(results)), layout="constrained")
        axes = figure.add_subplot()
        for row, result in enumerate(results):
            _draw_row(axes, len(results) - 1 - row, result, ACCENT if result.name == candidate else OTHER)
        _style_axes(axes, results)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return follow_page_colors(buffer.getvalue(), "Time of every measured query, by pipeline and scope")


def _draw_row(axes, y: float, result: BenchResult, color: str) -> None:
    samples = np.asarray(result.samples_ms)
    shown = samples[:: max(1, -(-len(samples) // DOTS))]
    jitter = np.random.default_rng(0).uniform(-0.17, 0.17, len(shown))
    few = len(shown) <= 32
    axes.scatter(shown, y + jitter, s=14 if few else 6, color=color, alpha=0.8 if few else 0.3, linewidths=0)
    axes.plot([result.p50_ms] * 2, [y - 0.3, y + 0.3], color=color, linewidth=2, solid_capstyle="round")


def _style_axes(axes, results: Sequence[BenchResult]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    names = [f"{result.name}\n{result.scope}" for result in reversed(results)]
    axes.set_yticks(range(len(results)), names, color=INK, fontsize=9, parse_math=False)
    axes.set_ylim(-0.6, len(results) - 0.4)
    axes.set_xscale("log")
    low = min(min(result.samples_ms) for result in results)
    high = max(max(result.samples_ms) for result in results)
    axes.set_xlim(10 ** np.floor(np.log10(low)), 10 ** (np.floor(np.log10(high)) + 1))
    axes.xaxis.set_major_locator(LogLocator(base=10))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms")
    )
    axes.tick_params(axis="x", colors=MUTED, length=0, pad=6)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.grid(axis="x", color=HAIRLINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def format_ms(value: float) -> str:
    """0.05 -> "0.0500 ms", 153 -> "153 ms", 1520 -> "1.52 s": three digits are what a timing supports."""
    number, unit = (value / 1000, "s") if value >= 999.5 else (value, "ms")
    return f"{number:#.3g}".rstrip(".") + f" {unit}"


def follow_page_colors(svg: str, label: str) -> str:
    """Drop the XML prologue and fixed size, and turn the marker colors and fonts into those of the page."""
    svg = svg[svg.index("<svg") :]
    for marker, variable in _VARIABLES.items():
        svg = svg.replace(marker, f"var({variable})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", svg)
    svg = re.sub(r"font-family: [^;\"]+;? ?", "", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
