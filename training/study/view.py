"""The results of a study, asked: scores by seed, paired differences, convergence, compute.

Shapes: S seeds, N test samples.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgevl.bench.stats import geometric_interval, t_interval
from edgevl.training.study.arms import ARMS, BASELINE, CONTRAST, SIDES, TASKS, latency_row
from edgevl.training.study.intervals import Curve, bootstrap_difference, crossing, latest

Runs = dict[str, Any]
POINT = 0.01


class View:
    """`View(results)`, of what `grid.load_results` returns."""

    def __init__(self, results: dict[str, Any]):
        self.results = results
        self.runs: Runs = results["runs"]
        self.preset: dict[str, Any] = results["preset"]
        self.seeds: list[int] = list(self.preset["seeds"])

    @property
    def processors(self) -> list[str]:
        """The processors that the rows were run on; rows of older results do not say."""
        found = {timing.get("cpu") for timing in self.results["timing"].values()} - {None}
        return sorted(found) or [self.results["machine"]["cpu"]]

    def run(self, arm: str, stage: str, seed: int) -> dict[str, Any] | None:
        return self.runs.get(f"{arm}/{stage}/{seed}")

    def scores(self, arm: str, task: str) -> dict[int, float]:
        """Score of each seed that has been measured. `CONTRAST` is retrieval before matching has ordered anything."""
        stage = "retrieval" if task == CONTRAST else task
        runs = {seed: run for seed in self.seeds if (run := self.run(arm, stage, seed))}
        if task == CONTRAST:
            found = {seed: run["retrieval"] for seed, run in runs.items()}
            return {seed: (r["text_to_image_r1"] + r["image_to_text_r1"]) / 2 for seed, r in found.items()}
        return {seed: run["score"] for seed, run in runs.items()}

    def mean(self, arm: str, task: str) -> dict[str, Any] | None:
        scores = self.scores(arm, task)
        return t_interval([*scores.values()]) if scores else None

    def zero_shot(self, arm: str, key: str) -> dict[str, Any] | None:
        """A recall after pretraining alone, mean over seeds."""
        found = [run["zero_shot"][key] for seed in self.seeds if (run := self.run(arm, "pretrain", seed))]
        return t_interval(found) if found else None

    def difference(self, arm: str, base: str, task: str) -> dict[str, Any] | None:
        """Score of `arm` minus that of `base`, paired over the seeds that both have."""
        ours, theirs = self.scores(arm, task), self.scores(base, task)
        gains = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
        return t_interval(gains) if gains else None

    def samples_interval(self, arm: str, base: str, task: str) -> list[float] | None:
        """The 95 % interval of such a difference in accuracy over test samples, with the seeds as they are."""
        seeds = [seed for seed in self.scores(arm, task) if seed in self.scores(base, task)]
        if not seeds:
            return None
        ours, theirs = (np.stack([self._correct(name, task, seed) for seed in seeds]) for name in (arm, base))
        return bootstrap_difference(ours, theirs)

    def _correct(self, arm: str, task: str, seed: int) -> np.ndarray:
        run = self.run(arm, task, seed)
        assert run
        bits = np.frombuffer(bytes.fromhex(run["splits"]["test"]["correct"]), np.uint8)
        return np.unpackbits(bits)[: self.preset["test_samples"]].astype(bool)

    def macs_per_step(self, arm: str, stage: str) -> int | None:
        """Counted with the first seed; it is the same for the others."""
        run = self.run(arm, stage, self.seeds[0])
        return run.get("macs_per_step") if run else None

    def compute(self, arm: str, task: str, seed: int, steps: float | None = None) -> float | None:
        """Multiply-adds of pretraining and the first `steps` of fine-tuning (all by default), its detector included."""
        before, after = self.run(arm, "pretrain", seed), self.run(arm, task, seed)
        each = [self.macs_per_step(arm, stage) for stage in ("pretrain", task)]
        if not before or not after or each[0] is None or each[1] is None:
            return None
        tuned = after["steps"] if steps is None else steps
        detector = self.runs.get(self._detector_row(arm), {}).get("training_macs", 0)
        return before["steps"] * each[0] + tuned * each[1] + detector

    def clock(self, arm: str, task: str, seed: int, steps: float | None = None) -> float | None:
        """Seconds of the same by the clock, validation included.

        None if they, and those of the arm without visual losses that they stand beside, are of several processors.
        """
        after = self.run(arm, task, seed)
        before, tuning, detector = parts = self._timings(arm, task, seed)
        beside = [part for part in (*parts, *self._timings(BASELINE, task, seed)) if part]
        cpus = {part.get("cpu", self.results["machine"]["cpu"]) for part in beside}
        if not after or not before or not tuning or len(cpus) > 1:
            return None
        tuned = tuning["seconds"] * (1 if steps is None else steps / after["steps"])
        return before["seconds"] + tuned + detector.get("seconds", 0)

    def _timings(self, arm: str, task: str, seed: int) -> list[dict[str, Any]]:
        """Of pretraining, fine-tuning and the detector; empty where there is none."""
        rows = (f"{arm}/pretrain/{seed}", f"{arm}/{task}/{seed}", self._detector_row(arm))
        return [self.results["timing"].get(row, {}) for row in rows]

    def _detector_row(self, arm: str) -> str:
        """The first seed's, which stands for all; "" for an arm without a detector."""
        return f"detector/{ARMS[arm].detector_stage}/{self.seeds[0]}" if ARMS[arm].detector else ""

    def saturated(self) -> str | None:
        """The region-feature model with the smallest pictures whose larger ones bring no more than a point of VQA.

        None while one of its sizes is not measured. Where the largest still brings more, it is that one.
        """
        arms = [arm for arm in SIDES if arm in self.preset["arms"]]
        for smaller, larger in itertools.pairwise(arms):
            gain = self.difference(larger, smaller, "vqa")
            if gain is None:
                return None
            if gain["mean"] <= POINT:
                return smaller
        return arms[-1] if arms else None

    def latency(self, opponent: str | None) -> dict[str, Any] | None:
        """Time beside a region-feature model, where it was measured."""
        return self.results["timing"].get(latency_row(opponent)) if opponent else None

    def convergence(self, arm: str, task: str = "vqa", base: str = BASELINE) -> dict[str, Any] | None:
        """When `arm` reaches what `base` has at its end, on the validation curve of the same seed.

        With a plateau: the mean level of `base` over the last window before its rate falls, and when either first had
        it at the rate that both had until then.

        `steps`: factor by which it needs fewer steps of fine-tuning; `compute` and `clock`: the same of all
        multiply-adds and of all seconds, pretraining included. Null unless every seed reached it: one that did not is
        censored, and no mean is honest. Seconds of two processors are not compared.
        """
        steps, costs, seeds = [], {"compute": [], "clock": []}, 0
        for seed in self.seeds:
            ours, theirs = self.run(arm, task, seed), self.run(base, task, seed)
            if not ours or not theirs or not ours["curve"] or not theirs["curve"]:
                continue
            seeds += 1
            last_step, level = self._end(theirs["curve"])
            at = crossing(self._before_cooldown(ours["curve"]), level)
            if at is None:
                continue
            steps.append(last_step / at)
            for name, cost in (("compute", self.compute), ("clock", self.clock)):
                whole, part = cost(base, task, seed, last_step), cost(arm, task, seed, at)
                if whole and part:
                    costs[name].append(whole / part)
        if not seeds:
            return None
        factors = {"steps": steps, **costs}
        return {
            "seeds": seeds,
            "reached": len(steps),
            **{name: geometric_interval(found) if len(found) == seeds else None for name, found in factors.items()},
        }

    def _before_cooldown(self, curve: Curve) -> Curve:
        """The looks at the rate that all arms have alike: with a plateau those before it falls, else all."""
        plateau = self.preset["finetune"].get("plateau")
        if not plateau:
            return curve
        return [look for look in curve if look[0] <= curve[-1][0] - plateau["cooldown"]] or curve[:1]

    def _end(self, curve: Curve) -> tuple[float, float]:
        """The step at which a curve is where it ends, and that level."""
        plateau = self.preset["finetune"].get("plateau")
        if not plateau:
            return curve[-1]
        looks = self._before_cooldown(curve)
        level = float(np.mean([value for step, value in looks if step > looks[-1][0] - plateau["window"]]))
        at = crossing(looks, level)
        assert at is not None, "some look is at the mean of looks, or above"
        return at, level

    def curve(self, arm: str, task: str = "vqa") -> list[tuple[float, float]]:
        """(step, validation accuracy), mean over the seeds that were measured; one that has ended keeps its last."""
        curves = [run["curve"] for seed in self.seeds if (run := self.run(arm, task, seed)) and run["curve"]]
        steps = sorted({step for curve in curves for step, _ in curve})
        begun = {step: [latest(curve, step) for curve in curves if curve[0][0] <= step] for step in steps}
        return [(step, float(np.mean(values))) for step, values in begun.items()]

    def per_seed(self, arm: str, split: str, pick: Sequence[str], task: str = "vqa") -> dict[str, Any] | None:
        """Mean over seeds of a number below a split, for example `("per_kind", "color")`; of [share, n] the share."""
        found = []
        for seed in self.seeds:
            value: Any = (self.run(arm, task, seed) or {}).get("splits", {}).get(split)
            for key in pick:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                found.append(value[0] if isinstance(value, list) else value)
        return t_interval(found) if found else None

    @property
    def arms(self) -> list[str]:
        """Those with a fine-tuned model, in the preset's order."""
        return [arm for arm in self.preset["arms"] if any(self.scores(arm, task) for task in TASKS)]
