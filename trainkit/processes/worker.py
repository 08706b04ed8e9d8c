"""A command in one of several processes that somebody has started: each failure is told once."""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

from trainkit.console import say
from trainkit.distributed.group import PeerLost, asked_for
from trainkit.distributed.notes import Ending, Notes, plain_problems
from trainkit.errors import Exit, RecipeError, printable
from trainkit.failures import explain, report_failure

if TYPE_CHECKING:
    from trainkit.cli import Session
    from trainkit.distributed.group import Group

# What the user has typed, where trainkit itself has started the processes, and tells their failures.
TELLS = "TRAINKIT_LAUNCHER_TELLS"
STOPPED = "TRAINKIT_GROUP_STOPS"  # set once it is to start no more of them


class Worker:
    """This process, as one of those that somebody has started.

    Args:
        session: its command.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.notes = Notes(os.environ)
        self.rank = int(os.environ["RANK"]) if os.environ["RANK"].isdecimal() else 0
        self.size = os.environ["WORLD_SIZE"]
        self.parent = os.getppid()
        self.group: Group | None = None

    @property
    def command(self) -> str:
        """What the user has typed, where that is not the command of this process."""
        return os.environ.get(TELLS, "")

    @property
    def started_by(self) -> int | None:
        """The process that starts this one again if it fails, which is not to be outlived."""
        return self.parent if "TORCHELASTIC_RUN_ID" in os.environ else None

    @property
    def told_elsewhere(self) -> bool:
        """Whether trainkit itself has started the processes, and is there to tell their failures."""
        return TELLS in os.environ and os.getppid() == self.parent

    def act(self) -> int:
        """Carry out the command, and leave how it has ended.

        Returns:
            The exit code.
        """
        if (before := self.notes.settled()) is not None:  # the same would come again
            self.notes.write(replace(before, repeated=True))
            return before.code
        if STOPPED in os.environ:
            return int(Exit.STOPPED)
        self._say_why()
        try:
            code = self.session.act()
        except BaseException as error:  # as in `trainkit.cli.main`
            return self._failed(error)
        told = "stopped early; the run can be resumed" if code == Exit.STOPPED else ""
        self.notes.write(Ending(self.rank, code, told, folder=self.session.folder or ""))
        if code and self.group is not None and self.group.lifeline is not None:
            # Whoever has started these processes ends them all when one has ended so, and each has its code to give.
            self._ignore_signals()
            self.group.lifeline.end_together()
        return code

    def end(self, message: str) -> None:
        """Leave how this process ends where it must be ended since another one is gone; called from a thread."""
        ending = Ending(self.rank, int(Exit.FAILED), message, lost=True)
        self.notes.write(ending)
        if not self.told_elsewhere and self.notes.may_tell(ending):
            say(printable(f"trainkit: {message}"))

    def _failed(self, error: BaseException) -> int:
        session = self.session
        if self.group is not None:
            with contextlib.suppress(Exception):
                error = self.group.blamed(error)
        message, code = explain(error, session)
        problems = plain_problems(error.problems) if isinstance(error, RecipeError) else []
        trace = "".join(traceback.format_exception(error)) if session.traceback else ""
        lost = isinstance(error, PeerLost)
        ending = Ending(self.rank, int(code), message, lost, problems, trace, session.folder or "")
        self.notes.write(ending)
        if self.group is not None:
            self.group.fail(error)
        if not self.told_elsewhere and self.notes.may_tell(ending):
            if self.rank:
                say(f"process {self.rank} of {self.size}:")
            report_failure(error, session)
        return int(code)

    def _say_why(self) -> None:
        """Say why the processes were started again."""
        if not self.notes.restarts or self.rank:
            return
        ended = {ending.rank for ending in self.notes.last()}
        killed = sorted(set(range(int(self.size))) - ended) if self.notes.workers == int(self.size) else []
        whom = f"process {killed[0]} of {self.size} was killed" if len(killed) == 1 else "a process was killed"
        times = f"{self.notes.restarts} of {os.environ.get('TORCHELASTIC_MAX_RESTARTS', '?')}"
        if not {"-q", "--quiet"} & set(self.session.words):
            say(f"note: {whom}; all are started again, from the newest checkpoint ({times})")

    def _ignore_signals(self) -> None:
        with contextlib.suppress(ValueError):  # not the main thread, which owns them
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                if (number := getattr(signal, name, None)) is not None:
                    signal.signal(number, signal.SIG_IGN)


def worker_of(session: Session) -> Worker | None:
    """What a process is that was started as one of several; ``None`` for a process of its own."""
    return Worker(session) if session.whole_process and asked_for() else None
