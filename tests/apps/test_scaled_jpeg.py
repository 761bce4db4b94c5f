"""JPEG at a smaller scale: which scale is taken, by EdgeVL and by the board, and how a bundle says so."""

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevl.app.conformance.bundles import small_bundle
from edgevl.app.conformance.pictures import photo
from edgevl.app.conformance.readers import IMAGES, reader, word_codecs
from edgevl.bundle.folder import Bundle
from edgevl.bundle.specs import ImageProcessing
from edgevl.bundle_export import Request, export_bundle
from edgevl.contracts import Query
from edgevl.errors import InputError
from edgevl.export.registry import get_exporter
from edgevl.inputs.images import scale_of, to_tensor
from edgevl.inputs.preprocess import load_image
from edgevl.models.deployable import with_scaled
from edgevl.verify.run import verify_bundle


def jpeg_of(width: int, height: int, orientation: int = 1, mode: str = "RGB") -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[274] = orientation
    Image.fromarray(photo(height, width)).convert(mode).save(file, "JPEG", quality=90, exif=exif)
    return file.getvalue()


def scaled(size: int = 128, **how) -> ImageProcessing:
    return ImageProcessing(size=size, decode="scaled", **how)


EDGE: Any = {"geometry": "shortest-edge"}
CASES = [
    ((1000, 600), scaled(), (250, 150)),
    ((1001, 601), scaled(), (251, 151)),  # sides are rounded up
    ((1023, 1024), scaled(), (256, 256)),  # 1023 is less than 8 times 128
    ((1024, 1024), scaled(), (128, 128)),
    ((4032, 3024), scaled(), (504, 378)),  # an eighth is the least that there is
    ((255, 600), scaled(), (255, 600)),
    ((1000, 250), scaled(100, **EDGE), (500, 125)),  # the short side counts
    ((1000, 250), scaled(100, geometry="letterbox"), (125, 32)),  # the long side counts
    ((1000, 600), scaled(100, **EDGE, shortest_edge=301), (1000, 600)),
]


@pytest.mark.parametrize(("sides", "processing", "wanted"), CASES)
def test_the_smallest_scale_that_covers_is_taken(jetson, sides, processing, wanted):
    jpeg = jpeg_of(*sides)
    assert load_image(jpeg, scale_of([processing])).size == wanted
    assert load_image(jpeg).size == sides
    board = jetson.bundle_reader.decode(jpeg, resized=jetson.bundle_reader.pictures.covering([processing.model_dump()]))
    assert board.size == wanted
    np.testing.assert_array_equal(np.asarray(board), np.asarray(load_image(jpeg, scale_of([processing]))))


def test_a_turned_picture_is_measured_upright():
    """Its 1000 columns become rows: the geometry is that of the upright picture."""
    processing = scaled(100, **EDGE, shortest_edge=100)
    for orientation in range(1, 9):
        sides = (250, 1000) if orientation >= 5 else (1000, 250)
        image = load_image(jpeg_of(1000, 250, orientation), scale_of([processing]))
        assert image.size == tuple(side // 2 for side in sides)
    wide = load_image(jpeg_of(800, 200, 6), lambda width, height: (width // 2, height // 5))
    assert wide.size == (100, 400)


def test_several_processings_take_the_largest_and_one_that_is_whole_decides():
    jpeg = jpeg_of(1000, 600)
    assert load_image(jpeg, scale_of([scaled(64), scaled(128)])).size == (250, 150)
    assert load_image(jpeg, scale_of([scaled(64), ImageProcessing(size=64)])).size == (1000, 600)
    assert scale_of([]) is None


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_every_kind_of_jpeg_is_scaled_and_stays_near(mode):
    jpeg = jpeg_of(1000, 600, mode=mode)
    whole, small = to_tensor(jpeg, ImageProcessing(size=128)), to_tensor(jpeg, scaled())
    difference = np.abs(whole.astype(int) - small)
    assert 0 < difference.mean() < 2.5


def test_other_formats_and_pictures_in_memory_are_whole():
    file, pixels = io.BytesIO(), photo(600, 1000)
    Image.fromarray(pixels).save(file, "PNG")
    whole = to_tensor(pixels, ImageProcessing(size=128))
    for picture in (file.getvalue(), pixels, Image.fromarray(pixels)):
        np.testing.assert_array_equal(to_tensor(picture, scaled()), whole)


def test_what_is_wrong_with_a_picture_is_said_as_before():
    with pytest.raises(InputError, match="too long: at most 200 times its short side"):
        to_tensor(jpeg_of(1005, 5), scaled(**EDGE))
    with pytest.raises(InputError, match="truncated"):
        to_tensor(jpeg_of(1000, 600)[:3000], scaled())


def test_a_bundle_says_so_and_every_reader_takes_it(tmp_path, jetson):
    model = reader("asked", 11, {"main": IMAGES["main"]}, {"main": word_codecs()["main"]}, "softmax")
    folder = small_bundle(with_scaled(model, ["main"]), [Query((photo(50, 60),), ("a tree",))], tmp_path / "b.edgevl")
    bundle, jpeg = Bundle.open(folder), jpeg_of(1000, 600)
    assert (
        json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["image_processing"]["main"]["decode"]
        == "scaled"
    )
    (answer,) = bundle.opened(threads=1).answer([Query((jpeg,), ("a tree",))])
    board = jetson.bundle_reader.Bundle(folder)
    pixels = board.pixels(board.decode(jpeg))
    np.testing.assert_array_equal(pixels, to_tensor(jpeg, scaled(32)))
    (same,) = bundle.opened(threads=1).answer([Query((pixels,), ("a tree",))])
    np.testing.assert_array_equal(answer.values["logits"], same.values["logits"])


def test_several_processings_of_a_bundle_decide_together(tmp_path, jetson):
    """Decoded once for all of them, by the runner as by the board."""
    images = {"small": scaled(16), "large": scaled(90, **EDGE)}
    model = reader("two", 12, images, {}, "sigmoid")
    bundle, jpeg = small_bundle(model, [Query((photo(50, 60),))], tmp_path / "b.edgevl"), jpeg_of(1000, 600)
    opened, board = Bundle.open(bundle).opened(threads=1), jetson.bundle_reader.Bundle(bundle)
    decoded = board.decode(jpeg)
    assert decoded.size == (250, 150)
    (answer,) = opened.answer([Query((jpeg,))])
    (same,) = opened.answer([Query((decoded,))])
    np.testing.assert_array_equal(answer.values["logits"], same.values["logits"])
    for name, processing in images.items():
        np.testing.assert_array_equal(board.pixels(decoded, name), to_tensor(jpeg, processing, images.values()))


def test_whole_is_not_written():
    """Readers from before there was a choice refuse a field that they do not know."""
    assert "decode" not in ImageProcessing(size=32).model_dump()
    assert scaled(32).model_dump()["decode"] == "scaled"


def test_nano_is_exported_so_and_verified_against_its_checkpoint(tmp_path):
    folder = export_bundle(target="onnx", precision="fp32", scaled=True, out=tmp_path / "nano.edgevl")
    report = verify_bundle(folder, samples=64)
    assert report.ok, report.notes
    assert Bundle.open(folder).manifest.image_processing["main"].decode == "scaled"


def test_the_name_says_so_and_a_model_without_pictures_is_refused():
    exporter = get_exporter("onnx")
    request = Request(exporter, "fp32", None, 1, exporter.check_options(None, "fp32"), scaled=True)
    assert request.bundle_name("nano", "single") == "nano-onnx-fp32-scaled.edgevl"
    model = reader("words", 9, {}, word_codecs(), "softmax")
    assert with_scaled(model, ["main"]).images == {}
