"""One command in several processes of this machine: ``[run] processes = N``.

torch's elastic agent, which is what torchrun runs, starts the same command once for each process, and again from the
newest checkpoint where one was killed. The first process has the console; what the others print is shown only where it
says why one has failed. Signals are passed on once, and no failure is shown but the one that is the cause.

Source: https://docs.pytorch.org/docs/stable/elastic/agent.html and torch/distributed/run.py, whose standalone mode this
is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit.console import say
from trainkit.distributed.attempts import scratch
from trainkit.distributed.failed import ProcessFailed, error_of, killed
from trainkit.distributed.notes import Ending, endings, newest_attempt
from trainkit.errors import Exit, MachineError, TrainkitError
from trainkit.processes.worker import STOPPED, TELLS

if TYPE_CHECKING:
    from torch.distributed.elastic.agent.server.api import RunResult

    from trainkit.cli import Session
    from trainkit.recipe import Recipe
    from trainkit.signals import Signals

RESTARTS = 3
RESTARTS_NAME = "TRAINKIT_RESTARTS"  # the environment variable that sets another number
_LOOK_S = 0.1


def train_in_processes(session: Session, recipe: Recipe, processes: int, signals: Signals) -> int:
    """Carry out a command that trains in several processes.

    Args:
        session: the command.
        recipe: its recipe, checked.
        processes: how many.
        signals: what catches signals.

    Returns:
        The exit code.

    Raises:
        TrainkitError: what the first process that failed by itself has said.
    """
    with signals.at_once(importing=True):
        _check(recipe, processes)
        session.imported()
    with scratch() as folder:
        words = _words(session, recipe, folder)
        with _environment(session, recipe, processes), _quiet():
            result = _run(words, processes, folder, signals)
        return _told(session, result, processes, folder, signals)


def _check(recipe: Recipe, processes: int) -> None:
    """Find here what every process would find, and say it before they are started."""
    from trainkit.device import choose_device
    from trainkit.distributed.joining import check_nccl, group_timeout

    group_timeout()
    _restarts()
    if choose_device(recipe.tables["run"]["device"], processes - 1).type == "cuda":
        check_nccl()


def _restarts() -> int:
    text = os.environ.get(RESTARTS_NAME) or str(RESTARTS)
    if not text.isdecimal() or int(text) > 1_000_000:
        raise MachineError(f"{RESTARTS_NAME}={text}: it is how often processes are started again, from 0")
    return int(text)


def _words(session: Session, recipe: Recipe, folder: Path) -> list[str]:
    """The words of the command as each process gets them; a recipe that was piped in is in a file for them."""
    words = list(session.words)
    if "-" in words:
        from trainkit.recipe import fill_toml

        piped = folder / "standard-input.toml"
        piped.write_text(fill_toml(recipe), encoding="utf-8")
        words = [str(piped) if word == "-" else word for word in words]
    return words


@contextlib.contextmanager
def _environment(session: Session, recipe: Recipe, processes: int) -> Iterator[None]:
    """What the processes find in their environment."""
    before = dict(os.environ)
    # -P: nothing is imported from the folder one stands in. What this process could import, the others can.
    os.environ["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    os.environ[TELLS] = session.command
    os.environ.pop(STOPPED, None)
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGQUIT"  # the others are ours, and passed on as they are
    if recipe.tables["run"]["threads"] is None:
        os.environ.setdefault("OMP_NUM_THREADS", str(share_of_cores(processes)))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def share_of_cores(processes: int) -> int:
    """CPU threads for each of several processes of this machine, of the cores that this one may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // processes)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the agent logs of processes that end from the console."""
    log = logging.getLogger("torch.distributed.elastic")
    before, nowhere = log.propagate, logging.NullHandler()
    log.propagate = False
    log.addHandler(nowhere)
    try:
        yield
    finally:
        log.propagate = before
        log.removeHandler(nowhere)


def _run(words: list[str], processes: int, folder: Path, signals: Signals) -> RunResult:
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std

    from trainkit.processes.rendezvous import HOST, OneAgent

    spec = WorkerSpec(
        role="trainkit",
        local_world_size=processes,
        rdzv_handler=OneAgent(),
        entrypoint=sys.executable,
        args=("-P", "-m", "trainkit", *words),
        max_restarts=_restarts(),
        monitor_interval=_LOOK_S,
        local_addr=HOST,
    )
    # What the others print is kept for the case that one of them dies.
    logs = DefaultLogsSpecs(str(folder / "logs"), redirects=dict.fromkeys(range(1, processes), Std.ALL))
    agent = LocalElasticAgent(spec, logs)

    def pass_on() -> None:
        os.environ[STOPPED] = signals.name  # whoever is started from now on ends at once
        for worker in agent.get_worker_group().workers:
            if isinstance(worker.id, int):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(worker.id, getattr(signal, signals.name))

    before, signals.also = signals.also, pass_on
    try:
        if signals.name:
            pass_on()
        result: RunResult = agent.run()
        return result
    except SignalException as ended:  # the processes are gone, and so is this one, as by any signal that nobody catches
        signal.signal(ended.sigval, signal.SIG_DFL)
        signal.raise_signal(ended.sigval)
        raise
    except (RuntimeError, OSError, ValueError) as error:
        raise MachineError(f"the processes cannot be started: {error}") from error
    finally:
        signals.also = before


def _told(session: Session, result: RunResult, processes: int, folder: Path, signals: Signals) -> int:
    """The exit code of what the processes have done.

    Raises:
        TrainkitError: the failure that is the cause.
    """
    attempt = newest_attempt(folder / "logs")
    ended = [] if attempt is None else endings(attempt)
    session.folder = next((ending.folder for ending in ended if ending.folder), None)
    if not result.is_failed():
        return int(Exit.DONE)
    failed = [ending for ending in ended if ending.code and not ending.lost]
    if worst := [ending for ending in failed if ending.code != Exit.STOPPED]:
        raise _noted(worst[0], processes)
    first = next((ending for ending in ended if ending.rank == 0), None)
    if first is not None and not first.lost and first.code == Exit.STOPPED:
        if first.folder:  # it has shown how the run stands
            return int(Exit.STOPPED)
        raise _noted(first, processes)
    if signals.name:
        raise ProcessFailed(f"stopped by {signals.name} before the first update; nothing was written", Exit.STOPPED)
    raise _killed(result, ended, attempt, processes)


def _noted(ending: Ending, processes: int) -> TrainkitError:
    if ending.trace:
        say(ending.trace)
    return error_of(ending, processes)


def _killed(result: Any, ended: list[Ending], attempt: Path | None, processes: int) -> TrainkitError:
    """What is known of a process that has ended without a word, more often than it is started again."""
    said = {ending.rank for ending in ended}
    silent: Mapping[int, Any] = {rank: failure for rank, failure in result.failures.items() if rank not in said}
    rank, failure = min(silent.items(), default=min(result.failures.items()), key=lambda item: item[1].timestamp)
    often = _restarts()
    again = f", after {often} new start{'s' * (often != 1)}" if often else ""
    return killed(rank, processes, failure.exitcode, attempt and attempt / str(rank) / "stderr.log", again)
