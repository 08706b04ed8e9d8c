"""How a run ended: its report, and the message for whatever went wrong."""

from __future__ import annotations

from typing import Any

import torch

from trainkit import checkpoint, rundir
from trainkit.errors import MachineError, RunError, TrainkitError
from trainkit.manager import Plugins
from trainkit.recorder import Recorder
from trainkit.run import Report, Run


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
    )


def named(error: Exception, plugins: Plugins, run: Run) -> TrainkitError:
    """Turn whatever was raised while training into a message that says what to do."""
    if isinstance(error, TrainkitError):
        return error
    at = f"at update {run.step} (epoch {run.epoch})"
    text = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
    memory = "out of memory" in text.lower() or "not enough memory" in text.lower() or "can't allocate memory" in text
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or memory:
        return RunError(
            f"out of memory {at}: {text}\n"
            "  lower data.batch_size and raise run.accumulate by the same factor: the updates stay the same"
        )
    if isinstance(error, OSError):
        return MachineError(f"{error.filename or run.folder}: {error.strerror or error} {at}")
    return plugins.blame(error, f"training {at}") or RunError(f"{type(error).__name__} {at}: {text}")
