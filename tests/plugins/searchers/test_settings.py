"""Searchers keep their contracts with other settings than those of their examples, too."""

from __future__ import annotations

import trainkit_searchers as searchers
from trainkit import Component
from trainkit.testing import SearcherContract


class TestSampledGrid(SearcherContract):
    component = Component("searcher", searchers.grid, "sampled_grid", example={"points": 3, "sample": True})


class TestBoxesOfDrawnPoints(SearcherContract):
    component = Component(
        "searcher",
        searchers.coarse_to_fine,
        "boxes_of_drawn_points",
        example={"stages": ["1ep", "5ep"], "inner": "random", "again": 0},
    )


class TestManyGenerations(SearcherContract):
    component = Component("searcher", searchers.cmaes, "many_generations", example={"population": 5})


class TestManyGenerationsBred(SearcherContract):
    component = Component(
        "searcher",
        searchers.genetic,
        "many_generations_bred",
        example={"population": 6},
        capabilities={"multi_objective": True},
    )
