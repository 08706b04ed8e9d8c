"""What a group that is started again knows, and how the processes of one agree to cut an evaluation short."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist

from trainkit.distributed import attempts
from trainkit.distributed.attempts import CLEARED, FOLDER, Attempts
from trainkit.distributed.group import PeerLost
from trainkit.signals import CutShort, cut_short


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Notes as a process of one attempt after the other sees them; the store outlives them."""
    store = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    environ = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}

    def process(restarts: int) -> Attempts:
        monkeypatch.setattr(attempts, "_runs", itertools.count())
        return Attempts(restarts, environ)

    yield process
    del store


def test_who_is_started_again_goes_on_in_the_folder_of_the_first_attempt(process):
    first = process(0)
    assert first.place(Path("a"), False, False) == (Path("a"), False, False)
    assert process(1).place(Path("b"), False, False) == (Path("b"), False, False)  # killed before it had one
    first.note(FOLDER, "/runs/a")
    assert process(2).place(Path("c"), False, False) == (Path("/runs/a"), True, False)
    assert process(0).place(Path("c"), False, False) == (Path("c"), False, False)


def test_an_old_run_is_put_aside_once_and_never_continued_in_its_place(process):
    first = process(0)
    first.note(FOLDER, "/runs/a")
    assert process(1).place(Path("/runs/a"), False, True) == (Path("/runs/a"), False, True)
    first.note(CLEARED)
    assert process(1).place(Path("/runs/a"), False, True) == (Path("/runs/a"), True, False)


def test_each_run_of_a_program_has_notes_of_its_own(process):
    process(0).note(FOLDER, "/runs/a")
    Attempts(0, process(0)._environ).note(FOLDER, "/runs/b")
    again = process(1)
    assert again.noted(FOLDER) == "/runs/a"
    assert Attempts(1, again._environ).noted(FOLDER) == "/runs/b"
    assert Attempts(1, again._environ).noted(FOLDER) is None


def test_where_nobody_keeps_a_store_nothing_is_noted():
    alone = Attempts(1, {})
    alone.note(FOLDER, "a")
    assert alone.noted(FOLDER) is None
    assert alone.place(Path("a"), True, False) == (Path("a"), True, False)


def test_who_keeps_the_notes_may_be_gone(process, monkeypatch):
    def broken(*given: str) -> None:
        raise RuntimeError("Broken pipe")

    alone = process(0)
    monkeypatch.setattr(alone, "_store", lambda: SimpleNamespace(set=broken))
    with pytest.raises(PeerLost, match="whoever started the processes is gone; the run can be resumed"):
        alone.note(FOLDER, "a")


class Pair:
    """A group of two, of which the other one says what it is told to."""

    size = 2

    def __init__(self, *others: bool, wish: str | None = None) -> None:
        self.others, self.wish = list(others), wish

    def any_of(self, flag: bool) -> bool:
        return self.others.pop(0) or flag

    def all_of(self, value: Any) -> list[Any]:
        return [value, (None, False, self.wish)]


def run_of(group: Pair, position: int, came: float = 0.0) -> Any:
    return SimpleNamespace(
        group=group,
        position=position,
        total_updates=9,
        stop_reason=None,
        interrupted=False,
        wish=None,
        interrupted_at=came,
    )


def test_a_signal_that_only_another_process_has_got_cuts_the_evaluation_short_here():
    run = run_of(Pair(True, True, False, wish="signal SIGTERM"), position=4)
    with pytest.raises(CutShort):
        cut_short(run)
    assert (run.stop_reason, run.interrupted) == ("signal SIGTERM", True)


def test_one_while_the_last_figures_are_measured_leaves_them_a_while_which_is_over_where_it_is_over_for_one():
    run = run_of(Pair(True, True, False, wish="signal SIGTERM"), position=9)
    cut_short(run)
    run.group = Pair(False)
    cut_short(run)
    run.group = Pair(True, True, True, wish="signal SIGTERM")  # the other one's clock is a little before this one's
    with pytest.raises(CutShort):
        cut_short(run)
    run = run_of(
        Pair(True, True, True, wish="signal SIGTERM"), position=9, came=1e-9
    )  # this one's is before the other's
    with pytest.raises(CutShort):
        cut_short(run)


def test_a_folder_named_after_no_process_is_left_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stranger = tmp_path / f"trainkit-rank-{10**30}-x"
    stranger.mkdir()
    with attempts.scratch() as own:
        assert own.stat().st_mode & 0o777 == 0o700
        assert stranger.is_dir()
