"""From a CSV to a verified bundle: photos made from Scenes whose colors have other names, in other words.

    python tools/csv_line.py --out runs/csv_line

Writes pictures and `photos.csv` as a user has them, then runs the commands of docs/own-data.md and prints one JSON
object: accuracy of the Core ML artifact, of the text alone, and the seconds of each step.
"""

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from edgevl.data.scenes import COLORS, Question, Scenes

RENAMED = dict(zip(COLORS, ("crimson", "tangerine", "lemon", "emerald", "aqua", "navy", "violet", "rose"), strict=True))
OTHERWISE = {"yes": "true", "no": "false", "small": "tiny", "large": "huge"}  # answers that have other names, too
KINDS = ("color", "count", "exists", "what", "size")  # of question: what somebody asks about photos


def write_photos(folder: Path, pictures: int, questions: int, seed: int = 77) -> Path:
    """Write pictures and a table of at most `questions` questions about each; return the table."""
    (folder / "photos").mkdir(parents=True)
    table = folder / "photos.csv"
    scenes = Scenes("train", seed)
    with table.open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["Image", "Question", "Answer"])
        for index in range(pictures):
            scene, name = scenes.scene(index), f"photos/IMG_{index:04d}.png"
            Image.fromarray(scene.image).save(folder / name)
            rows.writerows((name, *renamed(question)) for question in scene.questions(questions, KINDS))
    return table


def renamed(question: Question) -> tuple[str, str]:
    """Return text and answer in the other words."""
    words = question.text.replace("?", " ?").split()
    text = " ".join(RENAMED.get(word, word) for word in words).replace(" ?", "?")
    return text, RENAMED.get(question.answer, OTHERWISE.get(question.answer, question.answer))


def commands(folder: Path, changes: list[str]) -> dict[str, list[str]]:
    """Return the commands by name."""
    data, run, bundle = folder / "data", folder / "run", folder / "photos.edgevl"
    export = ["export", str(run / "model"), "--target", "coreml", "--out", str(bundle)]
    return {
        "import": ["data", "import", str(folder / "photos.csv"), "--out", str(data), "--json"],
        "finetune": ["finetune", "finetune_photos_nano", f"data={data}", *changes, "--out", str(run)],
        "export": export,
        "verify": ["verify", str(bundle), "--checkpoint", str(run / "model"), "--json"],
    }


def run_line(folder: Path, pictures: int, questions: int, changes: list[str], samples: int | None) -> dict[str, Any]:
    """Run it all; return the numbers. Raises `CalledProcessError` for a command that fails."""
    write_photos(folder, pictures, questions)
    printed, seconds = {}, {}
    for name, arguments in commands(folder, changes).items():
        if name == "verify" and samples:
            arguments = [*arguments, "--samples", str(samples)]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "edgevl", *arguments], check=True, stdout=subprocess.PIPE, encoding="utf-8"
        )
        seconds[name] = round(time.perf_counter() - started, 1)
        printed[name] = done.stdout
    report, verified = json.loads(printed["import"]), json.loads(printed["verify"])
    return {
        "pictures": {split: counts["pictures"] for split, counts in report["splits"].items()},
        "questions": sum(counts["questions"] for counts in report["splits"].values()),
        "labels": report["labels"],
        "blind_accuracy": report["blind_accuracy"],
        "accuracy": verified["accuracy"],
        "seconds": seconds,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/csv_line"))
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--questions", type=int, default=10, help="of each picture")
    parser.add_argument("--samples", type=int, help="questions that the artifact is verified on; default: verify's own")
    parser.add_argument("changes", nargs="*", help="overrides of the recipe")
    args = parser.parse_args(argv)
    print(json.dumps(run_line(args.out, args.pictures, args.questions, args.changes, args.samples), indent=1))


if __name__ == "__main__":
    main()
