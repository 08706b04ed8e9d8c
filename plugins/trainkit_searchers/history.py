"""Trials as Optuna's samplers read them: a storage that a sampler can ask without a trace, and the settings' axes."""

from __future__ import annotations

import warnings
from collections.abc import Container, Mapping, Sequence
from typing import Any

from optuna import logging
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from trainkit import Dimension, Point, Space


class Axis:
    """One dimension as a parameter of Optuna's, and back.

    Args:
        dimension: the dimension.
    """

    def __init__(self, dimension: Dimension) -> None:
        self.dimension = dimension
        self.by_share = dimension.scale == "logit"
        self.distribution = self._distribution()

    def parameter(self, value: Any) -> Any:
        """A recipe's value as Optuna sees it."""
        if self.by_share:
            return self.dimension.share(value)
        number = self.dimension.number(value)
        return float(number) if self.dimension.kind == "float" else int(number)

    def value(self, parameter: Any) -> Any:
        """The recipe's value for what Optuna suggests."""
        return self.dimension.at(parameter) if self.by_share else self.dimension.value(parameter)

    def _distribution(self) -> BaseDistribution:
        dimension = self.dimension
        if dimension.kind == "choice":
            return CategoricalDistribution(tuple(range(len(dimension.choices))))
        if self.by_share:
            return FloatDistribution(0.0, 1.0)
        log = dimension.scale == "log"
        step = None if log else dimension.step  # Optuna has no steps on a logarithmic scale: values are rounded to them
        if dimension.kind == "int":
            whole = 1 if step is None else int(step)
            first, last = int(dimension.low), int(dimension.high)
            return IntDistribution(first, last - (last - first) % whole, log=log, step=whole)
        high = dimension.high if step is None else dimension.low + (dimension.count - 1) * step
        return FloatDistribution(dimension.low, float(f"{high:.12g}"), log=log, step=step)


class Storage(BaseStorage):
    """Holds a study's trials, and beside them the one that is being suggested, which is never kept.

    Args:
        objectives: how many figures are made low.
    """

    def __init__(self, objectives: int) -> None:
        self.trials: list[FrozenTrial] = []
        self.probe: FrozenTrial | None = None
        self._directions = [StudyDirection.MINIMIZE] * objectives
        self._attributes: dict[str, Any] = {}

    def add(self, parameters: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
        """Add a running trial."""
        trial = _running(len(self.trials))
        trial.params, trial.distributions = dict(parameters), dict(distributions)
        self.trials.append(trial)
        return trial

    def suggest(self, sampler: BaseSampler, space: Space, axes: Mapping[str, Axis]) -> Point:
        """The point that a sampler suggests for the next trial; nothing is kept of it."""
        study = Study("search", self, sampler)
        point: dict[str, Any] = {}
        before = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that parts of a sampler are experimental
                trial = study.ask()
                for dimension in space.dimensions:
                    if space.counts(dimension, point):
                        suggested = _suggest(trial, axes[dimension.name].distribution, dimension.name)
                        point[dimension.name] = axes[dimension.name].value(suggested)
        finally:
            logging.set_verbosity(before)
            self.probe = None
            self._attributes = {}
        return point

    def parents(self, sampler: NSGAIISampler) -> list[int]:
        """The places of those that a genetic sampler breeds from."""
        return [trial.number for trial in sampler.select_parent(Study("search", self, sampler), 1)]

    # ---------------------------------------------------------------- what samplers read

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials, and the one that is being suggested."""
        trials = self.trials if self.probe is None else [*self.trials, self.probe]
        return [trial for trial in trials if states is None or trial.state in states]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """One of them."""
        if self.probe is not None and trial_id == self.probe.number:
            return self.probe
        return self.trials[trial_id]

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Begin to suggest one."""
        self.probe = _running(len(self.trials))
        return self.probe.number

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """A parameter of it is suggested."""
        trial = self.get_trial(trial_id)
        trial.params[param_name] = distribution.to_external_repr(param_value_internal)
        trial.distributions[param_name] = distribution

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """What a sampler notes of a trial."""
        self.get_trial(trial_id).system_attrs[key] = value

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """What a sampler notes of the study, forgotten with the suggestion."""
        self._attributes[key] = value

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """What it noted."""
        return self._attributes

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """All figures are made low."""
        return self._directions

    def get_study_id_from_name(self, study_name: str) -> int:
        """There is one study."""
        return 0

    def get_study_name_from_id(self, study_id: int) -> str:
        """There is one study."""
        return "search"

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """There are none."""
        return {}

    # ---------------------------------------------------------------- what nothing here calls

    def _unused(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("earlier trials are read alone: a sampler suggests one trial at a time, and stores nothing")

    create_new_study = delete_study = get_all_studies = set_study_user_attr = _unused
    set_trial_state_values = set_trial_intermediate_value = set_trial_user_attr = _unused


def _running(number: int) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=number,
    )


def _suggest(trial: Any, distribution: BaseDistribution, name: str) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    suggest = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return suggest(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def complete(trial: FrozenTrial, values: Sequence[float]) -> None:
    """Mark a trial as ended with these values."""
    trial.values = list(values)
    trial.state = TrialState.COMPLETE
