"""What a model that finds pictures is worth on Scenes: recall, larger gallery, other splits, twins, short queries.

    python tools/retrieval_table.py nano-retrieval
    python tools/retrieval_table.py runs/seed-0/model runs/seed-1/model runs/seed-2/model

Each picture is asked for by the longest of its first eight captions. Of one model intervals are of 95 %; of several the
mean is shown with the least and the most of them.
"""

import argparse
import json
from typing import Any

from edgevl.contracts import Metric
from edgevl.data import open_dataset, open_scenes
from edgevl.embedded import model_folder
from edgevl.models.kinds import open_deployable
from edgevl.training.contrast import recall_of
from edgevl.training.short_queries import short_query_metrics
from edgevl.training.twins import twin_metrics

PICTURES, GALLERY = 500, 2000
SETS = (("scenes:test", PICTURES), ("scenes:test", GALLERY), ("scenes:test_pairs", PICTURES))
SETS += (("scenes:test_style", PICTURES),)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="model folders, of ours or of Hugging Face, or an embedded model")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    each = [measure(name) for name in args.models]
    found = {"models": each, "mean": spread(each)} if len(each) > 1 else each[0]
    print(json.dumps(found, indent=1) if args.json else table(found.get("mean", found)))


def measure(folder: str) -> dict[str, Any]:
    """Return every metric as (value, low, high, samples)."""
    model = open_deployable(model_folder(folder))
    size = next(iter(model.images.values())).size
    found: dict[str, Any] = {"model": folder, "sha256": model.sha256}
    for data, pictures in SETS:
        metrics = recall_of(model, open_dataset(data, size=size), pictures)
        found[f"{data}, {pictures:,} pictures"] = {metric.name: _numbers(metric) for metric in metrics}
    scenes = open_scenes("scenes:test", size=size)
    found["twins"] = {metric.name: _numbers(metric) for metric in twin_metrics(model, scenes, PICTURES)}
    found["short"] = {metric.name: _numbers(metric) for metric in short_query_metrics(model, scenes, GALLERY)}
    return found


def spread(each: list[dict[str, Any]]) -> dict[str, Any]:
    """Return every metric of several models as (mean, least, most, samples)."""
    sets = [name for name, value in each[0].items() if isinstance(value, dict)]
    return {name: {metric: _mean([one[name][metric] for one in each]) for metric in each[0][name]} for name in sets}


def _mean(found: list[Any]) -> tuple[float, float, float, int]:
    values = [value for value, *_ in found]
    return round(sum(values) / len(values), 4), min(values), max(values), found[0][-1]


def _numbers(metric: Metric) -> tuple[float, float, float, int]:
    return (*(round(value, 4) for value in (metric.value, *metric.ci95)), metric.samples)  # pyright: ignore[reportReturnType]


def table(found: dict[str, Any]) -> str:
    """Return the metrics in Markdown, as percentages."""
    lines = ["| text to picture | R@1 | R@5 | R@10 |", "|---|---|---|---|"]
    lines += [_row(name, values, "text_to_image") for name, values in found.items() if name.startswith("scenes")]
    lines += ["", "| picture to text | R@1 | R@5 | R@10 |", "|---|---|---|---|"]
    lines += [_row(name, values, "image_to_text") for name, values in found.items() if name.startswith("scenes")]
    lines += ["", "| what differs in the twin | true one is above | captions |", "|---|---|---|"]
    lines += [f"| {kind} | {_cell(value)} | {value[3]} |" for kind, value in found["twins"].items()]
    lines += ["", f"| short query, {GALLERY:,} pictures | the first picture shows it | queries |", "|---|---|---|"]
    lines += [f"| {kind} | {_cell(value)} | {value[3]} |" for kind, value in found["short"].items()]
    return "\n".join(lines)


def _row(name: str, values: dict[str, Any], direction: str) -> str:
    cells = " | ".join(_cell(values[f"{direction}_r{k}"]) for k in (1, 5, 10))
    return f"| {name} | {cells} |"


def _cell(value: tuple[float, float, float, int]) -> str:
    share, low, high, _ = (100 * each for each in value)
    return f"{share:.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
