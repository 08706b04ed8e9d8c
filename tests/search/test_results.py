"""The value of a trial: which evaluation counts, means over its runs, what is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.search.conftest import Searching
from tests.search.study_parts import Formula, Random, loss, plan, search, story
from trainkit import Report, hookimpl
from trainkit.search.ledger import Ledger, read_study
from trainkit.search.results import figures_of
from trainkit.space import Space
from trainkit.trial import Objective, Order, Study, Trial
from trainkit.work import Job, Outcome


def test_the_best_evaluation_takes_all_objectives_from_one_place() -> None:
    objectives = [Objective("val.accuracy", "max"), Objective("seconds")]
    seen = [(0.25, (0.7, 1.0)), (0.5, (0.9, 2.0)), (0.75, (float("nan"), 3.0))]
    done = Outcome("done", {"val.accuracy": 0.8, "seconds": 4.0}, 1.0)
    assert figures_of(done, objectives, seen, "best") == (0.9, 2.0)
    assert figures_of(done, objectives, seen, "last") == (0.8, 4.0)


def test_figures_stay_as_measured_and_searchers_see_lower_as_better() -> None:
    study = Study(Path(), "random", Space(()), (Objective("val.accuracy", "max"), Objective("val.loss")), 1, 0)
    ledger = Ledger(study)
    ledger.put({"event": "ask", "trial": 0, "order": {}})
    ledger.put({"event": "done", "trial": 0, "value": 0.9, "figures": [0.9, 0.3], "trained": 1.0})
    assert study.records[0].figures == (0.9, 0.3)
    assert study.records[0].trial.values == (-0.9, 0.3)
    assert study.records[0].trial.reports == [(1.0, -0.9)]


def test_a_trial_of_several_runs_is_their_mean(tmp_path: Path) -> None:
    study, _ = search(tmp_path / "s", plan(4, parts=3), None, Formula(slots=2, pick=lambda jobs: len(jobs) - 1))
    for record in study.records:
        point = {"optimizer": {key.partition(".")[2]: value for key, value in record.trial.point.items()}}
        values = [loss({**point, "seed": part}, 1.0) for part in range(3)]
        assert record.figures == pytest.approx((sum(values) / 3,), rel=1e-12)
        assert record.spread == pytest.approx((0.01,), rel=1e-9)
        assert [share for share, _ in record.trial.reports] == [0.25, 0.5, 0.75, 1.0]
        assert record.trial.reports[-1][1] == pytest.approx(record.figures[0], rel=1e-12)
        assert record.seconds == 3.0
        assert record.epochs == 6.0
    assert story(read_study(tmp_path / "s")) == story(study)


def test_a_run_that_fails_spares_the_others_of_its_trial(tmp_path: Path) -> None:
    def fails(job: Job) -> Outcome | None:
        return Outcome("nan", message="diverged") if (job.trial, job.part) == (1, 0) else None

    executor = Formula(fails)
    study, _ = search(tmp_path / "s", plan(3, parts=3), None, executor)
    assert [record.trial.status for record in study.records] == ["done", "nan", "done"]
    assert [made[:2] for made in executor.made] == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]


def test_trials_that_the_searcher_judges_are_pruned_where_they_are(tmp_path: Path) -> None:
    study, _ = search(tmp_path / "s", plan(20), Random(judge=True))
    pruned = [record for record in study.records if record.trial.status == "pruned"]
    assert pruned
    for record in pruned:
        assert record.trial.trained == record.trial.reports[-1][0] < 1.0
        assert record.trial.values == (record.trial.reports[-1][1],)
        assert record.message == "worse than all"


def test_paused_trials_are_pruned_at_the_end_and_go_on_in_a_wider_study(tmp_path: Path) -> None:
    study, _ = search(tmp_path / "s", plan(6), Random(rungs=True))
    assert {record.trial.status for record in study.records} >= {"done", "paused"}
    ledger = Ledger(study)
    ledger.put({"event": "end", "reason": "over"})
    assert {record.trial.status for record in study.records} == {"done", "pruned"}
    ledger.put({"event": "widen", "trials": 9})
    assert {record.trial.status for record in study.records} == {"done", "paused"}
    assert study.trials == 9


def test_a_child_counts_its_own_epochs(tmp_path: Path) -> None:
    study = Study(Path(), "pbt", Space(()), (Objective("val.loss"),), 4, 0)
    ledger = Ledger(study)
    ledger.put({"event": "ask", "trial": 0, "order": {"until": 0.5}})
    ledger.put({"event": "pause", "trial": 0, "value": 1.0, "trained": 0.5, "epochs": 5.0})
    ledger.put({"event": "ask", "trial": 1, "order": {"parent": 0}})
    ledger.put({"event": "done", "trial": 1, "value": 1.0, "trained": 1.0, "epochs": 10.0})
    assert [record.epochs for record in study.records] == [5.0, 5.0]
    assert ledger.since == {1: 0.5}  # what its folder has from before that is not its own
    assert study.records[1].trial == Trial(1, {}, "done", (1.0,), [(1.0, 1.0)], 1.0, 0)


def test_what_is_told_when_a_study_changes_to_batches_and_back() -> None:
    class Told:
        def __init__(self) -> None:
            self.heard: list[tuple[int, str]] = []

        def took(self, order: Order, trial: Trial) -> None:
            pass

        def tell(self, trial: Trial) -> None:
            self.heard.append((trial.number, trial.status))

    searcher = Told()
    study = Study(Path(), "random", Space(()), (Objective("val.loss"),), 9, 0)
    ledger = Ledger(study, searcher)  # type: ignore[arg-type]

    def done(trial: int) -> None:
        ledger.put({"event": "done", "trial": trial, "value": 1.0, "trained": 1.0})

    for trial in (0, 1):
        ledger.put({"event": "ask", "trial": trial, "order": {}})
    done(0)
    ledger.put({"event": "changed", "batch": 2, "drift": False})
    done(1)  # which was begun before
    assert searcher.heard == [(0, "done")]
    ledger.put({"event": "told"})
    assert searcher.heard == [(0, "done"), (1, "done")]
    for trial in (2, 3):
        ledger.put({"event": "ask", "trial": trial, "order": {}})
    done(2)
    ledger.put({"event": "changed", "batch": 0, "drift": False})  # while trial 3 is being trained
    assert searcher.heard[2:] == [(2, "done")]
    done(3)
    assert searcher.heard[3:] == [(3, "done")]
    assert ledger.window == []


def test_a_failed_trial_is_as_bad_as_the_worst_of_an_earlier_study_for_readers_too() -> None:
    study = Study(Path(), "random", Space(()), (Objective("val.loss"),), 9, 0)
    ledger = Ledger(study)
    ledger.put({"event": "study", "warm": [{"point": {}, "values": [7.0]}]})
    ledger.put({"event": "ask", "trial": 0, "order": {}})
    ledger.put({"event": "fail", "trial": 0, "status": "nan", "told": "worst"})
    assert study.records[0].trial.values == (7.0,)


def test_plugins_are_told_of_each_trial(tmp_path: Path, searching: Searching, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, Report]] = []

    class Follows:
        @hookimpl
        def trainkit_trial_end(self, trial: int, report: Report) -> None:
            told.append((trial, report))
            if trial == 1:
                raise RuntimeError("no more")

    recipe = searching.recipe("search.trials=3")
    monkeypatch.setattr(recipe.plugins_in_use()[0], "module", Follows())
    report = searching(tmp_path / "s", "search.trials=3")
    assert [number for number, _ in told] == [0, 1, 2]
    assert all(report.status == "finished" and "val.loss" in report.metrics for _, report in told)
    assert report.trials == {"done": 3}
    assert any(note.startswith("after trial 1: ") for note in report.notes)
