"""Splitting, standardising and recognising data; for authors of data components."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainkit.errors import DataError
from trainkit.feed.order import permutation

if TYPE_CHECKING:
    import numpy as np

# Elements standardised at a time: large temporaries cost more in page faults than in arithmetic.
_CHUNK = 1 << 22


def split_by_fraction(
    targets: Tensor, fractions: Mapping[str, float], seed: int, stratify: bool = True, groups: Tensor | None = None
) -> dict[str, Tensor]:
    """Split samples at random, each named part getting its fraction and ``train`` the rest.

    Args:
        targets: ``(samples, ...)``; where they are integer classes ``(samples,)``, each class is split alike.
        fractions: share of all samples by name, such as ``{"val": 0.1, "test": 0.2}``; a share of 0 makes no part.
        seed: the split is a function of seed, targets and fractions alone.
        stratify: whether to split each class alike; float targets never are.
        groups: ``(samples,)`` int64: samples with the same number come into the same part. Parts then get whole groups
            until another would bring them no nearer to their share, and classes as it falls out.

    Returns:
        Ascending int64 sample numbers by name, ``train`` first. Every class keeps at least one training sample.

    Raises:
        DataError: if nothing is left for training, or a part would be empty.
    """
    total = len(targets)
    wanted = {name: float(share) for name, share in fractions.items() if share > 0}
    if sum(wanted.values()) >= 1:
        shares = ", ".join(f"{name} = {share:g}" for name, share in wanted.items())
        raise DataError(f"{shares} leave nothing of the data for training; make them add up to less than 1")
    if groups is not None:
        return _split_groups(groups, wanted, seed)
    order = permutation(total, "split", seed)
    by_class = stratify and targets.dim() == 1 and not (targets.is_floating_point() or targets.is_complex())
    if by_class:
        order = order[targets.cpu()[order].argsort(stable=True)]
        counts = torch.unique(targets, return_counts=True)[1].tolist()
    else:
        counts = [total] if total else []
    parts: dict[str, list[Tensor]] = {"train": [], **{name: [] for name in wanted}}
    # What rounding leaves over in one class is owed to the next, so that the totals come out right too.
    owed = dict.fromkeys(wanted, 0.0)
    first = 0
    for count in counts:
        end = first + count
        for name, share in wanted.items():
            owed[name] += share * count
            take = max(0, min(round(owed[name]), end - first - 1))
            owed[name] -= take
            parts[name].append(order[first : first + take])
            first += take
        parts["train"].append(order[first:end])
        first = end
    split = {name: torch.cat(pieces or [order[:0]]).sort().values for name, pieces in parts.items()}
    for name, share in wanted.items():
        if not len(split[name]):
            raise DataError(f"{name} = {share:g} of {total} samples is none; set {name} = 0, or give more data")
    return split


def _split_groups(groups: Tensor, wanted: Mapping[str, float], seed: int) -> dict[str, Tensor]:
    names, number, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    if len(names) <= len(wanted):
        parts = ", ".join(["train", *wanted])
        raise DataError(f"{len(names)} groups cannot be split into {parts}, which need one each at least")
    sizes, drawn = counts.tolist(), permutation(len(names), "split", seed).tolist()
    home = torch.zeros(len(names), dtype=torch.int64)  # 0 is train
    for place, share in enumerate(wanted.values(), 1):
        share, held = share * len(groups), 0
        left_for_others = len(wanted) - place + 1  # each part after it, and train
        while len(drawn) > left_for_others:
            size = sizes[drawn[0]]
            if held and abs(held + size - share) >= abs(held - share):
                break
            home[drawn.pop(0)] = place
            held += size
    part = home[number]
    return {name: (part == place).nonzero().squeeze(1) for place, name in enumerate(["train", *wanted])}


class Standardiser:
    """Subtracts a mean and divides by a standard deviation, on whatever device the inputs are.

    Args:
        mean: broadcasts against one sample.
        std: broadcasts against one sample.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean = mean
        self.std = std
        self._on: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(self, inputs: Tensor) -> Tensor:
        """Standardise ``(batch, ...)`` of any type; gives float32."""
        placed = self._on.get(inputs.device)
        if placed is None:
            placed = self.mean.to(inputs.device), self.std.to(inputs.device)
            self._on[inputs.device] = placed
        # A subtraction and a division, each rounded once: the same bits whatever the batch.
        return torch.sub(inputs, placed[0]).div_(placed[1])

    def __getstate__(self) -> dict[str, Any]:
        """Leave device copies behind: worker processes have no use for them."""
        return {"mean": self.mean, "std": self.std, "_on": {}}


def standardise(train_inputs: Tensor) -> Standardiser:
    """Fit mean and standard deviation on the training inputs, and on these alone.

    Args:
        train_inputs: ``(samples, features)`` or ``(samples, channels, ...)`` of any type; one mean for each feature
            or channel. A constant one is shifted and not divided.

    Returns:
        A picklable callable that standardises inputs ``(batch, ...)``; its ``mean`` and ``std`` are float32.
    """
    channels = train_inputs.shape[1] if train_inputs.dim() > 1 else 1
    rows = max(1, _CHUNK // max(1, train_inputs[:1].numel()))
    parts = [train_inputs[first : first + rows] for first in range(0, len(train_inputs), rows)]
    count = max(1, train_inputs.numel() // max(1, channels))
    around = [0, 2]
    total = torch.zeros(channels, dtype=torch.float64)
    for part in parts:
        total += part.reshape(len(part), channels, -1).double().sum(around)
    mean = total / count
    squares = torch.zeros_like(mean)
    for part in parts:
        squares += (part.reshape(len(part), channels, -1).double() - mean[:, None]).square_().sum(around)
    std = (squares / count).sqrt_()
    std.masked_fill_(std <= 1e-12 * mean.abs(), 1.0)
    shape = (channels,) + (1,) * (train_inputs.dim() - 2) if train_inputs.dim() > 1 else ()
    return Standardiser(mean.float().reshape(shape), std.float().reshape(shape))


def fingerprint(
    arrays: Mapping[str, Tensor | np.ndarray[Any, Any]] | Iterable[tuple[str, Any]],
) -> str:
    """SHA-256 over names, types, shapes and bytes of arrays, in name order.

    Args:
        arrays: tensors or NumPy arrays by name.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, array in sorted(dict(arrays).items()):
        values = array.detach().cpu() if isinstance(array, Tensor) else torch.from_numpy(array)
        digest.update(f"{name}\0{values.dtype}\0{tuple(values.shape)}\0".encode())
        plain: Any = values.contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(plain)
    return digest.hexdigest()
