"""Accuracy of model folders on the same samples, and how far each is ahead of the first.

    python tools/compare_models.py nano runs/finetune_scenes_nano_grown/model --data scenes:val --samples 2000

The interval is that of the difference on paired samples: those that both answer alike say nothing about it.
"""

import argparse
import math

import numpy as np

from edgevl.embedded import model_folder
from edgevl.models.checkpoint import load_model
from edgevl.models.question_answering import question_answering
from edgevl.opened import eager
from edgevl.verify.measure import ask, draw


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="model folders; nano is the embedded one")
    parser.add_argument("--data", default="scenes:val")
    parser.add_argument("--samples", type=int, default=2000)
    args = parser.parse_args(argv)
    first: np.ndarray | None = None
    print(f"| model | parameters | {args.data}, {args.samples} | ahead of the first, points |\n|---|---|---|---|")
    for name in args.models:
        loaded = load_model(model_folder(name))
        samples = draw(args.data, loaded.config.task, args.samples, loaded.config.image_size)
        answers = ask(eager(question_answering(loaded)), samples)
        correct = np.array([answer.result[0] in sample.target for answer, sample in zip(answers, samples)])
        first = correct if first is None else first
        millions = sum(parameter.numel() for parameter in loaded.model.parameters()) / 1e6
        print(f"| {name} | {millions:.2f} M | {100 * correct.mean():.2f} | {lead(correct, first)} |", flush=True)


def lead(correct_N: np.ndarray, first_N: np.ndarray) -> str:
    """Difference of two accuracies on the same samples, with its 95 % interval (normal approximation)."""
    difference = correct_N.astype(float) - first_N.astype(float)
    half = 1.96 * difference.std() / math.sqrt(len(difference))
    return f"{100 * difference.mean():+.2f} ± {100 * half:.2f}" if correct_N is not first_N else ""


if __name__ == "__main__":
    main()
