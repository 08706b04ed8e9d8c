"""The small networks that searchers are compared on: their data, and the training of many at once.

Each network has its own settings, seed and order of samples; none sees another, so that it is trained as it were alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy
import torch
from torch import Tensor

from trainkit import Dimension, Space

BATCH, HIDDEN = 32, 32
PROBLEMS = {"digits": 10, "breast cancer": 20, "wine": 20, "diabetes": 20}  # epochs of a full trial


@dataclass
class Problem:
    """Data of one problem as tensors, standardised by its training part."""

    name: str
    epochs: int
    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    outputs: int

    @staticmethod
    def load(name: str) -> Problem:
        """Read it, with a split that is the same for every seed."""
        from sklearn import datasets

        load = {
            "digits": datasets.load_digits,
            "breast cancer": datasets.load_breast_cancer,
            "wine": datasets.load_wine,
            "diabetes": datasets.load_diabetes,
        }[name]
        data = load()
        order = numpy.random.default_rng(0).permutation(len(data.target))
        inputs = torch.tensor(data.data[order], dtype=torch.float32)
        regression = name == "diabetes"
        targets = torch.tensor(data.target[order], dtype=torch.float32 if regression else torch.int64)
        first, second = int(0.6 * len(order)), int(0.8 * len(order))
        inputs = (inputs - inputs[:first].mean(0)) / inputs[:first].std(0).clamp_min(1e-6)
        if regression:
            targets = (targets - targets[:first].mean()) / targets[:first].std()
        cut = [(inputs[a:b], targets[a:b]) for a, b in ((0, first), (first, second), (second, len(order)))]
        return Problem(name, PROBLEMS[name], *cut, outputs=1 if regression else int(targets.max()) + 1)

    @property
    def space(self) -> Space:
        """What is searched."""
        dimensions = [
            Dimension("lr", "float", 1e-4, 10.0, "log"),
            Dimension("weight_decay", "float", 1e-7, 1.0, "log"),
            Dimension("momentum", "float", 0.0, 0.99),
            Dimension("gain", "float", 0.03, 10.0, "log"),
            Dimension("smoothing", "float", 0.0, 0.4),
        ]
        return Space(tuple(dimensions[: 4 if self.outputs == 1 else 5]))


@dataclass
class Training:
    """A network half-way: weights and momenta of each layer, and what was measured so far."""

    point: dict[str, float]
    seed: int
    epoch: int = 0
    weights: list[Tensor] = field(default_factory=list)
    momenta: list[Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    test: float = math.nan


def train(problem: Problem, trainings: Sequence[Training], until: Sequence[int]) -> None:
    """Train many networks at once, each from where it stands to its epoch; none sees another."""
    for begun in sorted({training.epoch for training in trainings}):
        for end in sorted(set(until)):
            members = [t for t, to in zip(trainings, until, strict=True) if t.epoch == begun and to == end]
            if members and end > begun:
                _train(problem, members, end)


def _train(problem: Problem, members: list[Training], until: int) -> None:
    for training in members:
        if not training.weights:
            training.weights = _fresh(problem, training)
            training.momenta = [torch.zeros_like(weight) for weight in training.weights]
    weights = [torch.stack(parts).requires_grad_() for parts in zip(*(t.weights for t in members), strict=True)]
    momenta = [torch.stack(parts) for parts in zip(*(t.momenta for t in members), strict=True)]

    def numbers(name: str) -> Tensor:
        return torch.tensor([t.point.get(name, 0.0) for t in members]).view(-1, 1, 1)

    lr, decay, momentum = numbers("lr"), numbers("weight_decay"), numbers("momentum")
    smoothing = numbers("smoothing").view(-1)
    inputs, targets = problem.train
    for epoch in range(members[0].epoch, until):
        orders = torch.stack([torch.randperm(len(inputs), generator=_generator(t.seed, epoch)) for t in members])
        for index in orders.split(BATCH, 1):
            loss = _loss(problem, _outputs(weights, inputs[index]), targets[index], smoothing)
            gradients = torch.autograd.grad(loss.sum(), weights)
            with torch.no_grad():
                for weight, held, gradient in zip(weights, momenta, gradients, strict=True):
                    held.mul_(momentum).add_(gradient + decay * weight)
                    weight.sub_(lr * held)
        with torch.no_grad():
            measured = _measure(problem, weights, problem.val)
        for training, value in zip(members, measured.tolist(), strict=True):
            training.losses.append(value)
    with torch.no_grad():
        tested = _measure(problem, weights, problem.test).tolist()
    for number, training in enumerate(members):
        training.epoch, training.test = until, tested[number]
        training.weights = [weight[number].detach().clone() for weight in weights]
        training.momenta = [held[number].clone() for held in momenta]


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(
        int(numpy.random.SeedSequence(numbers).generate_state(1, numpy.uint64)[0] >> 1)
    )


def _fresh(problem: Problem, training: Training) -> list[Tensor]:
    chance, features = _generator(training.seed, 1 << 20), problem.train[0].shape[1]
    gain = training.point.get("gain", 1.0)
    layers = []
    for fan_in, fan_out in ((features, HIDDEN), (HIDDEN, problem.outputs)):
        layers += [
            torch.randn(fan_in, fan_out, generator=chance) * (gain / math.sqrt(fan_in)),
            torch.zeros(1, fan_out),
        ]
    return layers


def _outputs(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
    first, bias, second, last = weights
    return torch.baddbmm(last, torch.baddbmm(bias, inputs, first).relu(), second)


def _loss(problem: Problem, outputs: Tensor, targets: Tensor, smoothing: Tensor) -> Tensor:
    if problem.outputs == 1:
        return ((outputs[..., 0] - targets) ** 2).mean(1)
    logs = outputs.log_softmax(-1)
    own = -logs.gather(-1, targets[..., None])[..., 0].mean(1)
    return (1 - smoothing) * own - smoothing * logs.mean((1, 2))


def _measure(problem: Problem, weights: Sequence[Tensor], split: tuple[Tensor, Tensor]) -> Tensor:
    lanes = len(weights[0])
    inputs, targets = (part.expand(lanes, *part.shape) for part in split)
    return _loss(problem, _outputs(weights, inputs), targets, torch.zeros(lanes))
