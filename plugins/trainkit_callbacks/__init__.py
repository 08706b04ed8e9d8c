"""Callbacks: objects whose hooks act on a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from trainkit import (
    Between,
    Component,
    Duration,
    NonNegative,
    NonNegativeInt,
    Period,
    Positive,
    hookimpl,
)

if TYPE_CHECKING:
    from trainkit import Problem
    from trainkit_callbacks.averages import LatestAverage, MovingAverage, StochasticAverage
    from trainkit_callbacks.clip import AdaptiveClip, ClipNorm, ClipValue
    from trainkit_callbacks.freezing import Freeze
    from trainkit_callbacks.noise import GradientNoise
    from trainkit_callbacks.stopping import EarlyStop, TimeLimit

Decay = Annotated[float, Between(0, 1, high_open=True)]


def clip_norm(*, max_norm: Positive) -> ClipNorm:
    """Scale all gradients down together when their common L2 norm is above ``max_norm``.

    Agrees with `torch.nn.utils.clip_grad_norm_`.

    Args:
        max_norm: largest norm that passes unchanged.

    Source: Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", algorithm 1;
    arXiv 1211.5063.
    """
    from trainkit_callbacks.clip import ClipNorm

    return ClipNorm(max_norm)


def clip_value(*, max_value: Positive) -> ClipValue:
    """Cut every number of the gradients at ``-max_value`` and ``max_value``.

    Agrees with `torch.nn.utils.clip_grad_value_`. It comes before ``clip_norm``, wherever it stands in the recipe.

    Args:
        max_value: largest absolute value that passes unchanged.

    Source: Mikolov 2012, "Statistical Language Models Based on Neural Networks", PhD thesis, Brno.
    """
    from trainkit_callbacks.clip import ClipValue

    return ClipValue(max_value)


def agc(*, clipping: Positive = 0.01, eps: Positive = 1e-3, skip: tuple[str, ...] = ("head.*",)) -> AdaptiveClip:
    """Clip each unit's gradient where its norm is large beside that of the unit's weights.

    A unit is all that leads to one output of a layer: a row of a matrix, a filter of a convolution; a bias or a norm's
    scale is one unit as a whole. It comes before ``clip_norm``.

    Args:
        clipping: largest ratio of the gradient's norm to the weights' that passes unchanged.
        eps: least norm that weights count with, so that those that begin at zero can move.
        skip: patterns of parameters that are left alone; the paper leaves out the last layer.

    Source: Brock et al. 2021, "High-Performance Large-Scale Image Recognition Without Normalization", section 4;
    arXiv 2102.06171.
    """
    from trainkit_callbacks.clip import AdaptiveClip

    return AdaptiveClip(clipping, eps, skip)


def gradient_noise(seed: int, /, *, eta: NonNegative = 0.01, gamma: NonNegative = 0.55) -> GradientNoise:
    """Add Gaussian noise to the gradients, of variance ``eta / (1 + t) ** gamma`` at update ``t``.

    The numbers depend on seed and update alone, so that a continued run draws the same ones. Whether the noise is
    clipped too follows from what stands first in the recipe. With compile = "step" the run goes on eagerly.

    Args:
        eta: variance at the first update; the paper tries 0.01, 0.3 and 1.
        gamma: how fast it falls.

    Source: Neelakantan et al. 2015, "Adding Gradient Noise Improves Learning for Very Deep Networks";
    arXiv 1511.06807.
    """
    from trainkit_callbacks.noise import GradientNoise

    return GradientNoise(seed, eta, gamma)


def ema(
    *,
    decay: Decay = 0.999,
    ramp: bool = True,
    every: Period = "1ba",
    buffers: Literal["average", "copy"] = "average",
) -> MovingAverage:
    """Evaluate an exponential moving average of the weights: ``mean = decay * mean + (1 - decay) * weights``.

    Training goes on with the trained weights. Checkpoints hold both, the average as state of this callback;
    ``predict`` uses the trained weights.

    Args:
        decay: share of the average that stays at each averaging.
        ramp: whether the decay of the averaging numbered n is at most (1 + n) / (10 + n), so that the initial weights
            are soon forgotten.
        every: time from one averaging to the next.
        buffers: whether buffers such as BatchNorm statistics are averaged too or copied from the model; whole numbers
            are always copied.

    Source: Polyak & Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging"; the ramp is that of
    TensorFlow's ``ExponentialMovingAverage``.
    """
    from trainkit_callbacks.averages import MovingAverage

    return MovingAverage(decay, ramp, every, buffers)


def swa(*, start: Duration = "0.75dur", every: Period = "1ep") -> StochasticAverage:
    """Evaluate the mean of the weights at equal distances from ``start`` on.

    Until ``start`` the trained weights are evaluated. BatchNorm statistics are measured again with the mean, in one
    pass over the training split without augmentation. Training goes on with the trained weights; checkpoints hold
    both, the mean as state of this callback; ``predict`` uses the trained weights.

    Args:
        start: when the first weights are taken into the mean.
        every: time from one taking to the next.

    Source: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization", algorithm 1;
    arXiv 1803.05407.
    """
    from trainkit_callbacks.averages import StochasticAverage

    return StochasticAverage(start, every)


def lawa(*, last: Annotated[int, Between(2)] = 6) -> LatestAverage:
    """Evaluate the mean of the weights at the ends of the latest epochs.

    During the first epoch the trained weights are evaluated. BatchNorm statistics are measured again with the mean, in
    one pass over the training split without augmentation. Training goes on with the trained weights; checkpoints hold
    both and the weights in the mean, as state of this callback; ``predict`` uses the trained weights.

    Args:
        last: how many epochs; memory and checkpoints hold as many copies of the weights.

    Source: Kaddour 2022, "Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest Weight
    Averaging"; arXiv 2209.14981.
    """
    from trainkit_callbacks.averages import LatestAverage

    return LatestAverage(last)


def freeze(*, match: tuple[str, ...]) -> Freeze:
    """Leave the parameters that match as they are, for the whole run.

    They are in no parameter group and get no gradient. BatchNorm statistics of a frozen part still follow the data.

    Args:
        match: patterns of parameter names, such as "body.*"; each must match one.

    Source: Yosinski et al. 2014, "How transferable are features in deep neural networks?"; arXiv 1411.1792.
    """
    from trainkit_callbacks.freezing import Freeze

    if not match:
        raise ValueError('match = [] freezes nothing\n  write patterns of parameter names, such as "body.*"')
    return Freeze(match)


def early_stop(*, monitor: str = "val.loss", patience: NonNegativeInt = 5, min_delta: NonNegative = 0.0) -> EarlyStop:
    """End the run when a figure has stopped getting better.

    Whether lower or higher is better follows from the figure. A figure that is not finite never counts as better.

    Args:
        monitor: the figure, such as "val.loss" or "val.accuracy".
        patience: evaluations without improvement that are borne; the next one ends the run.
        min_delta: how much better a figure must be to count.

    Source: Prechelt 1998, "Early Stopping - But When?".
    """
    from trainkit_callbacks.stopping import EarlyStop

    return EarlyStop(monitor, patience, min_delta)


def time_limit(*, minutes: Positive) -> TimeLimit:
    """End the run, with a checkpoint, at the first update after so many minutes.

    The time is that of this process from its first epoch on: reading data and building come before, a continued run
    begins anew. Evaluating, saving and the test at the end may take longer than what is left: leave room for them.

    Args:
        minutes: wall time, fractions allowed.
    """
    from trainkit_callbacks.stopping import TimeLimit

    return TimeLimit(minutes)


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    from trainkit_callbacks.names import unknown_figures

    return unknown_figures(recipe)


@hookimpl
def trainkit_components() -> list[Component]:
    compiles, every_update = {"compiles": True}, {"every_update": True}
    clips = ("clip_norm",)
    evaluates = ("evaluation",)  # of two averages, one within the other, only one would be measured
    return [
        Component("callback", clip_norm, example={"max_norm": 1.0}, capabilities=compiles),
        Component("callback", clip_value, example={"max_value": 0.5}, capabilities=compiles, before=clips),
        Component(
            "callback",
            agc,
            example={"clipping": 0.01, "skip": ["head.*"]},
            capabilities=compiles,
            before=clips,
            conflicts=("agc",),
        ),
        Component("callback", gradient_noise, example={"eta": 0.01}, conflicts=("gradient_noise",)),
        Component("callback", ema, example={"decay": 0.99}, capabilities=every_update, owns=evaluates),
        Component("callback", swa, example={"start": "0.5dur"}, capabilities=every_update, owns=evaluates),
        Component("callback", lawa, example={"last": 3}, owns=evaluates),
        Component("callback", freeze, example={"match": ["body.*"]}, conflicts=("freeze",)),
        Component("callback", early_stop, example={"monitor": "val.loss", "patience": 3}),
        Component("callback", time_limit, example={"minutes": 55.0}),
    ]
