"""A model is judged on what it was trained with, on the part that training did not see."""

import json
import re

import pytest
from photo_tables import photos, write_csv

from edgevl.data.own import USUAL, judged_on
from edgevl.errors import InputError


def trained_with(folder, val):
    folder.mkdir(exist_ok=True)
    (folder / "training.json").write_text(json.dumps({"recipe": {"data": {"val": val}}}), encoding="utf-8")
    return folder


def test_the_embedded_models_and_those_without_a_record_are_judged_on_scenes(tmp_path):
    assert judged_on(None) == judged_on(tmp_path) == USUAL == "scenes:test"
    assert judged_on(trained_with(tmp_path / "study", "scenes16:val")) == "scenes16:test"
    assert judged_on(trained_with(tmp_path / "style", "scenes:test_style")) == "scenes:test_style"


def test_own_photos_are_judged_on_their_test_split(tmp_path):
    table = photos(tmp_path)
    assert judged_on(trained_with(tmp_path / "model", f"csv:{table}:val")) == f"csv:{table}:test"


def test_without_a_test_split_it_is_the_validation_split(tmp_path):
    names = [line.split(",")[0] for line in photos(tmp_path).read_text(encoding="utf-8").splitlines()[1:]]
    rows = [(name, "is it one?", "yes", "train") for name in dict.fromkeys(names)]
    table = write_csv(tmp_path / "split.csv", rows, ("image", "question", "answer", "split"))
    assert judged_on(trained_with(tmp_path / "model", f"csv:{table}:val")) == f"csv:{table}:val"


def test_data_that_is_gone_is_named_with_what_to_do(tmp_path):
    folder = trained_with(tmp_path / "model", f"{tmp_path}/gone:val")
    with pytest.raises(InputError, match=re.escape(f"was trained with {tmp_path}/gone:val") + r".*--data.*scenes:test"):
        judged_on(folder)


@pytest.mark.parametrize("record", [{}, {"recipe": None}, {"recipe": {"data": "x"}}, {"recipe": {"data": {"val": 3}}}])
def test_a_record_that_names_no_data_is_one_without(tmp_path, record):
    (tmp_path / "training.json").write_text(json.dumps(record), encoding="utf-8")
    assert judged_on(tmp_path) == USUAL
