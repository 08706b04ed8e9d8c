"""Signals: the first one is a wish to stop where nothing is lost, the second one the end of the process."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from trainkit.errors import Exit, TrainkitError

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import here
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

    from trainkit.run import Run

NOTHING_WRITTEN = "before the first update; nothing was written"
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
# A terminal that closes tells the shell and the run, and the shell tells the run once more.
ONE_HANGUP_S = 0.5
# What is left when all updates are made, measuring mostly, gets so long to end by itself before it is cut short too.
LEFT_OVER_S = 5.0


class StoppedEarly(TrainkitError):
    """A signal came before the run had started; nothing was written."""

    exit_code = Exit.STOPPED


class StopNow(BaseException):
    """Ends work that nothing is lost by, from within a signal's handler; no plugin's ``except Exception`` holds it."""

    @property
    def told(self) -> StoppedEarly:
        """The same for the user."""
        return StoppedEarly(str(self))


class CutShort(BaseException):
    """Ends an evaluation between two batches; no plugin's ``except Exception`` holds it."""


class Signals:
    """Turns the first SIGINT, SIGTERM or SIGHUP into a wish to stop, and the second into the end of the process.

    Handlers that a program had set before are called too, but for Python's own, which raises. A SIGHUP that was ignored
    stays so: that is what ``nohup`` asks for. Entered again by the same program, it changes nothing.

    Args:
        for_good: ignore signals at the end: a process that only has to go does so with its exit code.
    """

    def __init__(self, for_good: bool = False) -> None:
        self.for_good = for_good
        self.name = ""
        self.run: Run | None = None
        self.also: Callable[[], None] | None = None  # called at the first signal, in its handler
        self._before: dict[int, Any] = {}
        self._depth = 0
        self._process = os.getpid()
        self._at_once, self._importing = "", False
        self._came = 0.0

    def __enter__(self) -> Signals:
        self._depth += 1
        if self._depth > 1:
            return self
        # Only the main thread may set handlers; elsewhere the embedding program owns the signals.
        with contextlib.suppress(ValueError):
            for name in NAMES:
                number = getattr(signal, name, None)
                if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                    continue
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if self._depth:
            return
        self.run = None
        if self.for_good:  # Python would put back the system's handlers on its way out, which takes a while
            for number in self._before:
                signal.signal(number, signal.SIG_IGN)
            return
        for number, handler in self._before.items():
            # None: it was not set from Python, which cannot set it again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    @contextlib.contextmanager
    def at_once(self, when: str = NOTHING_WRITTEN, importing: bool = False) -> Iterator[None]:
        """Within this block a first signal ends what is being done at once: nothing is written that it could spoil.

        Args:
            when: where the run stands, for the message.
            importing: whether modules are imported here, some of which an exception from a handler would abort: a
                process that need not do more ends without one.

        Raises:
            StopNow: from wherever the signal meets the program, or at the end of the block where something held it up.
        """
        try:
            self._at_once, self._importing = when, importing
            yield
        finally:
            self._at_once = ""
        if self.name:
            raise StopNow(f"stopped by {self.name} {when}")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a process forked from this one, which the signal means as any other
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        now = time.monotonic()
        name = signal.Signals(number).name
        if self.name:
            if name == self.name == "SIGHUP" and now - self._came < ONE_HANGUP_S:
                return
            os._exit(128 + number)
        self.name, self._came = name, now
        self.wish()
        before = self._before.get(number)
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)
        if self._at_once and self._importing and self.for_good:
            os.write(2, f"trainkit: stopped by {name} {self._at_once}\n".encode())
            os._exit(Exit.STOPPED)
        if self._at_once:
            raise StopNow(f"stopped by {name} {self._at_once}")

    def wish(self) -> None:
        """Tell the run, if there is one yet, to stop at the next step boundary."""
        if self.name and self.also is not None:
            self.also()
        if self.name and self.run is not None:
            if self.run.group.size > 1:  # all processes of the group stop after the same update
                self.run.wish = self.run.wish or f"signal {self.name}"
                return
            self.run.interrupted_at = self._came
            if self.run.stop_reason is None:  # else it stops anyway, for a reason that the recipe asked for
                self.run.stop_reason, self.run.interrupted = f"signal {self.name}", True


class Stopper(Signals):
    """Lets a program stop a run as a signal would; it catches none.

    Attributes:
        name: why the run was asked to stop; empty while it was not.
    """

    def __enter__(self) -> Stopper:
        return self

    def __exit__(self, *error: object) -> None:
        self.run = None

    def ask(self, why: str) -> None:
        """Let the run stop at its next step boundary, with a checkpoint; from any thread, or a signal's handler.

        Args:
            why: the reason; the first one counts.
        """
        if not self.name:
            self.name, self._came = why, time.monotonic()
            self.wish()

    def wish(self) -> None:
        """Tell the run, if there is one yet."""
        run = self.run
        if self.name and run is not None and run.group.size > 1:
            run.wish = run.wish or self.name
            return
        if self.name and run is not None and run.stop_reason is None:
            run.interrupted_at, run.interrupted = self._came, True
            run.stop_reason = self.name  # last: the run's own thread may look at it at any time


def cut_short(run: Run) -> None:
    """Called between two batches of an evaluation: end it where the run is to stop.

    The processes of a group all end it before the same batch: whether a signal has come, and how long ago, is asked of
    all of them.

    Raises:
        CutShort: if so. What is left after the last update gets a few seconds to end by itself.
    """
    together = run.group.size > 1
    late = bool(run.interrupted_at) and time.monotonic() - run.interrupted_at > LEFT_OVER_S
    if together and run.group.any_of(late or (run.wish is not None and not run.interrupted_at)):
        settle(run)
        late = run.group.any_of(late)
    elif together:
        late = False
    if late or (run.interrupted_at and run.interrupted and run.position < run.total_updates):
        raise CutShort


def settle(run: Run) -> bool:
    """Let what any process of a group wants become what all do; whether the run stops. All of them call it."""
    if not run.group.any_of(run.stop_reason is not None or run.wish is not None):
        return False
    wishes = run.group.all_of((run.stop_reason, run.interrupted, run.wish))
    reasons = [(reason, interrupted) for reason, interrupted, _ in wishes if reason is not None]
    # What the recipe asks for counts before a signal, after which the run would be continued.
    reasons.sort(key=lambda found: found[1])
    signals = [(wish, True) for _, _, wish in wishes if wish is not None]
    run.stop_reason, run.interrupted = [*reasons, *signals][0]
    if signals and not run.interrupted_at:
        run.interrupted_at = time.monotonic()
    return True


def for_workers() -> None:
    """What a process that makes batches does with signals: the run decides when it ends, and may end it."""
    if os.environ.get("WORLD_SIZE", "1") != "1" and hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # torchrun's signals are for whole process groups, and the run goes on to its next update
    for name, handler in (("SIGINT", signal.SIG_IGN), ("SIGHUP", signal.SIG_IGN), ("SIGTERM", signal.SIG_DFL)):
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, handler)
