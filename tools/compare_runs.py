"""Set the curves of two training runs side by side: a picture, and a table of means over windows of steps.

python tools/compare_runs.py runs/pretrain_scenes_nano runs/pretrain_without_visual --out docs/images/visual_losses.png
"""

import argparse
from pathlib import Path

from edgevl.training.metric_log import METRICS, read_rows

Row = dict[str, float]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs=2)
    parser.add_argument("--metrics", nargs="+", default=["mlm", "itm", "itc"])
    parser.add_argument("--window", type=int, default=50, help="steps in a row of the table")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    logs = [read_rows(run / METRICS) for run in args.runs]
    last = min(int(log[-1]["step"]) for log in logs)
    logs = [[row for row in log if row["step"] <= last] for log in logs]
    draw(logs, [run.name for run in args.runs], args.metrics, args.out)
    print("| steps | " + " | ".join(f"{name} | {name}, other" for name in args.metrics) + " |")
    print("|---" * (1 + 2 * len(args.metrics)) + "|")
    for start in range(0, last - args.window + 1, args.window):
        means = [mean(log, start, start + args.window, name) for name in args.metrics for log in logs]
        print(f"| {start + 1}-{start + args.window} | " + " | ".join(f"{value:.3f}" for value in means) + " |")


def mean(log: list[Row], start: int, end: int, name: str) -> float:
    """Mean of the logged values of steps start < step <= end."""
    values = [row[name] for row in log if start < row["step"] <= end and name in row]
    return sum(values) / len(values)


def draw(logs: list[list[Row]], labels: list[str], metrics: list[str], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["text.parse_math"] = False  # names of folders are no formulas
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(metrics), figsize=(4.2 * len(metrics), 3.4), constrained_layout=True, squeeze=False
    )
    for axis, name in zip(axes[0], metrics, strict=True):
        for log, label in zip(logs, labels, strict=True):
            axis.plot([row["step"] for row in log], [row[name] for row in log], label=label, linewidth=1.2)
        axis.set(title=name, xlabel="step")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=80, metadata={"Software": None})


if __name__ == "__main__":
    main()
