"""The page's figures, drawn from the results alone, the same bytes each time with the same matplotlib."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from edgevl.training.study.arms import ABLATION, ARMS, BASELINE, LONGER, OPPONENT, OURS, SHORTER, UNTRAINED
from edgevl.training.study.view import View

COLORS = {BASELINE: "#8a8a8a", OURS: "#0b6e4f", "pixels": "#c8553d", OPPONENT: "#31619c"}
OTHER = "#c9b458"


def figures(view: View) -> dict[str, bytes]:
    """File name -> PNG."""
    return {
        "study-ablation.png": _figure((7.2, 3.4), 1, lambda axes: _ablation(axes[0], view)),
        "study-curves.png": _figure((9.6, 3.2), 3, lambda axes: _curves(axes, view)),
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
    arms = [arm for arm in (*ABLATION, OPPONENT) if view.scores(arm, "vqa")]
    for row, arm in enumerate(reversed(arms)):
        scores = [100 * score for score in view.scores(arm, "vqa").values()]
        color = COLORS.get(arm, OTHER)
        axes.plot(scores, [row] * len(scores), "o", color=color, alpha=0.5, markersize=4)
        axes.plot([np.mean(scores)] * 2, [row - 0.3, row + 0.3], color=color, linewidth=2.5)
    axes.set_yticks(range(len(arms)), [ARMS[arm].title for arm in reversed(arms)])
    axes.set_xlabel("VQA accuracy on Scenes test, % (dots: seeds, bar: mean)")


def _curves(axes: Any, view: View) -> None:
    for arm in (BASELINE, OURS, "pixels", OPPONENT):
        curve = view.curve(arm)
        if not curve:
            continue
        steps, accuracy = (np.array(side, float) for side in zip(*curve, strict=True))
        style = {"color": COLORS[arm], "label": ARMS[arm].title, "linewidth": 1.8}
        axes[0].plot(steps, 100 * accuracy, **style)
        for part, cost, unit in zip(axes[1:], (view.compute, view.clock), (1e12, 60), strict=True):
            costs = [cost(arm, "vqa", view.seeds[0], step) for step in steps]
            if all(costs):
                part.plot([found / unit for found in costs if found], 100 * accuracy, **style)
    axes[0].set_xlabel("steps of fine-tuning")
    axes[1].set_xlabel("multiply-adds of all training, 10¹²")
    axes[2].set_xlabel("minutes of all training, first seed")
    axes[0].set_ylabel("validation accuracy, %")
    if axes[0].lines:
        axes[0].figure.legend(handles=axes[0].lines, loc="outside upper center", ncols=4, frameon=False, fontsize=7.5)


def _shares(axes: Any, view: View) -> None:
    for name, arms in ((BASELINE, (UNTRAINED, BASELINE, LONGER)), (OURS, (UNTRAINED, *SHORTER, OURS))):
        found = {arm: [100 * score for score in view.scores(arm, "vqa").values()] for arm in arms}
        found = {arm: scores for arm, scores in found.items() if scores}
        steps = [max(1, round(ARMS[arm].share * view.preset["pretrain"]["steps"])) for arm in found]
        for step, scores in zip(steps, found.values(), strict=True):
            axes.plot([step] * len(scores), scores, "o", color=COLORS[name], alpha=0.5, markersize=4)
        means = [np.mean(scores) for scores in found.values()]
        axes.plot(steps, means, color=COLORS[name], linewidth=1.8, label=ARMS[name].title)
    axes.set_xscale("log")
    axes.set_xlabel("steps of pretraining")
    axes.set_ylabel("VQA accuracy, %")
    axes.legend(frameon=False, fontsize=7.5)
