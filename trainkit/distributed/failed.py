"""What whoever has started the processes of a group tells of one that failed."""

from __future__ import annotations

import signal
from pathlib import Path

from trainkit.distributed.notes import Ending, problems_of
from trainkit.errors import Exit, RecipeError, TrainkitError

_SHOWN = 20  # lines of what a process printed last


class ProcessFailed(TrainkitError):
    """One of the processes has failed: its message and its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = Exit(code) if code in {int(known) for known in Exit} else Exit.FAILED


def error_of(ending: Ending, size: int) -> TrainkitError:
    """The failure that a process of ``size`` has noted; that of the first is told as if there were no others."""
    if ending.problems:
        return RecipeError(problems_of(ending.problems))
    message = f"process {ending.rank} of {size}: {ending.message}" if ending.rank else ending.message
    return ProcessFailed(message, ending.code)


def killed(rank: int, size: int, code: int, printed: Path | None, again: str = "") -> ProcessFailed:
    """The failure of a process that has ended without a word.

    Args:
        rank: which one.
        size: how many there were.
        code: its exit code, negative where a signal has ended it.
        printed: the file of what it printed, where that was kept.
        again: how often it was started again.
    """
    name = signal.Signals(-code).name if code < 0 and -code in set(signal.Signals) else f"exit code {code}"
    text = f"process {rank} of {size} was ended by {name}{again}; the last checkpoint is whole"
    if code == -signal.SIGKILL:
        text += "\n  as the kernel does where memory runs out: start fewer processes, or lower data.batch_size"
    return ProcessFailed(text + _last_lines(printed), Exit.FAILED)


def _last_lines(path: Path | None) -> str:
    try:
        text = "" if path is None else path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if line.strip()][-_SHOWN:]
    return "\n  it printed last:\n    " + "\n    ".join(lines) if lines else ""
