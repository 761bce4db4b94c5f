"""The page in a real browser: it asks for nothing and does not scroll sideways on a phone, in light and in dark."""

import importlib.util
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_report import everything  # pyright: ignore[reportMissingImports]
from test_report_bench import limited, on_board  # pyright: ignore[reportMissingImports]

from edgevl.report import render_report

TOOL = Path(__file__).parents[2] / "tools" / "shoot_report.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("shoot_report", TOOL)
    assert spec and spec.loader
    module = sys.modules["shoot_report"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.find_browser() is None:
        pytest.skip("no Chromium here")
    return module


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Every section, with names longer than a phone is wide."""
    sections = everything()
    sections["bench"] = [sections["bench"], limited(), on_board()]
    sections["bench"][0].results[0].runtime = "x" * 120
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(render_report(**sections), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("width", "phone"), [(320, True), (390, True), (768, False), (1280, False)])
def test_no_scrolling_sideways_and_no_request(tool, page, width, phone):
    shot = tool.shoot(page, tool.Window(width, 844, phone=phone))
    assert shot.width == width, shot.widest
    assert shot.requests == []
    assert Image.open(io.BytesIO(shot.png)).size == (width, 844)


@pytest.mark.slow
def test_light_and_dark_are_both_legible(tool, page):
    """Ink against paper: the corner of the page is paper, the darkest or lightest pixel of the headline is ink."""
    for dark in (False, True):
        shot = tool.shoot(page, tool.Window(390, 844, phone=True, dark=dark))
        gray = np.asarray(Image.open(io.BytesIO(shot.png)).convert("L")).astype(int)
        paper, ink = gray[2, 2], (gray.max() if dark else gray.min())
        assert (paper < 64) == dark and abs(paper - ink) > 150


@pytest.mark.slow
def test_sections_stand_side_by_side(tool, page):
    shot = tool.shoot(page, tool.Window(390, 300, phone=True), at=["verdict", "roofline"])
    assert Image.open(io.BytesIO(shot.png)).size == (2 * 390 + tool.GAP, 300)
    with pytest.raises(SystemExit, match='no section "nowhere"; it has verdict, examples, artifacts, accuracy, speed'):
        tool.shoot(page, tool.Window(390, 300), at=["nowhere"])


@pytest.mark.slow
def test_a_page_that_is_too_wide_or_asks_for_something_is_seen(tool, tmp_path, capsys):
    path = tmp_path / "wide.html"
    path.write_text('<main><p style="width:500px">wide</p><img src="other.png"></main>', encoding="utf-8")
    assert tool.main([str(path), "--out", str(tmp_path / "wide.png"), "--width", "390", "--phone"]) == 1
    said = capsys.readouterr().err
    assert "asked for" in said and "other.png" in said and "beyond the window: P" in said
