"""Files that a user wrote, or a stranger: whatever is in them, one clear line, at once and without much memory."""

import os
from pathlib import Path

import pytest

from edgevl.errors import InputError
from edgevl.limits import check_name, check_real, check_whole, shown
from edgevl.reading import read_json, read_text

BAD_JSON = {
    "deep lists": ("[" * 100_000 + "]" * 100_000, "levels"),
    "deep objects": ('{"a":' * 50_000 + "1" + "}" * 50_000, "levels"),
    "a number of 5 000 digits": ('{"a": ' + "9" * 5000 + "}", "a number beyond a double"),
    "a number of 400 digits": ('{"a": ' + "9" * 400 + "}", "a number beyond a double"),
    "a number beyond a double": ('{"a": 1e999}', "JSON compliant"),
    "not a number": ('{"a": NaN}', "NaN is not a number of JSON"),
    "half a surrogate pair": ('{"a": "\\ud800"}', "half a surrogate pair"),
    "a key twice": ('{"a": 1, "a": 2}', "a key occurs twice"),
    "nothing": ("", "Expecting value"),
    "another kind": ("[]", "must hold a JSON object"),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json_is_one_line(name, tmp_path):
    text, message = BAD_JSON[name]
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as error:
        read_json(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_file_that_is_none_is_not_waited_for(tmp_path):
    makers = {"pipe": os.mkfifo, "endless": lambda path: path.symlink_to("/dev/zero"), "folder": Path.mkdir}
    for name, make in makers.items():
        make(tmp_path / name)
        with pytest.raises(InputError, match=r"not a plain file|cannot be read"):
            read_text(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        read_text(tmp_path / "missing")
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 2**33)
    with pytest.raises(InputError, match="more than 16 MiB"):
        read_text(tmp_path / "sparse")


def test_text_is_utf_8_whatever_the_locale(tmp_path):
    (tmp_path / "x").write_bytes("赤 foncé".encode())
    assert read_text(tmp_path / "x") == "赤 foncé"
    (tmp_path / "x").write_bytes("foncé".encode("cp1252"))
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_text(tmp_path / "x")


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "my model", "größe", "", ".", "..", ".x", "-x", "x" * 65, "x\n", 2024, None]
)
def test_what_no_name_may_be(name):
    with pytest.raises(InputError, match="a name has 1 to 64 of the characters"):
        check_name(name, "the name")


@pytest.mark.parametrize("name", ["nano", "2024-11-29", "1e3", "A.b_c-d", "x" * 64])
def test_what_a_name_may_be(name):
    assert check_name(name, "the name") == name


@pytest.mark.parametrize("value", [0, 11, 10**4000, -1, 1.0, "3", True, None, [3]])
def test_a_whole_number_out_of_range_says_the_range(value):
    with pytest.raises(InputError, match=r"x is .*: it must be a whole number from 1 to 10") as error:
        check_whole(value, "x", 1, 10)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.5, 10**4000, "0.5", True, None])
def test_a_number_out_of_range_says_the_range(value):
    with pytest.raises(InputError, match=r"x is .*: it must be a number from 0 to 1"):
        check_real(value, "x", 0, 1)


def test_what_is_shown_is_short():
    assert len(shown(10**5000)) < 60 and len(shown("x" * 10**6)) < 60
