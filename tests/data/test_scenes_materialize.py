"""Would break if half a data set could be left behind, or somebody's files be deleted."""

import json
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
from PIL import Image

from edgevl.data import open_dataset, open_scenes
from edgevl.data.scenes import Scenes, materialize
from edgevl.errors import InputError


def test_what_is_written_is_the_scene(tmp_path):
    seen = []
    out = materialize("val", 5, tmp_path / "val", seed=3, progress=lambda *step: seen.append(step))
    lines = [json.loads(line) for line in (out / "annotations.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [step[:2] for step in seen] == [(i, 5) for i in range(1, 6)] and len(lines) == 5
    for index, line in enumerate(lines):
        scene = Scenes("val", seed=3).scene(index)
        assert np.array_equal(np.asarray(Image.open(out / line["image"])), scene.image)
        assert [q["text"] for q in line["questions"]] == [q.text for q in scene.questions()]
        for item, written in zip(scene.objects, line["objects"], strict=True):
            assert tuple(written["box"]) == item.box and written["category"] == item.category
            runs = np.repeat(np.arange(len(written["mask"])) % 2 == 1, written["mask"])
            assert np.array_equal(runs.reshape(item.mask.shape), item.mask)
    assert Image.open(out / "contact_sheet.png").width > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["val"]


def test_shards_hold_image_and_annotation_side_by_side(tmp_path):
    out = materialize("test", 3, tmp_path / "shards", shards=True)
    with tarfile.open(out / "shard-000000.tar") as tar:
        assert tar.getnames() == [f"{i:06d}.{suffix}" for i in range(3) for suffix in ("png", "json")]
        member = tar.extractfile("000002.json")
        assert member is not None and json.load(member)["image"] == "000002.png"


def test_an_existing_folder_is_refused_and_kept(tmp_path):
    out = materialize("test", 1, tmp_path / "data")
    with pytest.raises(InputError, match="exists: replace it with --force"):
        materialize("test", 2, out)
    assert len((out / "annotations.jsonl").read_text(encoding="utf-8").splitlines()) == 1
    materialize("test", 2, out, force=True)
    assert len((out / "annotations.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    (tmp_path / "empty").mkdir()
    assert (materialize("test", 1, tmp_path / "empty") / "images" / "000000.png").is_file()
    assert not [*tmp_path.glob(".*")]


def test_force_does_not_delete_what_is_no_data_set(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(InputError, match="a folder that is not a data set"):
        materialize("test", 1, tmp_path, force=True)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "precious"


def test_bad_targets_are_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="is not a data set"):
        materialize("test", 1, tmp_path / "file")
    with pytest.raises(InputError, match="cannot be used"):
        materialize("test", 1, tmp_path / "file" / "below")
    with pytest.raises(InputError, match="0 scenes: at least 1"):
        materialize("test", 0, tmp_path / "none")


def test_killed_in_the_middle_no_half_data_set_exists(tmp_path):
    code = f"from edgevl.data.scenes import materialize; materialize('test', 100000, {str(tmp_path / 'out')!r})"
    child = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.tmp-*/images/000003.png")) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert list(tmp_path.glob(".out.tmp-*")) and not (tmp_path / "out").exists()
    assert materialize("test", 2, tmp_path / "out").is_dir()


def test_data_sets_open_by_name():
    data = open_scenes("scenes:test_style", size=64)
    assert (data.split, data.size, open_scenes("scenes").split) == ("test_style", 64, "test")
    assert (data.name, open_dataset("scenes16").name) == ("scenes:test_style", "scenes16:test")
    with pytest.raises(InputError, match='unknown data set "scene"; did you mean "scenes"'):
        open_dataset("scene:test")
    with pytest.raises(InputError, match='unknown split of Scenes "tset"; did you mean "test"'):
        open_dataset("scenes:tset")
    with pytest.raises(InputError, match="NAME:SPLIT"):
        open_dataset("")
