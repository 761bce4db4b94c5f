"""One dict of arrays, three runtimes, one answer."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sessions_of import reference as float_session

from edgevl.config import ModelConfig
from edgevl.errors import EdgeVLError, InputError, MissingDependency
from edgevl.export.registry import get_exporter
from edgevl.models import VqaModel, build_model
from edgevl.runtime import Session, open_session
from edgevl.runtime.eager_session import torch_threads

CONFIG = ModelConfig(
    name="toy", image_size=32, text_length=6, vocab_size=50, num_answers=10, width=32, depth=1, heads=2, dropout=0.1
)


@pytest.fixture(scope="module")
def model() -> VqaModel:
    torch.manual_seed(0)
    return build_model(CONFIG)


@pytest.fixture(scope="module")
def sessions(model: VqaModel, tmp_path_factory) -> dict[str, Session]:
    folder = tmp_path_factory.mktemp("artifacts")
    opened: dict[str, Session] = {"torch": float_session(model, threads=1)}
    for target, precision in (("onnx", "fp32"), ("coreml", "fp32"), ("coreml", "fp16")):
        path = get_exporter(target).export(model, folder / precision, precision)
        opened[f"{target}-{precision}"] = open_session(path, target, threads=1)
    return opened


def feeds(seed: int = 0, words: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = np.zeros((1, 6), np.int32)
    ids[0, :words] = rng.integers(1, 50, words)
    return {"image": rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8), "input_ids": ids}


@pytest.mark.parametrize(("name", "tolerance"), [("onnx-fp32", 1e-4), ("coreml-fp32", 1e-4), ("coreml-fp16", 2e-2)])
def test_every_runtime_gives_the_same_logits(sessions: dict[str, Session], name: str, tolerance: float) -> None:
    for seed in range(4):
        expected = sessions["torch"].run(feeds(seed, words=seed + 2))
        got = sessions[name].run(feeds(seed, words=seed + 2))
        assert got.keys() == expected.keys() == {"logits"}
        assert got["logits"].dtype == np.float32
        np.testing.assert_allclose(got["logits"], expected["logits"], rtol=tolerance, atol=tolerance)


def test_every_runtime_declares_the_same_interface(sessions: dict[str, Session]) -> None:
    for session in sessions.values():
        assert isinstance(session, Session)
        assert [str(spec) for spec in session.inputs] == ["image uint8 [1, 32, 32, 3]", "input_ids int32 [1, 6]"]
        assert [str(spec) for spec in session.outputs] == ["logits float32 [1, 10]"]


def test_what_is_in_the_picture_and_in_the_padding(sessions: dict[str, Session]) -> None:
    """The picture and the words matter; a batch of read-only, strided arrays is as good as any other."""
    for session in sessions.values():
        base, other = feeds(), feeds()
        other["image"] = 255 - other["image"]
        assert np.abs(session.run(base)["logits"] - session.run(other)["logits"]).max() > 1e-3
        strided = {
            "image": np.ascontiguousarray(base["image"][:, ::-1])[:, ::-1],
            "input_ids": base["input_ids"].copy(),
        }
        strided["input_ids"].flags.writeable = False
        np.testing.assert_array_equal(session.run(strided)["logits"], session.run(base)["logits"])


BAD_FEEDS = {
    "missing": (lambda f: {"image": f["image"]}, 'input "input_ids" is missing'),
    "extra": (lambda f: {**f, "mask": f["input_ids"]}, 'unknown input "mask"'),
    "wrong dtype": (lambda f: {**f, "input_ids": f["input_ids"].astype(np.int64)}, "has dtype int64"),
    "float image": (lambda f: {**f, "image": f["image"].astype(np.float32)}, "has dtype float32"),
    "wrong size": (lambda f: {**f, "image": f["image"][:, :31]}, r"has shape \[1, 31, 32, 3\]"),
    "no batch": (lambda f: {**f, "image": f["image"][0]}, r"has shape \[32, 32, 3\]"),
    "a list": (lambda f: {**f, "input_ids": f["input_ids"].tolist()}, "is a list, not a NumPy array"),
}


@pytest.mark.parametrize("kind", BAD_FEEDS)
def test_bad_feeds_say_what_is_expected(sessions: dict[str, Session], kind: str) -> None:
    change, message = BAD_FEEDS[kind]
    for session in sessions.values():
        with pytest.raises(InputError, match=message) as caught:
            session.run(change(feeds()))
        assert "expected image uint8 [1, 32, 32, 3], input_ids int32 [1, 6]" in str(caught.value)


def test_bad_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="threads 0"):
        open_session(tmp_path, "onnx", threads=0)
    with pytest.raises(InputError, match='did you mean "coreml"'):
        open_session(tmp_path, "corml")
    with pytest.raises(InputError, match="does not exist"):
        open_session(tmp_path / "model.onnx", "onnx")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a\x12\x04"])
def test_a_corrupted_onnx_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(EdgeVLError, match="cannot be loaded by ONNX Runtime") as caught:
        open_session(path, "onnx")
    assert "\n" not in str(caught.value)


def test_a_missing_runtime_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(MissingDependency, match=r'pip install "edgevl\[onnx\]"'):
        open_session(tmp_path / "model.onnx", "onnx")
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingDependency, match=r'pip install "edgevl\[coreml\]"'):
        open_session(tmp_path, "coreml")


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with torch_threads(None):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
