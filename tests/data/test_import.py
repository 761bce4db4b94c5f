"""`edgevl data import`: from a table beside photos to a folder that a recipe trains on."""

import json
import os
import shutil

import numpy as np
import pytest
from photo_tables import HEADER, photos, picture, pictures, write_csv
from PIL import Image

from edgevl.cli import main
from edgevl.data import open_dataset
from edgevl.data.photos import import_table
from edgevl.data.photos.alike import pairs_alike
from edgevl.errors import InputError, MissingDependency


@pytest.fixture
def table(tmp_path):
    return photos(tmp_path)


def test_three_splits_by_picture_with_every_text(table, tmp_path):
    report = import_table(table, tmp_path / "data")
    opened = [open_dataset(f"{tmp_path / 'data'}:{split}") for split in ("train", "val", "test")]
    assert [len(data) for data in opened] == [10, 1, 1]
    keys = [record.key for data in opened for record in data]
    assert sorted(keys) == sorted(f"photos/p{i}.png" for i in range(12))
    for record in opened[0]:
        number = int(record.key[8:-4])
        assert [q.text for q in record.questions or ()] == [f"is it number {k} of {number}?" for k in range(3)]
        assert np.array_equal(np.asarray(Image.open(record.pictures[0])), np.asarray(Image.open(tmp_path / record.key)))
    assert report["splits"]["train"] == {"pictures": 10, "questions": 30, "captions": 0, "outside_labels": 0}
    assert opened[0].finite and set(opened[0].labels["vqa"]) == {"yes", "no", "maybe"}
    assert opened[1].labels == opened[0].labels and [*opened[1].texts()] == [*opened[0].texts()]


def test_a_table_opens_where_it_lies_with_the_same_splits(table, tmp_path):
    import_table(table, tmp_path / "data")
    for split in ("train", "val", "test"):
        here, imported = open_dataset(f"csv:{table}:{split}"), open_dataset(f"{tmp_path / 'data'}:{split}")
        assert [record.key for record in here] == [record.key for record in imported]
        assert [record.questions for record in here] == [record.questions for record in imported]
        assert here.name == f"csv:{table}:{split}" and imported.name == f"{tmp_path / 'data'}:{split}"


def test_a_picture_stays_in_its_split_when_others_are_added(tmp_path):
    names = pictures(tmp_path, 60)
    splits = []
    for count in (50, 60):
        path = write_csv(tmp_path / "t.csv", [(name, "a?", "b") for name in names[:count]])
        splits.append({r.key: s for s in ("train", "val", "test") for r in open_dataset(f"csv:{path}:{s}")})
    moved = [key for key in splits[0] if splits[0][key] != splits[1][key]]
    assert len(moved) <= 4


def test_splits_that_the_table_names_are_kept(tmp_path):
    names = pictures(tmp_path, 8)
    wanted = ["train", "Training", "train", "valid", "dev", "test", "TEST", "train"]
    rows = [(name, "a?", "b", split) for name, split in zip(names, wanted)]
    path = write_csv(tmp_path / "t.csv", rows, (*HEADER, "Split"))
    assert [len(open_dataset(f"csv:{path}:{split}")) for split in ("train", "val", "test")] == [4, 2, 2]
    path = write_csv(tmp_path / "t.csv", [(*row[:3], "train") for row in rows], (*HEADER, "split"))
    assert [len(open_dataset(f"csv:{path}:{split}")) for split in ("train", "val")] == [7, 1]
    with pytest.raises(InputError, match="has no pictures in the split test"):
        open_dataset(f"csv:{path}:test")


def test_what_is_wrong_with_pictures_is_counted_and_left_out(tmp_path):
    names = pictures(tmp_path, 10)
    shutil.copy(tmp_path / names[0], tmp_path / "photos/copy.png")
    (tmp_path / "photos/broken.png").write_bytes((tmp_path / names[1]).read_bytes()[:60])
    (tmp_path / "photos/text.jpg").write_text("no picture", encoding="utf-8")
    (tmp_path / "photos/empty.png").touch()
    more = ["photos/copy.png", "photos/broken.png", "photos/text.jpg", "photos/empty.png", "none.png", "../x.png"]
    path = write_csv(tmp_path / "t.csv", [(name, f"{n}?", f"answer {n}") for n, name in enumerate([*names, *more])])
    report = import_table(path, tmp_path / "data")
    assert report["problems"] == {"missing": 1, "outside": 1, "broken": 3, "duplicate": 1}
    assert [problem["line"] for problem in report["first_problems"]["broken"]] == [13, 14, 15]
    assert f'"{tmp_path / "photos/broken.png"}"' in report["first_problems"]["broken"][0]["problem"]
    assert sum(counts["pictures"] for counts in report["splits"].values()) == 10
    assert report["answers_that_occur_once"]["count"] == 11
    joined = next(
        r for s in ("train", "val", "test") for r in open_dataset(f"{tmp_path}/data:{s}") if r.key == names[0]
    )
    assert [question.text for question in joined.questions or ()] == ["0?", "10?"]
    assert len(os.listdir(tmp_path / "data/images")) == 10


def test_a_picture_in_two_splits_stays_in_the_one_nearer_to_the_test(tmp_path):
    names = pictures(tmp_path, 6)
    shutil.copy(tmp_path / names[0], tmp_path / "photos/copy.png")
    Image.open(tmp_path / names[1]).resize((96, 96), Image.Resampling.NEAREST).save(tmp_path / "photos/large.jpg")
    rows = [(name, "a?", "b", "train") for name in names]
    rows += [("photos/copy.png", "a?", "b", "test"), ("photos/large.jpg", "a?", "b", "val")]
    report = import_table(write_csv(tmp_path / "t.csv", rows, (*HEADER, "split")), tmp_path / "data")
    assert report["problems"] == {"leak": 1, "alike": 1}
    assert report["first_problems"]["leak"][0]["problem"].startswith(
        f'"{names[0]}" is the same picture as "photos/copy'
    )
    assert report["first_problems"]["alike"][0]["image"] == names[1]
    assert [r.key for r in open_dataset(f"{tmp_path}/data:test")] == ["photos/copy.png"]
    assert names[0] not in [r.key for r in open_dataset(f"{tmp_path}/data:train")]


def test_pictures_are_alike_only_if_every_part_is():
    rows = [np.full(12, 100, np.int16), np.full(12, 101, np.int16), np.full(12, 110, np.int16)]
    rows.append(np.array([100] * 11 + [118], np.int16))  # the same but for one corner
    assert [tuple(sorted(pair)) for pair in pairs_alike(rows)] == [(0, 1)]
    assert not [*pairs_alike([])]


def test_the_blind_baseline_is_what_the_text_gives_away(tmp_path):
    names = pictures(tmp_path, 20)
    rows = [(name, question, answer) for name in names for question, answer in (("sure?", "yes"), (f"{name}?", name))]
    report = import_table(write_csv(tmp_path / "t.csv", rows), tmp_path / "data")
    assert report["blind_accuracy"] == 0.5
    assert report["splits"]["test"]["outside_labels"] == 2


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_pictures_are_one_line(tmp_path, count):
    with pytest.raises(InputError, match=rf"{count} pictures are too few: at least 3 are needed"):
        import_table(photos(tmp_path, count), tmp_path / "data")
    assert not (tmp_path / "data").exists()
    with pytest.raises(InputError, match=r'no picture can be used: there is no picture "a\.png"'):
        import_table(write_csv(tmp_path / "t.csv", [("a.png", "a?", "b")]), tmp_path / "data")


def test_the_command_reports_and_writes(table, tmp_path, capsys):
    assert main(["data", "import", str(table), "--out", str(tmp_path / "data"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["splits"]["val"]["pictures"] == 1 and "next: edgevl finetune" in err
    assert main(["data", "import", str(table), "--out", str(tmp_path / "data")]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["data", "import", str(table), "--out", str(tmp_path / "data"), "--force"]) == 0
    out, err = capsys.readouterr()
    assert "train         10" in out and "3 answers in train are the labels" in err
    assert main(["data", "import", str(table), "--out", str(tmp_path), "--force"]) == 2  # no data set: never replaced
    assert table.is_file()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"image": "../../secret.png"}, "does not lie in images/"),
        ({"image": "/etc/passwd"}, "does not lie in images/"),
        ({"image": "images/../../x.png"}, "does not lie in images/"),
        ({"image": "images\\..\\x.png"}, "does not lie in images/"),
        ({"image": "images/.."}, "does not lie in images/"),
        ({"image": 3}, "image is 3: it must be text"),
        ({"image": "images/link.png"}, "is a link"),
        ({"split": "fun"}, "it is no record with a split"),
        ({"questions": None}, "questions is no list"),
        ({"questions": [3]}, "a question is no object"),
        ({"questions": [{"text": "a?", "answer": "b", "answers": ["c"], "kind": "all"}]}, "is not among its answers"),
        ({"captions": ["\0"]}, "caption is"),
        ({"key": "x" * 5000}, "at most 4096 characters"),
    ],
)
def test_a_folder_of_somebody_else_is_checked(table, tmp_path, line, message):
    import_table(table, tmp_path / "data")
    (tmp_path / "data/images/link.png").symlink_to(picture(tmp_path / "elsewhere.png", 5))
    records = tmp_path / "data/records.jsonl"
    first, rest = records.read_text("utf-8").split("\n", 1)
    records.write_text(json.dumps(json.loads(first) | line) + "\n" + rest, "utf-8")
    with pytest.raises(InputError, match=message) as error:
        open_dataset(f"{tmp_path / 'data'}:train")
    assert "records.jsonl: line 1: " in str(error.value) and "\n" not in str(error.value)


def test_a_mistake_in_the_name_of_data_is_one_line(table, tmp_path):
    import_table(table, tmp_path / "data")
    for spec, message in (
        (str(table), "is a file: write csv:"),
        (str(tmp_path), "is not a data folder: make one with"),
        (f"{tmp_path}/dat", "there is no data folder"),
        (f"{tmp_path}/data:fun", 'the split "fun" is not one of train, val, test'),
        ("csv:none.csv", 'there is no table "none.csv"'),
        ("scene:test", 'unknown data set "scene"; did you mean "scenes"'),
    ):
        with pytest.raises(InputError, match=message):
            open_dataset(spec)
    (tmp_path / "data/data.json").write_text('{"schema": 99}', encoding="utf-8")
    with pytest.raises(InputError, match="has the schema 99, this EdgeVL reads 1: import it again"):
        open_dataset(f"{tmp_path / 'data'}:train")


def test_heic_becomes_jpeg_and_says_what_is_missing(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    names = pictures(tmp_path, 3)
    heif.from_pillow(Image.open(tmp_path / names[0]).resize((64, 64))).save(tmp_path / "photos/i.HEIC", quality=90)
    (tmp_path / "photos/bad.heic").write_bytes((tmp_path / "photos/i.HEIC").read_bytes()[:200])
    rows = [(name, "a?", "b") for name in [*names, "photos/i.HEIC", "photos/bad.heic"]]
    report = import_table(write_csv(tmp_path / "t.csv", rows), tmp_path / "data")
    assert report["problems"]["broken"] == 1
    assert "cannot be read as HEIC" in report["first_problems"]["broken"][0]["problem"]
    made = np.asarray(Image.open(tmp_path / "data/images/000003.jpg"), int)
    assert np.abs(made - np.asarray(Image.open(tmp_path / names[0]).resize((64, 64)), int)).mean() < 12


def test_heic_without_its_package_names_the_command(tmp_path, monkeypatch):
    names = pictures(tmp_path, 3)
    (tmp_path / "photos/i.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    rows = [(name, "a?", "b") for name in [*names, "photos/i.heic"]]
    with pytest.raises(MissingDependency, match=r'pip install "edgevl\[heic\]"'):
        import_table(write_csv(tmp_path / "t.csv", rows), tmp_path / "data")
