"""The search from its first order to its last trial, with trials that are a formula."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.search.study_parts import Formula, Random, plan, search, story
from trainkit.search.ledger import read_study


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
