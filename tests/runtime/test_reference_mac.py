"""What only a Mac can settle: the questions' programs run here, and a file of answers is read and compared."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgevl.runtime.coreml_reference.mac import UNITS, main, read, which
from edgevl.runtime.coreml_reference.questions import QUESTIONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "coreml-reference.md"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """What `record` writes where there is no Mac."""
    path = tmp_path_factory.mktemp("mac") / "answers.npz"
    assert main(["record", str(path)]) == 0
    return path


def test_the_executor_gives_the_answers_that_it_is_said_to_give(recorded: Path, capsys: pytest.CaptureFixture) -> None:
    answers = read(recorded)
    for name, question in QUESTIONS.items():
        answer = answers[f"{name}/REFERENCE"]
        assert which(question, answer) == ([] if question.ours is None else [question.ours]), (name, answer)
        assert (question.ours is None) == (str(answer).startswith(("refused: ", "failed: "))), (name, answer)
    assert json.loads(str(answers["about"]))["coremltools"]
    assert main(["check", str(recorded)]) == 0
    assert "every answer is the executor's" in capsys.readouterr().out


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_possible_answers_differ(name: str) -> None:
    question = QUESTIONS[name]
    assert len(question.answers) > 1
    for words, expected in question.answers.items():
        assert which(question, np.asarray(expected)) == [words]


def test_answers_of_a_mac_are_named(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A file as a Mac would send it: one unit answers otherwise, one fails, and the questions left open are settled."""
    arrays = {"about": np.array(json.dumps({"system": "macOS 26.1", "machine": "arm64", "coremltools": "9.0"}))}
    for name, question in QUESTIONS.items():
        first = np.asarray(next(iter(question.answers.values())))
        own = np.asarray(question.answers.get(question.ours or "", first))
        arrays |= {f"{name}/{unit}": own for unit in UNITS}
    arrays["nearest-factor/CPU_AND_GPU"] = np.asarray(QUESTIONS["nearest-factor"].answers["the ratio of the sizes"])
    arrays["round-ties/CPU_AND_NE"] = np.array("failed: the model cannot be compiled")
    path = tmp_path / "mac.npz"
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    assert main(["check", str(path)]) == 4
    shown = capsys.readouterr().out
    assert "macOS 26.1, arm64, coremltools 9.0" in shown
    assert "nearest-factor, CPU_AND_GPU: the ratio of the sizes; the executor: the file's factor" in shown
    assert "round-ties, CPU_AND_NE: failed: the model cannot be compiled; the executor: to even" in shown
    assert "slice-outside, CPU_ONLY: moved back inside; the executor: refuses it" in shown


@pytest.mark.parametrize("content", [b"", b"not an archive", None])
def test_another_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, content: bytes | None) -> None:
    path = tmp_path / "other.npz"
    if content is not None:
        path.write_bytes(content)
    assert main(["check", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path} holds no answers") and error.count("\n") == 1


def test_the_document_lists_every_question() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [name for name in QUESTIONS if f"`{name}`" not in text] == []
