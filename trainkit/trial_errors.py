"""What an error says of the trial whose run it ended: which status it is, and what tells it from other errors."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from trainkit.errors import Exit, NotFinite, OutOfMemory, PluginDefect, RecipeError, TrainkitError
from trainkit.microbatch import out_of_memory
from trainkit.work import Outcome


def outcome_of(error: BaseException) -> Outcome:
    """The status of a run that an error has ended, with its message, origin, and whether it is a defect."""
    message = str(error) or type(error).__name__
    if isinstance(error, NotFinite):
        return Outcome("nan", message=message)
    if was_memory(error):
        return Outcome("oom", message=message)
    defect = isinstance(error, PluginDefect) or not isinstance(error, TrainkitError)
    code = int(error.exit_code if isinstance(error, TrainkitError) else Exit.DEFECT)
    return Outcome("error", message=message, origin=_origin(error), defect=defect, code=code)


def was_memory(error: BaseException) -> bool:
    """Whether memory ran out, whatever was made of the error on its way."""
    return isinstance(error, OutOfMemory) or any(out_of_memory(cause) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from, down to the first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__  # type: ignore[assignment]


def _origin(error: BaseException) -> str:
    """What tells an error from others: the first one's class and its place in the code, and the keys of a recipe's."""
    first = list(_causes(error))[-1]
    frame, line = next(iter(reversed(list(traceback.walk_tb(first.__traceback__)))), (None, 0))
    module = frame.f_globals.get("__name__", "?") if frame is not None else "?"
    keys = ""
    if isinstance(first, RecipeError):
        keys = " for " + ", ".join(sorted({p.place.source.partition("=")[0].strip() for p in first.problems}))
    return f"{type(first).__name__} at {module}:{line}{keys}"
