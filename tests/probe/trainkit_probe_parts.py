"""Components that are broken, each in one way that one check of ``trainkit probe`` is there to find."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from trainkit import Batch, Component, Dataset, DataSpec, Run, Split, hookimpl


def layers(data_spec: DataSpec, *body: nn.Module, head: nn.Module | None = None) -> nn.Sequential:
    features = data_spec.input_shape[0]
    first = nn.Linear(features, 16)
    return nn.Sequential(first, *(body or (nn.Tanh(),)), head or nn.Linear(16, data_spec.outputs))


# ---------------------------------------------------------------- models


class Half(torch.autograd.Function):
    """Gives back half of the gradient."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        result = values.tanh()
        context.save_for_backward(result)
        return result

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (result,) = context.saved_tensors
        slope: Tensor = gradient * (1 - result.square()) / 2
        return slope


class Wrong(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        result: Tensor = Half.apply(values)  # type: ignore[no-untyped-call]
        return result


class Mixing(nn.Module):
    """A view that takes numbers of other samples: (batch, 16) read as (16, batch)."""

    def forward(self, values: Tensor) -> Tensor:
        return values + 0.1 * values.reshape(values.shape[1], values.shape[0]).T.tanh()


class Detached(nn.Module):
    """A layer that is called, but from whose past nothing comes back."""

    def forward(self, values: Tensor) -> Tensor:
        return values.detach().tanh()


class Silent(nn.Module):
    """ReLUs that nothing wakes."""

    def forward(self, values: Tensor) -> Tensor:
        return torch.cat([(values[:, :4]).tanh(), (values[:, 4:] - 50).clamp(min=0)], 1)


class Whims(nn.Module):
    """Noise from a generator that nobody seeds."""

    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            return values.tanh()
        return values.tanh() + torch.from_numpy(numpy.random.default_rng().normal(size=values.shape)).to(values) / 100


class Lost(nn.Module):
    """Outputs that are no numbers."""

    def forward(self, values: Tensor) -> Tensor:
        return (values - values).log() * 0


class Blind(nn.Module):
    """Does not look at its inputs."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, values: Tensor) -> Tensor:
        return self.bias.expand(len(values), -1)


def wrong_gradient(data_spec: DataSpec, /) -> nn.Module:
    """A backward pass that is half of what it should be."""
    return layers(data_spec, Wrong())


def mixing(data_spec: DataSpec, /) -> nn.Module:
    """Samples that touch each other."""
    return layers(data_spec, Mixing())


def detached(data_spec: DataSpec, /) -> nn.Module:
    """A first layer that gets no gradient."""
    return layers(data_spec, Detached())


def silent(data_spec: DataSpec, /) -> nn.Module:
    """Dead ReLUs."""
    return layers(data_spec, Silent())


def whims(data_spec: DataSpec, /) -> nn.Module:
    """Noise without a seed."""
    return layers(data_spec, Whims())


def normed(data_spec: DataSpec, /) -> nn.Module:
    """Batch norm, which can make nothing of a single sample."""
    return layers(data_spec, nn.BatchNorm1d(16), nn.ReLU())


def blind(data_spec: DataSpec, /) -> nn.Module:
    """Nothing to learn with."""
    return nn.Sequential(Blind(data_spec.outputs))


def lost(data_spec: DataSpec, /) -> nn.Module:
    """A logarithm of zero."""
    return layers(data_spec, Lost())


def sure(data_spec: DataSpec, /) -> nn.Module:
    """Large weights in the head."""
    model = layers(data_spec)
    with torch.no_grad():
        model[-1].weight.mul_(60)
    return model


def tidy(data_spec: DataSpec, /, *, relu: bool = True) -> nn.Module:
    """A model of which nothing is wrong."""
    return layers(data_spec, nn.ReLU() if relu else nn.Tanh())


class Single(nn.Module):
    """Computes in float32 whatever it is given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, values: Tensor) -> Tensor:
        weights = {name: value.float() for name, value in self.inner.state_dict(keep_vars=True).items()}
        result: Tensor = torch.func.functional_call(self.inner, weights, values.float())
        return result


class Rows(nn.Module):
    """A sum of rows of a table, whose gradients are sparse."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(8, outputs, sparse=True)

    def forward(self, values: Tensor) -> Tensor:
        result: Tensor = self.rows((2 * values + 4).long().clamp(0, 7)).sum(1)
        return result


def sparse(data_spec: DataSpec, /) -> nn.Module:
    """A model with sparse gradients."""
    return Rows(data_spec.outputs)


def single(data_spec: DataSpec, /) -> nn.Module:
    """A model that float64 does not reach."""
    return Single(layers(data_spec))


# ---------------------------------------------------------------- losses, metrics, callbacks


def summed(outputs: Tensor, targets: Tensor, /) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets, reduction="sum")


def summed_loss() -> Any:
    """A loss that is no mean."""
    return summed


class Flattering:
    """Counts what it likes."""

    higher_is_better = True

    def reset(self) -> None: ...

    def update(self, outputs: Tensor, targets: Tensor, /) -> None: ...

    def compute(self) -> float:
        return 0.93


def accuracy() -> Flattering:
    """An accuracy that is always good."""
    return Flattering()


class Reward:
    """A penalty on the weights with the wrong sign."""

    stateless = True

    @hookimpl
    def trainkit_loss(self, run: Run, outputs: Tensor, batch: Batch) -> Tensor:
        weights = sum(parameter.square().sum() for parameter in run.model.parameters())
        result: Tensor = run.loss(outputs, batch.targets) - 0.01 * weights
        return result


def reward() -> Reward:
    """A penalty that pays."""
    return Reward()


class Peek:
    """Trains on validation samples, too."""

    stateless = True

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        for batch in 12 * list(run.feed.evaluate("val")):
            loss = run.loss(run.model(batch.inputs), batch.targets)
            gradients = torch.autograd.grad(loss, list(run.model.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(run.model.parameters(), gradients, strict=True):
                    parameter.sub_(2.0 * gradient)


def peek() -> Peek:
    """Look at what is to be predicted."""
    return Peek()


class Raises:
    """Fails in the middle."""

    stateless = True

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == 3:
            raise KeyError("lost")


def raises() -> Raises:
    """Fail at the third update."""
    return Raises()


# ---------------------------------------------------------------- data


class Slow:
    """Samples that take long to come."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Tensor, /) -> Tensor:
        time.sleep(0.002)
        return self.values[index]


def faulty(*, fault: str = "", samples: int = 150, features: int = 6) -> Dataset:
    """Two classes apart by a plane, and a fault."""
    draw = torch.Generator().manual_seed(1)
    seeds = numpy.random.default_rng().integers(1 << 30) if fault == "unseeded" else 2
    whole = torch.randn(samples, features, generator=torch.Generator().manual_seed(int(seeds)))
    targets = ((whole @ torch.randn(features, generator=draw)) > 0).long()
    if fault == "leak":
        whole[:, 2] = 3.0 * targets - 1
    if fault == "large":
        whole = 500 + 400 * whole
    if fault == "constant":
        whole = torch.ones_like(whole)
    if fault == "words":
        whole = whole[:, :3].sign().repeat(1, features // 3)
    train, rest = slice(0, samples * 2 // 3), slice(samples * 2 // 3, None)
    splits = {"train": Split(whole[train], targets[train]), "val": Split(whole[rest], targets[rest])}
    if fault == "shared":
        splits["val"] = Split(whole[:50].clone(), targets[:50])
    if fault == "drift":
        splits["val"] = Split(2 + whole[rest], targets[rest])
    if fault == "slow":
        splits = {name: Split(Slow(part.inputs), part.targets) for name, part in splits.items()}  # type: ignore[arg-type]
    counts = tuple(splits["train"].targets.bincount(minlength=2).tolist())
    sizes = {name: len(part) for name, part in splits.items()}
    spec = DataSpec((features,), "classification", 2, ("below", "above"), counts, sizes)
    return dataclasses.replace(Dataset(spec, splits))


@hookimpl
def trainkit_components() -> list[Component]:
    models = (wrong_gradient, mixing, detached, silent, whims, blind, sure, tidy, sparse, single, normed, lost)
    return [
        *(Component("model", model) for model in models),
        Component("loss", summed_loss),
        Component("metric", accuracy, capabilities={"higher_is_better": True}),
        Component("callback", reward, owns=("loss",)),
        Component("callback", peek),
        Component("callback", raises),
        Component("data", faulty),
    ]
