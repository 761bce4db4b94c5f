"""Latency of the Swift library beside Python's onnxruntime, interleaved in one run: after apps/ios/test.sh.

`python tools/swift_latency.py BUNDLE [--threads 1] [--blocks 20] [--count 20]` prints the median of each, and the
median ratio of neighboring blocks. Scope `pipeline`: a PNG of the bundle and a text to the answer. Run it on a quiet
machine.
"""

from pathlib import Path

from jvm_latency import PYTHON_WARM_UP, Timed, compare

TEST = Path(__file__).parents[1] / "apps" / "ios" / "test.sh"


def swift(bundle: Path, threads: int) -> Timed:
    """Start the Swift library."""
    return Timed([str(TEST), "--latency", str(bundle.resolve()), str(threads)])


if __name__ == "__main__":
    compare("Swift", swift, PYTHON_WARM_UP, __doc__)
