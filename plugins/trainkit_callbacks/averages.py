"""Averages of the weights over time, which stand in their place while the model is measured."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import torch

from trainkit import Metrics, RecipeError, Run, StepResult, exchanged, hookimpl, renew_batch_norm, weights_of
from trainkit_callbacks.names import problem
from trainkit_callbacks.weights import (
    Weights,
    average_,
    begun,
    buffers_of,
    copied,
    on_device,
    saved_buffers,
)


class MovingAverage:
    """See `trainkit_callbacks.ema`."""

    def __init__(self, decay: float, ramp: bool, every: int, buffers: str) -> None:
        self.decay = decay
        self.ramp = ramp
        self.every = every
        self.buffers = buffers
        self.mean: Weights = {}
        self.count = 0
        self.renewed = False

    def decay_at(self, count: int) -> float:
        """The decay of the averaging numbered ``count``, from 1."""
        return min(self.decay, (1 + count) / (10 + count)) if self.ramp else self.decay

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.mean, self.count, self.renewed = begun(weights_of(run.model)), 0, False

    @hookimpl
    def trainkit_step_end(self, run: Run, result: StepResult) -> None:
        if not result.updates or run.step % self.every:
            return
        self.count += 1
        self.renewed = False
        copy = buffers_of(run.model) if self.buffers != "average" else set()
        average_(self.mean, weights_of(run.model), 1 - self.decay_at(self.count), copy)

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run: Run) -> Generator[None, Metrics, Metrics]:
        with exchanged(run.model, self.mean):
            if self.buffers == "re-estimate" and not self.renewed:
                if renew_batch_norm(run):
                    self.mean |= saved_buffers(run.model)
                self.renewed = True
            return (yield)

    @hookimpl
    def trainkit_save(self) -> Mapping[str, Any]:
        return {"mean": self.mean, "count": self.count, "renewed": self.renewed}

    @hookimpl
    def trainkit_restore(self, run: Run, state: Mapping[str, Any]) -> None:
        self.mean, self.count = on_device(run, state["mean"]), state["count"]
        self.renewed = state.get("renewed", False)


class SwitchingAverage(MovingAverage):
    """See `trainkit_callbacks.switch_ema`."""

    @hookimpl
    def trainkit_epoch_end(self, run: Run) -> None:
        with torch.no_grad():
            for name, tensor in weights_of(run.model).items():
                if tensor.is_floating_point():  # what counts goes on counting
                    tensor.copy_(self.mean[name])


class Mean:
    """A mean of weights that stands in for the trained ones, with BatchNorm statistics of its own."""

    def __init__(self) -> None:
        self.weights: Weights = {}
        self.renewed = False

    def put(self, weights: Weights) -> None:
        """Take other weights for the mean; their statistics are not measured yet."""
        self.weights, self.renewed = weights, False

    def measured(self, run: Run) -> Generator[None, Metrics, Metrics]:
        """Let an evaluation measure the mean; the trained weights where there is none yet."""
        if not self.weights:
            return (yield)
        with exchanged(run.model, self.weights):
            if not self.renewed:
                if renew_batch_norm(run):
                    self.weights |= saved_buffers(run.model)
                self.renewed = True
            return (yield)

    def save(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"mean": self.weights, "renewed": self.renewed}

    def restore(self, run: Run, state: Mapping[str, Any]) -> None:
        """Undo `save`."""
        self.weights = on_device(run, state["mean"]) if state["mean"] else {}
        self.renewed = state["renewed"]


class StochasticAverage:
    """See `trainkit_callbacks.swa`."""

    def __init__(self, start: int, every: int) -> None:
        self.start = start
        self.every = every
        self.mean = Mean()
        self.count = 0

    @hookimpl
    def trainkit_prepare_model(self, run: Run) -> None:
        if self.start > run.total_updates:
            message = f"start is update {self.start}, the run ends at {run.total_updates}"
            raise RecipeError([problem(run, "swa", "start", message, "start earlier, or lengthen the run")])

    @hookimpl
    def trainkit_run_start(self) -> None:
        self.mean, self.count = Mean(), 0

    @hookimpl
    def trainkit_step_end(self, run: Run, result: StepResult) -> None:
        if not result.updates or run.step < self.start or (run.step - self.start) % self.every:
            return
        self.count += 1
        weights = weights_of(run.model)
        if self.count == 1:
            self.mean.put(begun(weights))
        else:
            average_(self.mean.weights, weights, 1 / self.count, buffers_of(run.model))
            self.mean.renewed = False

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run: Run) -> Generator[None, Metrics, Metrics]:
        return (yield from self.mean.measured(run))

    @hookimpl
    def trainkit_save(self) -> Mapping[str, Any]:
        return {**self.mean.save(), "count": self.count}

    @hookimpl
    def trainkit_restore(self, run: Run, state: Mapping[str, Any]) -> None:
        self.mean.restore(run, state)
        self.count = state["count"]


class LatestAverage:
    """See `trainkit_callbacks.lawa`."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.held: list[Weights] = []
        self.mean = Mean()

    @hookimpl
    def trainkit_run_start(self) -> None:
        self.held, self.mean = [], Mean()

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        # Not trainkit_epoch_end: the evaluation at the epoch's end comes before it.
        if run.batch_in_epoch < run.feed.batches_in(run.epoch):
            return
        self.held = [*self.held, copied(weights_of(run.model))][-self.last :]
        mean, copy = begun(self.held[0]), buffers_of(run.model)
        for number, weights in enumerate(self.held[1:], 2):
            average_(mean, weights, 1 / number, copy)
        self.mean.put(mean)

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run: Run) -> Generator[None, Metrics, Metrics]:
        return (yield from self.mean.measured(run))

    @hookimpl
    def trainkit_save(self) -> Mapping[str, Any]:
        return {**self.mean.save(), "held": self.held}

    @hookimpl
    def trainkit_restore(self, run: Run, state: Mapping[str, Any]) -> None:
        self.mean.restore(run, state)
        self.held = [on_device(run, weights) for weights in state["held"]]
