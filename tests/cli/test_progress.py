"""What a long command says while it works, with a terminal and without one."""

import re
import time

import pytest
from terminals import on_a_terminal

from edgevl.cli import progress
from edgevl.cli.progress import Work, duration, format_rate, progress_bar


@pytest.fixture
def quick(monkeypatch):
    """Lines after a tenth of a second and then every twentieth."""
    monkeypatch.setattr(progress, "FIRST_S", 0.1)
    monkeypatch.setattr(progress, "EVERY_S", 0.05)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_has_step_loss_rate_and_time_left():
    clock = Clock()
    work = Work("pretrain", clock)
    for step in range(1, 101):
        clock.now += 0.5
        work.update(step, 1000, f"loss {3 - step / 100:.3f}")
    assert work.line() == "pretrain: 100 of 1,000, loss 2.000, 2/s, 7 min 30 s left"
    clock.now += 60
    assert work.line().endswith("6 min 30 s left"), "time goes on while nothing is heard"
    assert work.last_line() == "pretrain: done in 1 min 50 s"


def test_a_resumed_run_has_the_rate_of_its_own_steps():
    clock = Clock()
    work = Work("pretrain", clock)
    for step in range(901, 921):
        clock.now += 2
        work.update(step, 1000, "loss 1.0")
    assert "2 s each" in work.line() and "2 min 40 s left" in work.line()


def test_another_stage_has_its_own_rate():
    clock = Clock()
    work = Work("verify", clock)
    for done in range(0, 1001, 100):
        work.update(done, 1000, "running the artifact")
        clock.now += 1
    for done in (100, 200, 300):
        work.update(done, 1000, "running the PyTorch reference")
        clock.now += 10
    assert work.line() == "verify: 300 of 1,000, running the PyTorch reference, 10/s, 1 min 0 s left"


def test_a_few_unlike_steps_promise_nothing():
    clock = Clock()
    work = Work("export", clock)
    for step in range(3):
        work.update(step, 6, "converting to coreml fp16")
        clock.now += 1
    clock.now += 40
    assert work.line() == "export: 2 of 6, converting to coreml fp16, 43 s so far"
    assert Work("inspect", clock).line() == "inspect: 0 s so far"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7385, "2 h 3 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_rates():
    assert [format_rate(rate) for rate in (0, 0.2, 1, 41.26, 1234)] == ["", "5 s each", "1/s", "41.3/s", "1.23e+03/s"]


def test_without_a_terminal_a_long_command_says_lines(capsys, quick):
    with progress_bar("work") as advance:
        for step in range(1, 31):
            advance(step, 30, "loss 1.0")
            time.sleep(0.02)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and 3 <= len(lines) <= 20
    assert all(re.fullmatch(r"work: \d+ of 30, loss 1.0, [\d.]+/s, .+", line) for line in lines[:-1]), err
    assert lines[-1] == "work: done in 1 s"


def test_a_library_that_is_silent_is_spoken_for(capsys, quick):
    with progress_bar("export") as advance:
        advance(1, 4, "converting")
        time.sleep(0.4)
    assert capsys.readouterr().err.count("export: 1 of 4, converting, 0 s so far\n") >= 2


def test_a_quick_command_says_nothing(capsys):
    with progress_bar("work") as advance:
        advance(1, 2, "half")
    assert capsys.readouterr() == ("", "")


def test_a_failure_is_not_reported_as_an_end(capsys, quick):
    with pytest.raises(ValueError), progress_bar("work"):
        time.sleep(0.15)
        raise ValueError
    err = capsys.readouterr().err
    time.sleep(0.2)
    assert "done" not in err and capsys.readouterr().err == "", "and nothing is said afterwards"


def test_lines_become_rare_in_a_long_run(monkeypatch):
    clock, pauses = Clock(), []

    class Stop:
        def wait(self, pause: float) -> bool:
            pauses.append(pause)
            clock.now += pause
            return clock.now > 20 * 3600

        set = join = start = lambda self: None

    monkeypatch.setattr(progress.threading, "Event", Stop)
    monkeypatch.setattr(progress.threading, "Thread", lambda target, daemon: target() or Stop())
    monkeypatch.setattr(progress.console, "note", lambda text: None)
    with progress._lines(Work("pretrain", clock)):
        pass
    assert pauses[:4] == [10, 30, 30, 30] and max(pauses) == 300


WORK = """
import time
from edgevl.cli import console
from edgevl.cli.progress import progress_bar
with progress_bar("pretrain") as advance:
    for step in range(1, 41):
        advance(step, 600, f"loss {4 - step / 100:.3f}")
        time.sleep(0.02)
    console.note("a note")
"""


@pytest.mark.parametrize(("columns", "bar"), [(100, True), (40, False)])
def test_a_terminal_gets_a_bar_with_rate_and_time_left(columns, bar):
    text = on_a_terminal("-c", WORK, columns=columns)
    rows = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", row) for row in re.split(r"[\r\n]+", text)]
    full = [row for row in rows if "of 600" in row and "/s" in row and "left" in row]
    assert full and all(len(row) <= columns for row in rows)
    assert any("loss" in row for row in full)
    assert any("━" in row for row in full) == bar, "a narrow terminal has no place for the bar itself"
    assert "\x1b[2Ka note\r\n" in text and text.endswith("\x1b[2K"), "above the bar, which is gone at the end"


def test_a_terminal_of_another_encoding_gets_a_bar_of_its_characters():
    code = f"import sys; sys.stderr.reconfigure(encoding='latin-1')\nfrom edgevl.cli import streams\n{WORK}"
    text = on_a_terminal("-c", code, columns=100)
    assert "of 600" in text and text.isascii() and "\\u" not in text


def test_a_terminal_that_cannot_draw_gets_lines():
    code = f"import os; os.environ['TERM'] = 'dumb'\nfrom edgevl.cli import progress\nprogress.FIRST_S = 0.1\n{WORK}"
    assert "pretrain: " in on_a_terminal("-c", code)
