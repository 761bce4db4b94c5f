"""What a model that finds pictures is worth on Scenes: recall, a larger gallery, other splits, twins of captions.

    python tools/retrieval_table.py runs/retrieval_scenes_nano/model

Each picture is asked for by the longest of its first eight captions. Intervals are of 95 %.
"""

import argparse
import json
from typing import Any

from edgevl.contracts import Metric
from edgevl.data import open_dataset, open_scenes
from edgevl.models.kinds import open_deployable
from edgevl.training.contrast import recall_of
from edgevl.training.twins import twin_metrics

PICTURES, GALLERY = 500, 2000
SETS = (("scenes:test", PICTURES), ("scenes:test", GALLERY), ("scenes:test_pairs", PICTURES))
SETS += (("scenes:test_style", PICTURES),)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder, of ours or of Hugging Face")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    found = measure(args.model)
    print(json.dumps(found, indent=1) if args.json else table(found))


def measure(folder: str) -> dict[str, Any]:
    """Return every metric as (value, low, high, samples)."""
    model = open_deployable(folder)
    size = next(iter(model.images.values())).size
    found: dict[str, Any] = {"model": folder, "sha256": model.sha256}
    for data, pictures in SETS:
        metrics = recall_of(model, open_dataset(data, size=size), pictures)
        found[f"{data}, {pictures:,} pictures"] = {metric.name: _numbers(metric) for metric in metrics}
    twins = twin_metrics(model, open_scenes("scenes:test", size=size), PICTURES)
    found["twins"] = {metric.name: _numbers(metric) for metric in twins}
    return found


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
    return "\n".join(lines)


def _row(name: str, values: dict[str, Any], direction: str) -> str:
    cells = " | ".join(_cell(values[f"{direction}_r{k}"]) for k in (1, 5, 10))
    return f"| {name} | {cells} |"


def _cell(value: tuple[float, float, float, int]) -> str:
    share, low, high, _ = (100 * each for each in value)
    return f"{share:.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
