"""Where a run's time goes: data, step, log, saves, and each object's hooks (``run --profile``)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from trainkit.build import Built
from trainkit.dataset import Batch
from trainkit.hooking import hook_names
from trainkit.recorder import Recorder
from trainkit.run import Spent, StepResult


def measured(built: Built, recorder: Recorder) -> Built:
    """Wrap data, step program, saving and hooks of a run so that ``run.profile`` gathers their seconds.

    Each second counts once: what a hook spends within a save or a step is the hook's. On CUDA the step's time is what
    it takes to hand out the work, since nothing waits for the device.
    """
    run = built.run
    watch = _Watch(run.profile)
    for name, label in (("save", "save"), ("_log", "log")):
        setattr(recorder, name, watch.timed(label, getattr(recorder, name)))
    for name in hook_names()[hook_names().index("trainkit_run_start") :]:  # those before it are over
        for impl in getattr(run.hook, name).get_hookimpls():
            label = f"{_named(impl)}: {name.removeprefix('trainkit_')}"
            if impl.hookwrapper:  # the old form, whose generator is given no result that could be passed on
                continue
            impl.function = (watch.timed_wrapper if impl.wrapper else watch.timed)(label, impl.function)
    run.feed = _TimedFeed(run.feed, watch)
    return dataclasses.replace(built, program=_TimedProgram(built.program, watch.timed("step", built.program)))


def _named(impl: Any) -> str:
    """An object as the recipe counts it: ``callback.2 'ema'``; a listener by its class."""
    kind, _, rest = impl.plugin_name.partition(".")
    place, _, name = rest.partition(".")
    if kind == "listener":
        return f"{kind}.{place} {type(impl.plugin).__name__}"
    return f"{kind}.{place} '{name}'" if name and place.isdecimal() else str(impl.plugin_name)


class _Watch:
    """Adds up seconds and calls by label, each second at the innermost call alone."""

    def __init__(self, spent: dict[str, Spent]) -> None:
        self._spent = spent
        self._within = [0.0]  # seconds that calls inside the current one have taken

    def entry(self, label: str) -> Spent:
        """The label's own sum."""
        return self._spent.setdefault(label, Spent())

    def run(self, entry: Spent, work: Callable[[], Any]) -> Any:
        """Do a piece of work; its time is the entry's, but for what inner pieces take."""
        begun = time.perf_counter()
        self._within.append(0.0)
        try:
            return work()
        finally:
            took = time.perf_counter() - begun
            entry.seconds += took - self._within.pop()
            self._within[-1] += took

    def timed(self, label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, measured."""
        entry = self.entry(label)

        def call(*args: Any, **kwargs: Any) -> Any:
            entry.calls += 1
            return self.run(entry, lambda: function(*args, **kwargs))

        return call

    def timed_wrapper(self, label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A hook wrapper, measured before and after what it stands around."""
        entry = self.entry(label)

        def call(*args: Any) -> Generator[None, Any, Any]:
            entry.calls += 1
            around = function(*args)
            self.run(entry, lambda: next(around))
            try:
                try:
                    result = yield
                except BaseException as error:
                    raised = error  # the name in the except clause does not outlive it
                    self.run(entry, lambda: around.throw(raised))
                else:
                    self.run(entry, lambda: around.send(result))
            except StopIteration as end:
                return end.value
            raise RuntimeError(f"{label}: a hook wrapper yields once")

        return call


class _TimedProgram:
    def __init__(self, program: Any, call: Callable[..., StepResult]) -> None:
        self._program = program
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._program, name)

    def __call__(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        return self._call(updates)


class _TimedFeed:
    def __init__(self, feed: Any, watch: _Watch) -> None:
        self._feed = feed
        self._watch = watch
        self._entry = watch.entry("data")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        batches, entry = iter(self._feed.train(epoch, start)), self._entry

        def draw() -> Batch | None:
            return next(batches, None)

        while (batch := self._watch.run(entry, draw)) is not None:
            entry.calls += 1
            yield batch
