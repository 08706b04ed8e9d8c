"""Ending a run before its planned updates are made."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from trainkit import Metrics, Run, hookimpl


class EarlyStop:
    """See `trainkit_callbacks.early_stop`."""

    def __init__(self, monitor: str, patience: int, min_delta: float) -> None:
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.best: float | None = None
        self.waited = 0
        self.said = False

    @hookimpl
    def trainkit_stop_reason(self, run: Run, metrics: Metrics) -> str | None:
        value = metrics.get(self.monitor)
        if value is None:  # not measured at this evaluation
            return None
        sign = 1.0 if run.higher_is_better(self.monitor) else -1.0
        if math.isfinite(value) and (self.best is None or sign * (value - self.best) > self.min_delta):
            self.best, self.waited = value, 0
            return None
        if not math.isfinite(value) and not self.said:
            self.said = True
            run.say(f"early_stop: {self.monitor} is {value} at update {run.step}: that counts as no improvement")
        self.waited += 1
        if self.waited <= self.patience:
            return None
        best = "never finite" if self.best is None else f"best {self.best:.6g}"
        return f"early_stop: {self.monitor} has not improved for {self.waited} evaluations ({best}, now {value:.6g})"

    @hookimpl
    def trainkit_save(self) -> Mapping[str, Any]:
        return {"best": self.best, "waited": self.waited, "said": self.said}

    @hookimpl
    def trainkit_restore(self, state: Mapping[str, Any]) -> None:
        self.best, self.waited, self.said = state["best"], state["waited"], state["said"]


class TimeLimit:
    """See `trainkit_callbacks.time_limit`."""

    stateless = True  # the limit is one for each process

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.started = 0.0  # set where the run starts: two that are built alike are alike

    @hookimpl
    def trainkit_run_start(self) -> None:
        self.started = time.monotonic()

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        over = time.monotonic() - self.started >= 60 * self.minutes
        if over and run.stop_reason is None and run.position < run.total_updates:
            run.stop_reason = f"time_limit: {self.minutes:g} minutes are over"
