"""Figures of several models on the same samples, raw and after temperature, with intervals of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainkit.dataset import DataSpec
from trainkit.ensemble.bootstrap import Drawn, difference, drawn_figures, mean_figures, with_intervals
from trainkit.ensemble.temperature import apply_temperature
from trainkit.scoring import bin_of, log_probabilities, terms

By = dict[str, dict[str, dict[str, float]]]  # "raw" and "calibrated": by figure: value, low, high
RAW, CALIBRATED = "raw", "calibrated"


@dataclass(frozen=True)
class Given:
    """What one model gave for the samples of a split.

    Args:
        outputs: ``(samples, outputs)``, raw.
        temperature: what they are divided by to be calibrated.
        variance: for regression, what it said beside; ``None`` where it says nothing.
    """

    outputs: Tensor
    temperature: float = 1.0
    variance: Tensor | None = None


class Compared:
    """Several models on the same samples.

    Args:
        models: what each gave.
        targets: ``(samples, ...)``.
        spec: what is known of the data.
        bins: of the calibration error.
        repeats: how often samples are drawn anew; the same draws for all models.
        seed: what they follow from.
    """

    def __init__(
        self, models: Sequence[Given], targets: Tensor, spec: DataSpec, bins: int, repeats: int, seed: int
    ) -> None:
        self.samples = len(targets)
        self.values: list[dict[str, dict[str, float]]] = [{} for _ in models]
        self.drawn: list[dict[str, Drawn]] = [{} for _ in models]
        for kind in (RAW,) if spec.task == "regression" else (RAW, CALIBRATED):
            each = []
            for model in models:
                outputs = apply_temperature(model.outputs, model.temperature, spec) if kind != RAW else model.outputs
                each.append(terms(outputs, targets, spec, bins, model.variance))
            for number, drawn in enumerate(drawn_figures(each, repeats, seed)):
                means = each[number].figures(each[number].values.mean(0))
                self.values[number][kind] = {name: float(value) for name, value in means.items()}
                self.drawn[number][kind] = drawn

    def has(self, number: int) -> bool:
        """Whether a model was measured."""
        return number < len(self.values)

    def value(self, number: int, kind: str, figure: str) -> float:
        """One figure of a model."""
        return self.values[number][kind][figure]

    def one(self, number: int) -> By:
        """The figures of a model, with their intervals."""
        return {kind: with_intervals(values, self.drawn[number][kind]) for kind, values in self.values[number].items()}

    def mean(self, numbers: Sequence[int]) -> By:
        """The mean of several models' figures, which is no model, with its intervals."""
        return {
            kind: with_intervals(
                self._mean(numbers, kind), mean_figures([self.drawn[number][kind] for number in numbers])
            )
            for kind in self.values[numbers[0]]
        }

    def apart(self, number: int, other: int | Sequence[int]) -> By:
        """By how much a model's figures are above those of another one, or of the mean of several."""
        others = [other] if isinstance(other, int) else other
        found = {}
        for kind, values in self.values[number].items():
            against = self._mean(others, kind)
            drawn = difference(self.drawn[number][kind], mean_figures([self.drawn[one][kind] for one in others]))
            found[kind] = with_intervals({name: values[name] - against[name] for name in drawn}, drawn)
        return found

    def _mean(self, numbers: Sequence[int], kind: str) -> dict[str, float]:
        names = [name for name in self.values[numbers[0]][kind] if all(name in self.values[n][kind] for n in numbers)]
        return {name: sum(self.values[number][kind][name] for number in numbers) / len(numbers) for name in names}


class Folded:
    """Members that are each judged by other samples; what they are together is not judged by these.

    Args:
        each: of each member.
    """

    def __init__(self, each: Sequence[Compared]) -> None:
        self.each = each

    def has(self, number: int) -> bool:
        """Whether a model was measured."""
        return number < len(self.each)

    def value(self, number: int, kind: str, figure: str) -> float:
        """One figure of a member."""
        return self.each[number].value(0, kind, figure)

    def one(self, number: int) -> By:
        """The figures of a member, with their intervals."""
        return self.each[number].one(0)

    def mean(self, numbers: Sequence[int]) -> By:
        """The means of members' figures; without intervals, as samples are not the same."""
        every = [self.each[number].values[0] for number in numbers]
        return {
            kind: {name: {"value": sum(one[kind][name] for one in every) / len(every)} for name in values}
            for kind, values in every[0].items()
        }


def reliability(outputs: Tensor, targets: Tensor, spec: DataSpec, bins: int) -> list[dict[str, float]]:
    """How sure a model is, and how often it is right, in each bin of equal width that holds samples.

    Args:
        outputs: ``(samples, outputs)``.
        targets: ``(samples,)`` classes.
        spec: what is known of the data.
        bins: how many; a bin has its upper end.

    Returns:
        By bin its ends ``low`` and ``high``, ``samples``, mean ``confidence`` and ``accuracy``.
    """
    confidence, likeliest = log_probabilities(outputs, spec).exp().max(1)
    right, place = (likeliest == targets.long().reshape(-1)).double(), bin_of(confidence, bins)
    found = []
    for number in torch.unique(place).tolist():
        inside = place == number
        found.append(
            {
                "low": number / bins,
                "high": (number + 1) / bins,
                "samples": int(inside.sum()),
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(right[inside].mean()),
            }
        )
    return found


def by_class(models: dict[str, Tensor], targets: Tensor, spec: DataSpec) -> list[dict[str, Any]]:
    """How many samples of each class there are, and the share of them that each model gets right; nothing without any.

    Args:
        models: outputs by name.
        targets: ``(samples,)`` classes.
        spec: what is known of the data.
    """
    classes = targets.long().reshape(-1)
    votes = {name: log_probabilities(outputs, spec).argmax(1) for name, outputs in models.items()}
    count = 2 if spec.task == "binary" else spec.outputs
    found = []
    for number in range(count):
        inside = classes == number
        if bool(inside.any()):
            name = spec.classes[number] if number < len(spec.classes) else str(number)
            shares = {model: float((own[inside] == number).double().mean()) for model, own in votes.items()}
            found.append({"class": name, "samples": int(inside.sum()), **shares})
    return found


def variance_scale(outputs: Tensor, targets: Tensor, variance: Tensor) -> float:
    """What predicted variances have to be multiplied by to be likeliest: the mean squared error in their units."""
    errors = outputs.double() - targets.double().reshape(outputs.shape)
    return float((errors.square() / variance.double()).mean())
