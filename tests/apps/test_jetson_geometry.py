"""Geometries and kernels: the pixels of edgevl and of the board are of one piece of code, and do not drift."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from edgevl.bundle.specs import ImageProcessing
from edgevl.errors import InputError
from edgevl.inputs.images import to_tensor

RANDOM = np.random.default_rng(5)
SHAPES = [(40, 56), (56, 40), (1, 60), (60, 1), (33, 33), (90, 200), (7, 5)]
PICTURES = [RANDOM.integers(0, 256, (*shape, 3), np.uint8) for shape in SHAPES]
DIGESTS: dict[tuple[str, str, int | None], str] = {
    ("squash", "triangle", None): "24a18caf61acb25b",
    ("squash", "cubic", None): "1ac162b1375593ac",
    ("shortest-edge", "triangle", None): "5b9aa23e3cb41bd0",
    ("shortest-edge", "cubic", None): "90a070d8319a318b",
    ("shortest-edge", "triangle", 37): "5cb555491fa65ed6",
    ("shortest-edge", "cubic", 37): "0454bb94f1a4ce38",
    ("letterbox", "triangle", None): "16a0363823eaa531",
    ("letterbox", "cubic", None): "0dbe5858a76e9b82",
}


@pytest.mark.parametrize(("geometry", "kernel", "edge"), DIGESTS)
def test_pixels_do_not_drift(jetson, geometry, kernel, edge):
    found = hashlib.sha256()
    processing = ImageProcessing(size=32, geometry=geometry, kernel=kernel, shortest_edge=edge)
    for picture in PICTURES:
        ours = to_tensor(picture, processing)
        board = jetson.bundle_reader.to_pixels(Image.fromarray(picture), 32, geometry, kernel, edge)
        np.testing.assert_array_equal(ours, board)
        found.update(ours.tobytes())
    assert found.hexdigest()[:16] == DIGESTS[geometry, kernel, edge]


def test_a_picture_is_not_made_huge(jetson):
    """A manifest may ask for an edge of 8 192: of a picture of 1 x 200 that would be 13 000 million pixels."""
    picture = np.zeros((200, 1, 3), np.uint8)
    with pytest.raises(InputError, match="would be resized to 8,192 x 1,638,400"):
        to_tensor(picture, ImageProcessing(size=32, geometry="shortest-edge", shortest_edge=8192))
    with pytest.raises(jetson.problems.Problem, match="too long: at most 200 times its short side"):
        jetson.bundle_reader.to_pixels(Image.new("RGB", (1, 201)), 32, "shortest-edge", "cubic")
