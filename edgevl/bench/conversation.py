"""Run a command whose other end promises nothing: not how much it says, nor in which bytes, nor that it ever stops.

What it writes is read as it comes and bounded; bytes that are not UTF-8 become U+FFFD. Control characters are left in:
who prints such text makes it safe.
"""

import contextlib
import dataclasses
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from edgevl.errors import EdgeVLError

MAX_OUTPUT = 32 * 2**20  # bytes of standard output: a report with all of its samples has a few MB
MAX_ERRORS = 2**20  # bytes of standard error: what a person reads as it comes
MAX_LINES, MAX_LINE = 100, 500  # lines of standard error that are kept, the last ones, and characters of each
_BLOCK = 65536
_LAST_WORDS_S = 5.0  # for what was written before the end; a process that ssh leaves behind may hold the pipe for good


@dataclasses.dataclass(frozen=True)
class Said:
    """What a command that ended has said. `lines` are the last of its standard error."""

    code: int
    output: str
    lines: list[str]


def converse(
    command: Sequence[str],
    who: str,
    timeout: float,
    write: Callable[[IO[bytes]], None] | None = None,
    heard: Callable[[str], None] | None = None,
    keep_open: bool = False,
) -> Said:
    """Run `command` to its end, which comes after `timeout` seconds at the latest.

    Args:
        command: a program and its arguments.
        who: what the messages call it.
        timeout: seconds.
        write: fills its standard input; called in a thread, and may raise BrokenPipeError when nobody reads.
        heard: called in a thread with each line of standard error, cut to `MAX_LINE` characters.
        keep_open: leave the standard input open until the command has ended.
    Raises:
        EdgeVLError: it did not end in time, or said more than `MAX_OUTPUT` or `MAX_ERRORS` bytes. It was killed then,
            as it is whatever else is raised here, Ctrl-C included.
    """
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    talk = _Talk(process, heard)
    workers = [_start(talk.listen), _start(talk.read_errors)]
    if write or not keep_open:
        workers.append(_start(talk.fill, write, keep_open))
    try:
        in_time = _wait(process, time.monotonic() + timeout)
        if in_time:
            _join(workers)
        if talk.failure:
            raise talk.failure
        if talk.too_much:
            raise EdgeVLError(f"{who} said more than {talk.too_much // 2**20} MB, and was stopped")
        if not in_time:
            raise EdgeVLError(f"{who} did not finish within {timeout:g} s, and was stopped")
        return talk.said(process.wait())
    finally:
        process.kill()
        process.wait()
        talk.close()


def _wait(process: subprocess.Popen, end: float) -> bool:
    """Wait for the process, until `end` on the monotonic clock. In short steps, between which Ctrl-C is heard."""
    while process.poll() is None and (left := end - time.monotonic()) > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(left, 0.1))
    return process.poll() is not None


def _join(workers: Sequence[threading.Thread]) -> None:
    end = time.monotonic() + _LAST_WORDS_S
    for worker in workers:
        worker.join(max(0.0, end - time.monotonic()))


class _Talk:
    """The three streams of a process. Its methods run in threads; whatever is too much or goes wrong kills it."""

    def __init__(self, process: subprocess.Popen, heard: Callable[[str], None] | None):
        assert process.stdin and process.stdout and process.stderr
        self._process, self._heard = process, heard
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._output, self._lines = bytearray(), deque[str](maxlen=MAX_LINES)
        self.too_much = 0  # the limit in bytes that was passed
        self.failure: Exception | None = None  # of what should fill the standard input

    def listen(self) -> None:
        for block in self._blocks(self._stdout, MAX_OUTPUT):
            self._output += block

    def read_errors(self) -> None:
        rest = b""
        for block in self._blocks(self._stderr, MAX_ERRORS):
            *lines, rest = (rest + block).split(b"\n")
            rest = rest[: 4 * MAX_LINE]  # no character has more bytes
            for line in lines:
                self._hear(line)
        if rest:
            self._hear(rest)

    def fill(self, write: Callable[[IO[bytes]], None] | None, keep_open: bool) -> None:
        try:
            if write:
                write(self._stdin)
            if not keep_open:
                self._stdin.close()
        except BrokenPipeError:  # the other end has closed it; the reason is on standard error
            pass
        except Exception as error:
            self.failure = error
            self._process.kill()

    def said(self, code: int) -> Said:
        return Said(code, bytes(self._output).decode("utf-8", "replace"), list(self._lines))

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stdin.close()

    def _hear(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()[:MAX_LINE]
        self._lines.append(text)
        if self._heard:
            self._heard(text)

    def _blocks(self, stream: Any, limit: int) -> Iterator[bytes]:
        read = 0
        while block := stream.read1(_BLOCK):
            read += len(block)
            if read > limit:
                self.too_much = limit
                self._process.kill()
                return
            yield block


def _start(work: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread
