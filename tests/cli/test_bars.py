"""Bars and plain lines: what they say, how long is left, and that a terminal is left as it was found."""

from __future__ import annotations

import io
import re
import sys
import threading
import time
from collections.abc import Callable

import pytest

from trainkit import bars
from trainkit.bars import Pace, Screen, Shares, count_text, left_text


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    patch: pytest.MonkeyPatch

    def screen(self, level: int = 0) -> Screen:
        """A screen on it; pytest takes standard error back between a fixture and its test."""
        self.patch.setattr(sys, "stderr", self)
        return Screen(level)

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        """What was drawn, line by line, without what moves the cursor."""
        return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue()))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    made.patch = monkeypatch
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(bars, "REFRESH_SECONDS", 0.01)
    return made


def wait_for(terminal: Terminal, seen: Callable[[list[str]], bool]) -> None:
    deadline = time.monotonic() + 10
    while not seen(terminal.lines):
        assert time.monotonic() < deadline, terminal.lines[-3:]
        time.sleep(0.01)


def drawing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "trainkit-display"]


# ---------------------------------------------------------------- the time that is left


def test_the_time_that_is_left_follows_from_what_was_done_meanwhile() -> None:
    pace = Pace()
    assert pace.left(0, 100, 0.0) is None
    assert pace.left(10, 100, 5.0) == 45.0
    assert pace.left(20, 100, 10.0) == 40.0
    assert pace.left(100, 100, 50.0) == 0.0


def test_what_was_done_before_took_none_of_the_time() -> None:
    pace = Pace()
    assert pace.left(90, 100, 0.0) is None  # a run that is continued
    assert pace.left(91, 100, 10.0) == 90.0


def test_between_two_long_steps_the_time_runs_down() -> None:
    pace = Pace()
    pace.left(0, 3, 0.0)
    assert pace.left(1, 3, 600.0) == 1200.0
    assert pace.left(1, 3, 900.0) == 900.0  # no step for five minutes: rich's own estimate would be gone
    assert pace.left(1, 3, 9000.0) == 0.0


def test_what_begins_anew_is_measured_anew() -> None:
    pace = Pace()
    pace.left(0, 10, 0.0)
    pace.left(10, 10, 1.0)
    assert pace.left(0, 10, 100.0) is None
    assert pace.left(5, 10, 150.0) == 50.0


@pytest.mark.parametrize(
    ("done", "total", "text"), [(3, 20, "3/20"), (2.7, 6, "2/6"), (12_300_000, 170_498_071, "12.3M/170M")]
)
def test_counts(done: float, total: float, text: str) -> None:
    assert count_text(done, total) == text


@pytest.mark.parametrize(("seconds", "text"), [(None, "left -:--"), (61.2, "left 1:01"), (7322, "left 2:02:02")])
def test_the_time_that_is_left_as_text(seconds: float | None, text: str) -> None:
    assert left_text(seconds) == text


def test_runs_that_go_on_count_by_their_share() -> None:
    shares = Shares(1, 4)
    shares.trained("b", 0.25)
    shares.trained("b", 0.5)
    shares.trained("c", 0.25)
    assert (shares.over, shares.done) == (1, 1.75)
    shares.ended("b")
    shares.ended("d")  # of which nothing was heard
    assert (shares.over, shares.done) == (3, 3.25)


# ---------------------------------------------------------------- on a terminal


def test_a_bar_shows_words_count_and_time(terminal: Terminal) -> None:
    screen, done = terminal.screen(), [0.0]
    screen.show(lambda: (done[0], 8, "trials  best val.loss 0.5"))
    wait_for(terminal, lambda lines: any("0/8" in line and "left -:--" in line for line in lines))
    done[0] = 4.5
    wait_for(
        terminal, lambda lines: any(re.search(r"best val\.loss 0\.5 .* 4/8 .*left 0:\d\d", line) for line in lines)
    )
    screen.say("trial 3  done")
    screen.close()
    screen.close()
    assert "trial 3  done" in terminal.lines
    assert drawing() == []
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h"), "the cursor is back"


def test_work_within_shown_work_is_words_on_its_bar(terminal: Terminal) -> None:
    screen = terminal.screen()
    screen.show(lambda: (1, 4, "trials"))
    screen.progress(1, 2, "decoding images")
    wait_for(terminal, lambda lines: any("trials  decoding images 50%" in line and "1/4" in line for line in lines))
    assert len(drawing()) == 1
    screen.progress(2, 2, "decoding images")
    before = len(terminal.lines)
    wait_for(terminal, lambda lines: len(lines) > before + 3)
    assert "decoding" not in terminal.lines[-2]
    screen.close()


def test_work_by_itself_has_a_bar_that_goes_away(terminal: Terminal) -> None:
    screen = terminal.screen()
    screen.progress(5_000_000, 20_000_000, "downloading cifar")
    wait_for(terminal, lambda lines: any(re.search(r"downloading cifar .* 5M/20M", line) for line in lines))
    screen.progress(20_000_000, 20_000_000, "downloading cifar")
    assert drawing() == []
    screen.progress(1, 9, "evaluating test")
    screen.close()
    assert drawing() == []


def test_words_longer_than_the_terminal_stay_on_one_line(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    screen = terminal.screen()
    screen.show(lambda: (1, 4, "words " * 40))
    wait_for(terminal, lambda lines: any("1/4" in line for line in lines))
    screen.close()
    (one, *_) = [line for line in terminal.lines if "1/4" in line]
    assert len(one) <= 60
    assert one.startswith("words words")


def test_names_of_strangers_cannot_move_the_cursor(terminal: Terminal) -> None:
    screen = terminal.screen()
    screen.show(lambda: (1, 4, "\x1b[2J[red]evil"))
    wait_for(terminal, lambda lines: any("\\x1b[2J[red]evil" in line for line in lines))
    screen.close()
    assert "\x1b[2J" not in terminal.getvalue()


# ---------------------------------------------------------------- elsewhere


def test_elsewhere_long_work_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    screen = Screen(terminal=False)
    for done in range(1, 121):
        screen.progress(done, 120, "decoding images")
        now[0] += 0.125
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[-1] for line in lines] == ["9/120", "49/120", "89/120", "120/120"]
    assert all(line.startswith("decoding images  ") for line in lines)


def test_elsewhere_work_without_an_end_is_unsaid_when_it_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(terminal=False)
    screen.progress(1, 3, "evaluating test")
    screen.progress(3, 3, "")
    assert capsys.readouterr().err == ""


def test_elsewhere_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(terminal=False)
    screen.show(lambda: (1, 4, "trials"))
    assert drawing() == []
    screen.say("trial 0  done")
    screen.close()
    assert capsys.readouterr().err == "trial 0  done\n"


def test_quiet_shows_nothing(terminal: Terminal) -> None:
    screen = terminal.screen(-1)
    screen.show(lambda: (1, 4, "trials"))
    screen.progress(1, 3, "decoding images")
    screen.say("trial 0")
    assert drawing() == []
    assert terminal.getvalue() == ""
