"""How a run ended: its report, and the message for whatever went wrong."""

from __future__ import annotations

import errno
import traceback
from typing import Any

from trainkit import checkpoint, rundir
from trainkit.errors import MachineError, OutOfMemory, RunError, TrainkitError
from trainkit.manager import Plugins
from trainkit.memory import peak_memory
from trainkit.microbatch import out_of_memory
from trainkit.recorder import Recorder
from trainkit.run import Report, Run

# What a full or failing disk, or another limit of the machine, says in whosever code it is met.
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}


def report_of(recorder: Recorder, status: Any, reason: str) -> Report:
    """The report of a run as it stands.

    Args:
        recorder: the run's recorder.
        status: ``finished``, ``stopped``, ``failed`` or ``interrupted``.
        reason: why it ended, in words.
    """
    run = recorder.run
    return Report(
        status=status,
        reason=reason,
        steps=run.step,
        epochs=round(run.clock.epochs_at(run.position), 6),
        seconds=round(recorder.seconds, 3),
        metrics={name: value for name, value in recorder.newest.items() if rundir.plain_number(value) is not None},
        best=recorder.best,
        weights_sha256=checkpoint.weights_sha256(run.model),
        microbatch=run.microbatch,
        memory=peak_memory(run.device),
    )


def failure_report(recorder: Recorder, reason: str) -> Report:
    """The report of a run that failed, also where there is no memory left to look at its weights."""
    try:
        if recorder.run.sharded is not None:  # to look at weights takes all processes
            raise RuntimeError("the model is divided")
        return report_of(recorder, "failed", reason)
    except (MemoryError, RuntimeError, OSError):
        run = recorder.run
        return Report(
            "failed", reason, run.step, round(run.clock.epochs_at(run.position), 6), recorder.seconds, {}, None, ""
        )


def named(error: BaseException, plugins: Plugins, run: Run) -> TrainkitError:
    """Turn whatever was raised while training into a message that says what to do."""
    error = run.group.blamed(error)
    if isinstance(error, TrainkitError):
        return error
    at = f"at update {run.step} (epoch {run.epoch})"
    text = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
    if out_of_memory(error):
        cure = "lower data.batch_size and raise run.accumulate by the same factor: the updates stay the same"
        if _within(error, "trainkit.evaluate"):
            cure = "lower data.eval_batch_size"
        elif run.recipe["run"]["microbatch"] is None and run.recipe["run"]["compile"] != "step":
            cure = 'write microbatch = "auto" in [run], which lets fewer samples through the model at once, or ' + cure
        culprit = plugins.blame(error)
        whose = f"\n  in {str(culprit).splitlines()[0].partition(': ')[0]}" if culprit is not None else ""
        return OutOfMemory(f"out of memory {at}: {text}{whose}\n  {cure}; the last checkpoint is whole")
    if isinstance(error, OSError) and (error.errno in _MACHINE or plugins.blame(error) is None):
        file = error.filename if isinstance(error.filename, str) else run.folder
        return MachineError(
            f"{file}: {error.strerror or error} {at}\n"
            f"  the checkpoints are whole; make room, or put it right, and go on: trainkit resume {run.folder}"
        )
    return plugins.blame(error, f"training {at}", at) or RunError(f"{type(error).__name__} {at}: {text}")


def _within(error: BaseException, module: str) -> bool:
    """Whether a function of that module was at work."""
    return any(frame.f_globals.get("__name__") == module for frame, _ in traceback.walk_tb(error.__traceback__))
