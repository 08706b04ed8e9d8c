"""How members differ: members that err on the same samples add nothing to each other."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from trainkit.dataset import DataSpec
from trainkit.scoring import log_probabilities


def diversity(outputs: Tensor, targets: Tensor, spec: DataSpec) -> dict[str, Any]:
    """How members differ, pair by pair.

    Args:
        outputs: ``(members, samples, outputs)``: logits or logarithms of probabilities; means for regression.
        targets: ``(samples,)`` classes, ``(samples,)`` or ``(samples, outputs)`` numbers.
        spec: what is known of the data.

    Returns:
        By name a ``matrix`` over members and the ``mean`` over all pairs of two, ``None`` for one member:
        ``disagreement``, the share of samples for which two give different classes; ``error_correlation``, the
        correlation over samples of whether each is wrong, for regression of what each is wrong by, over samples and
        outputs together; ``kl``, from the member of the row to that of the column, in nats, the mean over samples.
        A correlation is ``None`` where a member is always wrong by the same, a divergence where it is infinite;
        such pairs have no part in the mean.

    Source: Fort et al. 2019, Deep Ensembles: A Loss Landscape Perspective, for disagreement; Kuncheva & Whitaker 2003,
    Measures of Diversity in Classifier Ensembles, for the correlation.
    """
    if spec.task == "regression":
        errors = outputs.double().flatten(1) - targets.double().reshape(1, -1)
        return {"error_correlation": _with_mean(_correlation(errors))}
    logs = torch.stack([log_probabilities(given, spec) for given in outputs])
    votes = logs.argmax(-1)
    wrong = (votes != targets.long().reshape(-1)).double()
    differ = torch.stack([(votes != own).double().mean(1) for own in votes])
    return {
        "disagreement": _with_mean(differ),
        "error_correlation": _with_mean(_correlation(wrong)),
        "kl": _with_mean(_divergence(logs)),
    }


def _correlation(values: Tensor) -> Tensor:
    """Between rows; no number where one does not vary."""
    apart = values - values.mean(1, keepdim=True)
    apart = torch.where((values == values[:, :1]).all(1, keepdim=True), 0.0, apart)  # no rounding taken for variation
    length = apart.square().sum(1).sqrt()
    found = (apart @ apart.T / (length[:, None] * length)).clamp(-1, 1)
    return torch.where(torch.eye(len(values), dtype=torch.bool) & found.isfinite(), 1.0, found)


def _divergence(logs: Tensor) -> Tensor:
    """The mean over samples of ``sum p (log p - log q)``; a class without probability adds nothing."""
    found = torch.zeros(len(logs), len(logs), dtype=torch.float64)
    for row, own in enumerate(logs):
        probabilities = own.exp()
        for column, other in enumerate(logs):
            if row != column:
                each = torch.where(probabilities > 0, probabilities * (own - other), 0.0)
                found[row, column] = each.sum(1).mean().clamp(min=0)
    return found


def _with_mean(matrix: Tensor) -> dict[str, Any]:
    members = len(matrix)
    pairs = matrix[~torch.eye(members, dtype=torch.bool)]
    pairs = pairs[pairs.isfinite()]
    return {
        "matrix": [[value if math.isfinite(value) else None for value in row] for row in matrix.tolist()],
        "mean": float(pairs.mean()) if len(pairs) else None,
    }
