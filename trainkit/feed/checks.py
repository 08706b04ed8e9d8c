"""What data must be before anything trains on it: finite, of more than one class, of the shape it says."""

from __future__ import annotations

import torch
from torch import Tensor

from trainkit.dataset import Dataset, Gatherable, Split
from trainkit.errors import DataError, PluginDefect
from trainkit.feed.pipeline import gather, guard

_CHUNK_BYTES = 16 << 20


def check_dataset(dataset: Dataset, batch_size: int, known: bool = False) -> None:
    """Find what would spoil a run: too few samples, values that are not finite, one class only, wrong shapes.

    Args:
        dataset: what the data component returned.
        batch_size: samples in a training batch.
        known: whether its samples were looked at before.

    Raises:
        DataError: naming split and row, and what to do.
        PluginDefect: if the data component contradicts its own `DataSpec`.
    """
    if "train" not in dataset.splits:
        raise PluginDefect(f"the data has no split 'train'; it has: {', '.join(dataset.splits) or 'none'}")
    samples = len(dataset.splits["train"])
    if not samples:
        raise DataError("the training split is empty")
    if samples < batch_size:
        raise DataError(
            f"the training split has {samples} sample{'' if samples == 1 else 's'}, fewer than batch_size = "
            f"{batch_size}; set batch_size = {samples} or less"
        )
    if known:
        return
    for name, split in dataset.splits.items():
        if len(split.inputs) != len(split.targets):
            raise PluginDefect(f"split '{name}' has {len(split.inputs)} inputs but {len(split.targets)} targets")
        check_finite(split.inputs, f"inputs of split '{name}'")
        check_finite(split.targets, f"targets of split '{name}'")
        _check_classes(dataset, name, split)
    _check_shape(dataset)


def check_finite(values: Gatherable, what: str) -> None:
    """Check that no value is NaN or infinite.

    Raises:
        DataError: naming the first such row.
    """
    if not len(values):
        return
    sample = gather(values, torch.zeros(1, dtype=torch.int64))
    if not sample.is_floating_point():
        return
    rows = max(1, _CHUNK_BYTES // max(1, sample.nbytes))
    for first in range(0, len(values), rows):
        end = min(first + rows, len(values))
        part = values[first:end] if isinstance(values, Tensor) else values[torch.arange(first, end)]
        # A sum is not finite where a term is not; it may overflow too, so only then look closer.
        if part.sum().isfinite():
            continue
        bad = (~part.isfinite()).flatten(1).any(1) if part.dim() > 1 else ~part.isfinite()
        if bad.any():
            row = int(bad.nonzero()[0])
            value = part[row][~part[row].isfinite()].flatten()[0].item()
            raise DataError(
                f"{what}: row {first + row} (from 0) holds {value}; {int(bad.sum())} of these {end - first} rows are "
                "not finite: remove or mend them"
            )


def _check_classes(dataset: Dataset, name: str, split: Split) -> None:
    spec = dataset.spec
    if spec.task == "regression" or not len(split):
        return
    # Of tokens there are millions, which need not be sorted.
    targets = split.targets if spec.task != "tokens" else torch.stack(split.targets.aminmax())
    seen: Tensor = torch.unique(targets)
    if name == "train" and len(seen) < 2:
        only = int(seen[0])
        if spec.task == "tokens":
            shown = repr(spec.vocabulary.decode([only])) if spec.vocabulary is not None else str(only)
            raise DataError(
                f"every token to foretell in the training split is {shown}; a model of tokens needs at least two "
                "different ones: give data that changes"
            )
        label = f"'{spec.classes[only]}'" if 0 <= only < len(spec.classes) else str(only)
        raise DataError(f"every training sample is of class {label}; a classifier needs at least two classes")
    low, high = seen[0].item(), seen[-1].item()
    allowed = 1 if spec.task == "binary" else spec.outputs - 1
    if low < 0 or high > allowed:
        raise DataError(
            f"targets of split '{name}' go from {low:g} to {high:g}; with task '{spec.task}' and "
            f"{spec.outputs} output{'' if spec.outputs == 1 else 's'} they must lie in 0 to {allowed}"
        )


def _check_shape(dataset: Dataset) -> None:
    sample = gather(dataset.splits["train"].inputs, torch.zeros(1, dtype=torch.int64))
    if dataset.prepare is not None:
        sample = guard("data", dataset.prepare, dataset.prepare, sample)
    if tuple(sample.shape[1:]) != tuple(dataset.spec.input_shape):
        raise PluginDefect(
            f"the data says its samples have shape {tuple(dataset.spec.input_shape)}, but they have "
            f"{tuple(sample.shape[1:])}"
        )
