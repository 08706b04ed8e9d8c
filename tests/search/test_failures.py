"""Failures are data: what each does to the study, and what the searcher is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.search.study_parts import Formula, Random, plan, search, story
from trainkit.errors import Exit, MachineError, Place, Problem, RecipeError
from trainkit.search.failures import StudyStopped
from trainkit.search.ledger import read_study
from trainkit.search.log import NAME, StudyLog, read_events
from trainkit.trial import Trial
from trainkit.work import Job, JobStatus, Outcome


def failing(status: JobStatus, *trials: int, **more: object) -> Callable[[Job], Outcome | None]:
    """Lets some trials fail."""
    return lambda job: Outcome(status, {}, message=f"{status} it is", **more) if job.trial in trials else None  # type: ignore[arg-type]


@pytest.mark.parametrize("status", ["nan", "oom", "timeout"])
def test_a_failing_region_is_told_as_the_worst_value_so_far(tmp_path: Path, status: JobStatus) -> None:
    searcher = Random()
    study, _ = search(tmp_path / "s", plan(6), searcher, Formula(failing(status, 0, 4)))
    assert [record.trial.status for record in study.records] == [status, "done", "done", "done", status, "done"]
    assert study.records[0].trial.values == (math.inf,)
    finite = [record.trial.values[0] for record in study.records[1:4]]
    assert study.records[4].trial.values == (max(finite),)
    assert study.records[4].figures == ()
    told = [call for call in searcher.calls if call[0] == "tell"]
    assert told[4][2:4] == (status, (max(finite),))
    assert story(read_study(tmp_path / "s")) == story(study)


def test_a_value_that_is_not_finite_is_a_failure(tmp_path: Path) -> None:
    def nan(job: Job) -> Outcome | None:
        return Outcome("done", {"val.loss": math.nan}, 1.0) if job.trial == 2 else None

    study, _ = search(tmp_path / "s", plan(4), None, Formula(nan))
    assert study.records[2].trial.status == "nan"
    assert read_study(tmp_path / "s").records[2].trial.values == study.records[2].trial.values != ()


@pytest.mark.parametrize("status", ["nan", "oom", "timeout", "error"])
def test_what_is_dropped_has_no_value(tmp_path: Path, status: JobStatus) -> None:
    searcher = Random()
    study, _ = search(tmp_path / "s", plan(4, fail={status: "drop"}), searcher, Formula(failing(status, 2)))
    assert study.records[2].trial.values == ()
    assert [call[1] for call in searcher.calls if call[0] == "tell"] == [0, 1, 2, 3]


def test_a_killed_run_is_tried_once_more_then_told_as_nothing(tmp_path: Path) -> None:
    deaths: list[int] = []

    def dies(job: Job) -> Outcome | None:
        if job.trial not in (1, 3) or (job.trial == 1 and 1 in deaths):
            return None
        deaths.append(job.trial)
        return Outcome("killed", message="the worker died", seconds=2.0)

    study, _ = search(tmp_path / "s", plan(5), None, Formula(dies))
    assert [record.trial.status for record in study.records] == ["done", "done", "done", "killed", "done"]
    assert [record.tries for record in study.records] == [0, 1, 0, 1, 0]
    assert deaths == [1, 3, 3]
    assert study.records[3].trial.values == ()
    assert study.records[1].seconds == 3.0


@pytest.mark.parametrize("status", ["nan", "oom", "timeout", "killed", "error"])
def test_stop_ends_the_study_and_all_results_stay(tmp_path: Path, status: JobStatus) -> None:
    with pytest.raises(StudyStopped, match=f'{status} = "stop"') as stopped:
        search(tmp_path / "s", plan(6, fail={status: "stop"}), None, Formula(failing(status, 4)))
    assert stopped.value.exit_code == Exit.FAILED
    assert "trial 4" in str(stopped.value)
    assert [r.trial.status for r in read_study(tmp_path / "s").records] == ["done"] * 4 + [status]


def test_the_same_error_in_the_first_three_trials_ends_the_study(tmp_path: Path) -> None:
    with pytest.raises(StudyStopped, match="the same error") as stopped:
        search(tmp_path / "s", plan(9), None, Formula(failing("error", *range(9), origin="RunError at here:1")))
    assert "error it is" in str(stopped.value)
    assert len(read_study(tmp_path / "s").records) == 3


def test_different_errors_are_data(tmp_path: Path) -> None:
    def other(job: Job) -> Outcome | None:
        return Outcome("error", message="no", origin=f"RunError at here:{job.trial % 2}")

    study, _ = search(tmp_path / "s", plan(5), None, Formula(other))
    assert [record.trial.status for record in study.records] == ["error"] * 5
    assert study.best() is None


def test_a_defect_ends_the_study_at_once_and_its_trial_is_made_again(tmp_path: Path) -> None:
    executor = Formula(failing("error", 5, origin="KeyError at plugin:3", defect=True))
    with pytest.raises(StudyStopped) as stopped:
        search(tmp_path / "s", plan(8), None, executor)
    assert stopped.value.exit_code == Exit.DEFECT
    study, _ = search(tmp_path / "s", plan(8))  # mended
    whole, _ = search(tmp_path / "whole", plan(8))
    assert story(study) == story(whole)


def test_a_machine_without_room_ends_the_study_which_goes_on_later(tmp_path: Path) -> None:
    def full(job: Job) -> Outcome | None:
        if job.trial == 3:
            raise MachineError("No space left on device")
        return None

    with pytest.raises(MachineError):
        search(tmp_path / "s", plan(6), None, Formula(full))
    study, _ = search(tmp_path / "s", plan(6))
    whole, _ = search(tmp_path / "whole", plan(6))
    assert story(study) == story(whole)


def test_a_disk_that_is_full_for_the_log_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    real, written = os.write, [0]

    def write(file: int, data: bytes) -> int:
        written[0] += len(data)
        if written[0] > 3000:
            if written[0] < 10_000:
                real(file, data[: len(data) // 2])
                written[0] = 10_000
            raise OSError(28, "No space left on device")
        return real(file, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space"):
        search(tmp_path / "s", plan(40))
    monkeypatch.undo()
    assert (tmp_path / "s" / NAME).read_bytes().endswith(b"\n")
    study, _ = search(tmp_path / "s", plan(40))
    whole, _ = search(tmp_path / "whole", plan(40))
    assert story(study) == story(whole)


def test_a_point_that_makes_no_recipe_is_an_error_of_its_trial(tmp_path: Path) -> None:
    what = plan(5)

    def write(trial: Trial, part: int) -> str:
        if trial.number == 2:
            raise RecipeError([Problem(Place("r.toml", 3), "these do not go together")])
        return what.write(trial, part)

    study, _ = search(tmp_path / "s", plan(5).__class__(**{**vars(what), "write": write}))
    assert [record.trial.status for record in study.records] == ["done", "done", "error", "done", "done"]
    assert "do not go together" in study.records[2].message
    assert story(read_study(tmp_path / "s")) == story(study)


def test_a_figure_that_nothing_gives_ends_the_study_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(StudyStopped, match=r"no run measures val.loss; there are: val.f1") as stopped:
        search(tmp_path / "s", plan(5), None, Formula(lambda job: Outcome("done", {"val.f1": 0.5}, 1.0)))
    assert stopped.value.exit_code == Exit.RECIPE


def test_a_torn_last_line_is_dropped_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / NAME
    log = StudyLog(path)
    log.add({"event": "study"})
    log.sync()
    log.close()
    with path.open("ab") as file:
        file.write(b'{"event": "ask", "tri')
    assert [event["event"] for event in read_events(path)] == ["study"]
    StudyLog(path).close()
    assert path.read_bytes().count(b"\n") == 1
    assert path.read_bytes().endswith(b"\n")
    with path.open("ab") as file:
        file.write(b"[1]\n")
    with pytest.raises(MachineError, match=r"study\.jsonl:2: not a line that a study writes"):
        list(read_events(path))


def test_each_run_of_a_trial_is_retried_once(tmp_path: Path) -> None:
    deaths: list[tuple[int, int]] = []

    def dies(job: Job) -> Outcome | None:
        name = (job.trial, job.part)
        if job.trial != 1 or job.part == 1 or name in deaths:
            return None
        deaths.append(name)
        return Outcome("killed", message="it died")

    study, _ = search(tmp_path / "s", plan(3, parts=3), None, Formula(dies))
    assert [record.trial.status for record in study.records] == ["done"] * 3
    assert deaths == [(1, 0), (1, 2)]
    assert study.records[1].tries == 2


def refused(trial: Trial, part: int) -> str:
    """No point makes a recipe."""
    raise RecipeError([Problem(Place("r.toml", 3), "no such recipe")])


def test_no_more_is_asked_for_once_points_that_make_no_recipe_have_ended_the_study(tmp_path: Path) -> None:
    with pytest.raises(StudyStopped, match="its first trials all failed with the same error"):
        search(tmp_path / "s", replace(plan(50), write=refused))
    assert len(read_study(tmp_path / "s").records) == 3


def test_the_first_errors_count_over_several_processes_and_stop_a_study_once(tmp_path: Path) -> None:
    fails, begun = failing("error", 0, 1, 2, 4, origin="ValueError at here:1"), set[int]()

    def counted(job: Job) -> Outcome | None:
        begun.add(job.trial)
        return fails(job)

    executor = Formula(counted)
    _, stopped = search(tmp_path / "s", plan(6), None, executor, lambda: "the time limit" * (len(begun) > 1))
    assert stopped
    assert len(read_study(tmp_path / "s").records) == 2
    executor.stopped = False
    with pytest.raises(StudyStopped, match="its first trials all failed with the same error"):
        search(tmp_path / "s", plan(6), None, executor)
    executor.stopped = False
    study, _ = search(tmp_path / "s", plan(6), None, executor)
    assert [record.trial.status for record in study.records] == [*["error"] * 3, "done", "error", "done"]
