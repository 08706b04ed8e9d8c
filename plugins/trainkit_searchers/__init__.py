"""Searchers: what a search tries next, from a plain grid to Bayesian models, rungs over any of them, populations."""

from __future__ import annotations

from trainkit import Component, Searcher, hookimpl


def random(seed: int, /) -> Searcher:
    """Random search: each trial's point is drawn by itself, evenly on the scale of each setting.

    Finds better settings than a grid of as many trials where few of the settings matter. No point is tried twice in a
    space of at most 10,000 points. A point that does not meet the constraints is drawn again.

    Source: Bergstra & Bengio 2012, "Random Search for Hyper-Parameter Optimization", JMLR 13.
    """
    from trainkit_searchers.drawing import Random

    return Random(seed)


@hookimpl
def trainkit_components() -> list[Component]:
    """The searchers."""
    repeatable = {"repeatable": True}
    return [
        Component("searcher", random, capabilities=repeatable),
    ]
