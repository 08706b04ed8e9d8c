"""Each line of a run reaches a tracker once: in one go, killed and continued, and where the run turns back."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainkit import MachineError, Report, Run, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit.testing.tiny import write_tiny
from trainkit_trackers.following import Line, Tracker, figures_of, settings_of
from trainkit_trackers.sending import Sender
from trainkit_trackers.sent import group_of, noted
from trainkit_trackers.table import Table


class Collecting(Tracker):
    """Keeps what it is given, of all processes that a test makes."""

    def __init__(self, given: list[Any], takes_back: bool = False) -> None:
        super().__init__("collecting")
        self.given = given
        self.takes_back = takes_back
        self.continues = True
        self.killed = False  # before what was handed on is there

    def open(self, run: Any) -> bool:
        self.given.append("open")
        return self.continues

    def hand_on(self, lines: Sequence[Line], done: Callable[[], None]) -> None:
        self.given += [(line["step"], line["loss"]) for line in lines]
        if not self.killed:
            done()

    def turned_back(self, step: int) -> bool:
        self.given.append(f"back to {step}")
        return self.takes_back

    def close(self, report: Report) -> None:
        self.given.append("close")


def lines(*pairs: tuple[int, float]) -> list[dict[str, Any]]:
    return [{"step": step, "epoch": 0, "split": "train", "time": 0.1, "loss": loss} for step, loss in pairs]


def ended(status: str) -> Report:
    return Report(status, "", 0, 0.0, 0.0, {}, None, "")  # type: ignore[arg-type]


def follow(
    folder: Path, tracker: Any, history: list[dict[str, Any]], status: str = "", saved: int | None = None
) -> None:
    """A process that writes these lines, saves after some of them, and ends; without a status it is killed."""
    run: Any = SimpleNamespace(folder=folder, history=history[:0])
    tracker.trainkit_run_start(run)
    for count in range(1, len(history) + 1):
        tracker.trainkit_figures(run)
        run.history = history[:count]
        if count == saved:
            tracker.trainkit_save(run)
    tracker.trainkit_epoch_end(run, {})
    if status:
        tracker.trainkit_run_end(run, ended(status))


def test_every_line_is_handed_on_once(tmp_path: Path) -> None:
    given: list[Any] = []
    follow(tmp_path, Collecting(given), lines((1, 0.5), (2, 0.4), (3, 0.3)), "finished")
    assert given == ["open", (1, 0.5), (2, 0.4), (3, 0.3), "close"]


def test_lines_that_are_made_once_more_are_skipped(tmp_path: Path) -> None:
    given: list[Any] = []
    follow(tmp_path, Collecting(given), lines((1, 0.5), (2, 0.4), (3, 0.3)))  # killed; the checkpoint has one line
    again = lines((1, 0.5), (2, 0.4), (3, 0.3), (4, 0.2))
    for line in again[1:]:
        line["time"] = 7.0
    follow(tmp_path, Collecting(given), again, "finished")
    assert given == ["open", (1, 0.5), (2, 0.4), (3, 0.3), "open", "back to 4", (4, 0.2), "close"]


def test_one_that_begins_elsewhere_is_given_all_lines(tmp_path: Path) -> None:
    given: list[Any] = []
    follow(tmp_path, Collecting(given), lines((1, 0.5), (2, 0.4)), "finished")
    elsewhere = Collecting(given)
    elsewhere.continues = False
    follow(tmp_path, elsewhere, lines((1, 0.5), (2, 0.4), (3, 0.3)), "finished")
    assert given == ["open", (1, 0.5), (2, 0.4), "close", "open", (1, 0.5), (2, 0.4), (3, 0.3), "close"]


def test_what_was_on_its_way_is_handed_on_once_more(tmp_path: Path) -> None:
    given: list[Any] = []
    tracker = Collecting(given)
    tracker.killed = True
    follow(tmp_path, tracker, lines((1, 0.5), (2, 0.4)))
    follow(tmp_path, Collecting(given), lines((1, 0.5), (2, 0.4)), "finished")
    assert given == ["open", (1, 0.5), (2, 0.4), "open", (1, 0.5), (2, 0.4), "close"]


@pytest.mark.parametrize("takes_back", [False, True])
def test_lines_that_differ_are_handed_on_anew(tmp_path: Path, takes_back: bool) -> None:
    given: list[Any] = []
    follow(tmp_path, Collecting(given), lines((1, 0.5), (2, 0.4), (2, 0.45), (3, 0.3)))
    del given[:]
    changed = lines((1, 0.5), (2, 0.4), (2, 0.9), (3, 0.8))
    follow(tmp_path, Collecting(given, takes_back), changed, "finished")
    kept = [(2, 0.4)] if takes_back else []  # it lies at the update that was taken back
    assert given == ["open", "back to 2", *kept, (2, 0.9), (3, 0.8), "close"]
    del given[:]
    follow(tmp_path, Collecting(given), changed, "finished")
    assert given == ["open", "close"]


def test_the_line_of_an_interruption_is_not_handed_on(tmp_path: Path) -> None:
    given: list[Any] = []
    history = lines((1, 0.5), (2, 0.4), (3, 0.3))
    tracker = Collecting(given)
    run: Any = SimpleNamespace(folder=tmp_path, history=history[:2])
    tracker.trainkit_run_start(run)
    tracker.trainkit_save(run)
    run.history = history  # the last one is for the report alone
    tracker.trainkit_run_end(run, ended("interrupted"))
    assert given == ["open", (1, 0.5), (2, 0.4), "close"]


def test_a_run_that_never_begins_opens_nothing(tmp_path: Path) -> None:
    given: list[Any] = []
    run: Any = SimpleNamespace(folder=tmp_path, history=lines((1, 0.5)))
    tracker = Collecting(given)
    tracker.trainkit_epoch_end(run, {})  # built to be evaluated: there was no start
    tracker.trainkit_run_end(run, ended("finished"))
    assert given == []
    assert list(tmp_path.iterdir()) == []


def test_one_that_cannot_be_opened_is_closed(tmp_path: Path) -> None:
    given: list[Any] = []
    tracker = Collecting(given)

    def refuse(run: Any) -> bool:
        raise OSError("no room")

    tracker.open = refuse  # type: ignore[method-assign]
    run: Any = SimpleNamespace(folder=tmp_path, history=lines((1, 0.5)))
    tracker.trainkit_run_start(run)
    with pytest.raises(MachineError, match="a table: OSError: no room"):
        tracker.trainkit_epoch_end(run, {})
    tracker.trainkit_run_end(run, ended("finished"))
    assert given == ["close"]


def test_names_and_settings_as_trackers_show_them() -> None:
    line = {"step": 3, "epoch": 1, "split": "val", "time": 2.0, "loss": 0.5, "accuracy": None, "lr/0": 0.1}
    assert figures_of(line) == {"val/loss": 0.5, "lr/0": 0.1}
    recipe = {
        "seed": 5,
        "optimizer": {"use": "sgd", "betas": (0.9, 0.99), "rest": None},
        "callback": ({"use": "ema"}, {"use": "swa"}),
        "logger": [],
    }
    assert settings_of(recipe) == {
        "seed": 5,
        "optimizer.use": "sgd",
        "optimizer.betas": "[0.9, 0.99]",
        "callback.0.use": "ema",
        "callback.1.use": "swa",
        "logger": "[]",
    }


def test_a_run_knows_the_study_it_belongs_to(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "study" / "trials" / "3"
    run.mkdir(parents=True)
    (run / "recipe.toml").touch()
    assert group_of(run) is None
    (tmp_path / "runs" / "study" / "recipe.toml").touch()
    assert group_of(run) == tmp_path / "runs" / "study"


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 10_000])
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "note.json").write_text(text)
    assert noted(tmp_path / "note.json") == {}


# ---------------------------------------------------------------- metrics.csv


def table_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def as_table(folder: Path) -> list[dict[str, str]]:
    """What ``metrics.csv`` is to say: the lines of ``metrics.jsonl``."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    columns = list(dict.fromkeys(name for line in found for name in line))
    return [{name: "" if line.get(name) is None else str(line[name]) for name in columns} for line in found]


class StopAt:
    """Ends the run after an update, as a signal does, or kills the process."""

    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == self.step:
            raise KeyboardInterrupt


def test_the_table_says_what_the_lines_do_also_where_the_run_is_continued(tmp_path: Path) -> None:
    tables = {"logger": [{"use": "csv"}], "run": {"duration": "4ep", "log_every": "1ba", "save_every": "4ba"}}
    plugins, file, folder = Plugins(), write_tiny(tmp_path / "tiny.toml", tables), tmp_path / "run"
    plugins.load()
    with pytest.raises(KeyboardInterrupt):
        launch(load_recipe(file, [], plugins), plugins, folder=folder, listeners=[StopAt(7)])
    before = table_of(folder)
    assert [row["step"] for row in before if row["split"] == "train"] == [str(step) for step in range(1, 7)]
    changed = load_recipe(file, ["run.log_every=2ba", "callback=[{use='norms'}]"], plugins)
    launch(changed, plugins, folder=folder, resume=True, accept_drift=True)
    assert table_of(folder) == as_table(folder)
    header = (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    first = list(before[0])
    assert header[: len(first)] == first  # columns keep their place; those of `norms` stand behind
    assert len(header) > len(first)
    assert not list(folder.glob("*.tmp"))


def test_rows_are_appended_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(tmp_path, tracker := Table(), lines((1, 0.5), (2, 0.4)))
    anew = tmp_path / "metrics.csv"
    place = anew.stat().st_ino
    run: Any = SimpleNamespace(folder=tmp_path, history=lines((1, 0.5), (2, 0.4), (3, 0.3)))
    tracker.trainkit_epoch_end(run, {})
    assert anew.stat().st_ino == place, "a row more is no reason to write all others again"
    run.history = [*run.history, {**run.history[-1], "norm": 2.0}]
    tracker.trainkit_epoch_end(run, {})
    assert anew.stat().st_ino != place
    assert [row["norm"] for row in table_of(tmp_path)] == ["", "", "", "2.0"]


# ---------------------------------------------------------------- the thread that sends


def test_calls_are_made_in_their_order_and_the_thread_ends() -> None:
    made: list[int] = []
    sender = Sender("test-sender")
    for number in range(100):
        sender.send(lambda number=number: made.append(number))  # type: ignore[misc]
    sender.close(10.0)
    assert made == list(range(100))
    assert not any(thread.name == "test-sender" for thread in threading.enumerate())


def test_what_a_call_raises_is_told_and_no_other_is_made() -> None:
    made: list[int] = []
    sender, failed = Sender("test-sender"), threading.Event()

    def fail() -> None:
        failed.set()
        raise ConnectionError("refused")

    sender.send(fail)
    sender.send(lambda: made.append(1))
    failed.wait(10)
    with pytest.raises(ConnectionError, match="refused"):
        sender.close(10.0)
    assert made == []


def test_a_service_that_hangs_is_not_waited_for() -> None:
    sender, hangs = Sender("test-sender"), threading.Event()
    sender.send(lambda: hangs.wait(60) and None)
    try:
        with pytest.raises(TimeoutError, match="does not wait"):
            sender.close(0.01)
    finally:
        hangs.set()
