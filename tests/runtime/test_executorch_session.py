"""Sessions of ExecuTorch: threads, what a run takes, and files that are damaged. The runtime is C++ and may abort."""

import contextlib
import dataclasses
import os
import signal
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("executorch", reason='ExecuTorch comes with pip install "edgevl[executorch]"')

from edgevl.config import ModelConfig
from edgevl.errors import EdgeVLError, InputError, MissingDependency, VerificationFailed
from edgevl.export.to_executorch import to_pte, write_executorch
from edgevl.formats.executorch_contents import read_executorch
from edgevl.formats.executorch_program import ABSENT, PteProgram
from edgevl.formats.flatbuffer import REUSE, Table
from edgevl.formats.xnnpack_graph import BACKEND, XnnpackGraph
from edgevl.models import build_model
from edgevl.models.question_answering import export_program
from edgevl.runtime import open_session
from edgevl.runtime.executorch_arguments import check_arguments
from edgevl.runtime.executorch_session import ExecutorchSession

CONFIG = ModelConfig(
    name="toy", backbone="test_resnet", image_size=32, text_length=6, vocab_size=50, num_answers=10, width=32, depth=1,
    heads=2,
)  # fmt: skip
VISUAL = np.random.default_rng(0).normal(size=(1, 4, 32)).astype(np.float32)
FEEDS = {"visual": VISUAL, "input_ids": np.arange(6, dtype=np.int32)[None]}


@pytest.fixture(scope="module")
def fusion(tmp_path_factory) -> Path:
    """The smaller half of a model: 80 kB, most of it the graphs."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("fusion") / "fusion.pte"
    write_executorch(export_program(build_model(CONFIG), "raw", part="fusion"), path)
    return path


def test_sessions_that_want_other_threads_live_side_by_side(fusion: Path, capfd) -> None:
    """ExecuTorch has one pool, and XNNPACK keeps a pointer to it: a careless resize would crash the older session."""
    opened = [open_session(fusion, "executorch", threads) for threads in (1, 2, None, 1)]
    expected = opened[0].run(FEEDS)["logits"]
    for _ in range(3):
        for session in opened:
            np.testing.assert_allclose(session.run(FEEDS)["logits"], expected, rtol=0, atol=1e-6)
    assert capfd.readouterr() == ("", ""), "nothing of the runtime's own log"


def test_the_pool_has_as_many_threads_as_asked(fusion: Path) -> None:
    session = ExecutorchSession(fusion, 2)
    assert session._native._threadpool_get_thread_count() == 2
    ExecutorchSession(fusion, 1)
    assert session._native._threadpool_get_thread_count() == 1
    session.run(FEEDS)
    assert session._native._threadpool_get_thread_count() == 2


def test_results_stay_when_the_session_runs_again(fusion: Path) -> None:
    session = open_session(fusion, "executorch")
    first = session.run(FEEDS)["logits"]
    kept = first.copy()
    other = session.run({**FEEDS, "visual": VISUAL[:, ::-1].copy()})["logits"]
    np.testing.assert_array_equal(first, kept)
    assert np.abs(other - first).max() > 1e-4


def test_arrays_that_are_read_only_or_strided(fusion: Path) -> None:
    session = open_session(fusion, "executorch")
    expected = session.run(FEEDS)["logits"]
    strided = np.ascontiguousarray(FEEDS["input_ids"][:, ::-1])[:, ::-1]
    frozen = VISUAL.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(session.run({"visual": frozen, "input_ids": strided})["logits"], expected)


def test_bad_feeds_say_what_is_expected(fusion: Path) -> None:
    session = open_session(fusion, "executorch")
    with pytest.raises(InputError, match=r'"input_ids" has dtype int64; expected visual float32 \[1, 4, 32\]'):
        session.run({**FEEDS, "input_ids": FEEDS["input_ids"].astype(np.int64)})
    with pytest.raises(InputError, match='"visual" is missing'):
        session.run({"input_ids": FEEDS["input_ids"]})


def test_a_missing_runtime_says_what_to_install(fusion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch.extension.pybindings._C", None)
    with pytest.raises(MissingDependency, match=r'pip install "edgevl\[executorch\]"'):
        open_session(fusion, "executorch")


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(EdgeVLError, match="cannot be loaded by ExecuTorch") as caught:
        open_session(path, "executorch")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kept", [0, 7, 8, 39, 40, 1000, 20_000, -1])
def test_a_truncated_file_is_one_line(fusion: Path, tmp_path: Path, kept: int) -> None:
    refusal(tmp_path / "x.pte", fusion.read_bytes()[:kept])


def test_files_of_another_kind(fusion: Path, tmp_path: Path) -> None:
    content = fusion.read_bytes()
    assert "not an ExecuTorch program" in refusal(tmp_path / "x.pte", b"PK" + bytes(100))
    assert "b'ET99', not b'ET12'" in refusal(tmp_path / "x.pte", content[:4] + b"ET99" + content[8:])
    with pytest.raises(EdgeVLError, match="cannot be loaded by ExecuTorch"):
        open_session(tmp_path, "executorch")


def test_an_operator_that_does_not_exist(fusion: Path, tmp_path: Path) -> None:
    changed = fusion.read_bytes().replace(b"aten::embedding", b"aten::\xffmbedding")
    assert "it has no operator" in refusal(tmp_path / "x.pte", changed)
    other = fusion.read_bytes().replace(b"XnnpackBackend", b"XnnpackBackenf")
    (tmp_path / "x.pte").write_bytes(other)
    with pytest.raises(EdgeVLError, match="needs the delegate XnnpackBackenf"):
        open_session(tmp_path / "x.pte", "executorch")


def test_a_program_without_names(fusion: Path, tmp_path: Path) -> None:
    """Files that others wrote have no `input_names`: their inputs are numbered."""
    changed = fusion.read_bytes().replace(b"input_names", b"inputsnames")
    (tmp_path / "x.pte").write_bytes(changed)
    session = open_session(tmp_path / "x.pte", "executorch")
    assert [spec.name for spec in session.inputs] == ["input_0", "input_1"]
    renamed = {"input_0": VISUAL, "input_1": FEEDS["input_ids"]}
    assert np.isfinite(session.run(renamed)["logits"]).all()
    assert "names 1 values, there are 2" in refusal(
        tmp_path / "y.pte", fusion.read_bytes().replace(b"visual,input_ids", b"visual;input_ids")
    )


def test_an_argument_of_the_wrong_kind_does_not_abort(fusion: Path, tmp_path: Path) -> None:
    """The runtime would stop the process: `In function toBool(), assert failed`."""
    content, program = bytearray(fusion.read_bytes()), PteProgram.load(fusion)
    (call,) = (call for call in program.forward.calls if call.operator.startswith("aten::embedding"))
    arguments = struct.pack(f"<{len(call.args)}i", *call.args)
    swapped = struct.pack(f"<{len(call.args)}i", *call.args[:2], call.args[3], *call.args[3:])
    assert content.count(arguments) == 1
    message = refusal(tmp_path / "x.pte", bytes(content).replace(arguments, swapped))
    assert "gives aten::embedding.out a bool where it takes int" in message


class Gather(torch.nn.Module):
    """Attention biases of LeViT and TinyViT: `index` takes one tensor for each axis, or none."""

    rows: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.tensor([2, 0]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image[:, self.rows]


def test_an_absent_tensor_of_a_list(tmp_path: Path) -> None:
    image = torch.arange(6.0).reshape(2, 3)
    program = torch.export.export(Gather(), (image,), strict=True)
    (tmp_path / "x.pte").write_bytes(to_pte(program))
    found = list(open_session(tmp_path / "x.pte", "executorch").run({"image": image.numpy()}).values())
    np.testing.assert_array_equal(found[0], image[:, [2, 0]])
    (operation,) = (each for each in read_executorch(tmp_path / "x.pte").operations if "index" in each.type)
    assert operation.shape == (2, 2)

    method = PteProgram.load(tmp_path / "x.pte").forward
    (place,) = (number for number, kind in enumerate(method.kinds) if kind == "Tensor?[]")
    assert ABSENT in method.values[place]
    for item, refused in ((-2, True), (len(method.kinds), True), (method.kinds.index("Tensor"), False)):
        values = (*method.values[:place], (item,), *method.values[place + 1 :])
        changed = dataclasses.replace(method, values=values)
        with pytest.raises(VerificationFailed, match="gives aten::index") if refused else contextlib.nullcontext():
            check_arguments(changed)


def damaged(content: bytes, regions: list[range], count: int, seed: int) -> Iterator[bytes]:
    """Copies with one to four bytes changed, somewhere in `regions`."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        region, changed = regions[rng.integers(len(regions))], bytearray(content)
        place = int(rng.integers(region.start, region.stop - 4))
        kinds = (rng.bytes(1), b"\xff" * 4, bytes(4), bytes([content[place] ^ (1 << int(rng.integers(8)))]))
        new = kinds[rng.integers(len(kinds))]
        changed[place : place + len(new)] = new
        yield bytes(changed)


def outcome(path: Path, run: Callable[[Path], None]) -> str:
    """What a forked process does with a file: "runs", "refused", or the signal that ended it."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(60)
        code = 3
        try:
            run(path)
            code = 0
        except EdgeVLError:
            code = 1
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return {0: "runs", 1: "refused"}.get(os.WEXITSTATUS(status), "another exception")


def open_and_run(path: Path) -> None:
    session = ExecutorchSession(path, 1)
    session.run({spec.name: np.ones(spec.shape, spec.dtype) for spec in session.inputs})


def test_a_graph_that_claims_to_have_four_billion_arguments(fusion: Path) -> None:
    """They were listed before they were compared: 32 GB for one changed number."""
    program = PteProgram.load(fusion)
    payload = bytearray(next(each.payload for each in program.forward.delegates if each.backend == BACKEND))
    start = struct.unpack_from("<I", payload, 10)[0]  # of the flatbuffer, by the header
    root = Table.root(bytes(payload[start:]), "a graph", (b"XN00", b"XN01"))
    struct.pack_into("<I", payload, start + root._place(3), 2**32 - 1)
    with pytest.raises(VerificationFailed, match="numbers its"):
        XnnpackGraph(bytes(payload), program.named_data)


def test_a_file_is_read_a_few_times_at_most(fusion: Path) -> None:
    """Reading a whole program leaves most of what a file may be read: parts that are shared may be named again."""
    program = PteProgram.load(fusion)
    assert read_executorch(fusion).weights
    assert program._root._left[0] > 0.5 * REUSE * len(program._root._data)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each file is tried in a forked process")
@pytest.mark.parametrize("where", ["program", "delegates"])
def test_damaged_files_never_end_the_process(fusion: Path, tmp_path: Path, where: str) -> None:
    content, program = fusion.read_bytes(), PteProgram.load(fusion)
    regions = [range(struct.unpack_from("<Q", content, 16)[0])]
    if where == "delegates":
        payloads = [bytes(delegate.payload) for delegate in program.forward.delegates]
        regions = [range(content.index(payload), content.index(payload) + len(payload)) for payload in payloads]
    found: Counter[str] = Counter()
    for changed in damaged(content, regions, count=200, seed=5):
        (tmp_path / "x.pte").write_bytes(changed)
        found[outcome(tmp_path / "x.pte", open_and_run)] += 1
    assert found.keys() == {"runs", "refused"}, found
    assert found["refused"] > 100
