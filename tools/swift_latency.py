"""Latency of the Swift library beside Python's onnxruntime, interleaved in one run: after apps/ios/test.sh.

`python tools/swift_latency.py BUNDLE [--threads 1] [--blocks 20] [--count 20]` prints the median of each, and the
median ratio of neighboring blocks. Scope `pipeline`: a PNG of the bundle and a text to the answer. Run it on a quiet
machine.
"""

import argparse
import statistics
import subprocess
from pathlib import Path

from jvm_latency import Python

TEST = Path(__file__).parents[1] / "apps" / "ios" / "test.sh"
WARM_UP = 20  # queries before the first that counts


class Swift:
    """A process that answers "SCOPE COUNT" with the milliseconds of so many queries."""

    def __init__(self, bundle: Path, threads: int):
        command = [str(TEST), "--latency", str(bundle.resolve()), str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def times(self, count: int, scope: str = "pipeline") -> list[float]:
        """Return the milliseconds of queries."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        print(scope, count, file=stdin, flush=True)
        return [float(each) for each in stdout.readline().split()]

    def close(self) -> None:
        self._process.communicate(timeout=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args()
    swift, python = Swift(options.bundle, options.threads), Python(options.bundle, options.threads)
    swift.times(WARM_UP)
    swift.times(WARM_UP, "frame")
    python.times(WARM_UP)
    blocks = [(swift.times(options.count), python.times(options.count)) for _ in range(options.blocks)]
    frames = swift.times(options.count, "frame")
    swift.close()
    medians = [statistics.median(time for block in blocks for time in block[side]) for side in (0, 1)]
    ratio = statistics.median(statistics.median(a) / statistics.median(b) for a, b in blocks)
    print(f"pipeline: Swift {medians[0]:.2f} ms, Python {medians[1]:.2f} ms, ratio of neighboring blocks {ratio:.2f}")
    print(f"frame of 1080p (NV12 in memory) to the answer: Swift {statistics.median(frames):.2f} ms")


if __name__ == "__main__":
    main()
