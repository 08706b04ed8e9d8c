"""Pages that are made anew while a run goes on: as often as there is something new, and seldom enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainkit.report import watch as module
from trainkit.report.watch import RELOAD_SECONDS, SHARE, watch


class Clock:
    """Time that goes on where somebody sleeps; what happens meanwhile is done on the way."""

    def __init__(self) -> None:
        self.now = self.cpu = 0.0
        self.plan: list[tuple[float, Callable[[], None]]] = []

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.cpu

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        while self.plan and self.plan[0][0] <= self.now:
            self.plan.pop(0)[1]()


class Watched:
    """A run and its page.

    Args:
        folder: the run folder.
        clock: the time.
        cost: processor seconds that a page takes.
    """

    def __init__(self, folder: Path, clock: Clock, cost: float = 0.0) -> None:
        self.folder, self.clock, self.cost = folder, clock, cost
        self.new = True
        self.pages: list[tuple[float, float | None]] = []
        self.updates = 0

    def update(self) -> bool:
        self.updates += 1
        new, self.new = self.new, False
        return new

    def html(self, reload: float | None) -> str:
        self.clock.cpu += self.cost
        self.pages.append((self.clock.now, reload))
        return f"page {len(self.pages)}"

    def end(self) -> None:
        (self.folder / "report.json").write_text("{}")

    def line(self) -> None:
        self.new = True

    def watch(self) -> str:
        return watch(self.folder, self.folder / "page.html", self.update, self.html, self.clock.sleep)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_a_page_for_each_news_until_the_end(tmp_path: Path, clock: Clock) -> None:
    run = Watched(tmp_path, clock)
    clock.plan = [(3.3, run.line), (6.4, run.line), (9.0, run.end)]
    assert run.watch() == "ended"
    assert [reload for _, reload in run.pages] == [RELOAD_SECONDS] * 3 + [None]
    assert [round(at, 2) for at, _ in run.pages] == [0.0, 4.0, 7.0, 9.0]
    assert (tmp_path / "page.html").read_text() == "page 4"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["page.html", "report.json"]


def test_pages_that_take_long_come_seldom(tmp_path: Path, clock: Clock) -> None:
    run = Watched(tmp_path, clock, cost=0.05)

    def news() -> None:
        run.line()
        clock.plan.insert(0, (clock.now + 0.1, news))

    clock.plan = [(0.1, news)]
    known = clock.sleep

    def sleep(seconds: float) -> None:
        known(seconds)
        if clock.now > 300 and not (tmp_path / "report.json").exists():
            run.end()

    clock.sleep = sleep  # type: ignore[method-assign]
    assert run.watch() == "ended"
    assert (len(run.pages) - 1) * run.cost <= SHARE * 310
    assert [reload for _, reload in run.pages[1:-1]] == pytest.approx([run.cost / SHARE] * (len(run.pages) - 2))


def test_a_run_that_has_ended_has_one_page(tmp_path: Path, clock: Clock) -> None:
    run = Watched(tmp_path, clock)
    run.end()
    assert run.watch() == "ended"
    assert run.pages == [(0.0, None)]


def test_a_process_that_is_gone_ends_it(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [True]
    monkeypatch.setattr(module, "is_held", lambda folder: held[0])
    run = Watched(tmp_path, clock)
    clock.plan = [(5.0, held.clear), (5.0, lambda: held.append(False))]
    assert run.watch() == "killed"
    assert 5.0 <= clock.now <= 6.5
    assert run.pages[-1][1] is None


def test_where_no_lock_is_seen_it_goes_on(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_held", lambda folder: False)
    run = Watched(tmp_path, clock)
    clock.plan = [(500.0, run.end)]
    assert run.watch() == "ended"
    assert len(run.pages) == 2


def test_whoever_ends_it_leaves_a_page_that_stays(tmp_path: Path, clock: Clock) -> None:
    run = Watched(tmp_path, clock)

    def interrupt() -> None:
        raise KeyboardInterrupt

    clock.plan = [(2.0, interrupt)]
    with pytest.raises(KeyboardInterrupt):
        run.watch()
    assert [reload for _, reload in run.pages] == [RELOAD_SECONDS, None]
