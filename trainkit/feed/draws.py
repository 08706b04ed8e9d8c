"""Which samples belong to which fold, and which are drawn for a bag: functions of a seed, or of time."""

from __future__ import annotations

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainkit.errors import DataError
from trainkit.feed.order import draws, permutation


def deal(count: int, folds: int, seed: int, classes: Tensor | None = None, groups: Tensor | None = None) -> Tensor:
    """Deal samples into folds, as a function of the seed.

    Without groups each class is dealt out like cards, one class after the other: the folds' shares of a class differ
    by one sample at most, and so do their sizes. Groups stay whole. The largest is dealt first, each to the fold that
    has least of what it brings, so that sizes and, with classes, the shares of classes come out near each other.

    Args:
        count: samples.
        folds: parts.
        seed: decides which samples, and which of equal groups.
        classes: ``(samples,)`` int64, to have every class in equal shares.
        groups: ``(samples,)`` int64, numbers of what stays together.

    Returns:
        ``(samples,)`` int64, the fold of each sample. Every fold has a sample where there are as many samples, or
        groups, as folds.
    """
    order = permutation(count, "folds", seed)
    if groups is not None:
        return _deal_groups(groups.numpy(), folds, order.numpy(), None if classes is None else classes.numpy())
    if classes is not None:
        order = order[classes[order].argsort(stable=True)]
    part = torch.empty(count, dtype=torch.int64)
    part[order] = torch.arange(count) % folds
    return part


def _deal_groups(
    groups: NDArray[numpy.int64],
    folds: int,
    order: NDArray[numpy.int64],
    classes: NDArray[numpy.int64] | None,
) -> Tensor:
    names, first, number = numpy.unique(groups[order], return_index=True, return_inverse=True)
    drawn = numpy.empty_like(number)
    drawn[order] = number  # the place in `names` of each sample's group
    labels = numpy.zeros_like(drawn) if classes is None else numpy.unique(classes, return_inverse=True)[1]
    held = numpy.zeros((len(names), int(labels.max(initial=0)) + 2))
    numpy.add.at(held, (drawn, labels), 1)
    held[:, -1] = held[:, :-1].sum(1)  # all of its samples count as one class more
    weighted = held / held.sum(0) ** 2
    filled = numpy.zeros((folds, held.shape[1]))
    part = numpy.empty(len(names), dtype=numpy.int64)
    for place in numpy.lexsort((first, -held[:, -1])):  # groups of one size come as drawn
        # What it adds to the sum of squares of the folds' shares.
        chosen = int((filled @ weighted[place]).argmin())
        filled[chosen] += held[place]
        part[place] = chosen
    return torch.from_numpy(part[drawn])


def draw_bag(count: int, bag: int, seed: int, groups: Tensor | None = None) -> Tensor:
    """Draw as many samples as there are, with replacement, as a function of the seed and the draw's number.

    About 37 of 100 samples are not drawn: they are out of the bag. Groups are drawn whole, as many as there are, so
    that nothing that is out of the bag belongs with something in it.

    Args:
        count: samples.
        bag: number of the draw.
        seed: what all draws follow from.
        groups: ``(samples,)`` int64, numbers of what stays together.

    Returns:
        int64 numbers of samples in rising order, each as often as it was drawn; ``(samples,)`` but for groups, whose
        sizes differ.

    Source: Breiman 1996, "Bagging Predictors".
    """
    if groups is None:
        return draws(count, count, "bag", seed, bag).sort().values
    names, group = torch.unique(groups, return_inverse=True)
    often = torch.bincount(draws(len(names), len(names), "bag", seed, bag), minlength=len(names))
    return torch.arange(count).repeat_interleave(often[group])


def rolled(moments: Tensor, folds: int, fold: int) -> dict[str, Tensor]:
    """Samples of a fold that validates on later moments than it trains on (rolling origin).

    The moments at which targets begin are cut into ``folds + 1`` stretches of equal length, the first of which takes
    what is over. Fold 0 validates on the second, and each fold trains on all samples whose targets end before the
    first one of its own stretch begins: what overlaps is left out.

    Args:
        moments: ``(samples, 2)`` int64, first and last moment of each sample's target.
        folds: stretches that validate.
        fold: the number of one of them.

    Raises:
        DataError: if there are too few moments, or none ends before the stretch begins.

    Source: Tashman 2000, "Out-of-sample tests of forecasting accuracy", section 3.1; scikit-learn's TimeSeriesSplit.
    """
    begins, ends = moments.unbind(1)
    known = torch.from_numpy(numpy.unique(begins.numpy()))
    length = len(known) // (folds + 1)
    if not length:
        raise DataError(f"folds = {folds}, but targets begin at {len(known)} moments\nwrite at most {len(known) - 1}")
    first = len(known) - (folds - fold) * length
    after = first + length
    holds = begins >= known[first]
    if after < len(known):
        holds &= begins < known[after]
    trains = ends < known[first]
    if not bool(trains.any()):
        raise DataError(
            f"folds = {folds} leave fold {fold} nothing to train on: no target ends before it begins\n"
            "write fewer folds, or give data of a longer time"
        )
    return {"train": trains.nonzero().squeeze(1), "val": holds.nonzero().squeeze(1)}
