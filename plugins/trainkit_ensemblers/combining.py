"""One output of many: means of probabilities, of logits and of numbers, votes, and what is learnt of all outputs.

Outputs of members are ``(members, samples, outputs)``. For classes they are logits or logarithms of probabilities, for
a binary task the logit, for regression means. What comes out is of the same form, ``(samples, outputs)``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, one_hot

Space = Literal["probability", "logit", "vote"]
# As `DataSpec.task` says; of tokens the core makes no ensembles.
Task = Literal["classification", "binary", "regression", "tokens"]

VOTE_CLIP = 1e-6  # a share of the votes is taken for no less


def log_probabilities(outputs: Tensor, task: Task) -> Tensor:
    """Natural logarithms of probabilities, ``(..., classes)``; a binary task has the classes 0 and 1."""
    if task == "binary":
        return torch.cat([logsigmoid(-outputs), logsigmoid(outputs)], dim=-1)
    return outputs.log_softmax(dim=-1)


def as_outputs(logs: Tensor, task: Task) -> Tensor:
    """Logarithms of probabilities as the outputs of a model: the logit of a binary task, else themselves."""
    return logs[..., 1:] - logs[..., :1] if task == "binary" else logs


def combine(outputs: Tensor, weights: Tensor, space: Space, task: Task) -> Tensor:
    """Combine members.

    Args:
        outputs: ``(members, samples, outputs)``, what each gives.
        weights: ``(members,)``, or ``(members, samples)`` where each sample has members of its own; they add up to 1
            over members, and none is negative.
        space: ``probability`` takes the mean of probabilities, in log space, so that small ones are not lost; ``logit``
            the mean of logits; ``vote`` the share of members whose likeliest class it is, of two that are as likely
            the first. A regression takes the mean of what members give in any case.
        task: what outputs are.

    Returns:
        ``(samples, outputs)``.

    Source: Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
    section 2.4, for probabilities.
    """
    weights = weights.to(outputs).reshape(*weights.shape, *[1] * (outputs.dim() - weights.dim()))
    if space == "logit" or task == "regression":
        return (weights * outputs).sum(dim=0)
    logs = log_probabilities(outputs, task)
    if space == "probability":
        return as_outputs((logs + weights.log()).logsumexp(dim=0), task)
    votes = one_hot(logs.argmax(dim=-1), logs.shape[-1]).to(outputs.dtype)
    return as_outputs((weights * votes).sum(dim=0).clamp(min=VOTE_CLIP).log(), task)


def mixture_variance(means: Tensor, weights: Tensor, variances: Tensor | None = None) -> Tensor:
    """The variance of a mixture: that of each member, and how far their means lie apart.

    ``sum w (v + mean^2) - (sum w mean)^2``, computed from differences, so that it is never negative.

    Args:
        means: ``(members, samples, outputs)``.
        weights: ``(members,)``, adding up to 1.
        variances: of each member, like means; ``None`` where members give means alone.
    """
    weights = weights.to(means).reshape(-1, *[1] * (means.dim() - 1))
    apart = means - (weights * means).sum(dim=0)
    within = apart.square() if variances is None else apart.square() + variances
    return (weights * within).sum(dim=0)


class Combination(nn.Module):
    """Combines the outputs of members with fixed weights, as `combine` does; one member is itself.

    Args:
        weights: of each member, adding up to 1.
        space: see `combine`.
        task: what outputs are.
    """

    weights: Tensor

    def __init__(self, weights: list[float], space: Space, task: Task) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32))
        self.space: Space = space
        self.task: Task = task

    def forward(self, outputs: Tensor) -> Tensor:
        """Combine ``(members, samples, outputs)`` to ``(samples, outputs)``."""
        return outputs[0] if len(outputs) == 1 else combine(outputs, self.weights, self.space, self.task)

    def variance(self, outputs: Tensor, variances: Tensor | None = None) -> Tensor:
        """The variance between members, and their own where they give such, ``(samples, outputs)``."""
        return mixture_variance(outputs, self.weights, variances)


class Columns(nn.Module):
    """The columns that a linear model of members' outputs is given.

    For classes the logarithms of probabilities, no less than that of ``clip``; for a binary task one column a member,
    the difference of the two; for regression what members give.

    Args:
        task: what outputs are.
        clip: smallest probability.
    """

    def __init__(self, task: Task, clip: float) -> None:
        super().__init__()
        self.task: Task = task
        self.clip = clip

    def forward(self, outputs: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Make ``(samples, columns)`` of ``(members, samples, outputs)``, and of inputs where they are passed on."""
        held = outputs
        if self.task != "regression":
            held = as_outputs(log_probabilities(outputs, self.task).exp().clamp(min=self.clip).log(), self.task)
        columns = held.transpose(0, 1).flatten(1)
        return columns if inputs is None else torch.cat([columns, inputs.flatten(1).to(columns.dtype)], dim=1)


class Stacked(nn.Module):
    """A linear model of the outputs of members.

    Args:
        weight: ``(classes or outputs, columns)``; of a binary task two rows.
        bias: ``(classes or outputs,)``.
        columns: makes the columns.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, columns: Columns) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.columns = columns

    def forward(self, outputs: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Combine ``(members, samples, outputs)`` to ``(samples, outputs)``."""
        given = self.columns(outputs, inputs) @ self.weight.to(outputs).T + self.bias.to(outputs)
        return as_outputs(given, self.columns.task)
