"""The ensemblers that are made of one run's weights, or of means of weights: their settings.

Listing them does not import torch.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from trainkit import Between, Component, Duration, Ensembler, Fraction, Period, Positive, PositiveInt
from trainkit_ensemblers.methods import Combine, Metric


def average(
    *,
    method: Literal["uniform", "greedy", "interpolate", "ema", "swa", "lawa"] = "uniform",
    members: PositiveInt | None = None,
    metric: Metric | None = None,
    every: Period = "1ep",
    decay: Annotated[float, Between(0, 1, high_open=True)] = 0.999,
    ramp: bool = True,
    start: Fraction = 0.75,
    last: Annotated[int, Between(2)] = 6,
    force: bool = False,
) -> Ensembler:
    """One model whose weights are a mean of those of several, at the cost of one: model soups and their kin.

    Averaged are given runs, else the trials of a search; of a single run, or where there is neither and one is trained,
    its kept checkpoints: those that are pinned, if any are. Runs must have begun with the same weights, as the trials
    of a search do that does not vary the seed. Sums are float64; BatchNorm statistics are measured again over all
    training samples. One set of weights alone is left as it is.

    The method uniform takes the plain mean. With greedy, from the best to the worst, each joins the mean unless that
    makes the figure worse. With interpolate it is (1 - a) times the first and a times the second, the best of a = 0,
    0.1 ... 1; of one run the oldest and the newest checkpoint. The methods ema, swa and lawa take checkpoints of one
    run as the callbacks of these names take weights.

    Args:
        method: which mean.
        members: how many of the best trials of a search count; unset is all of them.
        metric: figure on validation to choose by; unset is nll, or mse of a regression.
        every: where a run is trained: time between two checkpoints.
        decay: of ema: share of the average that stays at each averaging.
        ramp: of ema: whether the decay of the averaging numbered n is at most (1 + n) / (10 + n).
        start: of swa: the share of the run after which checkpoints count.
        last: of lawa: how many checkpoints count.
        force: average weights that have no common ancestor too, and show the loss on the way from one to the other.

    Source: Wortsman et al. 2022, "Model soups", arXiv 2203.05482 (uniform, greedy); Wortsman et al. 2022, "Robust
    fine-tuning of zero-shot models", arXiv 2109.01903 (interpolate); Izmailov et al. 2018, arXiv 1803.05407 (swa);
    Kaddour 2022, arXiv 2209.14981 (lawa); Frankle et al. 2020, arXiv 1912.05671 (the loss barrier).
    """
    from trainkit_ensemblers.soups import Along, Average

    return Average(method, members, metric, Along(every, decay, ramp, start, last), force)


def snapshots(*, cycles: PositiveInt = 5, use_last: PositiveInt | None = None, combine: Combine = "auto") -> Ensembler:
    """The mean of one run's checkpoints: the rate falls to zero several times, and the weights are kept each time.

    The recipe is trained once, with the schedule ``snapshot_cycles`` in place of its own, from ``optimizer.lr`` down in
    each cycle. Of one finished run that is given the kept checkpoints are the members, the pinned ones if there are
    any: those of the callback ``keep_checkpoints``.

    Args:
        cycles: how often the rate falls.
        use_last: how many of the newest count; unset is all. Early ones are often worse.
        combine: what the mean is taken of: probabilities or logits; auto takes what has the lower negative log
            likelihood on validation, and probabilities where both have the same.

    Source: Huang et al. 2017, "Snapshot Ensembles: Train 1, Get M for Free", arXiv 1704.00109.
    """
    from trainkit_ensemblers.cycles import Snapshots

    return Snapshots(cycles, use_last, combine)


def fge(
    *,
    members: PositiveInt = 5,
    start: Duration = "0.75dur",
    cycle: Period = "2ep",
    high: Positive = 0.5,
    low: Positive = 0.005,
    combine: Combine = "auto",
) -> Ensembler:
    """The mean of one run's weights while its rate goes down and up in short cycles: fast geometric ensembles.

    The recipe is trained once: by its own schedule up to ``start``, then in triangles, whose lowest points are kept. A
    finished run that is given goes on in such cycles from its newest checkpoint until there are ``members``; if it has
    pinned checkpoints already, these are the members.

    Args:
        members: how many of the newest count, or for how many a given run goes on.
        start: when the cycles begin; the paper has 0.7 to 0.8 of the usual run.
        cycle: length of a cycle, an even number of updates.
        high: highest rate, as a factor on the recipe's.
        low: lowest rate, as a factor on the recipe's.
        combine: what the mean is taken of: probabilities or logits; auto takes what has the lower negative log
            likelihood on validation, and probabilities where both have the same.

    Source: Garipov et al. 2018, "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", arXiv 1802.10026.
    """
    from trainkit_ensemblers.cycles import FastGeometric

    if low >= high:
        raise ValueError(f"low = {low:g} must be below high = {high:g}\n  the paper has a hundredth of it")
    # What can be told of durations before the data is known; the rest is the schedule's to refuse.
    if re.fullmatch(r"[0-9]*[13579]ba", cycle):
        raise ValueError(f'cycle = "{cycle}" has no two equal halves\n  write an even number of updates')
    if (share := re.fullmatch(r"([0-9.]+)dur", start)) is not None and float(share[1]) >= 1:
        raise ValueError(f'start = "{start}" leaves no time for a cycle\n  the paper has 0.7 to 0.8 of the run')
    return FastGeometric(members, start, cycle, high, low, combine)


def mc_dropout(seed: int, /, *, passes: Annotated[int, Between(2)] = 30, combine: Combine = "auto") -> Ensembler:
    """The mean of many passes through one model with its dropout on, and all else as in evaluation.

    The masks are drawn once, from the recipe's seed and the number of the pass, and are the same for all samples: each
    pass is one thinned model, the same sample always gets the same answer, and the exported program holds the masks.
    They are for samples of the data's shape. It costs as many passes as there are; what one pass without dropout gives
    is said beside it.

    Args:
        passes: how many, for each of the given runs, or for the one that is trained.
        combine: what the mean is taken of: probabilities or logits; auto takes what has the lower negative log
            likelihood on validation, and probabilities where both have the same.

    Source: Gal & Ghahramani 2016, "Dropout as a Bayesian Approximation", arXiv 1506.02142.
    """
    from trainkit_ensemblers.passes import ManyPasses

    return ManyPasses(seed, passes, combine)


COMPONENTS = (
    Component("ensembler", average, example={"method": "greedy"}),
    Component("ensembler", snapshots, example={"cycles": 3}),
    Component("ensembler", fge, example={"members": 3}),
    Component(
        "ensembler",
        mc_dropout,
        example={"passes": 10},
        exempt={"one_member_is_itself": "it is many passes through that member, each with other units dropped"},
    ),
)
