"""The page's figures, drawn from the results alone, the same bytes each time with the same matplotlib."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edgevl.training.study import claims
from edgevl.training.study.arms import ABLATION, ARMS, BASELINE, LONGER, OPPONENT, OURS, SHORTER, UNTRAINED
from edgevl.training.study.view import View

COLORS = {BASELINE: "#8a8a8a", OURS: "#0b6e4f", "pixels": "#c8553d", OPPONENT: "#31619c"}
OTHER = "#c9b458"
ASKED = {"vqa": "questions", "statement": "statements"}  # of the tasks, where the text says what is judged
# Each claim as a title of the picture, and what its axis counts.
PLAINLY = {
    "(a)": ("Fine-tunes better with the visual losses", "points above the model without them"),
    "(b)": ("As accurate as a region-feature model", "points above it"),
    "(c)": ("A tenth of the pretraining suffices", "points above the model without visual losses"),
}


def figures(view: View) -> dict[str, bytes]:
    """File name -> PNG."""
    return {
        "study-claims.png": _claims(view),
        "study-ablation.png": _figure((7.2, 3.4), 1, lambda axes: _ablation(axes[0], view)),
        "study-curves.png": _figure((9.6, 3.2), 3, lambda axes: _curves(axes, view)),
        "study-pretraining.png": _figure((4.6, 3.0), 1, lambda axes: _shares(axes[0], view)),
    }


def _figure(
    size: tuple[float, float], count: int, draw: Callable[[Any], None], heights: list[float] | None = None
) -> bytes:
    """Return a PNG of `count` panels side by side, or one below the other with `heights`."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=size, layout="constrained", dpi=110)
        if heights:
            axes = np.atleast_1d(figure.subplots(count, 1, height_ratios=heights))
        else:
            axes = np.atleast_1d(figure.subplots(1, count, sharey=True))
        draw(axes)
        for part in axes:
            part.spines[["top", "right"]].set_visible(False)
            part.grid(color="#e8e8e8", linewidth=0.6)
            part.set_axisbelow(True)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _claims(view: View) -> bytes:
    """What is asked of each claim: the interval, and beyond which line all of it must lie."""
    panels = [panel for claim in claims.all_claims(view) for panel in _panels(claim)]
    heights = [len(parts) + 1.6 for _, parts, _ in panels]

    def draw(axes: Any) -> None:
        scores = [part for _, parts, _ in panels for part in parts if part.title != claims.SPEED]
        sides = [side for part in scores for side in part.ends or ()]
        low, high = min([-5.0, *sides]), max([5.0, *sides])
        for panel, (title, parts, label) in zip(axes, panels, strict=True):
            _intervals(panel, parts)
            panel.set_title(title, loc="left", x=-0.26, fontsize=10.5, fontweight="bold")
            panel.set_xlabel(label, fontsize=9)
            if parts[0].title == claims.SPEED:
                panel.set_xlim(0, max([1.2 * claims.FASTER, *(1.1 * end for end in parts[0].ends or ())]))
            else:
                panel.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))

    return _figure((6.4, 0.4 * sum(heights)), len(panels), draw, heights)


def _panels(claim: claims.Claim) -> Iterator[tuple[str, list[claims.Part], str]]:
    """Title, parts and what the axis counts. Speed has a panel of its own."""
    scores = [part for part in claim.parts if part.title != claims.SPEED]
    says, beside = PLAINLY[claim.name]
    yield f"{claim.name} {says}: {claim.verdict}", scores, beside
    if speed := [part for part in claim.parts if part.title == claims.SPEED]:
        yield f"... and {claims.FASTER} times as fast", speed, "times as fast from pixels to answer"


def _intervals(axes: Any, parts: list[claims.Part]) -> None:
    bound = parts[0].scale * parts[0].bound  # of all parts in a panel
    axes.axvspan(bound, 1e6, color="#e6f2ed", zorder=0)
    axes.axvline(bound, color="#0b6e4f", linewidth=1)
    for row, part in enumerate(reversed(parts)):
        if part.ends:
            middle, low, high = part.ends
            color = {True: "#0b6e4f", False: "#c8553d", None: OTHER}[part.holds]
            axes.plot([low, high], [row, row], color=color, linewidth=4, alpha=0.6, solid_capstyle="butt")
            axes.plot(middle, row, "o", color=color, markersize=6)
        answer = {True: "✓", False: "✗", None: "not measured"}[part.holds]
        axes.annotate(answer, (1, row), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
                      va="center", color="#0b6e4f" if part.holds else "#c8553d")  # fmt: skip
    axes.set_yticks(range(len(parts)), [ASKED.get(part.title, part.title) for part in reversed(parts)])
    axes.set_ylim(-0.7, len(parts) - 0.3)


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
