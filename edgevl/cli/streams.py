"""The two streams of a command: foreign text is made safe here, whoever writes it, and every encoding can take it.

`library_output_to_stderr` keeps what libraries print out of results and off the terminal's controls; `SafeConsole` is
the last thing that our own text passes on its way out.
"""

import codecs
import contextlib
import io
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from edgevl.plain import plain

# While a command runs, `sys.stdout` and `sys.stderr` are a `LibraryStream`. The real ones wait here.
_real: list[tuple[IO[str] | None, IO[str] | None]] = []
live: list["SafeConsole"] = []  # consoles that draw a bar: what is printed meanwhile goes above it
_STAND_INS = {
    "\N{HORIZONTAL ELLIPSIS}": "~",
    "\N{EN DASH}": "-",
    "\N{MULTIPLICATION SIGN}": "x",
}  # as wide as they were


class SafeConsole(Console):
    """A rich console that reads no markup and lets no control character out but its own; a closed pipe ends only it."""

    def __init__(self, file: IO[str]):
        super().__init__(file=file, soft_wrap=True, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=plain(segment.text, keep="\n"))

    def on_broken_pipe(self) -> None:
        silence(self.file)


class LibraryStream:
    """Writes what libraries print on a stream, made safe; above the bar while one is drawn, which takes whole lines."""

    def __init__(self, stream: IO[str]):
        self._stream, self._line = stream, ""

    def write(self, text: str) -> int:
        safe = plain(text, keep="\n\t")
        if live:
            *lines, self._line = (self._line + safe).split("\n")
            for line in lines:
                live[-1].print(line)
        else:
            self._stream.write(self._line + safe)
            self._line = ""
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)  # flush, fileno, isatty, encoding


def result_stream() -> IO[str]:
    return _real_stream(0) or io.StringIO()  # a service may start us without a standard output


def error_stream() -> IO[str]:
    return _real_stream(1) or io.StringIO()


def _real_stream(index: int) -> IO[str] | None:
    return _real[-1][index] if _real else (sys.stdout, sys.stderr)[index]


@contextlib.contextmanager
def library_output_to_stderr() -> Iterator[None]:
    """Send whatever Python code prints to stderr, made safe; only the console reaches the real streams."""
    _real.append((sys.stdout, sys.stderr))
    stream: Any = LibraryStream(error_stream())
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            yield
    finally:
        stream.write("")  # what came while a bar was drawn and has no end of line yet
        _real.pop()


def print_any_character() -> None:
    """Let both streams take every character, whatever their encoding: what they do not have is written as an escape."""
    codecs.register_error("edgevl", _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="edgevl")


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_STAND_INS.get(each) or ascii(each)[1:-1] for each in characters), error.end


def is_unicode(stream: IO[str]) -> bool:
    """Can a stream take every character? Without an encoding (a buffer in memory) it can."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-").startswith("utf")


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Take the place of `sys.excepthook`: the same words, made safe."""
    text = "".join(traceback.format_exception(kind, error, trace))
    error_stream().write(plain(text, keep="\n"))


def silence(stream: IO[str]) -> None:
    """Point a stream at nothing: neither later prints nor the interpreter's last flush fail on a closed pipe."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
