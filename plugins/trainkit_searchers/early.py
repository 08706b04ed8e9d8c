"""Searchers that do not train every trial to its end: rungs, rules over any other searcher, and populations."""

from __future__ import annotations

from typing import Annotated, Any

from trainkit import Between, Fraction, Nested, PositiveInt, Searcher

_Open = Annotated[float, Between(0, 1, low_open=True, high_open=True)]


def successive_halving(
    *,
    over: Annotated[Any, Nested("searcher")] = {"use": "random"},  # noqa: B006
    factor: Annotated[int, Between(2)] = 3,
    rungs: Annotated[int, Between(2)] = 3,
    first: _Open | None = None,
) -> Searcher:
    """Train all trials a little, the best third of them on, and the best third of those to the end.

    All of the search's trials begin. At each rung the trials pause; when the last of them has come to rest they are
    ranked, and the best go on from their checkpoints; of equals the one with the lower number. Those that failed rank
    last, and none of them goes on. Workers may have nothing to do while a rung waits for its last trial: with many of
    them take asha. A study is the same for any number of workers if that holds for the searcher in ``over``.

    A rung lies at the first evaluation at or after its share of a run: let the run be evaluated often enough that each
    rung has one of its own. A trial whose evaluation lies beyond the next rung too goes on without training there.

    Args:
        over: the searcher that proposes the points, and is told each trial's newest value when it comes to rest.
        factor: of the trials at a rung, one in so many goes on; each rung lies so many times as far as the one before.
        rungs: how many rungs there are; the last is the run's end.
        first: share of a run at which the first rung lies; unset puts the last but one at 1/factor of a run.

    Source: Jamieson & Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization",
    arXiv 1502.07943.
    """
    from trainkit_searchers.brackets import Brackets

    return Brackets(over, factor, rungs, first, several=False)


def hyperband(
    *,
    over: Annotated[Any, Nested("searcher")] = {"use": "random"},  # noqa: B006
    factor: Annotated[int, Between(2)] = 3,
    rungs: Annotated[int, Between(2)] = 3,
    first: _Open | None = None,
) -> Searcher:
    """Successive halving in several brackets, from many trials with short first rungs to a few that are trained wholly.

    For where it is not known whether short runs tell good settings from bad ones. Each bracket takes about as much
    training. The brackets are as large as the search's trials allow. Workers that a rung leaves without work begin the
    trials of the next bracket. A study is the same for any number of workers if that holds for the searcher in
    ``over``; with ``over = {use = "bayesian"}`` it is after BOHB.

    Args:
        over: the searcher that proposes the points of all brackets.
        factor: of the trials at a rung, one in so many goes on; each rung lies so many times as far as the one before.
        rungs: rungs of the longest bracket, and how many brackets there are: each has a rung less than the one before.
        first: share of a run at which the first rung of the longest bracket lies; unset puts the last but one at
            1/factor of a run.

    Source: Li et al. 2018, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 18,
    algorithm 1; over a model of the results, Falkner et al. 2018, "BOHB", arXiv 1807.01774.
    """
    from trainkit_searchers.brackets import Brackets

    return Brackets(over, factor, rungs, first, several=True)


def asha(
    *,
    over: Annotated[Any, Nested("searcher")] = {"use": "random"},  # noqa: B006
    factor: Annotated[int, Between(2)] = 3,
    rungs: Annotated[int, Between(2)] = 3,
    first: _Open | None = None,
) -> Searcher:
    """Successive halving that waits for no one: a trial goes on as soon as it is among the best third of its rung.

    A worker that is free takes the best trial that may go on, from the highest rung that has one; else it begins a new
    one. Some trials go on that the end of the search would not have picked; many more do where the searcher in ``over``
    improves as it goes, as new trials beat most before them. When all trials have begun, those that may go on do, until
    none is left; at least one is trained to the end, unless all fail.

    Args:
        over: the searcher that proposes the points, and is told each trial's newest value when it comes to rest.
        factor: of the trials at a rung, one in so many goes on; each rung lies so many times as far as the one before.
        rungs: how many rungs there are; the last is the run's end.
        first: share of a run at which the first rung lies; unset puts the last but one at 1/factor of a run.

    Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", MLSys, arXiv 1810.05934,
    algorithm 2.
    """
    from trainkit_searchers.promotion import Promoting

    return Promoting(over, factor, rungs, first)


def pbt(
    seed: int,
    /,
    *,
    population: Annotated[int, Between(2)] | None = None,
    generations: Annotated[int, Between(2)] = 5,
    share: Annotated[float, Between(0, 0.5, low_open=True)] = 0.2,
    perturb: _Open = 0.2,
    resample: Fraction = 0.25,
) -> Searcher:
    """Population based training: trials train side by side, and the worst are replaced by changed copies of the best.

    After each generation the worst go no further. In the place of each begins a new trial with the checkpoint of one of
    the best and its settings, changed: so settings follow a schedule that is found while training. The best trial's
    settings are those of its last part; `parent` says what it was copied from. All trials begun count, copies too.

    A copy keeps what a run that goes on cannot change: settings of the model, the data (but augmentations), metrics,
    [run], the seed, and choices of the optimizer that are not numbers; the first generation draws them. A space of such
    settings alone is refused.

    Args:
        population: trials that train side by side; unset is as many as the search's trials allow with their copies.
        generations: parts of a run, after each of which but the last the worst are replaced.
        share: part of the population that is replaced after a generation, and the best part that is copied.
        perturb: a copied number is multiplied by 1 less this or 1 more this; on a logit scale, its odds.
        resample: how likely a copied value is drawn anew from its range; choices change in no other way.

    Source: Jaderberg et al. 2017, "Population Based Training of Neural Networks", arXiv 1711.09846: truncation
    selection, perturbing and resampling, section 4.1.1; here a generation waits for its last trial, so that a study is
    the same for any number of workers.
    """
    from trainkit_searchers.population import Population

    return Population(seed, population, generations, share, perturb, resample)


def median_stopping(
    *,
    over: Annotated[Any, Nested("searcher")] = {"use": "random"},  # noqa: B006
    after: Fraction = 0.2,
    at_least: PositiveInt = 5,
) -> Searcher:
    """Prune a trial that is worse than the median of the others were at the same share of their run.

    The trial's best value so far is compared with the median, over all others that have come to rest and were trained
    as far, of the mean of their values up to there. Failed trials do not count.

    Args:
        over: the searcher that decides all else; one with rungs, too.
        after: share of a run before which no trial is pruned.
        at_least: so many others must have been trained as far.

    Source: Golovin et al. 2017, "Google Vizier: A Service for Black-Box Optimization", KDD, section 3.2.2.
    """
    from trainkit_searchers.rules import Median

    return Median(over, after, at_least)


def threshold_stopping(
    *,
    over: Annotated[Any, Nested("searcher")] = {"use": "random"},  # noqa: B006
    worst: float,
    after: Fraction = 0.0,
) -> Searcher:
    """Prune a trial whose newest figure is worse than a given one.

    Args:
        over: the searcher that decides all else; one with rungs, too.
        worst: the worst figure with which a trial goes on, as it is measured: a loss, or an accuracy.
        after: share of a run before which no trial is pruned.

    Source: Optuna's `ThresholdPruner`.
    """
    from trainkit_searchers.rules import Threshold

    return Threshold(over, worst, after)
