"""Tables as people have them: CSV and TSV of any spreadsheet, JSON, JSON Lines; to rows of named values.

A spreadsheet writes UTF-8 with a byte-order mark, UTF-16 or cp1252, semicolons where the comma is in numbers, and line
breaks inside quotes.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevl.copying import open_plain
from edgevl.data.photos.columns import PICTURES, column_of, is_picture
from edgevl.errors import InputError, no_such_path
from edgevl.limits import shown
from edgevl.reading import Unreadable, strict_json

MAX_TABLE_BYTES = 256 * 2**20
MAX_ROWS, MAX_COLUMNS = 2_000_000, 1000
MAX_CELL = 2**16  # characters
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_LOOKED_AT = 20  # rows, to find the delimiter
_SIGNATURES = {b"PK\x03\x04": "a workbook or another zip", b"\xd0\xcf\x11\xe0": "an old workbook", b"%PDF": "a PDF"}


@dataclass(frozen=True)
class Table:
    """Rows of a file, and how it was read. `rows`: (number of the line that a row begins on, column -> value)."""

    path: Path
    encoding: str
    delimiter: str  # in words; "json" where the rows are objects
    rows: Sequence[tuple[int, Mapping[str, Any]]]


def read_table(path: Path | str) -> Table:
    """Read a CSV, TSV, JSON or JSON Lines file.

    Raises `InputError` for one that is missing, too large, in no known encoding, damaged, or without rows.
    """
    path = Path(path)
    text, encoding = decoded(_bytes(path), path)
    if not text.strip():
        table = Table(path, encoding, "", [])
    elif text.lstrip()[0] in "{[":
        table = Table(path, encoding, "json", list(_objects(text, path)))
    else:
        text, delimiter = _delimiter(text, path)
        table = Table(path, encoding, DELIMITERS[delimiter], list(_cells(text, delimiter, path)))
    if not table.rows:
        raise InputError(f"{path} holds no rows: it needs a line for each question or caption of a picture")
    return table


def _bytes(path: Path) -> bytes:
    if not path.exists():
        raise no_such_path("table", path, "name a CSV, TSV or JSON Lines file")
    try:
        with open_plain(path, follow=True) as file:
            data = file.read(MAX_TABLE_BYTES + 1)
    except (OSError, Unreadable) as error:
        raise InputError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(data) > MAX_TABLE_BYTES:
        raise InputError(f"{path} is larger than {MAX_TABLE_BYTES // 2**20} MiB: split it into several tables")
    for signature, what in _SIGNATURES.items():
        if data.startswith(signature):
            raise InputError(f"{path} is {what}, not a table of text: save it as CSV (UTF-8)")
    return data


def decoded(data: bytes, path: Path) -> tuple[str, str]:
    """Return the text of a table and the name of its encoding.

    Raises `InputError` for bytes that are none of UTF-8, UTF-16 and cp1252.
    """
    for encoding in _encodings(data):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        return text, encoding
    raise InputError(f"{path} is not text in UTF-8, UTF-16 or Windows-1252: save it as CSV (UTF-8)")


def _encodings(data: bytes) -> tuple[str, ...]:
    """Those to try. Text in UTF-16 without its mark shows itself by zeros: every other byte, mostly."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ("utf-16",)
    head = data[:4000]
    for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if len(head) >= 4 and zeros.count(0) > len(zeros) * 0.7:
            return (encoding,)
    return ("utf-8-sig", "cp1252") if data.startswith(b"\xef\xbb\xbf") else ("utf-8", "cp1252")


def _delimiter(text: str, path: Path) -> tuple[str, str]:
    """Return the text without Excel's own `sep=;`, and the character that parts it into the columns that are needed."""
    first, _, rest = text.partition("\n")
    if first.strip().lower().startswith("sep=") and (own := first.strip("\r\n")[4:5] or "\t") in DELIMITERS:
        return rest, own
    best, most = ",", 0
    for delimiter in DELIMITERS:
        lines = _few(text, delimiter)
        known = sum(column_of(name) is not None for name in lines[0]) if lines else 0
        even = sum(len(line) == len(lines[0]) > 1 for line in lines)
        if (score := 1000 * known + even) > most and (even or known > 1):
            best, most = delimiter, score
    if not most:
        names = ", ".join(f'"{each}"' for each in ("image", "question", "answer"))
        raise InputError(f"{path} has one column: its first line must name columns such as {names}")
    return text, best


def _few(text: str, delimiter: str) -> list[list[str]]:
    found = []
    try:
        for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if line:
                found.append(line)
            if len(found) == _LOOKED_AT:
                break
    except csv.Error:
        pass
    return found


def _cells(text: str, delimiter: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    begins = 1
    try:
        for line in reader:
            number, begins = begins, reader.line_num + 1
            if not any(cell.strip() for cell in line):
                continue
            if names is None:
                names = _names(line, path)
                if not _is_headless(line):
                    continue
            yield _checked(number, path), _row(names, line, f"{path}: line {number}")
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: {_said(error)}") from None


def _row(names: Sequence[str], cells: Sequence[str], where: str) -> dict[str, str]:
    if len(cells) > len(names) and any(cell.strip() for cell in cells[len(names) :]):
        raise InputError(
            f"{where} has {len(cells)} columns, the first line has {len(names)}: put text with a delimiter into quotes"
        )
    return dict(zip(names, cells))


def _names(line: list[str], path: Path) -> list[str]:
    """The names of the columns; where the first line is a row already, those of its places."""
    if len(line) > MAX_COLUMNS:
        raise InputError(f"{path} has {len(line):,} columns: at most {MAX_COLUMNS:,} are read")
    if _is_headless(line):
        return ["image", "question", "answer"] if len(line) == 3 else ["image", "caption"]
    return [name.strip() for name in line]


def _is_headless(line: list[str]) -> bool:
    """Say if a first line names no column and begins with a picture."""
    return len(line) in (2, 3) and is_picture(line[0]) and not any(column_of(name) in PICTURES for name in line)


def _objects(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of JSON Lines, or of one JSON array."""
    if text.lstrip().startswith("["):
        lines = [(index, each) for index, each in enumerate(_json(text, str(path)), start=1)]
    else:
        lines = (
            (number, _json(line, f"{path}: line {number}"))
            for number, line in enumerate(text.split("\n"), start=1)
            if line.strip()
        )
    for number, row in lines:
        if not isinstance(row, dict):
            raise InputError(f"{path}: line {number} is {shown(row)}: it must be an object with an image")
        yield _checked(number, path), row


def _json(text: str, where: str) -> Any:
    try:
        return strict_json(text)
    except Unreadable as error:
        raise InputError(f"{where} is not readable JSON: {error}") from None


def _checked(number: int, path: Path) -> int:
    if number > MAX_ROWS:
        raise InputError(f"{path} has more than {MAX_ROWS:,} lines: split it into several tables")
    return number


def _said(error: csv.Error) -> str:
    text = str(error)
    if "field larger" in text:
        return f"a cell has more than {MAX_CELL:,} characters: most likely a quote is not closed"
    return f"{text}: a quote inside quoted text is written twice"
