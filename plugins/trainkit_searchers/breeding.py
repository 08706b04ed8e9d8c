"""Genetic search: generations whose points are crossed and mutated from the best so far; Optuna's NSGA-II."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from optuna.samplers import NSGAIISampler

from trainkit import Objective, Order, Point, Space, Trial
from trainkit_searchers.drawing import Proposing
from trainkit_searchers.history import Axis, Storage, complete
from trainkit_searchers.points import generator
from trainkit_searchers.results import Finite, Values, last_report

# A value for every dimension, also those that do not count: they can be inherited.
Genes: TypeAlias = dict[str, Any]
GENERATION = "NSGAIISampler:generation"


class Genetic(Proposing):
    """Breeds each generation from the one before.

    A sampler is asked about the best so far and their children alone, so that neither its time nor what is kept grows.

    Args:
        seed: the recipe's seed.
        population: trials of a generation, and how many of the best are bred from.
        crossover: how probable it is that two are crossed, rather than one copied.
        mutation: how probable it is that a setting is drawn anew; ``None``: one setting a point on average.
    """

    def __init__(self, seed: int, population: int, crossover: float, mutation: float | None) -> None:
        super().__init__(seed)
        self.population, self.crossover, self.mutation = population, crossover, mutation
        self.results = Finite()
        self.generation = 0
        self.parents: list[tuple[Genes, Values]] = []
        self.children: list[tuple[Genes, Values]] = []
        self._running: dict[int, tuple[int, int, Genes]] = {}  # by the trial's number: place, generation, genes
        self._genes: dict[int, tuple[int, Genes]] = {}  # by place, of those whose values are waited for
        self._places = 0

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        super().begin(space, objectives, trials)
        self.axes = {dimension.name: Axis(dimension) for dimension in space.dimensions}
        self._bred: Storage | None = None

    def took(self, order: Order, trial: Trial) -> None:
        """The trial is one of the current generation."""
        if order.trial is None:
            self._add(trial)
        super().took(order, trial)

    def tell(self, trial: Trial) -> None:
        """Take the result into its generation; a full one is followed by the next."""
        super().tell(trial)
        if trial.number not in self._running:
            self._add(trial)
        if trial.number not in self._running or not (trial.over or trial.status == "paused"):
            return
        values = self._values(trial)
        place, generation, genes = self._running[trial.number]
        if values:
            self._genes[place] = generation, genes
            for known, finite in self.results.settle(place, values):
                of, child = self._genes.pop(known)
                if of == self.generation:
                    self.children.append((child, finite))
            del self._running[trial.number]
        elif trial.over:
            del self._running[trial.number]
        if len(self.children) >= self.population:
            self.parents = self._best()
            self.children = []
            self.generation += 1
            self._bred = None

    def propose(self, attempt: int) -> Point | None:
        """A child of the parents; in the first generation nothing, so that points are drawn."""
        if not self.parents:
            return None
        if self._bred is None:
            self._bred = self._storage(self.parents)
        seed = int(generator(self.seed, self.taken, attempt).integers(2**31))
        return self._bred.suggest(self._sampler(seed), self.space, self.axes)

    def _add(self, trial: Trial) -> None:
        if self.space.holds(trial.point):
            self._running[trial.number] = self._places, self.generation, self._genes_of(trial)
            self._places += 1

    def _genes_of(self, trial: Trial) -> Genes:
        own = trial.number >= 0  # those of earlier studies have numbers below 0, which no generator takes
        source = generator(self.seed, trial.number) if own else generator(self.seed, 1, -trial.number)
        shares = source.random(len(self.space)).tolist()
        genes = {
            dimension.name: trial.point.get(dimension.name, dimension.at(share))
            for dimension, share in zip(self.space.dimensions, shares, strict=True)
        }
        return {name: self.axes[name].parameter(value) for name, value in genes.items()}

    def _values(self, trial: Trial) -> Values:
        if trial.status not in ("paused", "pruned"):
            return trial.values
        report = last_report(trial)
        return () if report is None or self.objectives > 1 else (report[1],)

    def _sampler(self, seed: int) -> NSGAIISampler:
        return NSGAIISampler(
            seed=seed,
            population_size=self.population,
            crossover_prob=self.crossover,
            mutation_prob=self.mutation,
        )

    def _best(self) -> list[tuple[Genes, Values]]:
        everyone = [*self.parents, *self.children]
        places = self._storage(everyone).parents(self._sampler(0))
        return [everyone[place] for place in places]

    def _storage(self, members: list[tuple[Genes, Values]]) -> Storage:
        storage = Storage(self.objectives)
        for genes, values in members:
            trial = storage.add(genes, {name: axis.distribution for name, axis in self.axes.items()})
            trial.system_attrs[GENERATION] = 0
            complete(trial, values)
        return storage
