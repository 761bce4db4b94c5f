"""docs/study-sprint.md: which change of the recipe makes each arm learn sooner, from a sprint's results."""

import shutil
from pathlib import Path
from typing import Any

from edgevl.atomic import write_atomically
from edgevl.plain import plain
from edgevl.training.study.arms import ARMS
from edgevl.training.study.intervals import crossing

NOT_RUN = "not run yet"
STAGES = ("pretrain", "vqa")


def publish(results: dict[str, Any], source: Path, folder: Path) -> Path:
    """Write `study-sprint.json` and `study-sprint.md` into a folder of documents; return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    if source.resolve() != (folder / "study-sprint.json").resolve():
        shutil.copyfile(source, folder / "study-sprint.json")
    write_atomically(folder / "study-sprint.md", render(results))
    return folder / "study-sprint.md"


def render(results: dict[str, Any]) -> str:
    """The page as Markdown. The same results give the same text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, undefined=jinja2.StrictUndefined,
        finalize=lambda value: plain(value, keep="\n") if isinstance(value, str) else value,
    )  # fmt: skip
    preset = results["preset"]
    arms = [ARMS[arm].title for arm in preset["arms"]]
    pretrain, finetune = preset["pretrain"], preset["finetune"]
    return environment.get_template("sprint.md.j2").render(
        preset=preset,
        machine=results["machine"],
        goal=f"{100 * finetune['stop_at']:.0f} %",
        kinds=" and ".join(f"`{kind}`" for kind in finetune["data"]["kinds"]),
        longest=pretrain["steps"] + finetune["steps"],
        soon=table(["change", *arms], [_row(results, change) for change in preset["changes"]]),
        ends=table(["change", "arm", "seed", "matching", *finetune["data"]["kinds"]], _ends(results)),
        overrides=table(["change", "it sets"], [_overrides(preset, name) for name in preset["changes"]]),
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; of no rows, a sentence that says so."""
    if not rows:
        return "Nothing has been run yet."
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _row(results: dict[str, Any], change: str) -> list[str]:
    """A change and, of each arm, how soon every seed that has been run was there."""
    cells = [results["preset"]["changes"][change]["title"]]
    for arm in results["preset"]["arms"]:
        seeds = [_how_soon(results, f"{change}/{arm}", seed) for seed in results["preset"]["seeds"]]
        cells.append(", ".join(each or NOT_RUN for each in seeds) if any(seeds) else NOT_RUN)
    return cells


def _how_soon(results: dict[str, Any], row: str, seed: int) -> str | None:
    """Steps of both stages until the goal, and seconds; else that it was not reached, and how far it came."""
    runs, timing = ([results[key].get(f"{row}/{stage}/{seed}") for stage in STAGES] for key in ("runs", "timing"))
    if not all(runs) or not all(timing):
        return None
    before, after = runs
    at = crossing(after["curve"], results["preset"]["finetune"]["stop_at"])
    seconds = sum(part["processor_seconds"] for part in timing)
    if at is not None:
        return f"{before['steps'] + at:.0f} ({seconds:.0f} s)"
    best = max(value for _, value in after["curve"])
    return f"not in {before['steps'] + after['steps']} ({seconds:.0f} s): {100 * best:.0f} %"


def _ends(results: dict[str, Any]) -> list[list[str]]:
    """Of each run: the loss of matching at the end of pretraining, and accuracy on `test` by kind of question."""
    rows = []
    for change, arm, seed in _runs(results["preset"]):
        before, after = (results["runs"].get(f"{change}/{arm}/{stage}/{seed}") for stage in STAGES)
        if not before:
            continue
        found = after.get("per_kind", {}) if after else {}
        kinds = results["preset"]["finetune"]["data"]["kinds"]
        shares = [f"{100 * found[kind][0]:.1f}" if kind in found else NOT_RUN for kind in kinds]
        losses = before.get("losses", {})
        matching = f"{losses['itm']:.2f}" if "itm" in losses else "–"
        rows.append([results["preset"]["changes"][change]["title"], ARMS[arm].title, str(seed), matching, *shares])
    return rows


def _runs(preset: dict[str, Any]) -> list[tuple[str, str, int]]:
    return [(change, arm, seed) for change in preset["changes"] for arm in preset["arms"] for seed in preset["seeds"]]


def _overrides(preset: dict[str, Any], name: str) -> list[str]:
    """The title of a change and what it sets, with the change that it is added to."""
    change = preset["changes"][name]
    said = [f"as `{change['like']}`"] if change["like"] else []
    for stage, where in {"both": "", "pretrain": "pretraining: ", "finetune": "fine-tuning: "}.items():
        if change[stage]:
            said.append(where + " ".join(f"`{override}`" for override in change[stage]))
    return [f"`{name}`: {change['title']}", "; ".join(said) or "nothing"]
