"""How much each setting of a search matters for its result, and how sure that is."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from trainkit.catalogue import installed
from trainkit.trial import Record, Study

LEAST = 30  # finished trials below which importances say little: with 16, one of five settings got 0.09 to 0.90
DRAWS = 40  # bootstrap samples


@dataclass(frozen=True)
class Importance:
    """One setting's share in what distinguishes good from other trials.

    Args:
        setting: the dimension's name.
        value: its share; those of all settings add up to 1.
        low: the lower end of the interval that 80 % of bootstrap samples lie in, and the value itself.
        high: its upper end.
    """

    setting: str
    value: float
    low: float
    high: float


def importances(study: Study) -> list[Importance]:
    """The importance of each setting that counts in every trial, most important first.

    It is that of PED-ANOVA: how far the distribution of a setting among the best tenth of the trials differs from that
    among all. The interval is of 40 bootstrap samples of the trials, drawn from the study's seed.

    Returns:
        Nothing where Optuna is not installed, with fewer than 8 finished trials, or where all have the same value.

    Source: Watanabe, Bansal & Hutter 2023, "PED-ANOVA", arXiv 2304.10255; as Optuna computes it.
    """
    done = [
        r for r in study.records if r.trial.status == "done" and r.trial.values and study.space.holds(r.trial.point)
    ]
    names = [d.name for d in study.space.dimensions if all(d.name in r.trial.point for r in done)]
    names = [name for name in names if len({str(record.trial.point[name]) for record in done}) > 1]
    if not installed("optuna") or len(done) < 8 or not names or len({r.trial.values[0] for r in done}) == 1:
        return []
    frozen = _frozen(study, done, names)
    shares = _importance(frozen, names)
    chance = numpy.random.default_rng([study.seed, len(done)])
    drawn = []
    for _ in range(DRAWS):
        sample = [frozen[int(i)] for i in chance.integers(len(done), size=len(done))]
        if len({trial.value for trial in sample}) > 2:
            drawn.append(_importance(sample, names))
    found = []
    for name in names:
        values = sorted(draw[name] for draw in drawn) or [0.0]
        low, high = (float(numpy.quantile(values, share)) for share in (0.1, 0.9))
        # Samples with repetitions have fewer different trials, and may all lie to one side of the value itself.
        found.append(Importance(name, shares[name], min(low, shares[name]), max(high, shares[name])))
    return sorted(found, key=lambda item: -item.value)


def _frozen(study: Study, records: Sequence[Record], names: Sequence[str]) -> list[Any]:
    """The trials as Optuna knows them."""
    import optuna

    distributions: dict[str, Any] = {name: _distribution(optuna, study, name) for name in names}
    return [
        optuna.trial.create_trial(
            params={name: _number(study, name, record) for name in names},
            distributions=distributions,
            value=record.trial.values[0],
        )
        for record in records
    ]


def _importance(trials: Sequence[Any], names: Sequence[str]) -> dict[str, float]:
    import optuna

    class Held(optuna.Study):
        """A study whose trials are given: to add them to another one takes longer than to weigh them."""

        def get_trials(self, deepcopy: bool = True, states: Any = None) -> list[Any]:
            return held_trials

    held_trials = [copy.copy(trial) for trial in trials]  # a sample may hold one several times
    for place, trial in enumerate(held_trials):
        trial._trial_id = trial.number = place
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        inner = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        held = Held(inner.study_name, inner._storage, sampler=inner.sampler)
        found = optuna.importance.get_param_importances(
            held, evaluator=optuna.importance.PedAnovaImportanceEvaluator(), params=list(names)
        )
    except (ValueError, RuntimeError, ZeroDivisionError):  # such as too few different values in a bootstrap sample
        return dict.fromkeys(names, 1 / len(names))
    finally:
        optuna.logging.set_verbosity(before)
    return {name: float(found.get(name, 0.0)) for name in names}


def _distribution(optuna: Any, study: Study, name: str) -> Any:
    dimension = study.space[name]
    if dimension.kind == "choice":
        return optuna.distributions.CategoricalDistribution(list(range(len(dimension.choices))))
    return optuna.distributions.FloatDistribution(0.0, 1.0)


def _number(study: Study, name: str, record: Record) -> float | int:
    dimension, value = study.space[name], record.trial.point[name]
    return int(dimension.number(value)) if dimension.kind == "choice" else dimension.share(value)
