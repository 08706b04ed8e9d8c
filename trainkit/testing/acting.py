"""A plugin, joined as ``-p`` would join it, whose callback does to a run what befalls trials; for executors."""

from __future__ import annotations

import os
import platform
import signal
import time
from pathlib import Path
from typing import Any

from trainkit.component import Component
from trainkit.hookspecs import hookimpl
from trainkit.run import Run


def here() -> str:
    """This process, by machine and number."""
    return f"{platform.node()} {os.getpid()}"


class Act:
    """See `act`."""

    stateless = True

    def __init__(self, what: str, at: int, note: str, unless: str) -> None:
        self.what, self.at, self.note, self.unless = what, at, Path(note), unless

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        """Act, where it is time."""
        if self.what == "slow":
            time.sleep(0.01)
        if run.step != self.at:
            return
        if self.what == "note":
            self.note.write_text(here(), encoding="utf-8")
        elif self.what == "fail":
            raise KeyError("it was asked to")
        elif self.what == "die" and here() != self.unless and not self.note.exists():
            self.note.touch()
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def act(*, what: str, at: int = 5, note: str = "", unless: str = "") -> Any:
    """Do something to the run.

    Args:
        what: ``note`` the process that trains it, ``fail`` with a defect, ``die``, or be ``slow``.
        at: the update.
        note: file to write; of ``die`` one that says that it was done.
        unless: the process that is not to die.
    """
    return Act(what, at, note, unless)


@hookimpl
def trainkit_components() -> list[Component]:
    """The callback."""
    return [Component("callback", act, example={"what": "note"})]
