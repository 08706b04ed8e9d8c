"""The time of updates by their parts: data, forward, backward, optimizer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from trainkit.build import Built
from trainkit.run import Batch


class Stopwatch:
    """Adds up seconds by part, each second at the innermost part alone."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(("data", "forward", "backward", "optimizer"), 0.0)
        self._wait = torch.cuda.synchronize if device.type == "cuda" else None
        self._within = [0.0]

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time goes to a part."""

        def call(*args: Any, **kwargs: Any) -> Any:
            begun = self._now()
            self._within.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                took = self._now() - begun
                self.seconds[part] += took - self._within.pop()
                self._within[-1] += took

        return call

    def follow(self, built: Built) -> None:
        """Have a run timed from now on.

        What is left of an update after forward, loss and optimizer is the backward pass, with hooks on gradients.
        """
        run, program = built.run, built.program
        run.forward = self.timed("forward", run.forward)
        inner: Any = getattr(program, "fallback", program)
        if hasattr(inner, "loss"):
            inner.loss = self.timed("forward", inner.loss)
        optimizer: Any = run.optimizer
        step = self.timed("optimizer", optimizer.step)
        # What an optimizer calls for loss and gradients is no time of its own.
        optimizer.step = lambda closure=None: step() if closure is None else step(_TimedClosure(closure, self))
        built.program = _Timed(program, self.timed("backward", program))
        feed: Any = run.feed
        run.feed = _TimedFeed(feed, self)

    def _now(self) -> float:
        if self._wait is not None:
            self._wait()
        return time.perf_counter()


class _Timed:
    def __init__(self, program: Any, call: Callable[..., Any]) -> None:
        self.updates_per_call: int = program.updates_per_call
        self._call = call

    def __call__(self, updates: Any) -> Any:
        return self._call(updates)


class _TimedClosure:
    def __init__(self, closure: Any, watch: Stopwatch) -> None:
        self.plain = watch.timed("backward", getattr(closure, "plain", closure))
        self._call = watch.timed("backward", closure)

    def __call__(self) -> Any:
        return self._call()


class _TimedFeed:
    def __init__(self, feed: Any, watch: Stopwatch) -> None:
        self._feed, self._watch = feed, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The feed's batches, each of which is waited for."""
        batches = iter(self._feed.train(epoch, start))
        draw = self._watch.timed("data", lambda: next(batches, None))
        while (batch := draw()) is not None:
            yield batch
