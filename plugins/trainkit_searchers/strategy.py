"""CMA-ES: generations drawn from a normal distribution that follows the best of each; of the library cmaes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from cmaes import CMA  # type: ignore[import-untyped]

from trainkit import Objective, Order, Point, Space, Trial
from trainkit_searchers.drawing import Proposing
from trainkit_searchers.points import generator
from trainkit_searchers.results import Finite, last_report


class Evolution(Proposing):
    """Moves and stretches a normal distribution over the shares of the numbers' ranges.

    Choices, and numbers that do not always count, are drawn.

    Args:
        seed: the recipe's seed.
        population: trials of a generation; ``None``: from the number of settings.
        sigma: standard deviation at the start, as a share of each range.
    """

    def __init__(self, seed: int, population: int | None, sigma: float) -> None:
        super().__init__(seed)
        self.population, self.sigma = population, sigma
        self.results = Finite()
        self.generation = 0
        self.solutions: list[tuple[Any, float]] = []
        self._running: dict[int, tuple[int, Any]] = {}  # by the trial's number: generation, sample
        self._samples: dict[int, tuple[int, Any]] = {}  # by place, of those whose values are waited for
        self._places = 0

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        super().begin(space, objectives, trials)
        self.names = [one.name for one in space.dimensions if one.kind != "choice" and not one.when and one.count > 1]
        if not self.names:
            raise ValueError(
                "cmaes searches over numbers, and there is none that always counts in [search.space]\n"
                'write use = "bayesian" or use = "genetic" in [search]'
            )
        self.width = max(2, len(self.names))  # the library needs two numbers: of one, the other says nothing
        self.strategy = self._start(np.full(self.width, 0.5), self.population)

    def took(self, order: Order, trial: Trial) -> None:
        """Remember what was drawn for the trial, unless another point took its place."""
        if order.trial is None and self.is_own(trial) and self.proposals:
            self._running[trial.number] = self.generation, self._sample(self.proposals - 1)
        super().took(order, trial)

    def tell(self, trial: Trial) -> None:
        """Take the result into its generation; a full one moves the distribution."""
        super().tell(trial)
        if trial.number not in self._running:
            return
        report = last_report(trial) if trial.status in ("paused", "pruned") else None
        value = report[1] if report is not None else trial.values[0] if trial.values else None
        if value is None and not trial.over:
            return
        generation, sample = self._running.pop(trial.number)
        if value is None:
            return
        self._samples[self._places] = generation, sample
        for place, values in self.results.settle(self._places, (value,)):
            of, known = self._samples.pop(place)
            if of == self.generation:
                self.solutions.append((known, values[0]))
        self._places += 1
        if len(self.solutions) >= self.strategy.population_size:
            self._next_generation()

    def propose(self, attempt: int) -> Point | None:
        """A sample of the distribution."""
        shares = generator(self.seed, self.taken, attempt).random(len(self.space)).tolist()
        own = dict(zip(self.names, self._sample(attempt).tolist(), strict=False))
        below_one = 1 - 1e-12
        return self.space.at(
            [
                min(own.get(dimension.name, share), below_one)
                for dimension, share in zip(self.space.dimensions, shares, strict=True)
            ]
        )

    def _sample(self, attempt: int) -> Any:
        self.strategy.reseed_rng(int(generator(self.seed, self.taken, attempt).integers(2**31)))
        return self.strategy.ask()

    def _next_generation(self) -> None:
        size = self.strategy.population_size
        self.strategy.tell(self.solutions[:size])
        self.solutions = []
        self.generation += 1
        if self.strategy.should_stop():  # it has settled: look elsewhere, with more samples a generation
            self.strategy = self._start(generator(self.seed, self.taken).random(self.width), 2 * size)

    def _start(self, mean: Any, population: int | None) -> CMA:
        bounds = np.tile([0.0, 1.0], (self.width, 1))
        return CMA(mean=mean, sigma=self.sigma, bounds=bounds, population_size=population, seed=0)
