"""One search's worth of jobs for an executor: what it gives back for each, and what it leaves behind.

To open an executor may take long, as where processes are started. So each is opened once: all that its contracts look
at is done then, and written down.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from torch import Tensor

from trainkit import checkpoint
from trainkit.component import Component
from trainkit.instantiate import Builder
from trainkit.protocols import silent
from trainkit.testing import acting
from trainkit.testing.build import path_of, recipe_of
from trainkit.testing.kept import once_for_each
from trainkit.trial_run import open_plugins, run_job
from trainkit.work import Job, Measured, Outcome, Site

LIMIT_S = 150.0  # how long all jobs of one phase may take; on a crowded machine workers take long to begin
GONE_S = 20.0  # how long processes may take to be gone when the executor is closed
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PARTS = str(acting.__file__)
# 4 epochs of 4 updates, each with an evaluation; it can be a lane.
RECIPE: Mapping[str, Any] = {
    "recipe": 1,
    "seed": 5,
    "logger": [],
    "run": {"duration": "4ep", "device": "cpu", "threads": 1},
    "data": {"use": "synthetic", "samples": 96, "features": [6], "batch_size": 16},
    "model": {"use": "mlp", "widths": [8]},
    "loss": {"use": "cross_entropy"},
    "optimizer": {"use": "sgd", "lr": 0.1, "momentum": 0.9},
}
PRUNED = "worse than the others"
RATES = {"whole": 0.1, "other": 0.05, "paused": 0.02, "watched": 0.01, "refused": -1.0}
ACTS = {"noting": "note", "failing": "fail", "dying": "die", "slow": "slow", "waiting": "slow"}
NAMES = (*RATES, *ACTS)


def text(rate: float = 0.1, callback: Mapping[str, Any] | None = None) -> str:
    """The recipe of a job."""
    tables = {**RECIPE, "optimizer": {**RECIPE["optimizer"], "lr": rate}}
    return tomli_w.dumps(tables | ({} if callback is None else {"callback": [{"use": "act", **callback}]}))


def job_of(name: str, study: Path, **changes: Any) -> Job:
    """The job of a name, in a study folder."""
    callback = None
    if name in ACTS:
        callback = {"what": ACTS[name], "note": str(study / f"{name}.txt"), "unless": acting.here()}
    recipe = text(RATES.get(name, 0.1), callback)
    return Job(NAMES.index(name), 0, recipe, study / name, watched=name == "watched", **changes)


@dataclass
class Story:
    """What came of an executor's jobs.

    Args:
        name: how messages call the executor.
        slots: how many jobs it says it takes at once.
        rested: for each phase, what `wait` gave, in this order.
        submitted: for each phase the jobs.
        measured: for each job's name, the shares of its run at which evaluations were told.
        failed: the phase in which something was raised, and what.
        weights: of the run in each folder at the end; that of ``slow``, which was stopped, has gone on here until then.
        process: where a job was trained, as `acting.here` says it.
        handlers: whether the handlers of signals were the same after opening as before.
        left: processes that are there when it is closed and were not before.
        printed: what was printed meanwhile.
    """

    name: str
    slots: Any = None
    rested: dict[str, list[Any]] = field(default_factory=dict)
    submitted: dict[str, list[Job]] = field(default_factory=dict)
    measured: dict[str, list[float]] = field(default_factory=dict)
    failed: tuple[str, BaseException] | None = None
    weights: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)
    process: str = ""
    handlers: bool = True
    left: list[str] = field(default_factory=list)
    printed: str = ""

    @property
    def elsewhere(self) -> bool:
        """Whether jobs are trained in other processes."""
        return self.process not in ("", acting.here())

    def of(self, phase: str, name: str) -> Outcome:
        """What became of a job.

        Raises:
            AssertionError: if nothing is known.
        """
        found = [outcome for job, outcome in self.phase(phase) if job.trial == NAMES.index(name)]
        assert found, f"{self.name}: of the job '{name}' wait gave nothing"
        outcome: Outcome = found[-1]
        return outcome

    def phase(self, phase: str) -> list[Any]:
        """What `wait` gave in a phase.

        Raises:
            AssertionError: if it did not come to that phase, or not to its end.
        """
        if self.failed is not None and (self.failed[0] == phase or phase not in self.rested):
            when, error = self.failed
            raise AssertionError(f"{self.name}: while {when}: {type(error).__name__}: {error}") from error
        return self.rested[phase]


def executor_of(component: Component) -> Any:
    """The executor that the component's example makes."""
    recipe = recipe_of(component)
    return Builder(recipe, recipe.plugins, silent).make(*path_of("executor"))


@once_for_each
def story_of(component: Component) -> Story:
    """Let an executor carry out jobs that end in all the ways that jobs do, and close it."""
    story = Story(f"executor '{component.name}'")
    with tempfile.TemporaryDirectory() as folder, _printed(story):
        before = _descendants()
        try:
            _carry_out(executor_of(component), Path(folder), story)
        finally:
            story.left = _left(before)
        with contextlib.suppress(Exception):
            run_job(job_of("slow", Path(folder)), open_plugins([PARTS]), lambda job, measured: "")
        for name in NAMES:
            with contextlib.suppress(Exception):
                story.weights[name] = weights_in(Path(folder) / name)
        if (note := Path(folder) / "noting.txt").exists():
            story.process = note.read_text(encoding="utf-8")
    return story


def _carry_out(executor: Any, study: Path, story: Story) -> None:
    stops: list[Any] = []

    def measured(job: Job, measured: Measured) -> str:
        name = NAMES[job.trial]
        story.measured.setdefault(name, []).append(measured.trained)
        if name == "slow":
            executor.stop()
            stops.append(name)
        return PRUNED if name in ("watched", "other") and measured.trained > 0.4 else ""

    def job(name: str, **changes: Any) -> Job:
        return job_of(name, study, **changes)

    phases: dict[str, Callable[[], Sequence[Job]]] = {
        "training": lambda: [job("whole"), job("other"), job("paused", until=0.5), job("watched")],
        "going on": lambda: [job("paused"), job("noting")],
        "failing": lambda: [job("refused"), job("failing"), job("dying")],
        "trying again": lambda: [job("dying")],
        "stopping": lambda: [job("slow"), job("waiting")][: max(1, executor.slots)],
    }
    handlers = [signal.getsignal(number) for number in SIGNALS]
    phase = "opening"
    try:
        executor.open(Site(study, modules=[PARTS], seed=5, say=lambda text: None, measured=measured, recipe=text()))
        story.slots = executor.slots
        story.handlers = [signal.getsignal(number) for number in SIGNALS] == handlers
        for phase, jobs in phases.items():
            story.submitted[phase], story.rested[phase] = list(jobs()), []
            _rest(executor, story.submitted[phase], story.rested[phase])
    except Exception as error:
        story.failed = phase, error
    try:
        executor.close()
        story.rested["closing"] = []
    except Exception as error:
        story.failed = story.failed or ("closing", error)


def _rest(executor: Any, jobs: Sequence[Job], rested: list[Any]) -> None:
    """Hand out jobs, never more than there are slots, until all have come to rest."""
    left, running, until = list(jobs), 0, time.monotonic() + LIMIT_S
    while left or running > 0:
        while left and running < max(1, executor.slots):
            executor.submit(left.pop(0))
            running += 1
        given = list(executor.wait(0.5))
        rested += given
        running -= len(given)
        if time.monotonic() > until:
            raise TimeoutError(f"after {LIMIT_S:g} s {running} jobs have not come to rest")


# ------------------------------------------------------------ what it is held against


@functools.cache
def reference() -> tuple[dict[str, Outcome], dict[str, Mapping[str, Tensor]]]:
    """What `run_job` makes of the jobs here: outcomes and weights."""
    plugins = open_plugins([PARTS])
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as made:
        study = Path(made)

        def measured(job: Job, measured: Measured) -> str:
            return PRUNED if job.watched and measured.trained > 0.4 else ""

        for name in ("whole", "other", "paused", "watched", "refused", "failing"):
            outcomes[name] = run_job(job_of(name, study), plugins, measured)
        half = job_of("paused", study / "half", until=0.5)
        outcomes["half"] = run_job(half, plugins, measured)
        weights = {name: weights_in(study / name) for name in ("whole", "other", "paused", "watched")}
    return outcomes, weights


def weights_in(folder: Path) -> Mapping[str, Tensor]:
    """The weights of the newest checkpoint of a run."""
    tensors = checkpoint.load_newest(folder / "checkpoints")[1]
    return {name: tensor.clone() for name, tensor in tensors.items() if name.startswith("model/")}


# ------------------------------------------------------------ what it leaves behind


@contextlib.contextmanager
def _printed(story: Story) -> Iterator[None]:
    """Keep what this process and others print to its output and its messages meanwhile."""
    told = io.StringIO()
    with tempfile.TemporaryFile() as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        kept = [os.dup(number) for number in (1, 2)]
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
                yield
        finally:
            for number, before in zip((1, 2), kept, strict=True):
                os.dup2(before, number)
                os.close(before)
            file.seek(0)
            story.printed = (told.getvalue() + file.read().decode(errors="replace")).strip()


def _descendants() -> dict[int, str]:
    """The processes that this one has begun, and those that they have, with their commands; none without ``/proc``."""
    parents, commands = dict[int, int](), dict[int, str]()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents[int(entry.name)] = int(parent)
                commands[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    ours = {os.getpid()}
    while more := {number for number, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return {number: commands[number] for number in ours - {os.getpid()}}


def _left(before: Mapping[int, str]) -> list[str]:
    """Processes that are there and were not before, and do not go."""
    until = time.monotonic() + GONE_S
    while True:
        # Python's own keeper of shared memory, which stays as long as this process.
        left = {n: text for n, text in _descendants().items() if n not in before and "resource_tracker" not in text}
        if not left or time.monotonic() > until:
            return list(left.values())
        time.sleep(0.05)
