"""Slow weights that follow the trained ones in long steps, and draw them back."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import torch

from trainkit import Metrics, Run, StepResult, exchanged, hookimpl, weights_of
from trainkit_callbacks.weights import Weights, begun, buffers_of, like, trained


class Lookahead:
    """See `trainkit_callbacks.lookahead`."""

    def __init__(
        self,
        every: int,
        alpha: float,
        evaluate_slow: bool,
        start: int = 0,
        rise: float = 0.0,
        slow_buffers: bool = False,
        slow_epochs: bool = False,
    ) -> None:
        self.every = every
        self.alpha = alpha
        self.evaluate_slow = evaluate_slow
        self.start = start
        self.rise = rise
        self.slow_buffers = slow_buffers
        self.slow_epochs = slow_epochs
        self.slow: Weights = {}

    def fast(self, run: Run) -> Weights:
        """What is drawn back: the parameters that are trained, and buffers where they are slow too."""
        weights = trained(run)
        if self.slow_buffers:
            names, held = buffers_of(run.model), weights_of(run.model)
            weights |= {name: held[name] for name in held if name in names and held[name].is_floating_point()}
        return weights

    def alpha_at(self, run: Run) -> float:
        """How far the slow weights move now."""
        passed = min(1.0, run.step / max(1, run.schedule_updates))
        return float(1 - (1 - self.alpha) * passed**self.rise)

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.slow = {} if self.start else begun(self.fast(run))

    @hookimpl
    def trainkit_step_end(self, run: Run, result: StepResult) -> None:
        if result.updates and run.step >= self.start and not run.step % self.every:
            if self.slow:
                self._draw_back(self.fast(run), self.alpha_at(run))
            else:
                self.slow = begun(self.fast(run))
        # At the run's end too, which may lie within an epoch. Not trainkit_epoch_end: an evaluation comes before it.
        ends = run.batch_in_epoch >= run.feed.batches_in(run.epoch) or run.step >= run.total_updates
        if self.slow and self.slow_epochs and ends:
            self._draw_back(self.fast(run), 0.0)

    def _draw_back(self, fast: Weights, alpha: float) -> None:
        with torch.no_grad():
            slow = list(self.slow.values())
            if alpha:
                torch._foreach_lerp_(slow, [fast[name].to(s.dtype) for name, s in self.slow.items()], alpha)
            torch._foreach_copy_([fast[name] for name in self.slow], slow)

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run: Run) -> Generator[None, Metrics, Metrics]:
        if not (self.evaluate_slow and self.slow):
            return (yield)
        with exchanged(run.model, self.slow):
            return (yield)

    @hookimpl
    def trainkit_save(self) -> Mapping[str, Any]:
        return {"slow": self.slow}

    @hookimpl
    def trainkit_restore(self, run: Run, state: Mapping[str, Any]) -> None:
        self.slow = like(self.fast(run), state["slow"]) if state["slow"] else {}
