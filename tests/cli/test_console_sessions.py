"""The tool that types the sessions of the documents again: a made-up document, and the real ones read."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = """# A page

```bash
echo "no session"
```

<!-- first: echo 94.50 > accuracy -->
```
$ cat accuracy
$ printf 'head\\naccuracy    %s %%, 1000 samples\\nspeed 3\\n' $(cat accuracy)
accuracy    93.10 %, 900 samples
…
gone        for good
```

<!-- not run: needs a board -->
```
$ exit 1
as it was
```
"""


@pytest.fixture
def sessions(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import sessions  # pyright: ignore[reportMissingImports]

    monkeypatch.setattr(sessions, "ROOT", tmp_path)
    return sessions


def test_a_line_becomes_what_is_printed_in_its_place(sessions, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    assert sessions.renew(page, write=False) == 1 and page.read_text(encoding="utf-8") == PAGE
    assert "not run (needs a board): exit 1" in capsys.readouterr().out
    assert sessions.renew(page, write=True) == 1
    assert "nothing like this is printed: gone        for good" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8") == PAGE.replace("93.10 %, 900 samples", "94.50 %, 1000 samples")


def test_sessions_of_the_documents_are_found(sessions):
    found = {path.name: [*sessions.sessions(path.read_text(encoding="utf-8"))] for path in (ROOT / "docs").glob("*.md")}
    assert len(found["predict.md"]) == 3 and found["predict.md"][0].first and not found["predict.md"][0].skipped
    typed = sum(
        line.startswith("$ ") for path in (ROOT / "docs").glob("*.md") for line in path.read_text("utf-8").splitlines()
    )
    assert sum(len(session.commands) for each in found.values() for session in each) == typed
