"""How many seeds decide a difference between two arms of a study? From the differences that pilots showed.

python tools/study_power.py runs/pilot/results.json --points 2

For each pair of arms and task that have at least two seeds: the paired differences of their scores, their standard
deviation, half the width of Student's 95 % interval with 3 to 10 seeds of such a deviation, and the fewest seeds whose
half width is at most `--points`.
"""

import argparse
import math
import statistics
from pathlib import Path

from edgevl.bench.stats import T95
from edgevl.training.study.arms import BASELINE, LONGER, OPPONENT, OURS, TASKS, UNTRAINED
from edgevl.training.study.results import load_results
from edgevl.training.study.view import View

PAIRS = ((OURS, BASELINE), (OURS, OPPONENT), ("all_10", BASELINE), (OURS, LONGER), (BASELINE, UNTRAINED))
SEEDS = (3, 4, 6, 8, 10)


def half_width(deviation: float, seeds: int) -> float:
    return T95[seeds] * deviation / math.sqrt(seeds)


def row(view: View, arm: str, base: str, task: str, points: float) -> list[str] | None:
    """The cells of a pair, or None where fewer than two seeds have both arms."""
    ours, theirs = view.scores(arm, task), view.scores(base, task)
    gains = [100 * (ours[seed] - theirs[seed]) for seed in ours if seed in theirs]
    if len(gains) < 2:
        return None
    deviation = statistics.stdev(gains)
    enough = next((str(n) for n in sorted(T95) if half_width(deviation, n) <= points), f"over {max(T95)}")
    shown = ", ".join(f"{gain:+.1f}" for gain in gains)
    widths = [f"±{half_width(deviation, n):.1f}" for n in SEEDS]
    return [f"`{arm}` − `{base}`", task, shown, f"{deviation:.1f}", *widths, enough]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--points", type=float, default=2.0)
    arguments = parser.parse_args()
    view = View(load_results(arguments.results))
    head = ["difference", "task", "pilots, points", "deviation", *(f"{n} seeds" for n in SEEDS)]
    lines = [[*head, f"for ±{arguments.points:g}"], ["---"] * (len(head) + 1)]
    found = [row(view, arm, base, task, arguments.points) for arm, base in PAIRS for task in TASKS]
    lines += [cells for cells in found if cells]
    print("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
