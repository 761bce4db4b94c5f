"""What the user must hear, and the exit codes, which are those of EdgeVL."""

from __future__ import annotations

BAD_INPUT, MISSING, REFUSED = 2, 3, 4


def plain(text: str) -> str:
    """One line that no terminal obeys: whatever is not a character that shows is written out, as \\x1b."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in " ".join(text.split()))


class Problem(Exception):
    """What the user must hear, as one line that any terminal takes, with the exit code of the process."""

    def __init__(self, exit_code: int, message: str):
        super().__init__(plain(message)[:2000])
        self.exit_code = exit_code
