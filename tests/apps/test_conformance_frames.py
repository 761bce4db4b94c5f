"""Frames of the suite: every layout and coding is there, planes lie where their strides say, a turn is clockwise."""

import json

import numpy as np
import pytest

from edgevl.app.conformance.frames import LAYOUTS, packed, upright, write_frames
from edgevl.pictures.frames import COLORS


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    count = write_frames(folder)
    listed = json.loads((folder / "frames.json").read_text(encoding="utf-8"))["frames"]
    assert len(listed) == count == len({each["id"] for each in listed})
    return folder, listed


def test_every_layout_meets_every_coding_and_every_turn(frames):
    _, listed = frames
    layouts = {(each["id"].split("-")[0], each["colors"]) for each in listed}
    assert len(layouts) == len(LAYOUTS) * len(COLORS)
    assert {each["turn"] for each in listed} == {0, 90, 180, 270}
    assert any(each["width"] % 2 and each["height"] % 2 and each["turn"] == 90 for each in listed)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_planes_are_found_by_their_strides(layout):
    y, u, v = (np.arange(start, start + h * w).reshape(h, w) for start, h, w in ((0, 5, 7), (100, 3, 4), (200, 3, 4)))
    data, planes = packed(y, u, v, layout)
    for name, samples in (("y", y), ("u", u), ("v", v)):
        offset, row, pixel = planes[name].values()
        found = [[data[offset + n * row + m * pixel] for m in range(samples.shape[1])] for n in range(samples.shape[0])]
        assert found == samples.tolist()


def test_a_turn_is_clockwise(frames):
    """The first pixel of an upright picture that was turned by 90 degrees is the bottom left one of the frame."""
    folder, listed = frames
    for each in listed:
        if each["turn"] == 90:
            assert (each["rgb_width"], each["rgb_height"]) == (each["height"], each["width"])
            data, place = (folder / each["file"]).read_bytes(), each["planes"]
            (y, u, v), rows = (place[name] for name in "yuv"), each["height"]
            bottom = rows - 1
            at = [data[y["offset"] + bottom * y["row_stride"]]]
            at += [data[plane["offset"] + bottom // 2 * plane["row_stride"]] for plane in (u, v)]
            luma, blue, red = (np.array([[value]], np.uint8) for value in at)
            pixel = upright(luma, blue, red, each["colors"], 0)
            assert (folder / each["rgb"]).read_bytes()[:3] == pixel.tobytes()
