"""How far figures would move with other samples: drawn with replacement, the same draws for all that is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from trainkit.scoring import Terms

LEVEL = 0.95  # of the intervals
_NUMBERS = 1 << 22  # weights in float64 that are held at a time

Drawn = dict[str, Tensor]  # by figure, one value for each draw


def drawn_figures(all_terms: Sequence[Terms], repeats: int, seed: int) -> list[Drawn]:
    """Figures over samples that are drawn anew, with the same draws for each.

    Args:
        all_terms: of each model, for the same samples in the same order.
        repeats: how many draws.
        seed: what they follow from, alone.

    Returns:
        For each model its figures by name, ``(repeats,)`` each.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 6 and 13.
    """
    samples = len(all_terms[0].values)
    together = torch.cat([terms.values for terms in all_terms], dim=1)
    means = torch.cat([weights @ together for weights in _weights(samples, repeats, seed)]) / samples
    columns = torch.split(means, [terms.values.shape[1] for terms in all_terms], dim=1)
    return [terms.figures(own) for terms, own in zip(all_terms, columns, strict=True)]


def _weights(samples: int, repeats: int, seed: int) -> Iterator[Tensor]:
    """How often each sample was drawn, ``(some of the draws, samples)``, until there are as many as asked for."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    most = max(1, _NUMBERS // samples)
    while repeats > 0:
        some = min(most, repeats)
        rows = torch.randint(samples, (some, samples), generator=generator)
        yield torch.zeros(some, samples, dtype=torch.float64).scatter_add_(
            1, rows, torch.ones(1, 1, dtype=torch.float64).expand(some, samples)
        )
        repeats -= some


def mean_figures(several: Sequence[Drawn]) -> Drawn:
    """The mean of several models' figures, draw by draw."""
    return {name: torch.stack([one[name] for one in several]).mean(0) for name in several[0]}


def difference(one: Drawn, other: Drawn) -> Drawn:
    """By how much figures differ, draw by draw."""
    return {name: one[name] - other[name] for name in one if name in other}


def interval(values: Tensor) -> tuple[float, float]:
    """Between which bounds 95 % of the draws lie: as many lie below the lower as above the upper one."""
    ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=values.dtype)
    low, high = values.quantile(ends).tolist()
    return low, high


def with_intervals(figures: Mapping[str, float], drawn: Drawn) -> dict[str, dict[str, float]]:
    """Figures as ``report.json`` has them: each with its ``value``, and the interval from ``low`` to ``high``."""
    made = {}
    for name, value in figures.items():
        low, high = interval(drawn[name])
        made[name] = {"value": value, "low": low, "high": high}
    return made
