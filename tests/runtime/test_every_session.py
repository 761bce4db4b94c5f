"""What holds for the sessions of every target: threads share them, and a process needs no standard streams."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sessions_of import Chain
from sessions_of import reference as float_session

from edgevl.config import ModelConfig
from edgevl.export.registry import get_exporter
from edgevl.models import build_model
from edgevl.quiet import quiet_python, shared, without_bars, without_native_stderr
from edgevl.runtime import Session, open_session
from edgevl.runtime.session import ArtifactSession, TensorSpec

CONFIG = ModelConfig(
    name="toy", backbone="test_resnet", backbone_options={"zero_init_last": False}, image_size=32, text_length=6,
    vocab_size=50, num_answers=10, width=32, depth=1, heads=2,
)  # fmt: skip
TARGETS = {"onnx": "onnx", "coreml": "coremltools", "litert": "litert_torch", "executorch": "executorch",
           "coreai": "coreai_torch", "tensorrt": "onnx"}  # fmt: skip
AT_ONCE = {"torch", "onnx", "coreml", "tensorrt", "coreai", "split"}  # where threads need not take turns
THREADS, ROUNDS = 4, 6


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> dict[str, Path]:
    """The toy model for each target that can be exported to here."""
    torch.manual_seed(0)
    model, folder = build_model(CONFIG), tmp_path_factory.mktemp("toy")
    here = [target for target, package in TARGETS.items() if importlib.util.find_spec(package)]
    return {target: get_exporter(target).export(model, folder / target, "fp32") for target in here}


@pytest.fixture(scope="module")
def sessions(artifacts: dict[str, Path]) -> dict[str, Session]:
    opened: dict[str, Session] = {name: open_session(path, name, threads=1) for name, path in artifacts.items()}
    opened["torch"] = float_session(build_model(CONFIG), threads=1)
    whole = opened["onnx"]
    opened["split"] = Chain(Half(whole.inputs, "visual"), Half((_VISUAL, whole.inputs[1]), "logits"))
    return opened


_VISUAL = TensorSpec("visual", "float32", (1, 4))


class Half(ArtifactSession):
    """One half of a model, as a function of sums; it says of itself that threads may be in it at once."""

    thread_safe, runtime = True, "NumPy"

    def __init__(self, inputs: tuple[TensorSpec, ...], gives: str):
        super().__init__()
        self.inputs = tuple(spec for spec in inputs if gives == "logits" or spec.name == "image")
        self.outputs = (TensorSpec(gives, "float32", _VISUAL.shape),)

    def _run(self, feeds):
        total = sum(float(array.sum()) for array in feeds.values())
        return {self.outputs[0].name: np.full(_VISUAL.shape, total, np.float32)}


def feeds(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = np.zeros((1, 6), np.int32)
    ids[0, :4] = rng.integers(1, 50, 4)
    return {"image": rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8), "input_ids": ids}


def in_threads(work: Callable[[int], None], count: int = THREADS) -> list[Exception]:
    """Run `work(number)` in several threads that start together. Returns what they raised."""
    start, raised = threading.Barrier(count), list[Exception]()

    def run(number: int) -> None:
        try:
            start.wait(60)
            work(number)
        except Exception as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return raised


@pytest.mark.parametrize("name", [*TARGETS, "torch", "split"])
def test_threads_share_a_session(sessions: dict[str, Session], name: str) -> None:
    if name not in sessions:
        pytest.skip(f"the exporter of {name} is not installed")
    session, asked = sessions[name], [feeds(seed) for seed in range(ROUNDS)]
    alone = [session.run(arrays) for arrays in asked]
    wrong = []

    def work(number: int) -> None:
        for turn in range(2 * ROUNDS):
            index = (turn + number) % ROUNDS  # every thread asks something else
            got = session.run(asked[index])
            wrong.extend(key for key, value in got.items() if not np.array_equal(value, alone[index][key]))

    assert in_threads(work) == [] and not wrong
    assert session.thread_safe == (name in AT_ONCE)


def test_sessions_of_one_pool_are_used_and_opened_in_many_threads(artifacts: dict[str, Path]) -> None:
    """ExecuTorch has one pool for all: another number of threads unloads a method that may be running."""
    if "executorch" not in artifacts:
        pytest.skip("executorch is not installed")
    expected = open_session(artifacts["executorch"], "executorch", 1).run(feeds(1))["logits"]

    def work(number: int) -> None:
        for _ in range(3):
            session = open_session(artifacts["executorch"], "executorch", 1 + number % 2)
            np.testing.assert_allclose(session.run(feeds(1))["logits"], expected, atol=1e-5)

    assert in_threads(work) == []


def test_opening_in_many_threads_leaves_the_process_as_it_was(artifacts: dict[str, Path]) -> None:
    """What silences a library belongs to the whole process: whoever leaves last must find the beginning again."""
    import tqdm

    def state() -> tuple[object, ...]:
        return (logging.root.manager.disable, list(warnings.filters), tqdm.tqdm.__init__, sys.stdout, sys.stderr,
                os.fstat(2).st_ino, os.fstat(2).st_dev)  # fmt: skip

    before, names = state(), [name for name in artifacts if name != "tensorrt"]

    def work(number: int) -> None:
        name = names[number % len(names)]
        open_session(artifacts[name], name, threads=1).run(feeds(number))

    for _ in range(3):
        assert in_threads(work, 2 * len(names)) == []
    assert state() == before


@pytest.mark.parametrize("quiet", [quiet_python, without_bars, without_native_stderr])
def test_blocks_that_overlap_in_any_order(quiet) -> None:
    """The first to enter is the first to leave, which a pair of nested blocks never does."""
    before, inode = logging.root.manager.disable, os.fstat(2).st_ino
    first, second = quiet(), quiet()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    changed = logging.root.manager.disable != before or os.fstat(2).st_ino != inode or quiet is without_bars
    second.__exit__(None, None, None)
    assert changed, "the second still has what it asked for"
    assert (logging.root.manager.disable, os.fstat(2).st_ino) == (before, inode)


def test_a_change_that_fails_is_not_undone_and_is_tried_again() -> None:
    import contextlib

    calls = []

    @shared
    @contextlib.contextmanager
    def fails():
        calls.append("in")
        if len(calls) == 1:
            raise OSError("no")
        yield
        calls.append("out")

    with pytest.raises(OSError, match="no"), fails():
        pass
    with fails(), fails():
        pass
    assert calls == ["in", "in", "out"]


QUIETED = ("litert", "executorch", "coreai")  # what touches a stream; coremltools opens one of its own where none is
WITHOUT = """
import json, os, sys
import numpy as np
from edgevl.runtime import open_session

assert sys.stderr is None, "the test is about a process without one"
sys.path[:0] = [sys.argv[1], os.path.dirname(sys.argv[1])]
from test_every_session import feeds

said = {}
for name, path in json.loads(sys.argv[2]).items():
    try:
        said[name] = open_session(path, name, threads=1).run(feeds(2))["logits"].tolist()
    except Exception as error:
        said[name] = repr(error)
said["streams"] = [sys.stdout, sys.stderr] if sys.stdout is None else None
with open(sys.argv[3], "w") as file:
    json.dump(said, file)
"""


@pytest.mark.skipif(os.name == "nt", reason="a shell closes the streams")
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_without_standard_streams(artifacts, sessions, tmp_path: Path, closed: str) -> None:
    """Under pythonw.exe, in windowed programs and some services `sys.stderr` is None: every artifact loads and runs."""
    script, out = tmp_path / "without.py", tmp_path / "said.json"
    script.write_text(WITHOUT, encoding="utf-8")
    chosen = {name: path for name, path in artifacts.items() if name in QUIETED}
    paths = json.dumps({name: str(path) for name, path in chosen.items()})
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, script, Path(__file__).parent, paths, out]
    done = subprocess.run(list(map(str, command)), timeout=300)
    said = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    assert done.returncode == 0 and said["streams"] == (None if closed == "2>&-" else [None, None])
    for name in chosen:
        assert isinstance(said[name], list), f"{name}: {said[name]}"
        np.testing.assert_allclose(said[name], sessions[name].run(feeds(2))["logits"], atol=1e-5)
