"""From the shell to an answer: processes started in turns, their wall time and peak memory, and the bytes of bundles.

python tools/startup.py BUNDLE... nano       # 11 rounds, medians with the smallest and the largest

A model folder, or `nano`, answers in PyTorch and has no row in the second table.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from edgevl.bundle.folder import Bundle, is_bundle


def commands(bundles: list[Path]) -> dict[str, list[str]]:
    python, module = [sys.executable], [sys.executable, "-m", "edgevl"]
    return {
        "python -c pass": [*python, "-c", "pass"],
        'python -c "import edgevl"': [*python, "-c", "import edgevl"],
        "edgevl --version": [*module, "--version"],
        "edgevl --help": [*module, "--help"],
        **{
            f"edgevl predict {path.name} sample": [*module, "predict", str(path), "sample", "is there a cat?"]
            for path in bundles
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path, help="bundles, model folders, or nano")
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {}
    for _ in range(arguments.rounds + 1):
        for name, command in commands(arguments.bundles).items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times.setdefault(name, []).append(time.perf_counter() - began)
    print("| command | seconds | least to most |\n|---|---|---|")
    for name, each in times.items():
        warm = each[1:]
        print(f"| `{name}` | {statistics.median(warm):.2f} | {min(warm):.2f} to {max(warm):.2f} |")
    print("\n| bundle | kB | of it the artifact |\n|---|---|---|")
    for path in [path for path in arguments.bundles if is_bundle(path)]:
        manifest = Bundle.open(path).manifest
        whole = sum(entry.bytes for entry in manifest.files.values())
        print(f"| {path.name} | {whole / 1000:,.0f} | {manifest.artifact_bytes / 1000:,.0f} |")
    print(f"\nmost memory of a process: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
