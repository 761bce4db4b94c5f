"""The index of a folder follows what happens to the pictures, and is never believed when it should not be."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from edgevl.app.conformance.small_models import MODELS
from edgevl.errors import InputError
from edgevl.opened import eager
from edgevl.search import folder as search_folder
from edgevl.search.finder import Embedder, Finder, notes_about
from edgevl.search.folder import update_index
from edgevl.search.index import NAME, load_index, save_index

OLD = 1_700_000_000  # seconds: long before any index of these tests


def write(path, seed, old=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 30, 3), np.uint8)).save(path)
    if old:
        os.utime(path, (OLD, OLD))


@pytest.fixture(scope="module")
def embedder():
    model = MODELS["towers"]()
    return Embedder(eager(model), model.sha256)


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(("a.png", "b.jpg", "trip/c.png", "trip/d.bmp", "e.PNG")):
        write(tmp_path / "photos" / name, number)
    (tmp_path / "photos" / "notes.txt").write_text("no picture", encoding="utf-8")
    write(tmp_path / "photos" / ".hidden" / "x.png", 9)
    return tmp_path / "photos"


def test_every_picture_is_embedded_once(photos, embedder):
    index, changes = update_index(photos, embedder)
    assert [entry.path for entry in index.entries] == ["a.png", "b.jpg", "e.PNG", "trip/c.png", "trip/d.bmp"]
    assert (changes.embedded, changes.kept) == (5, 0)
    picture = Image.open(photos / "trip/c.png")
    np.testing.assert_allclose(index.vectors_NE[3], embedder.embed_pictures([picture])[0], atol=1e-6)
    before = (photos / NAME).read_bytes()
    again, changes = update_index(photos, embedder)
    assert (changes.embedded, changes.kept) == (0, 5) and (photos / NAME).read_bytes() == before
    np.testing.assert_array_equal(again.vectors_NE, index.vectors_NE)


def test_pictures_added_changed_renamed_and_removed(photos, embedder):
    first, _ = update_index(photos, embedder)
    write(photos / "new.png", 20)
    write(photos / "a.png", 21, old=False)
    (photos / "b.jpg").rename(photos / "trip" / "renamed.jpg")
    (photos / "trip" / "d.bmp").unlink()
    index, changes = update_index(photos, embedder)
    assert [entry.path for entry in index.entries] == ["a.png", "e.PNG", "new.png", "trip/c.png", "trip/renamed.jpg"]
    assert (changes.embedded, changes.moved, changes.kept, changes.removed) == (2, 1, 2, 2)
    np.testing.assert_array_equal(index.vectors_NE[4], first.vectors_NE[1])
    fresh, _ = update_index(photos, embedder, photos.parent / "fresh.safetensors")
    np.testing.assert_allclose(index.vectors_NE, fresh.vectors_NE, atol=1e-6)


def test_a_change_within_the_clock_tick_of_the_index_is_seen(photos, embedder):
    write(photos / "late.bmp", 30, old=False)
    update_index(photos, embedder)
    times = (photos / "late.bmp").stat()
    write(photos / "late.bmp", 31)
    os.utime(photos / "late.bmp", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (photos / "late.bmp").stat().st_size == times.st_size
    assert update_index(photos, embedder)[1].embedded == 1


def test_a_picture_that_cannot_be_read_is_left_out_and_named(photos, embedder):
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    index, changes = update_index(photos, embedder)
    assert list(changes.skipped) == ["broken.png"] and changes.skipped["broken.png"].startswith("is damaged")
    assert len(index.entries) == 5


def test_what_is_no_plain_file_is_not_waited_for(photos, embedder):
    """A pipe keeps a reader waiting, and a device never ends."""
    os.mkfifo(photos / "pipe.png")
    (photos / "zero.png").symlink_to("/dev/zero")
    (photos / "huge.png").touch()
    os.truncate(photos / "huge.png", 2**40)
    index, changes = update_index(photos, embedder)
    assert len(index.entries) == 5 and sorted(changes.skipped) == ["huge.png", "pipe.png", "zero.png"]
    assert changes.skipped["pipe.png"] == changes.skipped["zero.png"] == "is not a plain file"
    (photos / NAME).unlink()
    os.mkfifo(photos / NAME)
    with pytest.raises(InputError, match="not a plain file"):
        update_index(photos, embedder)


def test_an_index_of_another_model_is_refused_until_it_is_made_anew(photos, embedder):
    update_index(photos, embedder)
    other = Embedder(embedder.model, "of an artifact", "towers (onnx, fp32)")
    before = (photos / NAME).read_bytes()
    with pytest.raises(InputError, match=r"was made by towers, whose .* those of towers \(onnx, fp32\).*--force"):
        update_index(photos, other)
    assert (photos / NAME).read_bytes() == before
    assert update_index(photos, other, force=True)[1].embedded == 5


def _rows(path, change):
    index = load_index(path)
    save_index(path, change(index))


def test_a_damaged_index_is_one_line(photos, embedder):
    update_index(photos, embedder)
    path, whole = photos / NAME, (photos / NAME).read_bytes()
    tensors = load_file(path)
    for damage in (
        lambda: path.write_bytes(b"nothing"),
        lambda: path.write_bytes(whole[: len(whole) // 2]),
        lambda: path.write_bytes(b""),
        lambda: save_file(tensors, path),
        lambda: save_file(tensors, path, {"format": "edgevl-index-1"}),
        lambda: save_file({**tensors, "vectors": tensors["vectors"][:2]}, path, _metadata(embedder)),
        lambda: save_file({**tensors, "vectors": tensors["vectors"] * np.nan}, path, _metadata(embedder)),
        lambda: save_file({**tensors, "entries": tensors["entries"][:-1]}, path, _metadata(embedder)),
        lambda: save_file({**tensors, "entries": np.frombuffer(b'[["a", 1]]', np.uint8)}, path, _metadata(embedder)),
        lambda: _rows(path, lambda index: dataclasses.replace(index, entries=(index.entries[0],) * 5)),
    ):
        path.write_bytes(whole)
        damage()
        with pytest.raises(InputError, match="remove it, and it is made anew"):
            update_index(photos, embedder)
    path.unlink()
    assert update_index(photos, embedder)[1].embedded == 5


def _metadata(embedder):
    return {"format": "edgevl-index-1", "model": embedder.identity, "written": "1"}


def test_a_first_run_that_is_stopped_goes_on_from_what_it_had(photos, embedder, monkeypatch):
    monkeypatch.setattr(search_folder, "CHUNK", 2)
    monkeypatch.setattr(search_folder, "SAVED_EVERY", 2)

    class Stopped(Embedder):
        def embed_pictures(self, pictures):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            return super().embed_pictures(pictures)

    stopped = Stopped(embedder.model, MODELS["towers"]().sha256)
    stopped.left = 1  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(KeyboardInterrupt):
        update_index(photos, stopped)
    assert update_index(photos, embedder)[1].embedded == 3
    # And of a whole index nothing is lost, though the run did not come to all of its pictures.
    for number, name in enumerate(("0.png", "1.png", "2.png", "3.png")):
        write(photos / name, 40 + number)
    stopped.left = 1  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(KeyboardInterrupt):
        update_index(photos, stopped)
    changes = update_index(photos, embedder)[1]
    assert (changes.embedded, changes.kept) == (2, 7)


def test_the_best_pictures_are_those_of_the_largest_products(photos, embedder):
    finder = Finder.open(photos, embedder)
    scores = finder.index.vectors_NE @ embedder.embed_text("a red car")
    hits = finder.find("a red car", 3)
    assert [hit.path for hit in hits] == [finder.index.entries[row].path for row in np.argsort(-scores)[:3]]
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True)[:3])


def test_labels_are_ranked_by_their_prompts(photos, embedder):
    hits = Finder.open(photos, embedder).label(["cat", "dog", "car"])
    assert len(hits) == 5 and all(hit.label in ("cat", "dog", "car") and 1 / 3 <= hit.score <= 1 for hit in hits)
    with pytest.raises(InputError, match="give two or more"):
        Finder.open(photos, embedder).label(["cat"])


def test_an_empty_folder_and_none_at_all(tmp_path, embedder):
    (tmp_path / "empty").mkdir()
    finder = Finder.open(tmp_path / "empty", embedder)
    assert finder.find("a cat") == [] == finder.label(["cat", "dog"])
    with pytest.raises(InputError, match="name a folder of pictures"):
        update_index(tmp_path / "none", embedder)
    (tmp_path / "file.png").write_bytes(b"x")
    with pytest.raises(InputError, match="is a file: name the folder"):
        update_index(tmp_path / "file.png", embedder)


def test_a_model_that_embeds_nothing_is_refused():
    with pytest.raises(InputError, match="is for statement: a search needs one that embeds"):
        Embedder(eager(MODELS["statement"]()), "a digest")


def test_a_query_about_sides_gets_a_note():
    assert notes_about("a cat left of a dog") and not notes_about("a cat with leftovers")


def test_a_folder_that_cannot_be_written_keeps_its_index_elsewhere(photos, embedder, tmp_path):
    index = tmp_path / "elsewhere.safetensors"
    update_index(photos, embedder, index)
    assert not (photos / NAME).exists()
    shutil.move(photos, tmp_path / "moved")
    assert update_index(tmp_path / "moved", embedder, index)[1].kept == 5
