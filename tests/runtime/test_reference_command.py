"""The executor's command line: reports, arrays in files, comparison, limits, one line for what goes wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil_programs import save_mil  # pyright: ignore[reportMissingImports]

from edgevl.runtime.coreml_reference.command import main
from edgevl.runtime.coreml_reference.compare import snr_db
from edgevl.runtime.coreml_reference.ops_table import operators_table

X = np.random.default_rng(3).standard_normal((2, 3)).astype(np.float32)
DOCUMENT = Path(__file__).parents[2] / "docs" / "coreml-reference.md"


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("command") / "model.mlpackage"
    save_mil(path, lambda mb, x: mb.add(x=mb.mul(x=x, y=2.0), y=1.0, name="y"), {"x": X}, precision="fp16")
    return str(path)


def arrays(path: Path, **named: np.ndarray) -> str:
    np.savez(path, **named)  # pyright: ignore[reportArgumentType]
    return str(path)


def test_inputs_outputs_and_comparison(package: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    inputs, out = arrays(tmp_path / "in.npz", x=X), tmp_path / "out.npz"
    right, wrong = arrays(tmp_path / "right.npz", y=2 * X + 1), arrays(tmp_path / "wrong.npz", y=2 * X + 1.1)
    call = [package, "--samples", "1", "--inputs", inputs]
    assert main([*call, "--compare", right, "--save", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "compare: y [2, 3]: " in shown and "dB, largest difference" in shown and "below" not in shown
    assert "half precision: no fault on these inputs" in shown
    np.testing.assert_allclose(np.load(out)["y"], 2 * X + 1, rtol=2e-3)
    assert main([*call, "--compare", wrong]) == 4
    assert "below 40 dB" in capsys.readouterr().out
    assert main([*call, "--compare", wrong, "--min-snr-db", "20"]) == 0
    assert main([*call, "--compare", str(out), "--min-snr-db", "inf"]) == 0  # the same bits
    assert "inf dB, largest difference 0" in capsys.readouterr().out


def test_random_inputs_without_a_file(package: str, capsys: pytest.CaptureFixture) -> None:
    assert main([package, "--samples", "2"]) == 0
    shown = capsys.readouterr().out
    assert "inputs: x float32 [2, 3]\noutputs: y float32 [2, 3]\noperators: 1 add, 2 cast, 1 mul\n2 samples in" in shown
    assert "no fault on random inputs" in shown


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--inputs", "IN", "--compare", "OTHER"], 2, 'there is no output "z"; the program gives y'),
        (["--inputs", "IN", "--compare", "SHORT"], 2, 'output "y" has shape [2, 3], the expected one [3]'),
        (["--inputs", "OTHER"], 2, 'input "x" is missing; expected x float32 [2, 3]'),
        (["--inputs", "TEXT"], 2, "cannot be read as .npz"),
        (["--inputs", "PICKLE"], 2, "cannot be read as .npz"),
        (["--inputs", "nothing.npz"], 2, "cannot be read as .npz"),
        (["--inputs", "IN", "--save", "/dev/null/x.npz"], 2, "cannot be written"),
        (["--shape", "x"], 2, "is not of the form NAME=1,3,64,64"),
        (["--shape", "x=4,4"], 2, 'input "x" cannot have the shape [4, 4]'),
        (["--function", "other"], 2, 'unknown function of model.mlpackage "other"'),
        (["--max-gib", "1e-9"], 4, "of memory for its values"),
        (["--max-operators", "3"], 4, "more than 3 operators"),
        (["--max-seconds", "0"], 4, "for more than 0 s"),
    ],
)
def test_what_goes_wrong_is_one_line(
    package: str, tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], code: int, words: str
) -> None:
    (tmp_path / "text.npz").write_text("x", encoding="utf-8")
    pickled: Any = np.array([{}], object)
    files = {
        "IN": arrays(tmp_path / "in.npz", x=X),
        "OTHER": arrays(tmp_path / "other.npz", z=X),
        "SHORT": arrays(tmp_path / "short.npz", y=X[0]),
        "TEXT": str(tmp_path / "text.npz"),
        "PICKLE": arrays(tmp_path / "pickle.npz", x=pickled),
    }
    assert main([package, "--samples", "1", *(files.get(option, option) for option in options)]) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1, error


def test_the_table_of_the_document_is_what_the_command_prints(capsys: pytest.CaptureFixture) -> None:
    assert main(["--operators"]) == 0
    assert capsys.readouterr().out.strip() == operators_table()
    assert operators_table() in DOCUMENT.read_text(encoding="utf-8")


def test_a_ratio_of_what_is_not_finite() -> None:
    inf, one = np.array([np.inf, 1.0]), np.array([1.0, 1.0])
    assert snr_db(inf, inf) == np.inf and snr_db(one, inf) == -np.inf and snr_db(inf, one) == -np.inf
    assert snr_db(np.array([np.nan]), np.array([np.nan])) == np.inf
    assert snr_db(np.array([1.1]), np.array([1.0])) == pytest.approx(20.0)
    assert snr_db(np.array([1.0]), np.array([0.0])) == -np.inf


def test_names_of_a_foreign_package_command_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The name of the package, and of arrays in a file; names inside an ML Program are letters and digits."""
    hostile = "p\x1b[2J\x9b\u202e.mlpackage"
    assert main([str(tmp_path / hostile)]) != 0
    path = tmp_path / "good.mlpackage"
    save_mil(path, lambda mb, x: mb.add(x=x, y=1.0, name="y"), {"x": X}, precision="fp16")
    wrong = arrays(tmp_path / "wrong.npz", **{"\x1b[2J\u202e": X})
    assert main([str(path), "--samples", "1", "--compare", wrong]) == 2
    out, err = capsys.readouterr()
    assert all(line.isprintable() for line in (out + err).split("\n"))
    assert r"\x1b[2J\x9b\u202e" in err and r"no output " r'"\x1b[2J\u202e"' in err


def test_the_stand_in_writes_out_what_edgevl_does() -> None:
    from edgevl.plain import plain
    from edgevl.runtime.coreml_reference import stand_in

    for text in ("rouge foncé 赤", "\x1b[2J\x9b\u202e\n\u200b\ufeff\udc80"):
        assert stand_in.plain(text) == (plain(text))
