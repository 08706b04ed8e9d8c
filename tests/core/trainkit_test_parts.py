"""Components that tests alone need, joined to the installed ones as a user's own module would be."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trainkit import Batch, Component, DataSpec, Draw, Metrics, Run, StepResult, hookimpl


class Exact(nn.Module):
    """A small network in float64, so that sums in another order differ by almost nothing."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, 16), nn.Tanh(), nn.Linear(16, outputs)).double()

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.layers(inputs.double())
        return result


class Tied(nn.Module):
    """Two layers that share one weight, a norm, and a head."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Linear(features, features)
        self.again = nn.Linear(features, features)
        self.again.weight = self.body.weight
        self.norm = nn.LayerNorm(features)
        self.head = nn.Linear(features, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.head(self.norm(self.again(self.body(inputs).relu())))
        return result


class Table(nn.Module):
    """A sum of rows of a table, whose gradients are sparse."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(16, outputs, sparse=True)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.rows((4 * inputs + 8).long().clamp(0, 15)).sum(1)
        return result


class Misfit(nn.Module):
    """A model that takes one feature more than the data has."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(features + 1, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.head(inputs)
        return result


def exact(data_spec: DataSpec, /) -> nn.Module:
    """A network in float64."""
    return Exact(data_spec.input_shape[0], data_spec.outputs)


def tied(data_spec: DataSpec, /) -> nn.Module:
    """A network with tied weights."""
    return Tied(data_spec.input_shape[0], data_spec.outputs)


def table(data_spec: DataSpec, /) -> nn.Module:
    """A model with sparse gradients."""
    return Table(data_spec.outputs)


def misfit(data_spec: DataSpec, /) -> nn.Module:
    """A network that does not fit."""
    return Misfit(data_spec.input_shape[0], data_spec.outputs)


def raises(data_spec: DataSpec, /, *, text: str = "no such layer") -> nn.Module:
    """A model whose factory fails."""
    raise RuntimeError(text)


def refuses(data_spec: DataSpec, /, *, text: str = "too small") -> nn.Module:
    """A model that refuses the data."""
    raise ValueError(text)


class Bad:
    """Raises in the hook that it is told."""

    def __init__(self, hook: str) -> None:
        self.hook = hook

    def _raise(self, hook: str) -> None:
        if hook == self.hook:
            raise KeyError("lost")

    @hookimpl
    def trainkit_run_start(self) -> None:
        self._raise("run_start")

    @hookimpl
    def trainkit_step_end(self) -> None:
        self._raise("step_end")

    @hookimpl
    def trainkit_epoch_end(self) -> None:
        self._raise("epoch_end")

    @hookimpl
    def trainkit_save(self) -> None:
        self._raise("save")

    @hookimpl
    def trainkit_run_end(self) -> None:
        self._raise("run_end")

    @hookimpl
    def trainkit_prepare_model(self) -> None:
        self._raise("prepare_model")


def bad(*, hook: str) -> Bad:
    """Raise in a hook."""
    return Bad(hook)


class Freeze:
    """Freezes everything but the head."""

    @hookimpl
    def trainkit_prepare_model(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("head"))


def keep_body() -> Freeze:
    """Freeze everything but the head."""
    return Freeze()


class Averaged:
    """Measures the running mean of the weights in place of the weights."""

    def __init__(self) -> None:
        self.mean: dict[str, Tensor] = {}

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.mean = {name: p.detach().clone() for name, p in run.model.named_parameters()}

    @hookimpl
    def trainkit_step_end(self, run: Run, result: StepResult) -> None:
        for name, parameter in run.model.named_parameters():
            self.mean[name].lerp_(parameter.detach(), 0.1)

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run: Run, split: str) -> Metrics:
        held = {name: p.detach().clone() for name, p in run.model.named_parameters()}
        self._put(run, self.mean)
        try:
            return (yield)
        finally:
            self._put(run, held)

    def _put(self, run: Run, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in run.model.named_parameters():
                parameter.copy_(weights[name])

    @hookimpl
    def trainkit_save(self) -> dict[str, Tensor]:
        return dict(self.mean)

    @hookimpl
    def trainkit_restore(self, state: dict[str, Tensor]) -> None:
        self.mean = dict(state)


def averaged() -> Averaged:
    """Evaluate the mean of the weights."""
    return Averaged()


def shaken(data_spec: DataSpec, /, *, size: float = 0.5) -> Shake:
    """Add noise to the inputs."""
    return Shake(size)


class Shake:
    """Noise that is a function of seed, epoch and sample."""

    def __init__(self, size: float) -> None:
        self.size = size

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        noise = draw("noise", batch.inputs.shape[1]) - 0.5
        return Batch(batch.inputs + self.size * noise, batch.targets, batch.index)


# What one thing in a group of an optimizer may be in turn: any of a list may follow any.
KINDS: dict[str, list[Any]] = {
    "whole": [3, 3.0, 0, 2.5, True],
    "estimate": [1e-6, torch.tensor(0.25), torch.tensor([0.125]), None, 7, math.inf],
    "held": [torch.tensor([1.0, 2.0]), torch.zeros(2, dtype=torch.float64), torch.zeros(3), torch.tensor(1), None],
    "unset": [None, 1, 1.5, "warm", (1, 2), {"a": None}, torch.ones(1)],
    "pair": [(0.9, 0.999), (0, 1), (0.9,), [0.9, 0.999], ((1, 2), [3, (4,)]), None],
    "table": [{"a": (1, 2), "b": math.nan}, {}, {"a": {"b": 1}}, None],
    "word": ["", "auto", 0.5, False],
    "number": [0.0, math.nan, -math.inf, 1],
    "lr": [0.25, torch.tensor(0.25), torch.tensor([0.25]), torch.tensor(0.25, dtype=torch.float64), 1],
}


class Moody:
    """Plain descent; whatever its groups and its state hold is of another kind after every update."""

    def __init__(self, params: Iterable[dict[str, Any]], seed: int) -> None:
        self.seed = seed
        self.param_groups: list[dict[str, Any]] = [{"count": 0, **self.drawn(0), **group} for group in params]
        self.state: dict[Tensor, dict[str, Any]] = {}

    def drawn(self, count: int) -> dict[str, Any]:
        """A value for each thing, which depends on seed and update alone."""
        draw = random.Random(1000 * self.seed + count)
        chosen = {key: draw.choice(values) for key, values in KINDS.items()}
        return {key: value.clone() if isinstance(value, Tensor) else value for key, value in chosen.items()}

    def step(self, closure: Callable[[], Tensor] | None = None) -> None:
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.sub_(0.1 * float(group["lr"]) * parameter.grad)
                        self.state.setdefault(parameter, {}).update(self.drawn(group["count"]))
                group["count"] += 1
                group.update(self.drawn(group["count"]), late=group["pair"])

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


def moody(params: Iterable[dict[str, Any]], /, *, seed: int = 0) -> Moody:
    """Descend with groups in which nothing stays what it was."""
    return Moody(params, seed)


@hookimpl
def trainkit_components() -> list[Component]:
    return [
        Component("model", exact),
        Component("model", tied),
        Component("model", table),
        Component("model", misfit),
        Component("model", raises),
        Component("model", refuses),
        Component("callback", bad),
        Component("callback", keep_body),
        Component("callback", averaged, owns=("evaluation",)),
        Component("augmentation", shaken),
        Component("optimizer", moody),
    ]
