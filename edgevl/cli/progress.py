"""What a long command says while it works: a bar on a terminal, a plain line every so often elsewhere.

Both say the same: how much is done, the rate, the time left. A library only calls `progress(done, total, text)`.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from edgevl.cli import console, streams
from edgevl.cli.console import NARROW
from edgevl.plain import plain

ProgressCallback = Callable[[int, int, str], None]
FIRST_S, EVERY_S, RAREST_S = 10.0, 30.0, 300.0  # of lines: the first after, then every; hours need fewer
ALIKE = 20  # steps of a stage that are as good as equal: so many give a rate, four of an export do not
BAR = 24  # columns


class Work:
    """What is known of a running command: its stage, how much of it is done, since when."""

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self.title, self.text, self.done, self.total = title, "", 0, 0
        self.began = self._stage = self._last = clock()
        self._first = 0  # of `done`, when the stage was heard of

    def update(self, done: int, total: int, text: str = "") -> None:
        """Take what a library says. Another total, or less done than before, begins another stage."""
        now = self._clock()
        if total != self.total or done < self.done:
            self._first, self._stage = done, now
        self.done, self.total, self.text, self._last = done, total, plain(text), now

    @property
    def seconds(self) -> float:
        return self._clock() - self.began

    @property
    def rate(self) -> float:
        """Steps a second over the stage; 0 as long as nobody can tell."""
        seconds, steps = self._last - self._stage, self.done - self._first
        return steps / seconds if self.total > ALIKE and steps > 0 and seconds > 0 else 0.0

    @property
    def left(self) -> float:
        """Seconds to the end of the stage at this rate; 0 as long as nobody can tell."""
        rate, waited = self.rate, self._clock() - self._last
        return max(0.0, (self.total - self.done) / rate - waited) if rate else 0.0

    def numbers(self) -> list[str]:
        """For example ["120 of 600", "4.1/s", "2 min 5 s left"]; "" for what is not known."""
        count = f"{self.done:,} of {self.total:,}" if self.total else ""
        time_ = f"{duration(self.left)} left" if self.left else f"{duration(self.seconds)} so far"
        return [count, format_rate(self.rate), time_]

    def line(self) -> str:
        count, *rest = self.numbers()
        return f"{self.title}: {', '.join(filter(None, [count, self.text, *rest]))}"

    def last_line(self) -> str:
        return f"{self.title}: done in {duration(self.seconds)}"


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[ProgressCallback]:
    """Give a callable (done, total, text) that shows on stderr how far a command is, and how long it took if long."""
    work, drawn = Work(title), console.err()
    shown = _bar if drawn.is_terminal and not drawn.is_dumb_terminal else _lines
    with shown(work):
        yield work.update
    if work.seconds >= FIRST_S:
        console.note(work.last_line())


@contextlib.contextmanager
def _lines(work: Work) -> Iterator[None]:
    """A line every so often, from a thread: also while a library is silent."""
    stop = threading.Event()

    def tell() -> None:
        pause = FIRST_S
        while not stop.wait(pause):
            console.note(work.line())
            pause = min(max(EVERY_S, work.seconds / 20), RAREST_S)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _bar(work: Work) -> Iterator[None]:
    terminal = console.err()
    spinner = Spinner("dots" if streams.is_unicode(terminal.file) else "line")
    options: Any = {"redirect_stdout": False, "redirect_stderr": False}  # a `LibraryStream` writes above the bar
    with Live(get_renderable=lambda: _row(work, spinner), console=terminal, transient=True, **options):
        streams.live.append(terminal)
        try:
            yield
        finally:
            streams.live.remove(terminal)


def _row(work: Work, spinner: Spinner) -> RenderableType:
    """The bar itself has no place beside the words on a narrow terminal."""
    bar = ProgressBar(work.total or None, work.done, BAR, pulse=not work.total)
    numbers = Text(", ".join(filter(None, work.numbers())))
    wide = console.err().width >= NARROW
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column()
    row.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for _ in range(1 + wide):
        row.add_column(no_wrap=True)
    row.add_row(spinner, Text(work.text or work.title), *([bar] if wide else []), numbers)
    return row


def format_rate(rate: float) -> str:
    """Steps a second, or seconds a step where they are slow; "" for none."""
    if not rate:
        return ""
    return f"{rate:.3g}/s" if rate >= 1 else f"{1 / rate:.3g} s each"


def duration(seconds: float) -> str:
    """In the two units that matter: 5 s, 2 min 5 s, 1 h 3 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
