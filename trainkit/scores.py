"""How good outputs are: accuracy, negative log likelihood, Brier score and calibration error; errors for regression."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, one_hot

from trainkit.dataset import DataSpec

# Figures that are better when higher; all others are better when lower.
HIGHER = ("accuracy", "r2")


def log_probabilities(outputs: Tensor, spec: DataSpec) -> Tensor:
    """Logarithms of the probabilities ``(samples, classes)`` that outputs stand for; two classes for a binary task."""
    outputs = outputs.double()
    if spec.task == "binary":
        logit = outputs.reshape(len(outputs))
        return torch.stack([logsigmoid(-logit), logsigmoid(logit)], dim=1)
    return outputs.log_softmax(dim=-1)


def scores(outputs: Tensor, targets: Tensor, spec: DataSpec, bins: int = 15) -> dict[str, float]:
    """Figures of model outputs over samples, computed in float64.

    Args:
        outputs: ``(samples, outputs)``: logits or logarithms of probabilities; means for regression.
        targets: ``(samples,)`` classes, ``(samples,)`` or ``(samples, outputs)`` numbers.
        spec: what is known of the data.
        bins: bins of the calibration error.

    Returns:
        ``accuracy``, ``nll`` (nats), ``brier`` (summed over classes, 0 to 2) and ``ece`` (bins of equal width, of the
        likeliest class), or ``mse``, ``mae`` and ``r2`` in the targets' units.
    """
    if spec.task == "regression":
        return _errors(outputs.double(), targets.double().reshape(outputs.shape))
    logarithms, classes = log_probabilities(outputs, spec), targets.long().reshape(-1)
    probabilities = logarithms.exp()
    confidence, likeliest = probabilities.max(dim=1)
    right = (likeliest == classes).double()
    truth = one_hot(classes, probabilities.shape[1]).double()
    return {
        "accuracy": float(right.mean()),
        "nll": float(cross_entropy(logarithms, classes)),
        "brier": float((probabilities - truth).square().sum(1).mean()),
        "ece": calibration_error(confidence, right, bins),
    }


def score(name: str, outputs: Tensor, targets: Tensor, spec: DataSpec) -> float:
    """One of the figures of `scores`."""
    return scores(outputs, targets, spec)[name]


def calibration_error(confidence: Tensor, right: Tensor, bins: int) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, each weighing as its samples.

    Args:
        confidence: ``(samples,)`` probability of the likeliest class.
        right: ``(samples,)`` 1 where that is the true one, else 0.
        bins: how many; a bin has its upper end.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    difference = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, right - confidence)
    return float(difference.abs().sum()) / len(confidence)


def _errors(outputs: Tensor, targets: Tensor) -> dict[str, Any]:
    errors = outputs - targets
    spread = (targets - targets.mean(0)).square().mean(0)
    squares = errors.square().mean(0)
    explained = (1 - squares / spread).mean()
    return {
        "mse": float(squares.mean()),
        "mae": float(errors.abs().mean()),
        "r2": float(explained) if math.isfinite(float(explained)) else 0.0,
    }
