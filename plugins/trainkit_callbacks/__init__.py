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
    from trainkit_callbacks.centring import GradientCentralization
    from trainkit_callbacks.clip import AdaptiveClip, ClipNorm, ClipValue
    from trainkit_callbacks.freezing import Freeze
    from trainkit_callbacks.monitors import Norms, UpdateRatio
    from trainkit_callbacks.noise import GradientNoise
    from trainkit_callbacks.slow_weights import Lookahead
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
    ``evaluate`` and ``predict`` use the average.

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
    both, the mean as state of this callback; ``evaluate`` and ``predict`` use the mean.

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
    both and the weights in the mean, as state of this callback; ``evaluate`` and ``predict`` use the mean.

    Args:
        last: how many epochs; memory and checkpoints hold as many copies of the weights.

    Source: Kaddour 2022, "Stop Wasting My Time! Saving Days of ImageNet and BERT Training with Latest Weight
    Averaging"; arXiv 2209.14981.
    """
    from trainkit_callbacks.averages import LatestAverage

    return LatestAverage(last)


def lookahead(
    *,
    every: Period = "5ba",
    alpha: Annotated[float, Between(0, 1, low_open=True)] = 0.5,
    evaluate: Literal["fast", "slow"] = "fast",
) -> Lookahead:
    """Draw the weights back, from time to time, to slow ones: ``slow = slow + alpha * (weights - slow)``.

    After every ``every`` the slow weights move towards the trained ones, which then go on from there. Any optimizer may
    train them; its state is kept. Checkpoints hold the slow weights as state of this callback. The optimizer's wrapper
    of the same name does the same; this one can evaluate the slow weights and counts in any unit of time.

    Args:
        every: time from one drawing back to the next; the paper uses 5 and 10 updates.
        alpha: how far the slow weights move.
        evaluate: whether the trained (fast) or the slow weights are measured; just after a drawing back they are the
            same.

    Source: Zhang et al. 2019, "Lookahead Optimizer: k steps forward, 1 step back", algorithm 1; arXiv 1907.08610.
    """
    from trainkit_callbacks.slow_weights import Lookahead

    return Lookahead(every, alpha, evaluate == "slow")


def gradient_centralization(*, conv_only: bool = False) -> GradientCentralization:
    """Subtract from each output's gradients their mean, in weights of two and more dimensions.

    An output's gradients are a row of a matrix or a filter of a convolution; biases and norms are left alone. It comes
    before noise and before every clipping, wherever it stands in the recipe.

    Args:
        conv_only: whether only weights of three and more dimensions are taken, which are those of convolutions.

    Source: Yong et al. 2020, "Gradient Centralization: A New Optimization Technique for Deep Neural Networks",
    equation 1; arXiv 2004.01461.
    """
    from trainkit_callbacks.centring import GradientCentralization

    return GradientCentralization(conv_only)


def norms(*, gradients: bool = True, weights: bool = True, groups: bool = True) -> Norms:
    """Write L2 norms of gradients and weights into the lines of ``metrics.jsonl``.

    ``gradient_norm`` is the mean over the updates since the last line, before any callback changes the gradients;
    ``gradient_norm_used`` is that of what the optimizer was given, where there is such a callback. Updates that were
    left out do not count. ``weight_norm`` is that of the weights at the line. ``gradient_norm/0`` is that of parameter
    group 0. With compile = "step" the run goes on eagerly.

    Args:
        gradients: whether to write those of the gradients.
        weights: whether to write those of the weights.
        groups: whether to write them for each parameter group, too.
    """
    from trainkit_callbacks.monitors import Norms

    if not (gradients or weights):
        raise ValueError("gradients = false and weights = false leave nothing to write\n  write one of them")
    return Norms(gradients, weights, groups)


def update_ratio(*, every: Period = "1ep", low: NonNegative = 1e-5, high: Positive = 1e-1) -> UpdateRatio:
    """Write how large an update is beside the weights, for each parameter group: ``||dw|| / ||w||``.

    The last update of every ``every`` is measured, the others cost nothing; ``update_ratio/0`` stands in the next line
    of ``metrics.jsonl``. About 1e-3 is usual. A group outside the limits is told once; below them only while its
    learning rate is at least a tenth of its highest. Frozen parameters do not count; weights that are all zero have no
    ratio.

    Args:
        every: time from one measured update to the next.
        low: smallest ratio that is not told.
        high: largest ratio that is not told.

    Source: Karpathy et al., "CS231n: Neural Networks Part 3", section "Ratio of weights:updates".
    """
    from trainkit_callbacks.monitors import UpdateRatio

    if low >= high:
        raise ValueError(f"low = {low:g} must be below high = {high:g}\n  about 1e-3 is usual")
    return UpdateRatio(every, low, high)


def freeze(
    *,
    match: tuple[str, ...],
    unfreeze: dict[str, Period] | None = None,
    batch_norm: Literal["follow", "fix"] = "follow",
) -> Freeze:
    """Leave the parameters that match as they are, for the whole run or until they are unfrozen.

    Frozen parameters get no gradient and no weight decay. Those that are never unfrozen are in no parameter group; the
    others are in theirs from the start, and join the training at the first update of their time. What is frozen follows
    from the update's number alone. With compile = "step" nothing can be unfrozen.

    Args:
        match: patterns of parameter names, such as "body.*"; each must match one.
        unfreeze: times by pattern, such as { "body.3.*" = "3ep", "body.*" = "6ep" }; where several match, the earliest.
        batch_norm: whether BatchNorm layers whose parameters are frozen follow the data with their statistics, or fix
            them and normalise by them in training too.

    Source: Yosinski et al. 2014, "How transferable are features in deep neural networks?"; arXiv 1411.1792. Unfreezing
    in steps: Howard & Ruder 2018, "Universal Language Model Fine-tuning for Text Classification"; arXiv 1801.06146.
    """
    from trainkit_callbacks.freezing import Freeze

    if not match:
        raise ValueError('match = [] freezes nothing\n  write patterns of parameter names, such as "body.*"')
    return Freeze(match, unfreeze or {}, batch_norm == "fix")


def early_stop(*, monitor: str = "val.loss", patience: NonNegativeInt = 5, min_delta: NonNegative = 0.0) -> EarlyStop:
    """End the run when a figure has stopped getting better.

    Whether lower or higher is better follows from the figure. A figure that is not finite never counts as better; the
    first such figure is told.

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
    from trainkit_callbacks.checks import timed_and_compiled, two_evaluations, unknown_figures

    return [*unknown_figures(recipe), *timed_and_compiled(recipe), *two_evaluations(recipe)]


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
        Component(
            "callback",
            gradient_centralization,
            example={"conv_only": False},
            capabilities=compiles,
            before=("gradient_noise", "agc", "clip_value", "clip_norm"),
            conflicts=("gradient_centralization",),
        ),
        Component("callback", gradient_noise, example={"eta": 0.01}, conflicts=("gradient_noise",)),
        Component(
            "callback",
            lookahead,
            example={"every": "5ba", "alpha": 0.5},
            capabilities=every_update,
            before=("ema", "swa", "lawa"),  # which average the weights that training goes on with
            conflicts=("lookahead",),
        ),
        Component("callback", ema, example={"decay": 0.99}, capabilities=every_update, owns=evaluates),
        Component("callback", swa, example={"start": "0.5dur"}, capabilities=every_update, owns=evaluates),
        Component("callback", lawa, example={"last": 3}, owns=evaluates),
        Component("callback", freeze, example={"match": ["body.*"]}, conflicts=("freeze",)),
        Component("callback", norms, example={"groups": False}, capabilities=every_update, conflicts=("norms",)),
        Component(
            "callback",
            update_ratio,
            example={"every": "1ep"},
            capabilities=every_update,
            after=("freeze", "lookahead"),  # what is trained, and by how much, is then settled
            conflicts=("update_ratio",),
        ),
        Component("callback", early_stop, example={"monitor": "val.loss", "patience": 3}),
        Component("callback", time_limit, example={"minutes": 55.0}),
    ]
