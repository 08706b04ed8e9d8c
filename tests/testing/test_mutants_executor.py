"""Each contract of executors catches a planted defect: in one that trains here, and in one that does in a process."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from tests.testing.mutants import Mutant, lacking
from trainkit import Component, Job, Outcome, Site, Stopper, open_plugins, run_job
from trainkit.testing import ExecutorContract

Rested = Sequence[tuple[Job, Outcome]]
CHILDREN: list[subprocess.Popen[bytes]] = []


class Here:
    """Trains each job where it is waited for."""

    slots = 1

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.stopper = Stopper()

    def open(self, site: Site) -> None:
        self.site = site
        self.plugins = open_plugins(site.modules, site.without)

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def wait(self, seconds: float) -> Rested:
        return [(job, self.train(job)) for job in [self.jobs.pop(0) for _ in list(self.jobs)]]

    def train(self, job: Job) -> Outcome:
        return run_job(job, self.plugins, self.site.measured, self.stopper)

    def stop(self) -> None:
        self.stopper.ask("the search stops")

    def close(self) -> None:
        pass


class Careless(Here):
    """Each defect shows in a contract of its own: one story, which takes a second, is enough for all."""

    slots = 0

    def open(self, site: Site) -> None:
        super().open(site)
        CHILDREN.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        self.before = signal.signal(signal.SIGTERM, lambda *_: self.stop())

    def train(self, job: Job) -> Outcome:
        print("training", job.name)
        outcome = super().train(job)
        return dataclasses.replace(outcome, defect=False, origin="") if outcome.status == "error" else outcome

    def stop(self) -> None:
        pass

    def close(self) -> None:
        signal.signal(signal.SIGTERM, self.before)


class Wilful(Here):
    """Each defect shows in a contract of its own, as those of `Careless`, from which they would keep some."""

    def open(self, site: Site) -> None:
        super().open(dataclasses.replace(site, modules=[]))

    def wait(self, seconds: float) -> Rested:
        rested = list(super().wait(seconds))
        return rested + [(job, outcome) for job, outcome in rested if job.trial == 1]

    def train(self, job: Job) -> Outcome:
        given = dataclasses.replace(job, recipe=job.recipe.replace('"4ep"', '"3ep"'), until=1.0)
        return run_job(given, self.plugins, lambda job, measured: "", self.stopper)

    def close(self) -> None:
        raise RuntimeError("it has never been open")


class Apart(Here):
    """Trains each job in a process of its own, a copy of this one, which is soon begun."""

    lost = staticmethod(lambda: Outcome("killed", message="its process died"))

    def train(self, job: Job) -> Outcome:
        ours, theirs = get_context("fork").Pipe()

        def work() -> None:
            def measured(job: Job, measured: Any) -> str:
                theirs.send(measured)
                return str(theirs.recv())

            try:
                outcome = run_job(job, self.plugins, measured)
                theirs.send(outcome)
            finally:
                os._exit(0)

        with warnings.catch_warnings():  # newer Pythons warn of copies of processes with threads
            warnings.simplefilter("ignore", DeprecationWarning)
            process = get_context("fork").Process(target=work)
            process.start()
        theirs.close()
        try:
            while not isinstance(said := ours.recv(), Outcome):
                ours.send(self.site.measured(job, said))
        except EOFError:
            said = self.lost()
        process.join()
        return said


class SaysWrongly(Apart):
    lost = staticmethod(lambda: Outcome("error", message="lost"))


def component(made: Callable[[], Any], name: str = "") -> Component:
    """One that makes executors of a class."""

    def factory() -> Any:
        """Train."""
        return made()

    return Component("executor", factory, name or made.__name__)


HERE, APART = component(Here), component(Apart)
CARELESS, WILFUL = component(Careless), component(Wilful)


def mutant(test: str, defect: Component, because: str) -> Mutant:
    """A defect of the executor that trains here."""
    return Mutant(ExecutorContract, test, defect, HERE, because)


MUTANTS = [
    mutant("says_how_many_jobs_it_takes", CARELESS, "opened, slots is 0; give a whole number from 1"),
    mutant("gives_each_job_back_once", WILFUL, "while training wait gave the jobs .*'other', 'other'"),
    mutant("trains_what_a_run_by_itself_trains", WILFUL, "steps of the job 'whole' is 12, by itself 16"),
    mutant("pauses_and_goes_on", WILFUL, "trained until 0.5 a job was done"),
    mutant("asks_whether_watched_jobs_go_on", WILFUL, "a watched job was done, not pruned"),
    mutant("failures_are_outcomes", CARELESS, "of the job 'refused' defect and origin are lost"),
    mutant("stops_with_a_checkpoint", CARELESS, "asked to stop, it gave the job 'slow' as done"),
    mutant("knows_the_plugins_that_were_given", WILFUL, "a plugin given with -p was error: .*'act'"),
    mutant("leaves_no_process", CARELESS, "closed, it leaves: .*time.sleep"),
    mutant("leaves_no_process", WILFUL, "while closing: RuntimeError: it has never been open"),
    mutant("leaves_signals_alone", CARELESS, "it has set a handler of SIGINT or SIGTERM"),
    mutant("prints_nothing", CARELESS, "it printed 'training trial 0"),
    Mutant(
        ExecutorContract,
        "a_dead_worker_is_an_outcome",
        component(SaysWrongly),
        APART,
        "a job whose process was killed was error, not killed",
    ),
]


@pytest.fixture(autouse=True)
def _soon_gone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processes that stay are not waited for long, and ended."""
    monkeypatch.setattr("trainkit.testing.executing.GONE_S", 0.5)
    yield
    while CHILDREN:
        with CHILDREN.pop() as child:
            child.kill()


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_contract_catches(mutant: Mutant, tmp_path: Path) -> None:
    mutant.check(tmp_path)


def test_no_contract_lacks_a_planted_defect() -> None:
    assert not lacking(ExecutorContract, MUTANTS)


def test_an_executor_that_loses_a_job_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loses(Here):
        def wait(self, seconds: float) -> Rested:
            time.sleep(0.01)
            return [(job, outcome) for job, outcome in super().wait(seconds) if job.trial != 1]

    monkeypatch.setattr("trainkit.testing.executing.LIMIT_S", 0.5)
    because = "while training: TimeoutError: after 0.5 s 1 jobs have not come to rest"
    Mutant(ExecutorContract, "gives_each_job_back_once", component(Loses), HERE, because).check(tmp_path)
