"""docs/study.md: a template filled from one JSON. The same JSON gives the same text."""

import io
import shutil
from pathlib import Path
from typing import Any

from edgevl.atomic import write_atomically
from edgevl.bench.pipelines import SCOPES
from edgevl.data import open_scenes
from edgevl.data.scenes import CATEGORIES
from edgevl.plain import plain
from edgevl.training.study import claims, sprint_page
from edgevl.training.study.arms import (
    ABLATION,
    ARMS,
    BASELINE,
    CONTRAST,
    LONGER,
    OPPONENT,
    OURS,
    SHORTER,
    SIDES,
    TASKS,
    TUNED,
    UNTRAINED,
)
from edgevl.training.study.evaluate import SIZES, SPLITS
from edgevl.training.study.plots import figures
from edgevl.training.study.results import load_results
from edgevl.training.study.view import View
from edgevl.training.study.worst import draw_worst

NONE = "–"
BY_CONTRAST = "retrieval, contrast alone"
COMPARED = (BASELINE, OURS, OPPONENT)  # where a table has one column or row for each


def publish(results: Path, folder: Path) -> Path:
    """Write `study.json`, `study.md` and `images/study-*` into a folder of documents; return the page.

    Of a sprint: `study-sprint.json` and `study-sprint.md`.
    """
    found = load_results(results)
    if "changes" in found["preset"]:
        return sprint_page.publish(found, results, folder)
    view = View(found)
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    if results.resolve() != (folder / "study.json").resolve():
        shutil.copyfile(results, folder / "study.json")
    for name, data in (figures(view) | _worst_pictures(view)).items():
        (images / name).write_bytes(data)
    write_atomically(folder / "study.md", render(view.results))
    return folder / "study.md"


def render(results: dict[str, Any]) -> str:
    """The page as Markdown."""
    import jinja2

    view = View(results)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, undefined=jinja2.StrictUndefined,
        finalize=lambda value: plain(value, keep="\n") if isinstance(value, str) else value,
    )  # fmt: skip
    return environment.get_template("page.md.j2").render(
        preset=view.preset,
        machine=results["machine"],
        cpus=" and ".join(view.processors),
        mixed=len(view.processors) > 1,
        categories=_categories(view),
        latency=view.latency(OPPONENT),
        done=len(view.runs),
        rows=results["rows"],
        claims=claims.all_claims(view),
        winner=_winner(view),
        ablation=_table(
            ["pretraining", *TASKS, BY_CONTRAST, "zero-shot retrieval", "VQA minus language only"], _ablation(view)
        ),
        samples=_samples(view),
        costs=_table(
            ["pretraining", "10⁹ multiply-adds a step", "× language only", "time a step, × language only"], _costs(view)
        ),
        above_blind=claims.above_blind(view),
        convergence=_table(
            ["pretraining", "seeds that reach it", "fewer steps", "less compute", "less time"], _convergence(view)
        ),
        shares=_table(["pretraining", "VQA", "minus language only, 100 %", "training takes, of that"], _shares(view)),
        tuned=_table(["pretraining", "VQA"], _tuned(view)),
        tuned_gain=_tuned_gain(view),
        regions=_table(
            [
                "model",
                *TASKS,
                BY_CONTRAST,
                "multiply-adds of training, 10¹²",
                "ms, pixels to answer",
                "ms, with decoding",
            ],
            _regions(view),
        ),
        detector=_table(["pretraining", "VQA", "minus all three"], _detector(view)),
        detector_map=_detector_map(view, "detect"),
        apart_map=_detector_map(view, "detect_apart"),
        by_contrast=[claims.points(view.difference(OURS, other, CONTRAST)) for other in (BASELINE, OPPONENT)],
        splits=_table(["model", *SPLITS], _splits(view)),
        calibration=_table(["model", *SPLITS], _calibration(view)),
        kinds=_table(["kind of question", "blind", *(ARMS[arm].title for arm in COMPARED)], _kinds(view)),
        sizes=_table(["the object asked about", *(ARMS[arm].title for arm in COMPARED)], _sizes(view)),
        worst=_worst(view),
        hours=_hours(view),
        busy=_busy(view),
        plateau=view.preset["finetune"].get("plateau"),
        steps={"pretrain": view.preset["pretrain"]["steps"], **_task_steps(view)},
        margin=round(100 * claims.MARGIN),
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return "Not measured yet."
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def percent(found: dict[str, Any] | None) -> str:
    """A share with its interval in percent: `61.2 ± 1.3`."""
    if not found:
        return NONE
    half = f" ± {100 * (found['ci95'][1] - found['mean']):.1f}" if found["ci95"] else ""
    return f"{100 * found['mean']:.1f}{half}"


def _ablation(view: View) -> list[list[str]]:
    rows = []
    for arm in ABLATION:
        if arm not in view.arms:
            continue
        gain = NONE if arm == BASELINE else claims.points(view.difference(arm, BASELINE, "vqa"))
        zero = [view.zero_shot(arm, key) for key in ("text_to_image_r1", "image_to_text_r1")]
        rows.append([ARMS[arm].title, *_scores(view, arm), " / ".join(map(percent, zero)), gain])
    return rows


def _scores(view: View, arm: str) -> list[str]:
    return [percent(view.mean(arm, task)) for task in (*TASKS, CONTRAST)]


def _samples(view: View) -> str:
    found = view.samples_interval(OURS, BASELINE, "vqa")
    return "[{:+.1f}, {:+.1f}]".format(*(100 * side for side in found)) if found else "not measured"


def _costs(view: View) -> list[list[str]]:
    slower = view.results["timing"].get("once/speed/0", {}).get("slower", {})
    base, rows = view.macs_per_step(BASELINE, "pretrain"), []
    for arm in (*ABLATION, OPPONENT):
        macs = view.macs_per_step(arm, "pretrain")
        if macs and base:
            time = f"{slower[arm]:.2f}" if arm in slower else NONE
            rows.append([ARMS[arm].title, f"{macs / 1e9:.2f}", f"{macs / base:.2f}", time])
    return rows


def _convergence(view: View) -> list[list[str]]:
    rows = []
    for arm in (*ABLATION[1:], *SHORTER):
        found = view.convergence(arm) if arm in view.arms else None
        if found:
            missing = "censored" if found["reached"] < found["seeds"] else NONE
            factors = [claims.times(found[key]) if found[key] else missing for key in ("steps", "compute", "clock")]
            rows.append([ARMS[arm].title, f"{found['reached']} of {found['seeds']}", *factors])
    return rows


def _shares(view: View) -> list[list[str]]:
    rows, whole = [], view.compute(BASELINE, "vqa", view.seeds[0])
    for arm in (UNTRAINED, *SHORTER, OURS, LONGER):
        if arm in view.arms:
            macs = view.compute(arm, "vqa", view.seeds[0])
            share = f"{100 * macs / whole:.0f} % of the multiply-adds" if macs and whole else NONE
            gain = claims.points(view.difference(arm, BASELINE, "vqa"))
            rows.append([ARMS[arm].title, percent(view.mean(arm, "vqa")), gain, share])
    return rows


def _tuned(view: View) -> list[list[str]]:
    """All of the first seed, which is the only one of the arms with another rate."""
    arms, seed = [arm for arm in TUNED if arm in view.arms], view.seeds[0]
    scores = [(arm, view.scores(arm, "vqa").get(seed)) for arm in (BASELINE, *arms) if arms]
    return [[ARMS[arm].title, NONE if score is None else f"{100 * score:.1f}"] for arm, score in scores]


def _tuned_gain(view: View) -> list[str] | None:
    """Points of the best rate, and of all three losses, above the arm without them at the rate of all arms."""
    base, *others = [view.scores(arm, "vqa").get(view.seeds[0]) for arm in (BASELINE, *TUNED, OURS)]
    if base is None or None in others:
        return None
    *rates, ours = [score - base for score in others if score is not None]
    return [f"{100 * gain:.1f}" for gain in (max(0.0, *rates), ours)]


def _regions(view: View) -> list[list[str]]:
    rows = []
    arms = (*SIDES, "regions_language", OURS) if OPPONENT in view.arms else ()
    for arm in (arm for arm in arms if arm in view.arms):
        latency = view.latency(arm if arm in SIDES else OPPONENT)
        macs = view.compute(arm, "vqa", view.seeds[0])
        whole = f"{macs / 1e12:.2f}" if macs else NONE
        times = [latency[scope]["p50_ms"].get(arm) if latency else None for scope in SCOPES]
        times = [NONE if each is None else f"{each:.2f}" for each in times]
        rows.append([ARMS[arm].title, *_scores(view, arm), whole, *times])
    return rows


def _detector(view: View) -> list[list[str]]:
    arms = [arm for arm in ("detector_teacher", "pseudo_labels") if arm in view.arms]
    return [
        [ARMS[arm].title, percent(view.mean(arm, "vqa")), claims.points(view.difference(arm, OURS, "vqa"))]
        for arm in arms
    ]


def _detector_map(view: View, stage: str) -> str | None:
    found = [view.run("detector", stage, seed) for seed in view.seeds]
    maps = [run["val_map"] for run in found if run and run["val_map"] is not None]
    return ", ".join(f"{100 * value:.1f}" for value in maps) or None


def _blind(view: View, split: str, kind: str) -> str:
    found = view.runs.get("once/blind/0", {}).get(split, {}).get(kind)
    return NONE if found is None else f"{100 * found:.1f}"


def _splits(view: View) -> list[list[str]]:
    rows = [["blind: the text alone", *(_blind(view, split, "all") for split in SPLITS)]]
    for arm in (*ABLATION, OPPONENT):
        cells = [percent(view.per_seed(arm, split, ["accuracy"])) for split in SPLITS]
        rows += [[ARMS[arm].title, *cells]] if arm in view.arms else []
    return rows


def _calibration(view: View) -> list[list[str]]:
    arms = [arm for arm in COMPARED if arm in view.arms]
    return [
        [ARMS[arm].title, *(percent(view.per_seed(arm, split, ["calibration_error"])) for split in SPLITS)]
        for arm in arms
    ]


def _kinds(view: View) -> list[list[str]]:
    first = view.run(OURS, "vqa", view.seeds[0])
    kinds = sorted(first["splits"]["test"]["per_kind"]) if first else []
    return [
        [kind.replace("_", " "), _blind(view, "test", kind)]
        + [percent(view.per_seed(arm, "test", ["per_kind", kind])) for arm in COMPARED]
        for kind in kinds
    ]


def _sizes(view: View) -> list[list[str]]:
    if not view.run(OURS, "vqa", view.seeds[0]):
        return []
    return [[size, *(percent(view.per_seed(arm, "test", ["per_size", size])) for arm in COMPARED)] for size in SIZES]


def _worst(view: View) -> list[dict[str, Any]]:
    run = view.run(OURS, "vqa", view.seeds[0])
    return [item | {"image": f"study-worst-{place:02}.jpg"} for place, item in enumerate((run or {}).get("worst", []))]


def _worst_pictures(view: View) -> dict[str, bytes]:
    found = {}
    for item in _worst(view):
        buffer = io.BytesIO()
        draw_worst(item).save(buffer, "JPEG", quality=85)
        found[item["image"]] = buffer.getvalue()
    return found


def _winner(view: View) -> str | None:
    found = claims.winner(view)
    if found is None:
        return None
    text = f"“{ARMS[found[0]].title}”, {percent(found[1])} %"
    if found[0] == OURS:
        return text
    return f"{text}; minus all three: {claims.points(view.difference(found[0], OURS, 'vqa'))} points"


def _categories(view: View) -> tuple[str, ...] | None:
    """Those of a smaller data set than Scenes."""
    found = open_scenes(view.preset["data"]).categories
    return None if found == CATEGORIES else found


def _hours(view: View) -> str:
    return f"{sum(timing.get('seconds', 0) for timing in view.results['timing'].values()) / 3600:.1f}"


def _busy(view: View) -> str | None:
    shares = [
        timing["others_cpu"] for timing in view.results["timing"].values() if timing.get("others_cpu") is not None
    ]
    return f"{100 * sum(shares) / len(shares):.0f}" if shares else None


def _task_steps(view: View) -> dict[str, int]:
    return {task: view.preset["tasks"][task].get("steps", view.preset["finetune"]["steps"]) for task in TASKS}
