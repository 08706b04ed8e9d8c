"""The search from its first order to its last trial, with trials that are a formula."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.search.study_parts import Formula, Random, plan, search, story
from trainkit.search.ledger import read_study
from trainkit.search.log import NAME, read_events
from trainkit.trial import Order
from trainkit.work import Job, Outcome


def test_a_random_search_runs_to_its_end(tmp_path: Path) -> None:
    study, stopped = search(tmp_path / "s", plan(10))
    assert stopped == ""
    assert [record.trial.status for record in study.records] == ["done"] * 10
    assert study.records[0].trial.point == {"optimizer.lr": 0.1, "optimizer.momentum": 0.5}
    assert study.records[0].figures == pytest.approx((1.0,))
    assert story(read_study(tmp_path / "s")) == story(study)


def test_two_halves_equal_the_whole(tmp_path: Path) -> None:
    whole, halves = Random(), Random()
    one, _ = search(tmp_path / "whole", plan(30), whole)
    search(tmp_path / "halves", plan(15))
    two, _ = search(tmp_path / "halves", plan(30), halves)
    assert story(two) == story(one)
    assert halves.calls == whole.calls


@pytest.mark.parametrize("rungs", [False, True])
def test_batches_are_the_same_for_any_number_of_workers(tmp_path: Path, rungs: bool) -> None:
    stories, calls = [], []
    for name, executor in [
        ("one", Formula()),
        ("three", Formula(slots=3, pick=lambda jobs: len(jobs) - 1)),
        ("eight", Formula(slots=8, pick=lambda jobs: len(jobs) // 2)),
    ]:
        searcher = Random(rungs=rungs)
        study, _ = search(tmp_path / name, plan(20, batch=4), searcher, executor)
        stories.append(story(study))
        calls.append(searcher.calls)
        assert story(read_study(tmp_path / name)) == stories[-1]
    assert stories[0] == stories[1] == stories[2]
    assert calls[0] == calls[1] == calls[2]


class Counting(Random):
    """Its points say how many results it was told of."""

    def ask(self) -> Order | None:
        order, told = super().ask(), sum(1 for call in self.calls if call[0] == "tell")
        return order and replace(order, point={**order.point, "optimizer.momentum": told / 100})


def test_two_halves_equal_the_whole_where_the_first_ends_within_a_batch(tmp_path: Path) -> None:
    whole, halves = Counting(), Counting()
    one, _ = search(tmp_path / "whole", plan(30, batch=8), whole)
    search(tmp_path / "halves", plan(15, batch=8), Counting())
    two, _ = search(tmp_path / "halves", plan(30, batch=8), halves)
    assert story(two) == story(one)
    assert halves.calls == whole.calls


def test_a_trial_is_written_down_before_its_folder_is_made_of_another_one(tmp_path: Path) -> None:
    class Branching(Random):
        def ask(self) -> Order | None:
            order = super().ask()
            return order and (replace(order, parent=0) if len(self.trials) else order)

    written: list[list[int]] = []

    def branch(parent: Path, folder: Path) -> None:
        written.append([event["trial"] for event in read_events(tmp_path / "s" / NAME) if event["event"] == "ask"])

    search(tmp_path / "s", plan(3, branch=branch), Branching())
    assert written == [[0, 1], [0, 1, 2]]


def test_a_run_that_was_interrupted_unasked_ends_the_session_and_goes_on_later(tmp_path: Path) -> None:
    def once(job: Job) -> Outcome | None:
        return Outcome("interrupted", message="the worker was taken away") if job.trial == 2 else None

    _, stopped = search(tmp_path / "s", plan(5), executor=Formula(once))
    assert stopped == "trial 2 was interrupted: the worker was taken away"
    study, stopped = search(tmp_path / "s", plan(5))
    whole, _ = search(tmp_path / "whole", plan(5))
    assert stopped == ""
    assert story(study) == story(whole)
