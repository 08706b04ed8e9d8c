"""Runs of one recipe that are trained through an executor: those that fail are said, and the others go on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainkit import checkpoint
from trainkit.component import Component
from trainkit.ensemble.training import Stopped
from trainkit.errors import Exit, MachineError, TrainkitError, UsageError
from trainkit.manager import Plugins
from trainkit.repeats.show import RepeatsDisplay
from trainkit.returned import defect as defect_of
from trainkit.returned import wrong_object
from trainkit.search.driver import GRACE_S, WAIT_S
from trainkit.search.failures import FIRST, machine_is_full
from trainkit.settings import REQUIRED
from trainkit.signals import Signals
from trainkit.work import Executor, Job, Outcome

# Lanes are equal to single runs up to rounding, and so are not taken unless they are asked for.
EXACT = {"use": "auto", "lanes": 1}


class NoRunIsPossible(TrainkitError):
    """The first run met what none of the others would fare better with, such as data that cannot be cut so."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.exit_code = code


def make_executor(plugins: Plugins, name: str | None) -> Executor:
    """Make the executor of a name, or the one whose runs are those made alone, bit for bit.

    Raises:
        UsageError: if there is none of that name, or it needs settings.
        MachineError: if it needs a library that is not installed.
    """
    wanted: dict[str, Any] = {**EXACT} if name is None else {"use": name}
    component = _found(plugins, wanted.pop("use"))
    settings = {one.name: wanted.get(one.name, one.default) for one in component.settings}
    if lacking := [key for key, value in settings.items() if value is REQUIRED]:
        raise UsageError(f"--executor {name}: it has no default for {lacking[0]}, and cannot be named alone")
    made: Any = component.factory(**settings)
    if wrong := wrong_object(component, made):
        raise defect_of(plugins, component, f"building executor {component.name}", wrong)
    executor: Executor = made
    return executor


def _found(plugins: Plugins, name: str) -> Component:
    found = plugins.find("executor", name)
    if len(found) != 1:
        known = ", ".join(plugins.components("executor")) or "none"
        what = f"{len(found)} plugins supply an executor" if found else "no executor"
        raise UsageError(f"--executor: {what} named '{name}'; installed executors: {known}")
    for library, how in found[0].missing_libraries.items():
        raise MachineError(f"--executor {name}: it needs the library '{library}'; install it with: {how}")
    return found[0]


class Training:
    """Trains jobs through an open executor.

    Args:
        executor: the executor.
        signals: what stops it.
        display: told of what has come to rest.
        again: the command that goes on.
    """

    def __init__(self, executor: Executor, signals: Signals, display: RepeatsDisplay, again: str) -> None:
        self._executor = executor
        self._signals = signals
        self._display = display
        self._again = again
        self._fatal: TrainkitError | None = None

    def run(self, jobs: Sequence[Job], done: bool) -> dict[Path, Outcome]:
        """Train all of them to their ends, those that have begun from their newest checkpoints.

        Args:
            jobs: those whose runs are not over.
            done: whether another run has ended well before.

        Returns:
            How those that failed ended, by their folders.

        Raises:
            Stopped: if a signal came.
            MachineError: if the machine lacks something that all of them need.
            NoRunIsPossible: if none has ended well, and one met what all others would.
        """
        queue, going = deque(jobs), set[Path]()
        retried: dict[Path, str] = {}  # once, as trials are: what kills a run twice where it stood is the run
        failed: dict[Path, Outcome] = {}
        interrupted, stop_by = False, 0.0
        while queue or going:
            if (self._signals.name or interrupted or self._fatal is not None) and not stop_by:
                stop_by = time.monotonic() + GRACE_S
                self._executor.stop()
            while queue and not stop_by and len(going) < self._executor.slots:
                job = queue.popleft()
                self._executor.submit(job)
                going.add(job.folder)
            if not going:
                break
            ended = self._executor.wait(WAIT_S)
            for job, outcome in ended:
                going.discard(job.folder)
                if outcome.status == "interrupted":
                    interrupted = True
                elif outcome.status == "killed" and retried.get(job.folder) != (stood := _newest(job.folder)):
                    retried[job.folder] = stood
                    queue.appendleft(job)
                elif outcome.status == "done":
                    done = True
                    self._display.rested(job.name, "done", outcome.metrics, outcome.seconds)
                else:
                    failed[job.folder] = outcome
                    self._take_in(job, outcome, failed, done)
            if stop_by and not ended and time.monotonic() > stop_by:
                break  # they go on from their newest checkpoints
        if self._fatal is None and not done and len(failed) == len(jobs):
            self._fatal = _for_all(failed, len(jobs))
        if self._fatal is not None:
            raise self._fatal
        if self._signals.name or interrupted:
            raise Stopped(f"signal {self._signals.name}" if self._signals.name else "a run was interrupted")
        return failed

    def _take_in(self, job: Job, outcome: Outcome, failed: Mapping[Path, Outcome], done: bool) -> None:
        """Say that a run has failed, and see whether the others can do better."""
        told = outcome.message.rstrip() or outcome.status
        if machine_is_full(outcome):
            self._fatal = MachineError(
                f"{job.folder}: {told}\n  what is trained is kept; put it right, and go on: {self._again}"
            )
        elif not done:
            self._fatal = self._fatal or _for_all(failed, FIRST)
        if self._fatal is None:  # else the error says it
            self._display.failed(job.name, outcome.status, told)


def _newest(folder: Path) -> str:
    """The name of a run's newest checkpoint; empty where it has none."""
    return next((found.name for found in checkpoint.newest_first(folder / "checkpoints")), "")


def _for_all(failed: Mapping[Path, Outcome], enough: int) -> NoRunIsPossible | None:
    """What every run would meet, whatever its seed, where the first have: a recipe or data that is wrong, a defect.

    Args:
        failed: how runs have failed, by their folders; none has ended well.
        enough: how many alike show a defect; of what is wrong with the recipe one says it.
    """
    outcomes = [*failed.values()]
    if len({(one.status, one.origin) for one in outcomes}) > 1 or outcomes[0].status != "error":
        return None
    first, code = outcomes[0], Exit.DEFECT
    if not first.defect:
        if first.code not in (Exit.RECIPE, Exit.ENVIRONMENT):
            return None
        code = Exit(first.code)
    if first.defect and len(outcomes) < enough:
        return None
    name, told = next(iter(failed)).name, first.message.rstrip() or first.status
    return NoRunIsPossible(told if told.startswith(f"{name}:") else f"{name}: {told}", code)


def watched(display: RepeatsDisplay) -> Callable[[Job, Any], str]:
    """What an executor tells of each evaluation: it is shown, and no run is pruned."""

    def measured(job: Job, found: Any) -> str:
        display.measured(job.name, found.trained, found.metrics)
        return ""

    return measured
