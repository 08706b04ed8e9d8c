"""One process of ``trainkit verify-resume``: a run that notes what its parts hold, and is killed or stopped on time."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainkit.errors import TrainkitError
from trainkit.held import held_by
from trainkit.hookspecs import hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit.run import Run

STOPPED = "verify-resume: stopped here"
_SHORT = 12  # updates, unless an epoch ends a little later


def main() -> None:
    """Read what to do as JSON from standard input, and do it."""
    told = json.load(sys.stdin)
    try:
        plugins = Plugins(told["modules"], told["without"])
        recipe = load_recipe(told["recipe"], [], plugins)
        witness = Witness(Path(told["notes"]), told["stop"], told["kill"])
        launch(
            recipe,
            plugins,
            folder=Path(told["folder"]),
            listeners=[witness],
            command="trainkit verify-resume",
            resume=True,
        )
    except TrainkitError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(int(error.exit_code))


class Witness:
    """Notes after each update what every part of the run holds beside what it saves.

    Args:
        notes: file that gets a line of JSON for each update, and one for the run.
        stop: the update to end after; 0 chooses one.
        kill: the update to be killed after, before its checkpoint is saved; 0 for none.
    """

    def __init__(self, notes: Path, stop: int, kill: int) -> None:
        self.notes = notes
        self.stop = stop
        self.kill = kill

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        epoch = run.clock.updates_per_epoch
        self.stop = self.stop or (epoch + 3 if epoch <= 3 * _SHORT else _SHORT)
        self.stop = min(self.stop, run.total_updates)
        self._note({"updates_per_epoch": epoch, "total_updates": run.total_updates, "stop": self.stop})

    @hookimpl(trylast=True)
    def trainkit_step_end(self, run: Run) -> None:
        self._note({"update": run.position, "held": {name: text for name, text in held_by(run)}})
        if run.position == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if run.position >= self.stop and run.position < run.total_updates and run.stop_reason is None:
            run.stop_reason = STOPPED

    def _note(self, line: Mapping[str, Any]) -> None:
        with open(self.notes, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
