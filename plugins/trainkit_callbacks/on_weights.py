"""Callbacks that average, draw back or freeze weights: factories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from trainkit import Between, Duration, NonNegative, Period, PositiveInt

if TYPE_CHECKING:
    from trainkit_callbacks.averages import LatestAverage, MovingAverage, StochasticAverage, SwitchingAverage
    from trainkit_callbacks.freezing import Freeze
    from trainkit_callbacks.slow_weights import Lookahead
    from trainkit_callbacks.unfreezing import GradualUnfreeze

Decay = Annotated[float, Between(0, 1, high_open=True)]


def ema(
    *,
    decay: Decay = 0.999,
    ramp: bool = True,
    every: Period = "1ba",
    buffers: Literal["average", "copy", "re-estimate"] = "average",
) -> MovingAverage:
    """Evaluate an exponential moving average of the weights: ``mean = decay * mean + (1 - decay) * weights``.

    Training goes on with the trained weights. Checkpoints hold both, the average as state of this callback;
    ``evaluate`` and ``predict`` use the average.

    Args:
        decay: share of the average that stays at each averaging.
        ramp: whether the decay of the averaging numbered n is at most (1 + n) / (10 + n), so that the initial weights
            are soon forgotten.
        every: time from one averaging to the next.
        buffers: whether buffers such as BatchNorm statistics are averaged too, copied from the model, or, those of
            BatchNorm, measured again with the average before it is evaluated, in one pass over the training split
            without augmentation; whole numbers are always copied.

    Source: Polyak & Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging"; the ramp is that of
    TensorFlow's ``ExponentialMovingAverage``.
    """
    from trainkit_callbacks.averages import MovingAverage

    return MovingAverage(decay, ramp, every, buffers)


def switch_ema(
    *,
    decay: Decay = 0.999,
    ramp: bool = True,
    every: Period = "1ba",
    buffers: Literal["average", "copy"] = "average",
) -> SwitchingAverage:
    """Evaluate an exponential moving average of the weights, and go on from it after each epoch.

    As ``ema``; and at the end of each epoch, after the evaluation that is due there, the average is put into the model,
    which the next epoch trains on from there. The optimizer's state stays.

    Args:
        decay: share of the average that stays at each averaging.
        ramp: whether the decay of the averaging numbered n is at most (1 + n) / (10 + n), so that the initial weights
            are soon forgotten.
        every: time from one averaging to the next.
        buffers: whether buffers such as BatchNorm statistics are averaged too or copied from the model; whole numbers
            are always copied.

    Source: Li et al. 2024, "Switch EMA: A Free Lunch for Better Flatness and Sharpness"; arXiv 2402.09240.
    """
    from trainkit_callbacks.averages import SwitchingAverage

    return SwitchingAverage(decay, ramp, every, buffers)


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
    start: Duration = "0ba",
    rise: NonNegative = 0.0,
    buffers: Literal["fast", "slow"] = "fast",
    epoch_end: Literal["fast", "slow"] = "fast",
) -> Lookahead:
    """Draw the weights back, from time to time, to slow ones: ``slow = slow + alpha * (weights - slow)``.

    After every ``every`` the slow weights move towards the trained ones, which then go on from there. Any optimizer may
    train them; its state is kept. Checkpoints hold the slow weights as state of this callback. The optimizer's wrapper
    of the same name does the same; this one can evaluate the slow weights, counts in any unit of time, and can let the
    slow weights become slower: with ``rise`` they keep the share (1 - alpha) (t / T)^rise of themselves.

    Args:
        every: time from one drawing back to the next; the paper uses 5 and 10 updates.
        alpha: how far the slow weights move; with ``rise`` at the end of the run.
        evaluate: whether the trained (fast) or the slow weights are measured; just after a drawing back they are the
            same.
        start: when the slow weights begin, as the trained ones are at the first full ``every`` from then on.
        rise: power of the time passed by which the slow weights begin fast and become slow; 0 keeps alpha all along.
        buffers: whether statistics such as those of BatchNorm stay those of the trained weights (fast) or are drawn
            back too (slow).
        epoch_end: whether training goes on from the trained (fast) or from the slow weights after each epoch, and ends
            with them.

    Source: Zhang et al. 2019, "Lookahead Optimizer: k steps forward, 1 step back", algorithm 1; arXiv 1907.08610. With
    start, rise, slow buffers and epochs: Jordan 2024, section 3.4, arXiv 2404.00498.
    """
    from trainkit_callbacks.slow_weights import Lookahead

    return Lookahead(every, alpha, evaluate == "slow", start, rise, buffers == "slow", epoch_end == "slow")


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


def gradual_unfreeze(
    *, every: Period = "1ep", layers: PositiveInt = 1, batch_norm: Literal["follow", "fix"] = "follow"
) -> GradualUnfreeze:
    """Train the head alone at first, and let one layer more join from the top down every ``every``.

    The layers are those that ``layer_decay`` and ``discriminative`` of [optimizer] tell apart; all of them must have
    joined before the run ends. Frozen ones get no gradient and no weight decay; what is frozen follows from the
    update's number alone. With compile = "step" nothing can be unfrozen.

    Args:
        every: time between two layers; the first below the head joins after it.
        layers: how many join at a time.
        batch_norm: whether BatchNorm layers that are frozen follow the data with their statistics, or fix them and
            normalise by them in training too.

    Source: Howard & Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", section 3.3; arXiv
    1801.06146.
    """
    from trainkit_callbacks.unfreezing import GradualUnfreeze

    return GradualUnfreeze(every, layers, batch_norm == "fix")
