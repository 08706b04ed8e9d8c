"""Searchers: what a search tries next, from a plain grid to Bayesian models, rungs over any of them, populations."""

from __future__ import annotations

from typing import Annotated, Literal

from trainkit import Between, Component, Duration, Fraction, NonNegativeInt, Positive, PositiveInt, Searcher, hookimpl
from trainkit_searchers.early import asha as asha
from trainkit_searchers.early import hyperband as hyperband
from trainkit_searchers.early import median_stopping as median_stopping
from trainkit_searchers.early import pbt as pbt
from trainkit_searchers.early import successive_halving as successive_halving
from trainkit_searchers.early import threshold_stopping as threshold_stopping


def random(seed: int, /) -> Searcher:
    """Random search: each trial's point is drawn by itself, evenly on the scale of each setting.

    Finds better settings than a grid of as many trials where few of the settings matter. No point is tried twice in a
    space of at most 10,000 points. A point that does not meet the constraints is drawn again.

    Source: Bergstra & Bengio 2012, "Random Search for Hyper-Parameter Optimization", JMLR 13.
    """
    from trainkit_searchers.drawing import Random

    return Random(seed)


def grid(seed: int, /, *, points: PositiveInt = 5, sample: bool = False) -> Searcher:
    """Grid search: every combination of some values for each setting, each branch of conditional settings once.

    The last setting of [search.space] changes fastest. Choices and numbers with a step take all their values, other
    numbers some that are even on their scale, both ends among them. The recipe as written comes first, and is not tried
    again where it is a point of the grid. A grid with more points than the search has trials is refused.

    Args:
        points: how many values a number without a step gets.
        sample: try points of the grid in random order, as many as there are trials.
    """
    from trainkit_searchers.lattice import Grid, SampledGrid

    return SampledGrid(seed, points) if sample else Grid(points)


def sobol(seed: int, /) -> Searcher:
    """Quasi-random search: the points of a scrambled Sobol' sequence, which fill the space evenly.

    As random search, with fewer gaps and heaps: the better of the two at a few dozen trials. A point that does not meet
    the constraints is passed over. The seed decides on the scramble.

    Source: Sobol' 1967; Joe & Kuo 2008, "Constructing Sobol sequences with better two-dimensional projections"; Owen
    1998 on scrambling; the sequence is torch's.
    """
    from trainkit_searchers.lowdiscrepancy import Sobol

    return Sobol(seed)


def coarse_to_fine(
    seed: int,
    /,
    *,
    stages: list[Duration] = ["1ep", "5ep"],  # noqa: B006
    shares: list[Positive] = [],  # noqa: B006
    keep: PositiveInt = 4,
    margin: Fraction = 0.1,
    again: NonNegativeInt = 1,
    inner: Literal["sobol", "random"] = "sobol",
) -> Searcher:
    """Coarse to fine: short runs over the whole space, then longer ones around the best, then whole runs around those.

    Each stage searches the box that the best trials of the stage before span; of choices, those that they have. A stage
    begins when all trials of the one before have ended; one that has tried all points of a small space leaves the rest
    of its trials to the next. Trials of the last stage alone, which trains as long as [run] says, can be the best of
    the search; the others have ``run.duration`` shortened, the recipe as written too.

    Args:
        stages: how long each stage but the last trains.
        shares: of the trials, for each stage and the last; none: equal ones.
        keep: so many of the best of a stage, at most half of its trials, span the box of the next.
        margin: the box is wider by this share of the one before on each side, and stays within it.
        again: so many of the best are trained once more, for longer, at the start of the next stage.
        inner: how points are chosen within a box.
    """
    from trainkit_searchers.stages import CoarseToFine

    return CoarseToFine(seed, stages, shares, keep, margin, again, inner)


def bayesian(
    seed: int,
    /,
    *,
    model: Literal["tpe", "gp"] = "tpe",
    startup: PositiveInt = 10,
    candidates: PositiveInt = 24,
) -> Searcher:
    """Bayesian search: a model of all results so far says where the next trial promises most.

    tpe models where good and where other trials lie, and takes any space; gp models the value itself as a Gaussian
    process, which learns from fewer trials but takes about 0.4 s to answer, ignores pruned trials and draws settings
    that do not always count. Both know which points are being tried. One trial at a time learns most from each.

    Args:
        model: what is modelled.
        startup: trials that must have ended before the model is used; until then points are drawn.
        candidates: of so many points that are likely to be good tpe tries the most promising.

    Source: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization" (TPE); Snoek et al. 2012, "Practical
    Bayesian Optimization of Machine Learning Algorithms" (Gaussian processes); Optuna's samplers (MIT).
    """
    from trainkit_searchers.modelled import Bayesian

    return Bayesian(seed, model, startup, candidates)


def genetic(
    seed: int,
    /,
    *,
    population: Annotated[int, Between(2)] = 16,
    crossover: Fraction = 0.9,
    mutation: Fraction | None = None,
) -> Searcher:
    """Genetic search: each generation is crossed and mutated from the best so far, for one objective or several.

    Needs many trials, ten generations or so; with few it is random search. For several objectives it spreads over
    the trials that no other one beats in all of them.

    Args:
        population: trials of a generation, and so many of the best are bred from.
        crossover: how probable it is that two are crossed, rather than one of them copied.
        mutation: how probable it is that a setting is drawn anew; unset: on average one setting of each point.

    Source: Deb et al. 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II"; Optuna's sampler (MIT).
    """
    from trainkit_searchers.breeding import Genetic

    return Genetic(seed, population, crossover, mutation)


def cmaes(seed: int, /, *, population: Annotated[int, Between(2)] | None = None, sigma: Positive = 0.2) -> Searcher:
    """CMA-ES: draws from a normal distribution that moves to, and takes the shape of, where the best trials are.

    For numbers whose effects depend on each other, and many trials, hundreds rather than dozens. Choices and settings
    that do not always count are drawn. When it has settled it begins elsewhere, with twice the population.

    Args:
        population: trials of a generation; unset: 4 + 3 ln(numbers).
        sigma: standard deviation at the start, as a share of each range.

    Source: Hansen 2016, "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772; restarts: Auger & Hansen 2005;
    the library cmaes (MIT).
    """
    from trainkit_searchers.strategy import Evolution

    return Evolution(seed, population, sigma)


# Their libraries come together.
SEARCH = "pip install 'trainkit[search]'"


@hookimpl
def trainkit_components() -> list[Component]:
    """The searchers."""
    repeatable, several = {"repeatable": True}, {"multi_objective": True}
    optuna, over = {"optuna": SEARCH}, {"over": {"use": "random"}}
    in_order = {"another_seed_another_study": "a grid is tried in order; the seed decides where sample = true"}
    copies = {"tries_no_point_of_a_small_space_twice": "a population stands side by side, and may have equal points"}
    return [
        Component("searcher", asha, example=over),
        Component("searcher", bayesian, capabilities=several, libraries=optuna),
        Component("searcher", cmaes, libraries={"cmaes": SEARCH}),
        Component("searcher", coarse_to_fine, example={"stages": ["1ep", "5ep"]}),
        Component("searcher", genetic, capabilities=several, libraries=optuna),
        Component("searcher", grid, example={"points": 3}, capabilities=repeatable, exempt=in_order),
        Component("searcher", hyperband, example=over, capabilities=repeatable),
        Component("searcher", median_stopping, example={**over, "after": 0.3}),
        Component("searcher", pbt, capabilities=repeatable, exempt=copies),
        Component("searcher", random, capabilities=repeatable),
        Component("searcher", sobol, capabilities=repeatable),
        Component("searcher", successive_halving, example=over, capabilities=repeatable),
        Component("searcher", threshold_stopping, example={**over, "worst": 2.0}, capabilities=repeatable),
    ]
