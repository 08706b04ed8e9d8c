"""A process that a run's first process has started: it does its share of the work, and writes nothing of the run."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from trainkit.distributed.notes import Ending, Notes, plain_problems
from trainkit.errors import Exit, MachineError, RecipeError, TrainkitError


def main() -> int:
    """Read what to do as a line of JSON from standard input, and do it.

    Returns:
        The exit code.
    """
    # The first process decides what a signal means; a cluster's end of a job reaches every process.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_IGN)
    told = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_first, daemon=True).start()
    notes, rank = Notes(os.environ), int(os.environ["RANK"])
    try:
        code = _train(told, notes, rank)
    except BaseException as error:  # the first process tells it
        return _failed(error, notes, rank)
    notes.write(Ending(rank, code))
    return code


def _end_with_first() -> None:
    """Nothing else ever comes through the pipe."""
    while os.read(0, 4096):
        pass
    os._exit(Exit.FAILED)


def _train(told: dict[str, object], notes: Notes, rank: int) -> int:
    import torch

    from trainkit.device import choose_device
    from trainkit.distributed.joining import join
    from trainkit.launch import launch
    from trainkit.recipe import recipe_from_text
    from trainkit.signals import Stopper
    from trainkit.trial_run import open_plugins

    torch.set_num_threads(int(str(told["threads"])))
    plugins = open_plugins(_words(told["modules"]), _words(told["without"]))
    recipe = recipe_from_text(str(told["recipe"]), str(told["name"]), [], plugins)
    device = recipe.tables["run"]["device"]
    group = join(
        lambda number: choose_device(device, number),
        at_end=lambda message: notes.write(Ending(rank, int(Exit.FAILED), message, lost=True)),
    )
    try:
        launch(recipe, plugins, signals=Stopper(), test=bool(told["test"]), group=group)
    except BaseException as error:
        error = group.blamed(error)
        notes.write(_ending(error, rank))  # before the first process can notice
        group.fail(error)
        raise error from None
    group.leave()
    return int(Exit.DONE)


def _words(given: object) -> list[str]:
    assert isinstance(given, list)
    return [str(word) for word in given]


def _failed(error: BaseException, notes: Notes, rank: int) -> int:
    ending = _ending(error, rank)
    notes.write(ending)
    import traceback

    traceback.print_exception(error)  # into a file, of which the first process shows the end
    return ending.code


def _ending(error: BaseException, rank: int) -> Ending:
    from trainkit.distributed.group import PeerLost

    problems = plain_problems(error.problems) if isinstance(error, RecipeError) else []
    code = int(error.exit_code) if isinstance(error, TrainkitError) else int(Exit.DEFECT)
    if isinstance(error, OSError):
        error = MachineError(f"{error.filename or ''}: {error.strerror or error}")
        code = int(Exit.ENVIRONMENT)
    message = str(error) if isinstance(error, TrainkitError) else f"{type(error).__name__}: {error}"
    return Ending(rank, code, message, isinstance(error, PeerLost), problems)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of what computes may hang where another process has gone
