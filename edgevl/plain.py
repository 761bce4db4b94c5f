"""Foreign text made safe to show: one line that commands no terminal, and command lines that can be pasted.

Foreign is whatever was not written here: labels, licenses, names of files and operators, a device's words, arguments.
Unsafe are control characters (C0, DEL, C1: escape sequences begin with one), what turns the reading direction, line
separators, marks that nobody sees, and lone surrogates, which no stream takes. The joiners that emoji and several
scripts need are fine. JSON holds the same characters escaped, so that it is safe to print and reads back as it was.
"""

import re
import shlex
from collections.abc import Iterable
from typing import Any

_CONTROL = r"\x00-\x1f\x7f-\x9f"
_DIRECTION = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_INVISIBLE = r"\xad\u180e\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb"
_SURROGATES = r"\ud800-\udfff"
_UNSAFE = re.compile(f"[{_CONTROL}{_DIRECTION}{_INVISIBLE}{_SURROGATES}]")
_MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", "`": "&#96;", "|": r"\|"})
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def plain(text: str, keep: str = "") -> str:
    r"""Return `text` with every unsafe character as what Python would write for it: `\n`, `\x1b`, `\u202e`.

    keep: characters that stay, for example the newlines of a text of several lines.
    """
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def plain_json(text: str) -> str:
    r"""Escape what `json.dumps` leaves unsafe inside strings, as `\u009b`. The newlines between values stay."""
    return _UNSAFE.sub(lambda found: "\n" if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def plain_markdown(value: Any) -> Any:
    """Escape a text for a cell of a Markdown table: no HTML, entity, link, picture, code or other cell begins in it.

    What is no text is returned as it is: a `finalize` of jinja2.
    """
    return plain(value).translate(_MARKDOWN).replace("](", r"]\(") if isinstance(value, str) else value


def command_line(words: Iterable[object]) -> str:
    """Return a command line that a shell reads back as these words."""
    return " ".join(_quote(str(word)) for word in words)


def _escape(character: str) -> str:
    number = ord(character)
    return _SHORT.get(character) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def _quote(word: str) -> str:
    """Quoted where a shell needs it; with unsafe characters as bash, zsh and ksh write them: $'a\\x1bb'."""
    if not _UNSAFE.search(word):
        return shlex.quote(word)
    escaped = word.replace("\\", r"\\").replace("'", r"\'")
    return f"$'{_UNSAFE.sub(lambda found: _bytes(found[0]), escaped)}'"


def _bytes(character: str) -> str:
    """A lone surrogate stands for one byte of a name that is not UTF-8."""
    escaped = "surrogateescape" if "\udc80" <= character <= "\udcff" else "replace"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", escaped))
