"""The median of members."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit import Member, Together, Validation, Workshop

_TRAINED = 5  # members, where there are no runs and nothing says how many


class Median:
    """See `trainkit_robust.median`."""

    def __init__(self, members: int | None) -> None:
        self.wanted = members
        self.added: list[Member] = []

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """The given runs, else the best trials, else runs that differ in their seed."""
        there = workshop.given if workshop.given is not None else workshop.trials
        if there is not None:
            return there[: self.wanted]
        own = workshop.recipe["data"].get("seed")
        cut = workshop.seed if own is None else own  # all see the same samples for training
        count = self.wanted or _TRAINED
        return workshop.train([{"seed": workshop.seed + number, "data.seed": cut} for number in range(count)])

    def add(self, member: Member, /) -> None:
        """Take in one member."""
        self.added.append(member)

    def fit(self, validation: Validation, /) -> None:
        """Nothing is chosen: all members count."""
        self._make()

    def _make(self) -> None:
        self.together = Together([member.module for member in self.added]).eval()
        self.task = self.added[0].spec.task

    def predict(self, inputs: Tensor, /) -> Tensor:
        """``(batch, outputs)``: logarithms of probabilities, the logit of a binary task, or the median itself."""
        given = self.together(inputs)
        if self.task == "classification":
            return _middle_of_logs(given.log_softmax(-1)).log_softmax(-1)
        # A logit rises with its probability: of an odd number of members the median of one is that of the other.
        return _middle(given)

    def members(self) -> Sequence[Member]:
        """All that were added."""
        return self.added

    def state(self) -> Mapping[str, Any]:
        """Members are all it needs."""
        return {}

    def load_state(self, state: Mapping[str, Any], /) -> None:
        """Take the stored members."""
        self._make()


def _two(values: Tensor) -> tuple[Tensor, Tensor]:
    ordered, count = values.sort(dim=0).values, len(values)
    return ordered[(count - 1) // 2], ordered[count // 2]


def _middle(values: Tensor) -> Tensor:
    low, high = _two(values)
    return (low + high) / 2


def _middle_of_logs(logs: Tensor) -> Tensor:
    """The logarithm of the median of what the logarithms are of."""
    low, high = _two(logs)
    return torch.logaddexp(low, high) - math.log(2)
