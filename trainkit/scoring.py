"""How good outputs are: accuracy, negative log likelihood, Brier score and calibration error; errors for regression."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

from trainkit.dataset import DataSpec


def log_probabilities(outputs: Tensor, spec: DataSpec) -> Tensor:
    """Logarithms of the probabilities ``(samples, classes)`` that outputs stand for; two classes for a binary task."""
    outputs = outputs.double()
    if spec.task == "binary":
        logit = outputs.reshape(len(outputs))
        return torch.stack([logsigmoid(-logit), logsigmoid(logit)], dim=1)
    return outputs.log_softmax(dim=-1)


@dataclass(frozen=True)
class Terms:
    """Numbers for each sample, from whose means all figures follow, so that samples can be drawn anew cheaply.

    Args:
        values: ``(samples, columns)`` float64.
        figures: gives each figure ``(...)`` for means ``(..., columns)``.
    """

    values: Tensor
    figures: Callable[[Tensor], dict[str, Tensor]]


def scores(
    outputs: Tensor, targets: Tensor, spec: DataSpec, bins: int = 15, variance: Tensor | None = None
) -> dict[str, float]:
    """Figures of model outputs over samples, computed in float64.

    Args:
        outputs: ``(samples, outputs)``: logits or logarithms of probabilities; means for regression.
        targets: ``(samples,)`` classes, ``(samples,)`` or ``(samples, outputs)`` numbers.
        spec: what is known of the data.
        bins: bins of the calibration error.
        variance: for regression: ``(samples, outputs)``, what is predicted beside the means, in the targets' units
            squared.

    Returns:
        ``accuracy``, ``nll`` (nats), ``brier`` (summed over classes, 0 to 2) and ``ece`` (bins of equal width, of the
        likeliest class); for regression ``mse``, ``mae`` and ``r2``, and with a variance ``nll`` of normal
        distributions (nats), all means over outputs, in the original units where targets were standardised.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, for ``ece``.
    """
    made = terms(outputs, targets, spec, bins, variance)
    return {name: float(figure) for name, figure in made.figures(made.values.mean(0)).items()}


def score(name: str, outputs: Tensor, targets: Tensor, spec: DataSpec) -> float:
    """One of the figures of `scores`."""
    if name == "nll" and spec.task != "regression":  # what most is chosen by, over and over
        return -float(log_probabilities(outputs, spec).gather(1, targets.long().reshape(-1, 1)).mean())
    return scores(outputs, targets, spec)[name]


def terms(outputs: Tensor, targets: Tensor, spec: DataSpec, bins: int = 15, variance: Tensor | None = None) -> Terms:
    """What each sample adds to the figures of `scores`, which has the arguments."""
    if spec.task == "regression":
        shape = len(outputs), spec.outputs
        return _errors(outputs.double().reshape(shape), targets.double().reshape(shape), spec, variance)
    logarithms, classes = log_probabilities(outputs, spec), targets.long().reshape(-1)
    probabilities = logarithms.exp()
    confidence, likeliest = probabilities.max(dim=1)
    right = ((likeliest == classes) & ~confidence.isnan()).double()
    truth = one_hot(classes, probabilities.shape[1]).double()
    brier = (probabilities - truth).square().sum(1)
    over = torch.zeros(len(classes), bins, dtype=torch.float64)
    over.scatter_(1, bin_of(confidence, bins)[:, None], (right - confidence)[:, None])
    nll = -logarithms.gather(1, classes[:, None])
    return Terms(torch.cat([right[:, None], nll, brier[:, None], over], dim=1), _of_classes)


def _of_classes(means: Tensor) -> dict[str, Tensor]:
    accuracy, nll, brier = means[..., :3].unbind(-1)
    return {"accuracy": accuracy, "nll": nll, "brier": brier, "ece": means[..., 3:].abs().sum(-1)}


def bin_of(confidence: Tensor, bins: int) -> Tensor:
    """The bin, from 0, in which each confidence lies; bins are of equal width, and a bin has its upper end."""
    return (confidence * bins).ceil().long().clamp(1, bins) - 1


def _errors(outputs: Tensor, targets: Tensor, spec: DataSpec, variance: Tensor | None) -> Terms:
    count = spec.outputs
    units = torch.tensor(spec.target_std or (1.0,) * count, dtype=torch.float64)
    errors = outputs - targets
    # The median is a target itself: where all are equal nothing is left, and else little is lost to rounding.
    apart = targets - (targets.median(0).values if len(targets) else 0.0)
    columns = [errors.square(), errors.abs(), apart, apart.square()]
    if variance is not None:
        spread = variance.double().reshape(errors.shape)
        columns.append(0.5 * (spread.log() + errors.square() / spread + math.log(2 * math.pi)) + units.log())

    def figures(means: Tensor) -> dict[str, Tensor]:
        squares, distances, mean, second, *nll = means.split(count, dim=-1)  # type: ignore[no-untyped-call]
        spread = second - mean.square()
        constant = spread <= 1e-14 * second  # nothing to explain: all of it is explained, or nothing
        flat = torch.where(squares == 0, 1.0, torch.where(squares.isnan(), torch.nan, 0.0)).double()
        found = {
            "mse": (squares * units.square()).mean(-1),
            "mae": (distances * units).mean(-1),
            "r2": torch.where(constant, flat, 1 - squares / spread).mean(-1),
        }
        return {**found, "nll": nll[0].mean(-1)} if nll else found

    return Terms(torch.cat(columns, dim=1), figures)
