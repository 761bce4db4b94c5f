"""How long a search takes: the pictures of Scenes in a folder, an index of them, then captions one after the other.

    python tools/search_speed.py                              # nano-retrieval in PyTorch, 2 000 pictures, 500 captions
    python tools/search_speed.py nano-retrieval-onnx-fp32.edgevl

`query_ms`: from the text to the list of hits, with the model loaded and the index open: what is waited for in a process
that is warm. `open` looks at every file of the folder for changes. `shell_s`: `edgevl search FOLDER TEXT` as a command,
whole, which loads Python and the model, opens the index and asks once. Every first one is not counted.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgevl.bench.machine import cpu_name
from edgevl.data import open_dataset
from edgevl.embedded import FINDS_PICTURES, model_folder
from edgevl.guard.processes import run_module
from edgevl.search.finder import Embedder, Finder
from edgevl.tasks.retrieval import Retrieval

DATA = "scenes:test"
WARM_UP = 20  # queries


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=FINDS_PICTURES.name, help="a bundle or a model folder")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--commands", type=int, default=5, help="of the shell, after one that is not counted")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="edgevl-search-") as folder:
        found = measure(args.model, Path(folder), args.pictures, args.queries)
        print(json.dumps(found | {"shell_s": from_shell(args.model, Path(folder), args.commands)}, indent=1))


def measure(model: str, folder: Path, pictures: int, queries: int) -> dict[str, Any]:
    """Return seconds of making the index and of opening it again, and milliseconds of queries.

    Processor time per query is what it costs; wall time is more where others use the machine.
    """
    texts = write_pictures(folder, pictures)
    embedder = Embedder.load(model_folder(model))
    made, _ = seconds(lambda: Finder.open(folder, embedder))
    opened, finder = seconds(lambda: Finder.open(folder, embedder))
    asked = list(dict.fromkeys(texts))[: WARM_UP + queries]  # each once: PyTorch's runner remembers what it computed
    cpu = time.process_time()
    times = np.array([seconds(lambda text=text: finder.find(text))[0] for text in asked])[WARM_UP:] * 1000
    cpu = (time.process_time() - cpu) / len(asked) * 1000
    return {
        "model": embedder.name,
        "pictures": len(finder.index.entries),
        "machine": cpu_name(),
        "make_index_s": round(made, 1),
        "open_again_s": round(opened, 3),
        "queries": len(times),
        "query_ms": {name: round(float(value), 2) for name, value in summary(times).items()},
        "cpu_ms_per_query": round(cpu, 2),
    }


def from_shell(model: str, folder: Path, count: int) -> dict[str, float]:
    """Return seconds of `edgevl search` from its start to its end, of a folder whose index is there."""
    command, environment = run_module("edgevl", ["search", str(folder), "a red car", "--model", model])

    def ask() -> None:
        subprocess.run(command, env=environment, check=True, capture_output=True)

    times = [seconds(ask)[0] for _ in range(1 + count)][1:]
    return {"lowest": round(min(times), 2), "p50": round(float(np.median(times)), 2)}


def write_pictures(folder: Path, count: int) -> list[str]:
    """Write pictures as PNG and return a caption of each."""
    dataset, texts = open_dataset(DATA), []
    for index in range(count):
        (sample,) = Retrieval().samples(dataset[index])
        Image.fromarray(np.asarray(sample.query.pictures[0])).save(folder / f"{index:05d}.png")
        texts += sample.query.texts
    return texts


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def summary(times: np.ndarray) -> dict[str, Any]:
    """Return quantiles, and the medians of five parts of the run, which say how quiet the machine was."""
    parts = [float(np.median(part)) for part in np.array_split(times, 5)]
    quantiles = dict(zip(("p50", "p90", "p99"), np.percentile(times, (50, 90, 99))))
    return {**quantiles, "max": times.max(), "lowest_p50_of_fifths": min(parts), "highest_p50_of_fifths": max(parts)}


if __name__ == "__main__":
    main()
