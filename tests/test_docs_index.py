"""docs/index.md: everything is one hop away, and the places that it names are there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
INDEX, PLACES = DOCS / "index.md", DOCS / "where-to-change.md"
CHANGES = re.findall(r"^\| \d+\. (.+?) \| (.+?) \|", PLACES.read_text(encoding="utf-8"), re.MULTILINE)


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_links_of_a_page_lead_somewhere(page):
    broken = [link for link in links(page) if not re.match(r"[a-z]+:", link) and not (DOCS / link).exists()]
    assert not broken


def test_every_page_is_one_hop_from_the_index():
    pages = {path.name for path in DOCS.glob("*.md")} - {INDEX.name}
    assert not pages - {*links(INDEX)}, "link these from docs/index.md"


def test_the_index_has_four_parts():
    parts = re.findall(r"^## (.+)$", INDEX.read_text(encoding="utf-8"), re.MULTILINE)
    assert parts[:4] == ["Use", "Extend", "Evidence", "Log"]


@pytest.mark.parametrize(("change", "place"), CHANGES, ids=[change[:40] for change, _ in CHANGES])
def test_a_change_has_one_place_that_exists(change, place):
    path, *names = re.findall(r"`([^`]+)`", place)
    files = [*ROOT.glob(path)]
    assert files, f"{change}: {path} is not there"
    name = next((name for name in names if re.fullmatch(r"[A-Za-z_.]+", name) and "/" not in name), None)
    sources = [file.read_text("utf-8") for file in files if file.is_file()] or [
        file.read_text("utf-8") for file in Path(files[0]).glob("*.py")
    ]
    assert name is None or any(name in source for source in sources), f"{change}: {path} has no {name}"


def test_ten_changes_are_listed():
    assert len(CHANGES) == 10 and PLACES.name in links(INDEX)


def test_the_picture_is_that_of_the_code():
    """In a process of its own: other tests register tasks and decodings, which the picture would show."""
    command = [sys.executable, str(ROOT / "tools" / "architecture.py"), "--check"]
    assert subprocess.run(command, cwd=ROOT).returncode == 0, "run python tools/architecture.py"
