"""Slow weights that follow the trained ones in long steps, and draw them back."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import torch

from trainkit import Metrics, Run, StepResult, exchanged, hookimpl
from trainkit_callbacks.weights import Weights, begun, like, trained


class Lookahead:
    """See `trainkit_callbacks.lookahead`."""

    def __init__(self, every: int, alpha: float, evaluate_slow: bool) -> None:
        self.every = every
        self.alpha = alpha
        self.evaluate_slow = evaluate_slow
        self.slow: Weights = {}

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.slow = begun(trained(run))

    @hookimpl
    def trainkit_step_end(self, run: Run, result: StepResult) -> None:
        if not result.updates or run.step % self.every:
            return
        fast = trained(run)
        with torch.no_grad():
            slow = list(self.slow.values())
            torch._foreach_lerp_(slow, [fast[name].to(s.dtype) for name, s in self.slow.items()], self.alpha)
            torch._foreach_copy_([fast[name] for name in self.slow], slow)

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run: Run) -> Generator[None, Metrics, Metrics]:
        if not self.evaluate_slow:
            return (yield)
        with exchanged(run.model, self.slow):
            return (yield)

    @hookimpl
    def trainkit_save(self) -> Mapping[str, Any]:
        return {"slow": self.slow}

    @hookimpl
    def trainkit_restore(self, run: Run, state: Mapping[str, Any]) -> None:
        self.slow = like(trained(run), state["slow"])
