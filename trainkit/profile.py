"""Where a run's time goes: data, step, and each plugin's hooks (``run --profile``)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from trainkit.build import Built
from trainkit.dataset import Batch
from trainkit.hooking import hook_names
from trainkit.recorder import Recorder
from trainkit.run import StepResult


def measured(built: Built, recorder: Recorder) -> Built:
    """Wrap data, step program, saving and hooks of a run so that ``run.profile`` gathers their seconds.

    Each second counts once: what a hook spends within a save or a step is the hook's. On CUDA the step's time is what
    it takes to hand out the work, since nothing waits for the device.
    """
    run, seconds = built.run, built.run.profile
    within = [0.0]  # seconds that calls inside the current one have taken

    def add(label: str, spent: float) -> None:
        seconds[label] = seconds.get(label, 0.0) + spent

    def timed(label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            within.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.perf_counter() - begun
                add(label, spent - within.pop())
                within[-1] += spent

        return call

    for name, label in (("save", "save"), ("_log", "log")):
        setattr(recorder, name, timed(label, getattr(recorder, name)))

    for name in hook_names():
        for impl in getattr(run.hook, name).get_hookimpls():
            if not (impl.wrapper or impl.hookwrapper):
                impl.function = timed(f"{impl.plugin_name}: {name.removeprefix('trainkit_')}", impl.function)
    run.feed = _TimedFeed(run.feed, add)
    return dataclasses.replace(built, program=_TimedProgram(built.program, timed("step", built.program)))


class _TimedProgram:
    def __init__(self, program: Any, call: Callable[..., StepResult]) -> None:
        self.updates_per_call = program.updates_per_call
        self._call = call

    def __call__(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        return self._call(updates)


class _TimedFeed:
    def __init__(self, feed: Any, add: Callable[[str, float], None]) -> None:
        self._feed = feed
        self._add = add

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        batches = iter(self._feed.train(epoch, start))
        while True:
            begun = time.perf_counter()
            batch = next(batches, None)
            self._add("data", time.perf_counter() - begun)
            if batch is None:
                return
            yield batch
