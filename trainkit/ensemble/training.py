"""Members that are trained: jobs of an executor, one for each run that has not ended."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from trainkit import changes
from trainkit.errors import Exit, MachineError, RunError, TrainkitError, UsageError
from trainkit.recipe import Recipe, Written, fill_toml, parse_toml
from trainkit.rundir import read_text
from trainkit.search.driver import GRACE_S, WAIT_S
from trainkit.search.failures import defect, machine_is_full
from trainkit.signals import Signals
from trainkit.trial_results import ENDED
from trainkit.work import Executor, Job, Outcome, Site

# What changes no weight of a run that has been trained already.
FREE = (
    *("logger", "run.threads", "run.keep", "run.log_every", "run.save_every", "run.save_pause"),
    *("run.save_in_background", "run.save_best", "run.keep_pages"),
)


class Stopped(BaseException):
    """The making of an ensemble is to stop here, and goes on later; no plugin's ``except Exception`` holds it."""


class MemberFailed(RunError):
    """A run that was to become a member has failed; the others are kept."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.exit_code = code


def is_over(folder: Path) -> bool:
    """Whether a run has ended as its recipe says."""
    try:
        return json.loads(read_text(folder / "report.json"))["status"] in ENDED
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


class Training:
    """Trains runs through an executor, which is opened with the first of them.

    Args:
        executor: makes the one that the recipe names.
        site: where it works.
        signals: what stops it.
        accept_drift: whether runs go on although versions or device have changed since they were saved.
        began: told before the first run begins, with how many there are.
        rested: told of each run that has ended, and how.
    """

    def __init__(
        self,
        executor: Callable[[], Executor],
        site: Site,
        signals: Signals,
        accept_drift: bool = False,
        began: Callable[[int, int], None] = lambda over, total: None,
        rested: Callable[[str, Outcome], None] = lambda name, outcome: None,
    ) -> None:
        self._make = executor
        self._executor: Executor | None = None
        self._opened_for = 0
        self._site = site
        self._signals = signals
        self._accept_drift = accept_drift
        self._began = began
        self._rested = rested

    def run(self, jobs: Sequence[Job], recipes: Sequence[Recipe]) -> None:
        """Train all of them to their ends, those that have begun from their newest checkpoints.

        Args:
            jobs: the jobs.
            recipes: their recipes.

        Raises:
            Stopped: if a signal came.
            UsageError: if a folder holds a run of another recipe.
            MachineError: if the machine lacks something that all of them need.
            MemberFailed: if one has failed.
        """
        for job, recipe in zip(jobs, recipes, strict=True):
            check_same(job, recipe)
        queue = deque(job for job in jobs if not is_over(job.folder))
        self._look()
        self._began(len(jobs) - len(queue), len(jobs))
        if not queue:
            return
        try:
            if len(queue) > self._opened_for:  # one that was chosen for few jobs may be none for many
                self.close()
            if self._executor is None:
                self._opened_for = len(queue)
                executor = self._make()
                executor.open(replace(self._site, jobs=len(queue)))
                self._executor = executor
            self._signals.also = self._executor.stop
            self._carry_out(self._executor, queue)
        except MachineError as error:
            if self._again in str(error):
                raise
            raise MachineError(f"{error}\n  all members so far are kept; to go on: {self._again}") from error
        finally:
            self._signals.also = None

    def _carry_out(self, executor: Executor, queue: deque[Job]) -> None:
        going: set[Path] = set()
        retried: set[Path] = set()  # once, as trials are: what kills a run twice is the run
        failure: TrainkitError | None = None
        interrupted, stop_by = False, 0.0
        while queue or going:
            if (self._signals.name or interrupted or failure is not None) and not stop_by:
                stop_by = time.monotonic() + GRACE_S
                executor.stop()
            while queue and not stop_by and len(going) < executor.slots:
                job = queue.popleft()
                executor.submit(job)
                going.add(job.folder)
            if not going:
                break
            ended = executor.wait(WAIT_S)
            for job, outcome in ended:
                going.discard(job.folder)
                if outcome.status == "killed" and job.folder not in retried:
                    retried.add(job.folder)
                    queue.appendleft(job)
                elif outcome.status == "done":
                    self._rested(job.name, outcome)
                elif outcome.status == "interrupted":
                    interrupted = True
                else:
                    self._rested(job.name, outcome)
                    failure = failure or self._failed(job, outcome)
            if stop_by and not ended and time.monotonic() > stop_by:
                break  # they go on from their newest checkpoints
        if failure is not None:
            raise failure
        self._look()
        if interrupted:
            raise Stopped("a member was interrupted")

    @property
    def _again(self) -> str:
        return f"trainkit resume {self._site.folder}"

    def _look(self) -> None:
        if self._signals.name:
            raise Stopped(f"signal {self._signals.name}")

    def _failed(self, job: Job, outcome: Outcome) -> TrainkitError:
        told = (outcome.message.rstrip() or outcome.status).replace("\n", "\n  ")
        again = self._again
        if machine_is_full(outcome):
            return MachineError(f"{job.folder}: {told}\n  what is trained is kept; put it right, and go on: {again}")
        code = defect(outcome)
        code = Exit.FAILED if code is None else code
        return MemberFailed(
            f"{job.folder}: {job.name} has failed ({outcome.status}): {told}\n"
            f"  the other members are kept; to go on from its newest checkpoint: {again}",
            code,
        )

    def close(self) -> None:
        """End what was begun; called once, also after errors."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None


def check_same(job: Job, recipe: Recipe) -> None:
    """Check that a folder that holds a run already holds one of this recipe.

    Raises:
        UsageError: naming what differs.
    """
    try:
        before = parse_toml(read_text(job.folder / "recipe.toml"), "recipe.toml")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise MachineError(f"{job.folder / 'recipe.toml'}: cannot be read: {error}") from error
    now = parse_toml(fill_toml(recipe), "the recipe")
    found = [change for change in changes.compare(before, now, recipe) if not _free(change.key)]
    if not found:
        return
    if job.parent is not None and not is_over(job.folder):
        try:  # killed between its making and its first update, it still has the recipe of the run that it began from
            if read_text(job.parent / "recipe.toml") == read_text(job.folder / "recipe.toml"):
                return
        except (OSError, ValueError):
            pass
    lines = [f"{job.folder}: {job.name} was trained with another recipe"]
    lines += [f"  {change.key} = {change.now} (was {change.was})" for change in found[:12]]
    lines += ["  put it back, name a new folder with --run-dir, or begin anew with --fresh"]
    raise UsageError("\n".join(lines))


def _free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE)


def job_of(number: int, name: str, recipe: Recipe, folder: Path, parent: Path | None, accept_drift: bool) -> Job:
    """The job of one run."""
    return Job(number, 0, Written(recipe), folder, parent=parent, objectives=(), accept_drift=accept_drift, named=name)
