"""Tables as spreadsheets and people write them."""

import json
import unicodedata

import pytest
from photo_tables import HEADER, picture, pictures, write_csv

from edgevl.data.photos import open_table
from edgevl.data.photos import table as tables
from edgevl.data.photos.columns import column_of
from edgevl.data.photos.reading import gather, split_of
from edgevl.errors import InputError

ROWS = (("p0.png", "Wie groß ist das Café?", "größer"), ("p1.png", 'two\nlines, a "quote"; and more', "yes"))


@pytest.fixture
def folder(tmp_path):
    for i in range(4):
        picture(tmp_path / f"p{i}.png", i)
    return tmp_path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_spreadsheets_write_is_read(folder, encoding, delimiter):
    found = gather(write_csv(folder / "t.csv", ROWS, delimiter=delimiter, encoding=encoding))
    first, second = (entry.questions[0] for entry in found.entries)
    assert (first.text, first.answer) == ("Wie groß ist das Café?", "größer")
    assert (second.text, second.answer) == ('two lines, a "quote"; and more', "yes")
    assert not found.problems and list(found.lines.values()) == [2, 3]


@pytest.mark.parametrize(
    "header", ["Image Path,Question,Answer", "IMG;Q;A", "file_name\tFrage\tAntwort", "photo,prompt,label,author"]
)
def test_columns_are_found_by_what_people_call_them(folder, header):
    delimiter = next(mark for mark in ";\t," if mark in header)
    (folder / "t.csv").write_text(f"{header}\r\n" + delimiter.join(("p0.png", "is it?", "yes")) + "\r\n", "utf-8")
    (entry,) = gather(folder / "t.csv").entries
    assert (entry.key, entry.questions[0].text, entry.questions[0].answer) == ("p0.png", "is it?", "yes")


def test_excel_says_its_delimiter_and_old_macs_end_lines_otherwise(folder):
    (folder / "t.csv").write_bytes(b"sep=;\r\nimage;question;answer\r\np0.png;a, b?;yes\r\n")
    assert gather(folder / "t.csv").entries[0].questions[0].text == "a, b?"
    (folder / "t.csv").write_bytes(b"image,caption\rp0.png,a cat\rp1.png,a dog\r")
    assert [entry.captions for entry in gather(folder / "t.csv").entries] == [("a cat",), ("a dog",)]


def test_a_table_without_names_of_columns(folder):
    found = gather(write_csv(folder / "t.csv", [("p0.png", "is it?", "yes"), ("p1.png", "is it?", "no")], header=()))
    assert [entry.questions[0].answer for entry in found.entries] == ["yes", "no"]
    found = gather(write_csv(folder / "t.csv", [("p0.png", "a cat, maybe")], header=()))
    assert found.entries[0].captions == ("a cat, maybe",)


def test_json_lines_and_an_array_with_lists_of_questions(folder):
    rows = [
        {"image": "p0.png", "question": "how many?", "answer": 3, "kind": "count"},
        {"image": "p0.png", "captions": ["one", "two"]},
        {"image": "p1.png", "questions": [{"kind": "size", "text": "is it small?", "answer": True}], "split": "val"},
        {
            "image": "p2.png",
            "question": "which?",
            "answers": [{"answer": "red"}, {"answer": "blue"}, {"answer": "blue"}],
        },
    ]
    lines, array = folder / "t.jsonl", folder / "t.json"
    lines.write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")
    array.write_text(json.dumps(rows, indent=1), "utf-8")
    for path in (lines, array):
        first, second, third = gather(path).entries
        assert (first.questions[0].answer, first.questions[0].kind, first.captions) == ("3", "count", ("one", "two"))
        assert (second.questions[0].answer, second.questions[0].kind, second.split) == ("yes", "size", "val")
        assert (third.questions[0].answer, third.questions[0].answers) == ("blue", ("red", "blue"))


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        (HEADER, [("p0.png", "which?", "red"), ("p0.png", "which?", "blue"), ("p0.png", "which?", "blue")]),
        (("image", "question", "answers"), [("p0.png", "which?", "red | blue; blue")]),
        (("image", "question", "answer 1", "answer 2", "answer 3"), [("p0.png", "which?", "Red", "blue", "Blue")]),
    ],
)
def test_several_answers_are_all_right_and_the_usual_one_is_learned(folder, header, rows):
    (question,) = gather(write_csv(folder / "t.csv", rows, header)).entries[0].questions
    assert question.answer.lower() == "blue" and [each.lower() for each in question.answers] == ["red", "blue"]


def test_answers_of_other_capitals_are_one_label(folder):
    rows = [("p0.png", "a?", "Red"), ("p1.png", "a?", "red"), ("p2.png", "a?", "red"), ("p3.png", "a?", "RED")]
    assert {entry.questions[0].answer for entry in gather(write_csv(folder / "t.csv", rows)).entries} == {"red"}


def test_names_of_every_system_find_their_picture(folder):
    composed = unicodedata.normalize("NFC", "Fotos/Café é.png")
    picture(folder / unicodedata.normalize("NFD", composed), 7)
    picture(folder / "deep/er/IMG.PNG", 8)
    elsewhere = picture(folder.parent / "elsewhere/p.png", 9)
    names = [
        composed,
        r"deep\er\img.png",
        r"C:\Users\me\deep\er\IMG.PNG",
        "./p0.png",
        str(elsewhere),
        str(folder / "p1.png"),
    ]
    found = gather(write_csv(folder / "t.csv", [(name, "is it?", "yes") for name in names]))
    assert not found.problems
    keys = [unicodedata.normalize("NFC", entry.key) for entry in found.entries]
    assert keys == [composed, "deep/er/IMG.PNG", "p0.png", elsewhere.as_posix(), "p1.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../secret.png", "leads out of the folder"),
        (r"..\secret.png", "leads out of the folder"),
        ("https://example.org/a.png", "is a web address: download"),
        ("linked/secret.png", "is a link out of"),
        ("none.png", 'there is no picture "none.png"'),
        ("p" * 300 + ".png", "there is no picture"),
        ("p0.png/p0.png", "there is no picture"),
    ],
)
def test_a_name_that_leads_elsewhere_is_a_problem_of_its_line(folder, name, message):
    picture(folder.parent / "outside/secret.png", 3)
    (folder / "linked").symlink_to(folder.parent / "outside")
    (problem,) = gather(write_csv(folder / "t.csv", [("p0.png", "a?", "b"), (name, "a?", "b")])).problems
    assert problem.line == 3 and message in problem.text
    with pytest.raises(InputError, match=r"t.csv: line 3: .*data import"):
        open_table(str(folder / "t.csv"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b" \n", "holds no rows"),
        (b"image,question,answer\n", "holds no rows"),
        (b"PK\x03\x04" + bytes(40), "is a workbook or another zip, not a table"),
        (b"image,question,answer\np0.png,a\0b,c\n", "is not text in UTF-8, UTF-16 or Windows-1252"),
        (b"image,question,answer\n\x81\x8d,\xff\xfe,c\n", "is not text in"),
        (b"name,question,answer\np0.png,a?,b\n", 'the columns "name", "question", "answer": it needs one called image'),
        (b"image,author\np0.png,b\n", "it needs one called image, and question"),
        (b"image\np0.png\n", "has one column: its first line must name columns"),
        (b"image,question,answer\np0.png,a?,\n", "line 2: 'a\\?' has no answer: fill the column answer"),
        (b"image,question,answer\n,a?,b\n", "line 2 names no picture"),
        (b"image,question,answer\np0.png,,\n", "line 2 says nothing of 'p0.png'"),
        (b'image,question,answer\np0.png,"a?,b\np1.png,c?,d\n', "a quote inside quoted text|unexpected end"),
        (b"image,question,answer\np0.png,how, many?,3\n", "line 2 has 4 columns, the first line has 3"),
        (b"image,question,answer,split\np0.png,a?,b,fun\n", "line 2: the split 'fun' is not train, val or test"),
        (b"image,question,answer,split\np0.png,a?,b,val\np0.png,c?,d,test\n", "line 3: p0.png is in the split test"),
        (b"image,question,answer\np0.png,a?," + b"x" * 300 + b"\n", "line 2: answer has 300 characters: at most 256"),
        (b"image,question,answer\np0.png," + b"x" * 70000 + b",b\n", "a cell has more than 65,536 characters"),
        (b'{"image": "p0.png", "question": "a?"}\n', "line 1: 'a\\?' has no answer"),
        (b'{"image": []}\n', "it needs one called image, and question"),
        (b'{"image": "p0.png", "caption": {}}\n', "caption is None: it must be text"),
        (b'{"image": "p0.png"\n', "line 1 is not readable JSON"),
        (b'["p0.png"]', "line 1 is 'p0.png': it must be an object"),
        (b"[" * 50 + b"]" * 50, "is not readable JSON: more than 32 levels"),
        (b",".join(b"c%d" % i for i in range(1200)) + b"\n" + b"," * 1199, "has 1,200 columns"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(folder, content, message):
    (folder / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        gather(folder / "t.csv")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_table_that_is_missing_or_too_large_is_one_line(folder, monkeypatch):
    with pytest.raises(InputError, match=r'there is no table ".*tt\.csv"'):
        gather(folder / "tt.csv")
    with pytest.raises(InputError, match="cannot be read"):
        gather(folder)
    with pytest.raises(InputError, match="is not a folder: name the one"):
        gather(write_csv(folder / "t.csv", ROWS), folder / "none")
    monkeypatch.setattr(tables, "MAX_TABLE_BYTES", 10)
    with pytest.raises(InputError, match="is larger than"):
        gather(folder / "t.csv")


@pytest.mark.parametrize(
    ("place", "path", "split"),
    [
        ("a.csv", "a.csv", "train"),
        ("a.csv:val", "a.csv", "val"),
        (r"C:\x\a.csv", r"C:\x\a.csv", "train"),
        (r"C:\x\a.csv:test", r"C:\x\a.csv", "test"),
    ],
)
def test_a_drive_is_no_split(place, path, split):
    assert (str(split_of(place)[0]), split_of(place)[1]) == (path, split)


def test_names_of_columns():
    assert [column_of(name) for name in ("Image_Path", "ANSWER 10", " Caption ", "answers", "Fragen", "", "é")] == [
        "image", "answer", "caption", "answers", None, None, None,
    ]  # fmt: skip


def test_the_pictures_may_lie_in_another_folder(folder, tmp_path):
    (tmp_path / "lists").mkdir()
    path = write_csv(tmp_path / "lists/t.csv", [("p0.png", "a?", "b")])
    assert gather(path).problems
    assert gather(path, folder).entries[0].key == "p0.png" and pictures(tmp_path, 1)
