"""Orders of an epoch in which every class comes equally often, whatever its share of the samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainkit.dataset import Dataset
from trainkit.errors import DataError
from trainkit.feed.order import permutation, permutations


def class_members(dataset: Dataset) -> tuple[Tensor, ...]:
    """The training samples of each class that has any, by number.

    Raises:
        DataError: if a sample has no class.
    """
    spec = dataset.spec
    if spec.task not in ("classification", "binary"):
        raise DataError(
            f'sampling = "balanced" draws each class equally often, and the data\'s task is {spec.task}\n'
            "leave sampling out"
        )
    targets = dataset.splits["train"].targets.detach().cpu()
    labels = targets.reshape(len(targets)) if targets.dtype == torch.int64 else targets.reshape(len(targets)) > 0.5
    return tuple((labels == label).nonzero().squeeze(1) for label in torch.unique(labels))


def balanced_order(members: Sequence[Tensor], seed: int, epoch: int) -> Tensor:
    """Draw an epoch of as many samples as there are, in equal shares of the classes, as a function of seed and epoch.

    Each class goes through its samples in one random order after the other, on from where its last epoch ended: none
    comes a second time before all have come once. Where shares cannot be equal, classes take turns at one more.

    Args:
        members: numbers of the samples of each class.
        seed: the recipe's seed.
        epoch: the epoch's number.

    Returns:
        ``(samples,)`` int64, ``index + samples * repeat``: a sample that comes again has a higher ``repeat``, so that
        chance can tell its draws apart.
    """
    samples, classes = sum(map(len, members)), len(members)
    share, odd = divmod(samples, classes)
    drawn = []
    for place, own in enumerate(members):
        # Of the draws that are left over, numbered through all epochs, each class takes every one of its place.
        begin, end = (share * e + (odd * e + classes - 1 - place) // classes for e in (epoch, epoch + 1))
        first, last = begin // len(own), -(-end // len(own))
        walk = permutations(len(own), first, last - first, "balanced", seed, place)
        codes = own[walk] + samples * torch.arange(last - first)[:, None]
        drawn.append(codes.reshape(-1)[begin - first * len(own) : end - first * len(own)])
    return torch.cat(drawn)[permutation(samples, "order", seed, epoch)]
