"""The three claims, judged by their intervals: the sentence is made by code, so that no hope gets into it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from edgevl.training.study.arms import ABLATION, ARMS, BASELINE, LONGER, OPPONENT, OURS, SHORTER, TASKS, UNTRAINED
from edgevl.training.study.view import View

HOLDS, IN_PART, NOT_HERE, OPEN = "holds", "holds in part", "does not hold here", "not measured yet"
EMPTY = "cannot be decided here"  # a saving that any model would show
MARGIN = 0.02  # "as accurate as": not worse by more than two points, with 95 % confidence
FASTER = 10  # times, of claim (b)
SPEED = "speed"  # the part of it that is a factor, not a difference of scores


@dataclasses.dataclass(frozen=True)
class Part:
    """A number that a claim asks for, with its interval, and the bound that all of it must lie above."""

    title: str
    found: dict[str, Any] | None  # as of `edgevl.bench.stats.t_interval`; None: not measured
    bound: float
    holds: bool | None  # None: not decided

    @property
    def scale(self) -> int:
        """What turns its numbers into those that are shown: points of scores, and times."""
        return 1 if self.title == SPEED else 100

    @property
    def ends(self) -> tuple[float, float, float] | None:
        """The middle of the interval and both its ends, as they are shown; of one seed the middle thrice."""
        if not self.found:
            return None
        middle = self.found["ratio" if self.title == SPEED else "mean"]
        low, high = self.found["ci95"] or (middle, middle)
        return self.scale * middle, self.scale * low, self.scale * high


@dataclasses.dataclass(frozen=True)
class Claim:
    name: str
    text: str  # what is claimed
    verdict: str
    because: str  # one sentence
    parts: tuple[Part, ...]


def judge(parts: Sequence[bool | None]) -> str:
    """The verdict over the parts of a claim; None is a part that could not be decided."""
    if not parts or any(part is None for part in parts):
        return OPEN
    return HOLDS if all(parts) else IN_PART if any(parts) else NOT_HERE


def above(found: dict[str, Any] | None, bound: float) -> bool | None:
    """Does the whole interval lie above `bound`? None where there is no interval."""
    return None if not found or not found["ci95"] else found["ci95"][0] > bound


def claim_a(view: View) -> Claim:
    parts = _by_task(view, BASELINE, 0.0)
    return Claim(
        "(a)",
        "pretraining with the visual losses makes a model that fine-tunes better",
        judge([part.holds for part in parts]),
        f"Final score with all three visual losses minus that without, in points: {_said(parts)}.",
        parts,
    )


def claim_b(view: View) -> Claim:
    parts = _by_task(view, OPPONENT, -MARGIN)
    opponent = view.saturated()
    latency = view.latency(opponent)
    speed = "of unknown speed beside it"
    if latency:
        speed = f"{times(latency['model'])} as fast from pixels to answer ({times(latency['pipeline'])} with decoding)"
        speed += ", in a run that was not steady" if latency["flags"] else ""
        if opponent and opponent != OPPONENT:
            speed += f", against the {ARMS[opponent].title}"
    steady = latency["model"] if latency and not latency["flags"] else None
    faster = Part(SPEED, steady, FASTER, above(steady, FASTER))
    return Claim(
        "(b)",
        "it is as accurate as a region-feature model or better, and more than ten times as fast",
        judge([part.holds for part in (*parts, faster)]),
        f"Ours minus the region-feature model, in points: {_said(parts)}; ours is {speed}.",
        (*parts, faster),
    )


def claim_c(view: View) -> Claim:
    """A tenth is asked twice: a tenth of the preset's steps against all of them, and all of them against ten times.

    A quarter and a half are named beside them; the claim is not about these.
    """
    tenths = {
        "all_10": (BASELINE, "a tenth of it,\nagainst the whole"),
        OURS: (LONGER, "the whole, against\nten times as much"),
    }
    saved = {arm: saves(view, arm, base) for arm, (base, _) in tenths.items()}
    blind = above_blind(view)
    if blind is None or None in saved.values():
        verdict = OPEN
    elif not blind or set(saved.values()) == {EMPTY}:
        verdict = EMPTY
    else:
        verdict = judge([saved[arm] is True for arm in tenths])
    said = "; ".join(
        f"{round(100 * ARMS[arm].share)} % of the pretraining {points(view.difference(arm, BASELINE, 'vqa'))}"
        for arm in SHORTER
    )
    said += f"; 100 % of it, against ten times as much for the other {points(view.difference(OURS, LONGER, 'vqa'))}"
    found = view.convergence(OURS)
    if found and found["steps"]:
        steps = f"fine-tuning reaches the other's final accuracy in {times(found['steps'])} fewer steps"
        said += f"; after the whole of it, {steps} ({times(found['compute'])} less compute in all)"
    elif found:
        said += (
            f"; after the whole of it, {found['reached']} of {found['seeds']} seeds reach the other's final accuracy"
        )
    worth = view.difference(BASELINE, UNTRAINED, "vqa")
    said += f". What the whole of it brings the model without visual losses: {points(worth)}"
    return Claim(
        "(c)",
        "it needs a tenth of the pretraining of a model without the visual losses",
        verdict,
        f"VQA accuracy minus that of the model without visual losses after all of its pretraining, in points: {said}.",
        tuple(
            Part(title, view.difference(arm, base, "vqa"), -MARGIN, None if saved[arm] is None else saved[arm] is True)
            for arm, (base, title) in tenths.items()
        ),
    )


def _by_task(view: View, base: str, bound: float) -> tuple[Part, ...]:
    found = {task: view.difference(OURS, base, task) for task in TASKS}
    return tuple(Part(task, found[task], bound, above(found[task], bound)) for task in TASKS)


def _said(parts: Sequence[Part]) -> str:
    return "; ".join(f"{part.title} {points(part.found)}" for part in parts)


def saves(view: View, arm: str, base: str) -> bool | str | None:
    """Is `arm` as accurate as `base`, whose pretraining is longer? `EMPTY` if it would be without pretraining, too."""
    level, worth = view.difference(arm, base, "vqa"), view.difference(arm, UNTRAINED, "vqa")
    reached, better = above(level, -MARGIN), above(worth, 0.0)
    if reached is None or better is None:
        return None
    return EMPTY if reached and not better else reached


def above_blind(view: View) -> bool | None:
    """Does the arm without visual losses answer better than the text alone? If not, to reach it means nothing."""
    base, blind = view.mean(BASELINE, "vqa"), view.runs.get("once/blind/0")
    return base["mean"] > blind["test"]["all"] if base and blind else None


def all_claims(view: View) -> list[Claim]:
    return [claim_a(view), claim_b(view), claim_c(view)]


def winner(view: View) -> tuple[str, dict[str, Any]] | None:
    """The arm of the ablation with the best mean VQA accuracy, of those that have the seeds of all three losses."""
    seeds = set(view.scores(OURS, "vqa"))
    complete = [arm for arm in ABLATION if seeds <= set(view.scores(arm, "vqa"))]
    found = {arm: mean for arm in complete if (mean := view.mean(arm, "vqa"))}
    if not found:
        return None
    best = max(found, key=lambda arm: found[arm]["mean"])
    return best, found[best]


def points(found: dict[str, Any] | None) -> str:
    """A difference in points: `+3.1 [+1.0, +5.2]`."""
    if not found:
        return "not measured"
    interval = found["ci95"] and "[{:+.1f}, {:+.1f}]".format(*(100 * side for side in found["ci95"]))
    return f"{100 * found['mean']:+.1f} {interval or '(one seed: no interval)'}"


def times(found: dict[str, Any] | None) -> str:
    """A factor: `3.1× [2.0, 4.8]`."""
    if not found:
        return "an unknown factor"
    middle = found.get("mean", found.get("ratio"))
    interval = found["ci95"] and "[{:.1f}, {:.1f}]".format(*found["ci95"])
    return f"{middle:.1f}× {interval or '(one seed: no interval)'}"
