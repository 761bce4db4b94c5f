"""The LiteRT session: what it takes and gives, and that no damaged file kills the process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edgevl.config import ModelConfig
from edgevl.errors import EdgeVLError, InputError, MissingDependency, VerificationFailed
from edgevl.export.registry import get_exporter
from edgevl.models import build_model
from edgevl.runtime import open_session
from edgevl.runtime.litert_file import LiteModel, import_schema, numbers, read_model
from edgevl.runtime.litert_session import LiteRTSession
from edgevl.runtime.session import Session, TensorSpec

pytest.importorskip("ai_edge_litert", reason='pip install "edgevl[litert]"')
pytest.importorskip("litert_torch", reason='pip install "edgevl[litert]"')

# timm starts the last norm of a block at zero: the converter would fold the block's convolutions away.
CONFIG = ModelConfig(
    name="toy", backbone="test_resnet", backbone_options={"zero_init_last": False}, image_size=32, text_length=6,
    vocab_size=50, num_answers=10, width=32, depth=1, heads=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    return get_exporter("litert").export(build_model(CONFIG), tmp_path_factory.mktemp("litert"), "fp32")


@pytest.fixture(scope="module")
def session(path: Path) -> Session:
    return open_session(path, "litert", threads=1)


def feeds(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8),
        "input_ids": rng.integers(1, 50, (1, 6)).astype(np.int32),
    }


def test_interface(session: Session) -> None:
    assert session.runtime == "LiteRT (XNNPACK, CPU)"
    assert session.inputs == (TensorSpec("image", "uint8", (1, 32, 32, 3)), TensorSpec("input_ids", "int32", (1, 6)))
    assert session.outputs == (TensorSpec("logits", "float32", (1, 10)),)


def test_a_result_is_a_copy_and_inputs_may_be_any_array(session: Session) -> None:
    first = session.run(feeds(0))["logits"]
    kept = first.copy()
    assert np.abs(session.run(feeds(1))["logits"] - kept).max() > 1e-3
    np.testing.assert_array_equal(first, kept)
    strided = {"image": np.ascontiguousarray(feeds()["image"][:, ::-1])[:, ::-1], "input_ids": feeds()["input_ids"]}
    strided["input_ids"].flags.writeable = False
    np.testing.assert_array_equal(session.run(strided)["logits"], kept)


def test_bad_feeds(session: Session) -> None:
    with pytest.raises(InputError, match=r'"input_ids" has dtype int64; expected image uint8 \[1, 32, 32, 3\]'):
        session.run({**feeds(), "input_ids": feeds()["input_ids"].astype(np.int64)})
    with pytest.raises(InputError, match='"image" is missing'):
        session.run({"input_ids": feeds()["input_ids"]})


def test_threads_and_several_sessions(path: Path, session: Session) -> None:
    expected = session.run(feeds())["logits"]
    for threads in (None, 1, 2):
        np.testing.assert_allclose(open_session(path, "litert", threads).run(feeds())["logits"], expected, atol=1e-5)


def test_loading_prints_nothing(path: Path, capfd: pytest.CaptureFixture) -> None:
    open_session(path, "litert").run(feeds())
    assert capfd.readouterr() == ("", "")


def test_a_missing_runtime_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ai_edge_litert", "ai_edge_litert.interpreter"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)
            with pytest.raises(MissingDependency, match=r'pip install "edgevl\[litert\]"'):
                open_session(path, "litert")


@pytest.mark.parametrize("content", [b"", b"TFL3", b"not a model at all", b"\x1c\x00\x00\x00TFL3", b"\xff" * 64])
def test_no_model_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.tflite").write_bytes(content)
    with pytest.raises(EdgeVLError, match=r"model.tflite is (no LiteRT model|truncated or was changed)") as caught:
        open_session(tmp_path / "model.tflite", "litert")
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)


def test_cut_files(path: Path, tmp_path: Path) -> None:
    content, cut = path.read_bytes(), tmp_path / "cut.tflite"
    for length in np.linspace(8, len(content) - 1, 40).astype(int):
        cut.write_bytes(content[:length])
        with pytest.raises(EdgeVLError, match=r"truncated|damaged"):
            open_session(cut, "litert")


def _write_over_a_weight(model: LiteModel) -> None:
    """Found by fuzzing: the interpreter computes into memory that is mapped read-only."""
    constant = next(tensor for tensor in model.tensors if model.stored(tensor) is not None)
    model.tensors[int(model.operators[5].outputs[0])].buffer = constant.buffer


def _cut_a_weight(model: LiteModel) -> None:
    buffer = max((buffer for buffer in model.tree.buffers if buffer.data is not None), key=lambda item: len(item.data))
    buffer.data = buffer.data[:-4]


def _swap_operators(model: LiteModel) -> None:
    model.operators[3], model.operators[60] = model.operators[60], model.operators[3]
    model.graph.operators = model.operators


def _hide_an_input(model: LiteModel) -> None:
    model.graph.inputs = [model.graph.inputs[0]]


def _name_no_output(model: LiteModel) -> None:
    model.tree.signatureDefs = []


def _set(what: str, value: int):
    def change(model: LiteModel) -> None:
        operator, tensor = model.operators[4], model.tensors[int(model.operators[4].outputs[0])]
        if what == "buffer":
            tensor.buffer = value
        elif what == "opcode":
            operator.opcodeIndex = value
        elif what == "type":
            tensor.type = value
        elif what == "input":
            operator.inputs = [value, *list(numbers(operator.inputs))[1:]]
        else:
            tensor.shape = [value, value, value, value]

    return change


DAMAGE = {
    "a result over a weight": (_write_over_a_weight, "is computed over a value that is there"),
    "a weight too short": (_cut_a_weight, r"needs [\d,]+ bytes, [\d,]+ are stored"),
    "operators out of order": (_swap_operators, "is used before it is computed"),
    "an input that is none": (_hide_an_input, "the inputs of the signature are not those of the graph"),
    "no signature": (_name_no_output, "0 signatures are there"),
    "buffer": (_set("buffer", 10**6), "is number 1000000 of"),
    "operator code": (_set("opcode", 99), "an operator's code is number 99 of"),
    "operand": (_set("input", 10**6), "an operand is number 1000000 of"),
    "negative operand": (_set("input", -7), "an operand is number -7 of"),
    "unknown type": (_set("type", 99), "has the unknown type 99"),
    "a huge tensor": (_set("shape", 60000), "would take 51,840,000,000,000,000,000 bytes"),
    "a shape that is not fixed": (_set("shape", -1), "which is not fixed"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_parts_that_do_not_fit(path: Path, tmp_path: Path, kind: str) -> None:
    from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray

    change, message = DAMAGE[kind]
    model = read_model(path, "a test")
    change(model)
    (tmp_path / "model.tflite").write_bytes(convert_object_to_bytearray(model.tree))
    with pytest.raises(VerificationFailed, match=message):
        LiteRTSession(tmp_path / "model.tflite")


def test_an_operator_that_this_runtime_does_not_have(path: Path, tmp_path: Path) -> None:
    """Well formed, and refused by LiteRT itself."""
    from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray

    model = read_model(path, "a test")
    model.tree.operatorCodes[0].version = 1000
    (tmp_path / "model.tflite").write_bytes(convert_object_to_bytearray(model.tree))
    with pytest.raises(EdgeVLError, match=r"cannot be loaded by LiteRT \(Didn't find op .* version '1000'"):
        LiteRTSession(tmp_path / "model.tflite")


FUZZ = """
import random, sys
from pathlib import Path
import numpy as np
from edgevl.errors import EdgeVLError
from edgevl.formats import read_artifact
from edgevl.runtime.litert_file import read_model
from edgevl.runtime.litert_session import LiteRTSession
source, folder, start, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
content = source.read_bytes()
model = read_model(source, "a test")
graph = np.ones(len(content), bool)  # the bytes that are no weights
first = np.frombuffer(content, np.uint8).ctypes.data
for tensor in model.tensors:
    stored = model.stored(tensor)
    if stored is not None and len(stored) > 256:
        graph[stored.ctypes.data - first :][: len(stored)] = False
places = np.flatnonzero(graph).tolist()
for seed in range(start, start + count):
    print(seed, flush=True)
    chance, damaged = random.Random(seed), bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 20))):
        place = chance.choice(places)
        damaged[place] = chance.choice((damaged[place] ^ 1 << chance.randrange(8), chance.randrange(256)))
    path = folder / "damaged.tflite"
    path.unlink(missing_ok=True)  # a new file: the old one may still be mapped
    path.write_bytes(damaged)
    try:
        session = LiteRTSession(path, threads=1)
        session.run({spec.name: np.zeros(spec.shape, spec.dtype) for spec in session.inputs})
    except EdgeVLError as error:
        assert "\\n" not in str(error), error
    try:
        read_artifact(path, "litert")
    except EdgeVLError:
        pass
"""


def fuzz(path: Path, folder: Path, start: int, count: int) -> None:
    command = [sys.executable, "-c", FUZZ, str(path), str(folder), str(start), str(count)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=800, encoding="utf-8")
    last = answer.stdout.split()[-1:]
    assert answer.returncode == 0, f"seed {last}: exit {answer.returncode}: {answer.stderr[-2000:]}"


def test_flipped_bits_do_not_kill_the_process(path: Path, tmp_path: Path) -> None:
    fuzz(path, tmp_path, 0, 80)


@pytest.mark.slow
def test_many_flipped_bits_do_not_kill_the_process(path: Path, tmp_path: Path) -> None:
    fuzz(path, tmp_path, 1000, 1500)


def test_the_schema_is_found() -> None:
    assert import_schema("a test").ModelT
