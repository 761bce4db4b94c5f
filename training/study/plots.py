"""The page's figures, drawn from the results alone, the same bytes each time with the same matplotlib."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from edgevl.training.study.arms import ABLATION, ARMS, BASELINE, OURS, SHORTER, UNTRAINED
from edgevl.training.study.view import View

COLORS = {BASELINE: "#8a8a8a", OURS: "#0b6e4f", "pixels": "#c8553d", "regions": "#31619c"}
OTHER = "#c9b458"


def figures(view: View) -> dict[str, bytes]:
    """File name -> PNG."""
    return {
        "study-ablation.png": _figure((7.2, 3.4), 1, lambda axes: _ablation(axes[0], view)),
        "study-curves.png": _figure((7.2, 3.0), 2, lambda axes: _curves(axes, view)),
        "study-pretraining.png": _figure((4.6, 3.0), 1, lambda axes: _shares(axes[0], view)),
    }


def _figure(size: tuple[float, float], columns: int, draw: Callable[[Any], None]) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=size, layout="constrained", dpi=110)
        axes = np.atleast_1d(figure.subplots(1, columns, sharey=True))
        draw(axes)
        for part in axes:
            part.spines[["top", "right"]].set_visible(False)
            part.grid(color="#e8e8e8", linewidth=0.6)
            part.set_axisbelow(True)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _ablation(axes: Any, view: View) -> None:
    arms = [arm for arm in (*ABLATION, "regions") if view.scores(arm, "vqa")]
    for row, arm in enumerate(reversed(arms)):
        scores = [100 * score for score in view.scores(arm, "vqa").values()]
        color = COLORS.get(arm, OTHER)
        axes.plot(scores, [row] * len(scores), "o", color=color, alpha=0.5, markersize=4)
        axes.plot([np.mean(scores)] * 2, [row - 0.3, row + 0.3], color=color, linewidth=2.5)
    axes.set_yticks(range(len(arms)), [ARMS[arm].title for arm in reversed(arms)])
    axes.set_xlabel("VQA accuracy on Scenes test, % (dots: seeds, bar: mean)")


def _curves(axes: Any, view: View) -> None:
    for arm in (BASELINE, OURS, "pixels", "regions"):
        curve = view.curve(arm)
        if not curve:
            continue
        steps, accuracy = (np.array(side, float) for side in zip(*curve, strict=True))
        style = {"color": COLORS[arm], "label": ARMS[arm].title, "linewidth": 1.8}
        axes[0].plot(steps, 100 * accuracy, **style)
        compute = [view.compute(arm, "vqa", view.seeds[0], step) for step in steps]
        if all(compute):
            detector = view.detector_macs() if ARMS[arm].detector else 0
            axes[1].plot([(macs + detector) / 1e12 for macs in compute if macs], 100 * accuracy, **style)
    axes[0].set_xlabel("steps of fine-tuning")
    axes[1].set_xlabel("multiply-adds of all training, 10¹²")
    axes[0].set_ylabel("validation accuracy, %")
    if axes[0].lines:
        axes[0].legend(frameon=False, fontsize=7.5)


def _shares(axes: Any, view: View) -> None:
    arms = [arm for arm in (UNTRAINED, *SHORTER, OURS) if view.scores(arm, "vqa")]
    shares = [100 * ARMS[arm].share for arm in arms]
    for arm, share in zip(arms, shares, strict=True):
        scores = [100 * score for score in view.scores(arm, "vqa").values()]
        axes.plot([share] * len(scores), scores, "o", color=COLORS[OURS], alpha=0.5, markersize=4)
    means = [100 * (view.mean(arm, "vqa") or {"mean": np.nan})["mean"] for arm in arms]
    axes.plot(shares, means, color=COLORS[OURS], linewidth=1.8, label="all three visual losses")
    if base := view.mean(BASELINE, "vqa"):
        axes.axhline(100 * base["mean"], color=COLORS[BASELINE], linestyle="--", label="language only, 100 %")
    axes.set_xlabel("pretraining steps, % of the whole")
    axes.set_ylabel("VQA accuracy, %")
    if axes.lines:
        axes.legend(frameon=False, fontsize=7.5)
