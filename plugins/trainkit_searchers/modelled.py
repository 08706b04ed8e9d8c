"""Bayesian search: a model of what is known says where better values are to be expected; Optuna's models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from trainkit import Objective, Order, Point, Space, Trial
from trainkit_searchers.drawing import Proposing
from trainkit_searchers.history import Axis, Storage, complete
from trainkit_searchers.points import generator
from trainkit_searchers.results import Finite, last_report

# Optuna counts steps of a run in whole numbers.
STEPS = 1_000_000


class Bayesian(Proposing):
    """Asks a sampler of Optuna's, made anew for each trial, so that its choices follow from the trial's number alone.

    Args:
        seed: the recipe's seed.
        model: what is modelled, and how.
        startup: trials that must have ended before the model is used.
        candidates: points of which TPE takes the best.
    """

    def __init__(self, seed: int, model: Literal["tpe", "gp"], startup: int, candidates: int) -> None:
        super().__init__(seed)
        self.model, self.startup, self.candidates = model, startup, candidates
        self.results = Finite()
        self._kept: dict[int, FrozenTrial] = {}  # by the trial's number

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        super().begin(space, objectives, trials)
        self.axes = {dimension.name: Axis(dimension) for dimension in space.dimensions}
        self.storage = Storage(len(objectives))

    def took(self, order: Order, trial: Trial) -> None:
        """Let the model know that a point is being tried, so that it looks elsewhere."""
        if order.trial is None:
            self._add(trial)
        super().took(order, trial)

    def tell(self, trial: Trial) -> None:
        """Let the model know the result; of a trial that paused or was pruned, its last report."""
        super().tell(trial)
        if trial.number not in self._kept:
            self._add(trial)  # of an earlier study
        kept = self._kept.get(trial.number)
        if kept is None:
            return
        if trial.status in ("paused", "pruned"):
            self._put_report(kept, trial)
        elif trial.values:
            for place, values in self.results.settle(kept.number, trial.values):
                complete(self.storage.trials[place], values)
        else:
            kept.state = TrialState.FAIL
        if trial.over:
            del self._kept[trial.number]

    def propose(self, attempt: int) -> Point | None:
        """What the model suggests, once it knows enough."""
        ended = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in self.storage.trials)
        if ended < self.startup:
            return None
        seed = int(generator(self.seed, self.taken, attempt).integers(2**31))
        return self.storage.suggest(self._sampler(seed), self.space, self.axes)

    def _sampler(self, seed: int) -> BaseSampler:
        if self.model == "gp":
            drawn = RandomSampler(seed=seed)
            return GPSampler(
                seed=seed,
                independent_sampler=drawn,
                n_startup_trials=self.startup,
                deterministic_objective=False,
                warn_independent_sampling=False,
            )
        return TPESampler(seed=seed, n_startup_trials=self.startup, n_ei_candidates=self.candidates)

    def _add(self, trial: Trial) -> None:
        if not self.space.holds(trial.point):
            return
        parameters = {name: self.axes[name].parameter(value) for name, value in trial.point.items()}
        distributions = {name: self.axes[name].distribution for name in trial.point}
        self._kept[trial.number] = self.storage.add(parameters, distributions)

    def _put_report(self, kept: FrozenTrial, trial: Trial) -> None:
        report = last_report(trial)
        if report is not None and self.objectives == 1:
            kept.state = TrialState.PRUNED
            share, value = report
            kept.intermediate_values = {round(share * STEPS): value if math.isfinite(value) else math.inf}
        elif trial.over:
            kept.state = TrialState.FAIL
