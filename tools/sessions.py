"""Type the console sessions of the documents again, and show or write what is printed now.

    python tools/sessions.py docs/predict.md                # what would change
    python tools/sessions.py docs/predict.md --write        # change it
    python tools/sessions.py --list                         # every session of every document

A session is a block of a document with lines of the form `$ COMMAND`. A document's sessions run in order in one folder,
`build/sessions/NAME`, and `tools/…` there is this folder. What a reader need not see stands in comments above a block:
`<!-- first: COMMAND -->` is run before it, once for a folder; `<!-- not run: REASON -->` leaves it out.

Documents show some of the lines that a command prints. Each of them becomes the line that is now printed in its place:
the next one that is alike but for its numbers. Where there is none, the line stays and is named. Exit code 1 if one is.
"""

import argparse
import dataclasses
import difflib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(?P<above>(?:<!-- (?:first|not run): [^\n]* -->\n)*)"
    r"```[a-z]*\n(?P<lines>(?:(?!```).*\n)*?\$ (?:(?!```).*\n)*)```\n"
)
COMMENT = re.compile(r"<!-- (first|not run): (.*) -->")
ALIKE = 0.6  # of two lines without their numbers
NUMBER = re.compile(r"[0-9][0-9.,]*")


@dataclasses.dataclass
class Session:
    first: list[str]
    skipped: str  # the reason; "" where it is run
    lines: list[str]
    span: tuple[int, int]  # of the lines in the document

    @property
    def commands(self) -> list[str]:
        return [line[2:] for line in self.lines if line.startswith("$ ")]


def sessions(text: str) -> Iterator[Session]:
    """Yield the sessions of a document, in order."""
    for found in BLOCK.finditer(text):
        said = COMMENT.findall(found["above"])
        first = [what for kind, what in said if kind == "first"]
        skipped = "; ".join(what for kind, what in said if kind == "not run")
        yield Session(first, skipped, found["lines"].splitlines(), found.span("lines"))


def typed(command: str, folder: Path) -> list[str]:
    """Run a command in `folder` as a shell would; return the lines that it prints, errors among them."""
    environment = {
        **os.environ,
        "COLUMNS": "160",
        "NO_COLOR": "1",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    }
    command = re.sub(r"^python tools/", f"{sys.executable} {ROOT}/tools/", command)
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    return [line.rstrip() for line in done.stdout.splitlines()]


def again(session: Session, folder: Path) -> tuple[list[str], list[str]]:
    """Run a session; return its lines as they are now, and those that nothing printed now is like."""
    lines: list[str] = []
    lost: list[str] = []
    printed: list[str] = []
    for line in session.lines:
        if line.startswith("$ "):
            after_command = bool(lines) and lines[-1].startswith("$ ")
            printed = [*printed, *typed(line[2:], folder)] if after_command else typed(line[2:], folder)
            lines.append(line)
            continue
        place = next_alike(line, printed)
        if place is None:
            lines.append(line)
            lost += [line] if line.strip() not in ("", "…", "...") else []
        else:
            lines.append(printed[place])
            printed = printed[place + 1 :]
    return lines, lost


def next_alike(line: str, printed: Sequence[str]) -> int | None:
    """Return the place of the line that is most like this one but for numbers: of several the first."""
    if not line.strip():
        return None
    shape = NUMBER.sub("#", line)
    likeness = [difflib.SequenceMatcher(None, shape, NUMBER.sub("#", each)).ratio() for each in printed]
    best = max(likeness, default=0.0)
    return likeness.index(best) if best >= ALIKE else None


def renew(document: Path, write: bool) -> int:
    """Run a document's sessions; return how many lines could not be found again."""
    text = document.read_text(encoding="utf-8")
    folder = ROOT / "build" / "sessions" / document.stem
    folder.mkdir(parents=True, exist_ok=True)
    prepared, lost_lines, renewed, end = set[str](), 0, "", 0
    for session in sessions(text):
        old = "".join(f"{line}\n" for line in session.lines)
        if session.skipped:
            print(f"{document.name}: not run ({session.skipped}): {session.commands[0]}")
            continue
        for command in session.first:
            if command not in prepared:
                typed(command, folder)
                prepared.add(command)
        lines, lost = again(session, folder)
        new = "".join(f"{line}\n" for line in lines)
        sys.stdout.writelines(
            difflib.unified_diff(old.splitlines(True), new.splitlines(True), str(document), "now", n=0)
        )
        for line in lost:
            print(f"{document.name}: nothing like this is printed: {line}")
        lost_lines += len(lost)
        renewed += text[end : session.span[0]] + new
        end = session.span[1]
    if write:
        document.write_text(renewed + text[end:], encoding="utf-8")
    return lost_lines


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", type=Path, nargs="*", help="default: all of docs and the README")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--list", action="store_true", help="run nothing")
    args = parser.parse_args(argv)
    documents = args.documents or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if args.list:
        for document in documents:
            for session in sessions(document.read_text(encoding="utf-8")):
                print(
                    f"{document.name}: {'; '.join(session.commands)}"
                    + f"  (not run: {session.skipped})" * bool(session.skipped)
                )
        return 0
    return 1 if sum(renew(document, args.write) for document in documents) else 0


if __name__ == "__main__":
    sys.exit(main())
