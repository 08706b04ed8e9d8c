"""Runs that become members, as jobs of an executor that is made up: what is submitted, retried, stopped and named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.ensemble.making_parts import Making
from trainkit.ensemble.training import MemberFailed, Stopped, Training, job_of
from trainkit.errors import MachineError
from trainkit.recipe import trial_recipe
from trainkit.signals import Signals
from trainkit.work import Executor, Job, Outcome, Site


class MadeUp:
    """Ends each job as it is told, one a call.

    Args:
        ends: for each job's number, how it ends, one after the other; then it is done.
        slots: how many it takes at once.
    """

    def __init__(self, ends: dict[int, list[str]], slots: int = 2) -> None:
        self.ends, self.slots = ends, slots
        self.jobs: list[Job] = []
        self.submitted: list[int] = []
        self.stopped = self.closed = 0

    def open(self, site: Site) -> None:
        self.site = site

    def submit(self, job: Job) -> None:
        assert len(self.jobs) < self.slots
        self.submitted.append(job.trial)
        self.jobs.append(job)

    def wait(self, seconds: float) -> Sequence[tuple[Job, Outcome]]:
        if self.stopped:
            jobs, self.jobs = self.jobs, []
            return [(job, Outcome("interrupted")) for job in jobs]
        job = self.jobs.pop(0)
        status = (self.ends.get(job.trial) or ["done"]).pop(0)
        if status == "full":
            raise MachineError("the cluster is gone")
        if status == "done":
            job.folder.mkdir(parents=True)
            (job.folder / "report.json").write_text(json.dumps({"status": "finished"}))
        origin = "trainkit.errors.MachineError" if status == "error" else ""
        return [(job, Outcome(status, message=f"it is {status}", origin=origin))]  # type: ignore[arg-type]

    def stop(self) -> None:
        self.stopped += 1

    def close(self) -> None:
        self.closed += 1


def trained(making: Making, tmp_path: Path, executor: MadeUp, count: int = 4, signals: Signals | None = None) -> None:
    """Train so many members."""
    assert isinstance(executor, Executor)
    recipe = trial_recipe(making.recipe(), {})
    jobs = [job_of(n, f"member {n}", recipe, tmp_path / f"members/{n}", None, False) for n in range(count)]
    training = Training(lambda: executor, Site(tmp_path), signals or Signals())
    try:
        training.run(jobs, [recipe] * count)
    finally:
        training.close()


def test_what_has_ended_is_not_submitted_again(tmp_path: Path, making: Making) -> None:
    trained(making, tmp_path, executor := MadeUp({}))
    assert (executor.submitted, executor.closed) == ([0, 1, 2, 3], 1)
    trained(making, tmp_path, again := MadeUp({}), 6)
    assert again.submitted == [4, 5]
    trained(making, tmp_path, never := MadeUp({}), 6)
    assert (never.submitted, never.closed) == ([], 0), "an executor was opened for nothing"


def test_a_run_whose_process_was_killed_is_tried_once_more(tmp_path: Path, making: Making) -> None:
    trained(making, tmp_path, executor := MadeUp({1: ["killed"]}))
    assert executor.submitted.count(1) == 2
    with pytest.raises(MemberFailed, match=r"member 5 has failed \(killed\): it is killed"):
        trained(making, tmp_path, MadeUp({5: ["killed", "killed"]}), 6)


def test_a_failure_lets_the_others_save_themselves(tmp_path: Path, making: Making) -> None:
    executor = MadeUp({0: ["nan"]}, slots=3)
    with pytest.raises(MemberFailed, match=r"member 0 has failed \(nan\): it is nan"):
        trained(making, tmp_path, executor, 5)
    assert (executor.submitted, executor.stopped, executor.closed) == ([0, 1, 2], 1, 1)


def test_a_signal_stops_all_of_them(tmp_path: Path, making: Making) -> None:
    signals, executor = Signals(), MadeUp({})

    class Now(MadeUp):
        def submit(self, job: Job) -> None:
            super().submit(job)
            signals.name = "SIGINT"

    executor = Now({})
    with pytest.raises(Stopped, match="signal SIGINT"):
        trained(making, tmp_path, executor, signals=signals)
    assert (executor.stopped, executor.closed, signals.also) == (1, 1, None)


def test_a_member_that_stops_by_itself_stops_the_others(tmp_path: Path, making: Making) -> None:
    executor = MadeUp({0: ["interrupted"]})
    with pytest.raises(Stopped, match="a member was interrupted"):
        trained(making, tmp_path, executor)
    assert (executor.stopped, executor.submitted) == (1, [0, 1])


@pytest.mark.parametrize("end", ["full", "error"])
def test_what_the_machine_lacks_ends_it_and_says_how_to_go_on(tmp_path: Path, making: Making, end: str) -> None:
    executor = MadeUp({1: [end]})
    with pytest.raises(MachineError, match=rf"go on: trainkit resume {tmp_path}"):
        trained(making, tmp_path, executor)
    assert executor.closed == 1


def test_the_executor_knows_how_many_jobs_there_are(tmp_path: Path, making: Making) -> None:
    trained(making, tmp_path, executor := MadeUp({}), 3)
    assert executor.site.jobs == 3
    trained(making, tmp_path, executor := MadeUp({}), 4)
    assert executor.site.jobs == 1


def test_more_jobs_than_an_executor_was_opened_for_get_a_new_one(tmp_path: Path, making: Making) -> None:
    made: list[MadeUp] = []

    def make() -> MadeUp:
        made.append(MadeUp({}))
        return made[-1]

    recipe = trial_recipe(making.recipe(), {})
    jobs = [job_of(n, f"member {n}", recipe, tmp_path / f"members/{n}", None, False) for n in range(6)]
    training = Training(make, Site(tmp_path), Signals())
    for some in (jobs[:2], jobs[2:3], jobs[3:]):
        training.run(some, [recipe] * len(some))
    training.close()
    assert [(one.site.jobs, one.submitted, one.closed) for one in made] == [(2, [0, 1, 2], 1), (3, [3, 4, 5], 1)]
