"""Latency of the Kotlin library on the JVM beside Python's onnxruntime, interleaved in one run: needs Maven and a JDK.

`python tools/jvm_latency.py BUNDLE [--threads 1] [--blocks 20] [--count 20]` prints the median of each, and the median
ratio of neighboring blocks, which is to be 1.3 at most. Scope `pipeline`: a PNG of the bundle and a text to the answer;
nothing is remembered. Run it on a quiet machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edgevl.bundle.folder import Bundle
from edgevl.contracts import Query

ANDROID = Path(__file__).parents[1] / "apps" / "android"
WARM_UP = 200  # queries before the first that counts: the JVM compiles what runs often
PYTHON_WARM_UP = 20


class Timed:
    """A process that answers "SCOPE COUNT" with the milliseconds of so many queries."""

    def __init__(self, command: list[str]):
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment
        )

    def times(self, count: int, scope: str = "pipeline") -> list[float]:
        """Return the milliseconds of queries."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        print(scope, count, file=stdin, flush=True)
        return [float(each) for each in stdout.readline().split()]

    def close(self) -> None:
        self._process.communicate(timeout=60)


def java(bundle: Path, threads: int) -> Timed:
    """Start the Kotlin library on a JVM."""
    return Timed(["java", "-cp", classpath(), "edgevl.onnx.LatencyKt", str(bundle), str(threads)])


class Python:
    """The same queries by EdgeVL's own Python."""

    def __init__(self, bundle: Path, threads: int):
        opened = Bundle.open(bundle)
        self._model = opened.checked().opened(threads=threads, remember=0)
        golden = json.loads((bundle / opened.manifest.golden).read_text(encoding="utf-8"))
        picture = min(name for name in opened.manifest.files if name.startswith("golden/"))
        texts = [text for case in golden["cases"] for text in case["texts"]]
        self._query = Query((str(bundle / picture),), tuple(texts[:1]))

    def times(self, count: int) -> list[float]:
        """Return the milliseconds of queries."""
        found = []
        for _ in range(count):
            started = time.perf_counter()
            self._model.answer([self._query])
            found.append(1000 * (time.perf_counter() - started))
        return found


def classpath() -> str:
    """Compile the library and return what a JVM needs to run it."""
    file = ANDROID / "target" / "classpath.txt"
    modules = ("edgevl-core", "edgevl-onnxruntime")
    command = ["mvn", "-q", "-B", "-f", str(ANDROID / "pom.xml"), "-pl", ",".join(modules), "test-compile"]
    command += [
        "-Dexec.skip=true",
        "-Dktlint.skip=true",
        "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:build-classpath",
        f"-Dmdep.outputFile={file}",
    ]
    subprocess.run(command, check=True, stdout=sys.stderr)
    folders = ("classes", "test-classes")
    own = [str(ANDROID / module / "target" / folder) for module in modules for folder in folders]
    return os.pathsep.join([*own, file.read_text(encoding="utf-8").strip()])


def compare(name: str, start: Callable[[Path, int], Timed], warm_up: int, description: str | None) -> None:
    """Read the command line, time a library and Python in turns, and print what `description` says."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args()
    library, python = start(options.bundle, options.threads), Python(options.bundle, options.threads)
    library.times(warm_up)
    library.times(warm_up, "frame")
    python.times(PYTHON_WARM_UP)
    blocks = [(library.times(options.count), python.times(options.count)) for _ in range(options.blocks)]
    frames = library.times(options.count, "frame")
    library.close()
    medians = [statistics.median(time for block in blocks for time in block[side]) for side in (0, 1)]
    ratio = statistics.median(statistics.median(a) / statistics.median(b) for a, b in blocks)
    print(f"pipeline: {name} {medians[0]:.2f} ms, Python {medians[1]:.2f} ms, ratio of neighboring blocks {ratio:.2f}")
    print(f"frame of 1080p (NV12 in memory) to the answer: {name} {statistics.median(frames):.2f} ms")


if __name__ == "__main__":
    compare("JVM", java, WARM_UP, __doc__)
