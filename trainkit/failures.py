"""From an exception to a message and an exit code; the only traceback a user sees is the one asked for."""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from trainkit.console import emit_json, say
from trainkit.errors import Exit, RecipeError, TrainkitError, printable
from trainkit.signals import StopNow

if TYPE_CHECKING:
    from trainkit.cli import Session

_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EIO}


def report_failure(error: BaseException, session: Session) -> int:
    """Tell the user what went wrong.

    Args:
        error: what was raised.
        session: the command that raised it.

    Returns:
        The exit code.
    """
    if session.traceback:
        say("".join(traceback.format_exception(error)))
    message, code = explain(error, session)
    problems = error.problems if isinstance(error, RecipeError) else None
    if problems is not None:
        say("\n".join(str(problem) for problem in problems) + f"\n{error.summary}")  # type: ignore[attr-defined]
    else:
        where = f"\n  run folder: {session.folder}" if code is Exit.FAILED and session.folder else ""
        say(printable((message if message.startswith("trainkit ") else f"trainkit: {message}") + where))
    if session.json:
        if problems is not None:
            listed = [
                {"place": p.place.origin, "line": p.place.line, "message": p.message, "cure": p.cure} for p in problems
            ]
            emit_json({"problems": listed})
        else:
            emit_json({"error": message, "exit_code": int(code), "folder": session.folder})
    return code


def explain(error: BaseException, session: Session) -> tuple[str, Exit]:
    """The message and the exit code of an error."""
    if isinstance(error, StopNow):
        error = error.told
    if isinstance(error, TrainkitError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", Exit.INTERRUPTED
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        first = str(error).splitlines()[0] if str(error) else "no memory left"
        cure = "lower data.batch_size or data.eval_batch_size, or set data.loading=streamed"
        return f"out of memory: {first}\n  {cure}", Exit.FAILED
    if isinstance(error, OSError) and error.errno in _MACHINE:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", Exit.ENVIRONMENT
    if session.loaded is not None and (defect := session.loaded.blame(error)) is not None:
        return str(defect), defect.exit_code
    return _own_defect(error), Exit.DEFECT


def _is_out_of_memory(error: BaseException) -> bool:
    # Told by name: importing torch to compare a class would take longer than the rest of the message.
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _own_defect(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    home = str(Path(__file__).parent) + os.sep
    frame = next(
        (frame for frame in reversed(frames) if frame.filename.startswith(home)), frames[-1] if frames else None
    )
    at = f" at {frame.filename}:{frame.lineno}" if frame else ""
    return (
        f"trainkit defect: {type(error).__name__}: {str(error) or 'no message'}{at}\n"
        "  please report it with the output of the same command with --traceback"
    )
