"""What members are chosen by: the samples that count, and the figures of a combination on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trainkit import DataSpec, Member, UsageError, Validation, score
from trainkit_ensemblers.combining import Space, combine

HIGHER = ("accuracy", "r2")  # figures that are better when higher
OF_CLASSES = ("nll", "accuracy", "brier")
OF_NUMBERS = ("mse", "mae", "r2")
# Two means of the same members, added up in another order, differ by so much in rounding: that is no difference.
ROUNDING = 1e-12


def metric_of(metric: str | None, spec: DataSpec) -> str:
    """The figure to choose by: what was written, else ``nll``, or ``mse`` of a regression.

    Raises:
        UsageError: if the task has no such figure.
    """
    known = OF_NUMBERS if spec.task == "regression" else OF_CLASSES
    if metric is not None and metric not in known:
        raise UsageError(
            f'[ensemble] metric = "{metric}" is no figure of a {spec.task} task\n'
            f"  write one of: {', '.join(known)}; or leave it out for {known[0]}"
        )
    return metric or known[0]


def lower_is_better(metric: str, figure: float) -> float:
    """A figure such that lower is better, and what is no number worst."""
    figure = -figure if metric in HIGHER else figure
    return figure if figure == figure else float("inf")


def is_lower(figure: float, other: float) -> bool:
    """Whether a figure is lower than another one by more than rounding."""
    return figure < (other - ROUNDING * max(1.0, abs(other)) if math.isfinite(other) else other)


def better_space(nll: Mapping[str, float]) -> Space:
    """The mean with the lower negative log likelihood; a tie is that of probabilities."""
    return "logit" if is_lower(nll["logit"], nll["probability"]) else "probability"


def check_finite(members: Sequence[Member], validation: Validation) -> None:
    """Refuse members whose outputs cannot be combined.

    Raises:
        UsageError: if there is no sample, or a member gives values that are not finite.
    """
    if not validation.outputs.shape[1]:
        raise UsageError("there are no validation samples, and an ensemble chooses by them\n  give the data some")
    wrong = (~validation.outputs.isfinite()).flatten(2).any(2).sum(1)
    for member, count in zip(members, wrong.tolist(), strict=True):
        if count:
            samples = f"{count} of {validation.outputs.shape[1]} validation samples"
            cure = "leave it out: name the other runs, or fewer of a search's best with members"
            raise UsageError(f"{member.name} gives values that are not finite for {samples}\n  {cure}")


def common_rows(validation: Validation) -> Tensor:
    """The numbers of the samples that no member was trained on."""
    return validation.held_out.all(0).nonzero().squeeze(1)


def rows_for_all(validation: Validation, what: str) -> Tensor:
    """As `common_rows`, for what compares members on the same samples.

    Raises:
        UsageError: if there is none.
    """
    rows = common_rows(validation)
    if not len(rows):
        cure = "take runs that validate on the same samples; or use seeds, topk or folds, which need none"
        raise UsageError(
            f"{what} compares members on samples that none of them was trained on, and there are none: they held out "
            f"different folds\n  {cure}"
        )
    return rows


def figure(outputs: Tensor, validation: Validation, rows: Tensor, metric: str) -> float:
    """A figure of outputs ``(rows, outputs)`` for these samples."""
    return score(metric, outputs, validation.targets[rows], validation.spec)


def held_out_mean(validation: Validation, rows: Tensor, weights: Sequence[float], space: Space) -> Tensor:
    """What members give together for some samples, each sample by those alone that were not trained on it.

    Args:
        validation: the samples.
        rows: ``(rows,)`` int64, samples that at least one member with a weight was not trained on.
        weights: of each member.
        space: see `trainkit_ensemblers.combining.combine`.
    """
    free = torch.tensor(weights, dtype=torch.float64)[:, None] * validation.held_out[:, rows]
    return combine(validation.outputs[:, rows].double(), free / free.sum(0), space, validation.spec.task)


def choose_space(validation: Validation, weights: Sequence[float]) -> tuple[Space, dict[str, float]]:
    """Whether the mean of probabilities or that of logits has the lower negative log likelihood; a tie is the former.

    Measured on samples that no member was trained on; where there are none, on each sample by those members alone that
    were not.

    Returns:
        Which, and the figure of each, in nats.
    """
    rows = common_rows(validation)
    if not len(rows):
        counts = torch.tensor([weight > 0 for weight in weights])[:, None]
        rows = (validation.held_out & counts).any(0).nonzero().squeeze(1)
    spaces: tuple[Space, Space] = ("probability", "logit")
    found: dict[str, float] = {
        space: figure(held_out_mean(validation, rows, weights, space), validation, rows, "nll") for space in spaces
    }
    return better_space(found), found
