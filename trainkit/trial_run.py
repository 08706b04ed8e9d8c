"""One job of a search to its outcome: a run that pauses, is pruned or stopped, and whose failures are data."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import torch

from trainkit import checkpoint
from trainkit.branch import begin_from
from trainkit.catalogue import Catalogue
from trainkit.datasets import Datasets as Datasets
from trainkit.distributed import ONE
from trainkit.errors import CheckpointError, MachineError
from trainkit.followers import leading
from trainkit.hookspecs import hookimpl
from trainkit.launch import Launch
from trainkit.loop import Underway
from trainkit.manager import Plugins
from trainkit.protocols import Progress, silent
from trainkit.recipe import recipe_from_text
from trainkit.run import Metrics, Report, Run
from trainkit.rundir import read_text
from trainkit.signals import StoppedEarly, Stopper
from trainkit.trial_errors import outcome_of, was_memory
from trainkit.trial_results import ENDED
from trainkit.work import Job, JobStatus, Measured, Outcome

PRUNED, PAUSED, TIMEOUT = "pruned: ", "paused at ", "timeout: "  # how reasons of reports begin
_LABEL = "listener.0"  # what checkpoints call the one listener of a job's run
_ROUNDING = 1e-9  # shares of a run, such as a third, are not exact


def open_plugins(modules: Sequence[str] = (), without: Sequence[str] = ()) -> Plugins:
    """The plugins of this process, for `run_job`.

    Args:
        modules: those given with ``-p``.
        without: those left out with ``--without``.
    """
    return Plugins(list(modules), list(without), Catalogue.open())


def run_job(
    job: Job,
    plugins: Plugins,
    measured: Callable[[Job, Measured], str],
    stopper: Stopper | None = None,
    datasets: Datasets | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress = silent,
) -> Outcome:
    """Train a job's run until it rests: it is done, paused, pruned, stopped, or has failed.

    A run that its folder holds goes on from its newest checkpoint; one that has come to rest there already, because
    the process died before anybody was told, gives its outcome once more. Signals are left alone.

    Args:
        job: what to train.
        plugins: the plugins of this process.
        measured: told each evaluation; gives a reason to prune the run there, or ``""``. The last one's is not asked
            for. After a failure the run goes on from a checkpoint, and evaluations may be told again.
        stopper: lets others stop the run.
        datasets: keeps data sets from one job of this process to the next.
        say: told what the run's log has too.
        progress: told about long work before the first update.

    Returns:
        How it came to rest; whatever goes wrong with the run is an outcome too.

    Raises:
        MachineError: if no other run will fare better: the disk is full, a device is missing.
    """
    parts = job_parts(job, plugins, measured, stopper, datasets, say, together=False, progress=progress)
    try:
        next(parts)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
    raise AssertionError("a run of its own makes its updates without a pause")


def job_parts(
    job: Job,
    plugins: Plugins,
    measured: Callable[[Job, Measured], str],
    stopper: Stopper | None = None,
    datasets: Datasets | None = None,
    say: Callable[[str], None] = lambda text: None,
    listeners: Sequence[object] = (),
    together: bool = True,
    progress: Progress = silent,
) -> Generator[Underway, None, Outcome]:
    """As `run_job`; where ``together``, the run pauses for its updates, which somebody makes for many runs at once.

    What goes wrong with these updates is to be thrown into it. Threads and compilers are left as they are then.

    Args:
        job: as for `run_job`.
        plugins: as for `run_job`.
        measured: as for `run_job`.
        stopper: as for `run_job`.
        datasets: as for `run_job`.
        say: as for `run_job`.
        listeners: more objects whose hooks join the run.
        together: whether updates are made by somebody else.
        progress: as for `run_job`.
    """
    began, stopper, threads = time.monotonic(), stopper or Stopper(), torch.get_num_threads()
    watch = _Watch(job, measured)
    timer = threading.Timer(job.timeout, stopper.ask, (f"{TIMEOUT}{job.timeout:g} s are over",))
    timer.daemon = True
    if job.timeout:
        timer.start()
    try:
        outcome = yield from _carried_out(job, plugins, watch, stopper, datasets, say, listeners, together, progress)
    except MachineError as error:
        if not was_memory(error):
            raise
        outcome = watch.failed(error)
    except StoppedEarly:
        status: JobStatus = "timeout" if stopper.name.startswith(TIMEOUT) else "interrupted"
        outcome = Outcome(status, message=stopper.name)
    except OSError as error:  # of the run's own folder: what components raise has a name by now
        raise MachineError(f"{error.filename or job.folder}: {error.strerror or error}") from error
    except (Exception, SystemExit) as error:
        outcome = watch.failed(error)
    finally:
        timer.cancel()
        if not together:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            _forget_compiled()
    return replace(outcome, seconds=time.monotonic() - began)


def _carried_out(
    job: Job,
    plugins: Plugins,
    watch: _Watch,
    stopper: Stopper,
    datasets: Datasets | None,
    say: Callable[[str], None],
    listeners: Sequence[object],
    together: bool,
    progress: Progress,
) -> Generator[Underway, None, Outcome]:
    # Whatever the recipe says, a run that begins with another one's checkpoint goes on with its own settings.
    changes = ['run.on_conflict="recipe"'] if job.parent is not None else []
    recipe = recipe_from_text(job.recipe, job.name, changes, plugins)
    if job.parent is not None:
        begin_from(job.parent, job.folder)
    rested = None if job.longer else _rested(job)
    if rested is not None:
        return rested
    with contextlib.ExitStack() as stack:
        # Where somebody makes the updates, it does so for runs of one process each, whose results are the same.
        group = ONE if together else stack.enter_context(leading(recipe, recipe.plugins, ONE, job.test))
        begun = Launch(
            recipe,
            recipe.plugins,
            job.folder,
            stopper,
            [watch, *listeners],
            progress,
            command=job.command or (f"ensemble, {job.name}" if job.named else f"search, {job.name}"),
            together=together,
            test=job.test,
            say=say,
            datasets=datasets,
            light=True,
            group=group,
        )
        report = yield from begun.parts(resume=True, fresh=False, accept_drift=job.accept_drift)
    return _outcome(job, report, watch.trained, watch.parameters, watch.metrics)


def _outcome(job: Job, report: Report, trained: float, parameters: int, newest: Metrics) -> Outcome:
    """What the report of a run that came to rest means."""
    message = report.reason
    if report.status == "interrupted":
        status: Any = "interrupted"
        for known, begins in (("paused", PAUSED), ("timeout", TIMEOUT)):
            status = known if message.startswith(begins) else status
    elif report.status == "stopped":
        status = "pruned" if message.startswith(PRUNED) else "done"
    else:
        status, message = "done", ""
    metrics = report.metrics | {"parameters": float(parameters), "seconds": report.seconds}
    # What is not finite is no figure of a report.
    lost = [name for name in job.objectives if name not in metrics and name in newest]
    if status in ("done", "paused") and lost:
        status, message = "nan", f"{lost[0]} is {newest[lost[0]]}"
    return Outcome(status, metrics, trained, report.steps, report.epochs, message=message)


def _rested(job: Job) -> Outcome | None:
    """How the run in a job's folder came to rest, where it has: no process has lived to tell it."""
    try:
        report = Report(**json.loads(read_text(job.folder / "report.json")))
    except (OSError, ValueError, TypeError, RecursionError):
        report = None
    ended = report is not None and report.status in ENDED
    if not ended and not checkpoint.newest_first(job.folder / "checkpoints"):
        return None
    try:
        _, tensors, state, _ = checkpoint.find_newest(job.folder / "checkpoints")
        position = state["step"] + state["skipped"]
        trained = position / state["total_updates"]
        noted = checkpoint.join_state(state["plugins"].get(_LABEL, {}), tensors)
        newest = checkpoint.join_state(state["newest"], tensors)
        sizes = {name.removeprefix("model/"): tensor.numel() for name, tensor in tensors.items()}
        parameters = sum(sizes.get(name, 0) for group in state["groups"] for name in group["names"])
        seconds = float(checkpoint.join_state(state["seconds"], tensors))
    except (CheckpointError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return None  # the run itself says what is wrong with it
    if report is not None and ended:
        return _outcome(job, report, trained, parameters, newest)
    if noted.get("evaluated") != position or not _is_pause(job, position, state["total_updates"]):
        return None
    if report is None or not report.reason.startswith(PAUSED):  # the process died before it was written
        finite = {name: value for name, value in newest.items() if abs(value) < float("inf")}
        reason = f"{PAUSED}{trained:.4g} of the run"
        report = Report("interrupted", reason, state["step"], noted["epochs"], seconds, finite, None, "")
    return _outcome(job, report, trained, parameters, newest)


def _is_pause(job: Job, position: int, total: int) -> bool:
    return job.until < 1 and position < total and position / total >= job.until - _ROUNDING


class _Watch:
    """Takes part in a job's run: tells what is measured, and stops it where it pauses or is pruned."""

    def __init__(self, job: Job, measured: Callable[[Job, Measured], str]) -> None:
        self.job = job
        self.measured = measured
        self.run: Run | None = None
        self.metrics: Metrics = {}
        self.parameters = 0
        self.evaluated = 0
        self.began = time.monotonic()

    @property
    def trained(self) -> float:
        return self.run.position / self.run.total_updates if self.run is not None else 0.0

    def failed(self, error: BaseException) -> Outcome:
        """The outcome of the run, which an error has ended."""
        metrics = {"parameters": float(self.parameters), "seconds": time.monotonic() - self.began}
        metrics |= {name: value for name, value in self.metrics.items() if abs(value) < float("inf")}
        outcome = replace(outcome_of(error), metrics=metrics, trained=self.trained)
        run = self.run
        return outcome if run is None else replace(outcome, steps=run.step, epochs=run.clock.epochs_at(run.position))

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.run = run
        groups = run.optimizer.param_groups
        self.parameters = sum({id(p): p.numel() for group in groups for p in group["params"]}.values())

    @hookimpl(tryfirst=True)
    def trainkit_stop_reason(self, run: Run, metrics: Metrics) -> None:
        """Called first; it decides by itself, so that those behind it are asked too and see every evaluation."""
        self.metrics = metrics
        if "val" in run.feed.spec.sizes and not _just_evaluated(run):
            return
        self.evaluated, position, total = run.position, run.position, run.total_updates
        figures = dict(metrics) | {"parameters": float(self.parameters), "seconds": time.monotonic() - self.began}
        reason = self.measured(self.job, Measured(position / total, figures))
        if position >= total:
            return
        if reason and self.job.watched:
            run.stop_reason, run.interrupted = f"{PRUNED}{reason}", False
        elif _is_pause(self.job, position, total):
            run.stop_reason, run.interrupted = f"{PAUSED}{position / total:.4g} of the run", True

    @hookimpl
    def trainkit_save(self, run: Run) -> dict[str, Any]:
        return {"evaluated": self.evaluated, "epochs": run.clock.epochs_at(run.position)}

    @hookimpl
    def trainkit_restore(self, run: Run, state: dict[str, Any]) -> None:
        self.evaluated = state["evaluated"]


def _just_evaluated(run: Run) -> bool:
    """Whether the newest line is that of an evaluation here: ends of epochs without one call the hook too."""
    newest = run.history[-1] if run.history else {}
    return newest.get("split") == "val" and newest.get("step") == run.step


def _forget_compiled() -> None:
    """Let torch's compiler begin anew: it gives up on code that it has compiled for several models."""
    dynamo: Any = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()
