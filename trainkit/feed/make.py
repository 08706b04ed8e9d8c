"""Choosing how to load: resident where the data fits, streamed elsewhere."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from trainkit.dataset import Dataset, Split
from trainkit.distributed.share import WHOLE, Share
from trainkit.errors import DataError
from trainkit.feed.checks import check_dataset
from trainkit.feed.pipeline import Plan, gather
from trainkit.feed.resident import ResidentFeed
from trainkit.feed.sampling import class_members
from trainkit.feed.streamed import TIMEOUT_S, StreamedFeed
from trainkit.protocols import Augmentation

Loading = Literal["auto", "resident", "streamed"]
# Of the free memory of a CUDA device, the share that resident data may take; the rest is the model's.
RESIDENT_SHARE = 0.5
MOST_WORKERS = 4
EVAL_BYTES = 1 << 20
EVAL_OUTPUT_BYTES = 1 << 23
MOST_EVAL_SAMPLES = 4096


def make_feed(
    dataset: Dataset,
    *,
    batch_size: int,
    device: torch.device | str,
    seed: int,
    eval_batch_size: int | None = None,
    loading: Loading = "auto",
    workers: int | None = None,
    worker_timeout: float = TIMEOUT_S,
    shuffle: bool = True,
    sampling: Literal["once", "balanced"] = "once",
    drop_last: bool = False,
    augmentations: Sequence[Augmentation] = (),
    say: Callable[[str], None] = print,
    known: bool = False,
    share: Share = WHOLE,
    mixes: bool = False,
) -> ResidentFeed | StreamedFeed:
    """Make the feed of a run; checks the data first.

    Args:
        dataset: what the data component returned.
        batch_size: samples in a training batch.
        device: where batches go.
        seed: the recipe's seed; order and augmentation follow from it.
        eval_batch_size: samples in a batch of evaluation; unset: see `choose_eval_batch_size`, in each process as many.
        loading: ``resident`` keeps the data as tensors on the device; ``streamed`` makes batches in worker processes;
            ``auto`` is resident on the CPU, where the data lies in memory or a mapped file anyway, and on CUDA where
            it takes at most half of the free memory.
        workers: processes of streamed loading, 0 for none; unset: none where the device is the CPU,
            whose cores have enough to do; else all cores but one, at most 4.
        worker_timeout: seconds without a batch after which workers count as hung.
        shuffle: whether each epoch has an order of its own.
        sampling: ``once``: each sample comes once an epoch; ``balanced``: each class equally often.
        drop_last: whether an incomplete last training batch is left out.
        augmentations: applied to training batches, in this order.
        say: tells the user something, such as that workers were started again.
        known: whether the samples were checked before.
        share: which rows of each training batch are this process's, where several train together.
        mixes: whether an augmentation needs whole batches.

    Raises:
        DataError: if the data cannot be trained on; the message says why and what to do.
    """
    device = torch.device(device)
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, got {batch_size}")
    check_dataset(dataset, batch_size, known)
    dataset = dataclasses.replace(dataset, recut=None)  # it may hold the data once more, and cannot travel to workers
    plan = Plan(
        dataset,
        batch_size,
        eval_batch_size or choose_eval_batch_size(dataset, batch_size) * share.size,  # each process then takes as many
        shuffle,
        drop_last,
        tuple(augmentations),
        seed,
        share=share,
        mixes=mixes,
        members=class_members(dataset) if sampling == "balanced" else (),
    )
    if loading == "auto":
        loading = "resident" if fits(dataset, device) else "streamed"
    if loading == "resident":
        return ResidentFeed(plan, device)
    if workers is None:
        workers = 0 if device.type == "cpu" else min(MOST_WORKERS, max(1, (os.cpu_count() or 1) - 1))
    return StreamedFeed(plan, device, workers, worker_timeout, say)


def choose_eval_batch_size(dataset: Dataset, batch_size: int) -> int:
    """A batch of evaluation that is fast and takes little memory: four training batches, more of small samples.

    Of tokens each position has outputs, which are what takes memory: one training batch, more of few classes.
    """
    spec = dataset.spec
    if spec.task == "tokens":
        outputs = max(1, 4 * math.prod(spec.input_shape) * spec.outputs)
        return max(batch_size, min(MOST_EVAL_SAMPLES, EVAL_OUTPUT_BYTES // outputs))
    sample = max(1, 4 * math.prod(dataset.spec.input_shape))  # bytes of a float32 sample
    return max(4 * batch_size, min(MOST_EVAL_SAMPLES, EVAL_BYTES // sample))


def fits(dataset: Dataset, device: torch.device) -> bool:
    """Whether the data may stay on the device; on the CPU always."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return sum(map(size_of, dataset.splits.values())) <= RESIDENT_SHARE * free


def size_of(split: Split) -> int:
    """Bytes that a split takes as tensors."""
    if isinstance(split.inputs, Tensor):
        return split.inputs.nbytes + split.targets.nbytes
    if not len(split):
        return 0
    return len(split) * gather(split.inputs, torch.zeros(1, dtype=torch.int64)).nbytes + split.targets.nbytes
