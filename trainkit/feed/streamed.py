"""Batches made by worker processes, for data that is too large or too slow to gather in the training process.

Workers are forked where the system can (Linux: no copy of the data, ready in milliseconds, one thread each) and spawned
elsewhere. They get numbers of batches, compute the order themselves, and give back whole batches: workers that died are
replaced, and the batches are the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from trainkit.dataset import Batch, DataSpec
from trainkit.distributed.share import WHOLE, Share
from trainkit.errors import RunError
from trainkit.feed.ahead import copied_ahead
from trainkit.feed.cuts import Cuts
from trainkit.feed.maker import Maker, Request
from trainkit.feed.pipeline import Plan, Planned, marked
from trainkit.feed.slots import Slots, room_for
from trainkit.feed.workers import Passing, begin, end, let_go

# A worker that gives nothing for so long hangs: on a dead network drive, say.
TIMEOUT_S = 120
RESTARTS = 2  # of the workers, within one pass
_PREFETCH = 4

# Small batches travel together, up to so many bytes and so many batches, but in portions enough to share among workers.
_TOGETHER_BYTES = 1 << 20
_MOST_TOGETHER = 8
_LEAST_PORTIONS = 4  # of a pass, for each worker
_FORKED = sys.platform == "linux"


class Requests(Sampler[Request]):
    """The requests of the coming pass; persistent workers keep the sampler, so it is filled anew each time."""

    def __init__(self, slots: int) -> None:
        self.coming: list[Request] = []
        self.slots = slots

    def __iter__(self) -> Iterator[Request]:
        return (request._replace(slot=place % self.slots) for place, request in enumerate(self.coming))

    def __len__(self) -> int:
        return len(self.coming)


def _as_is(made: Any) -> Any:
    return made


class StreamedFeed(Planned):
    """Batches of a data set made by worker processes, then moved to ``device``.

    Args:
        plan: the data and how it is cut.
        device: where the batches go.
        workers: processes; 0 makes batches in the training process.
        timeout: seconds without a batch after which the run fails.
        say: tells the user that workers were started again.
    """

    def __init__(
        self,
        plan: Plan,
        device: torch.device,
        workers: int,
        timeout: float = TIMEOUT_S,
        say: Callable[[str], None] = print,
    ) -> None:
        self.say = say
        self.plan = plan
        self.device = device
        self.workers = workers
        self.timeout = timeout
        self.spec: DataSpec = plan.dataset.spec
        self.batch_size = plan.batch_size
        self.batches_per_epoch = plan.batches_per_epoch
        self._maker = Maker(plan)
        self._loaders: dict[bool, tuple[Maker, DataLoader[Any], Requests]] = {}

    def follow(self, cuts: Cuts) -> None:
        """Cut the epochs in another way."""
        self.close()  # workers hold the plan that they began with
        self.plan = dataclasses.replace(self.plan, cuts=cuts)
        self._maker = Maker(self.plan)

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the training batches of an epoch, from the batch numbered ``start`` on."""
        request = Request("", epoch, start, self.batches_in(epoch), share=self.plan.share)
        return self._marked(self._stream(request), epoch, start)

    def evaluate(self, split: str, share: Share = WHOLE) -> Iterator[Batch]:
        """Yield the batches of a split in stored order, without augmentation; of each a process's share."""
        request = Request(split, 0, 0, self.plan.eval_batches(split), share=share)
        samples, size = len(self.plan.split(split)), self.plan.eval_batch_size
        for number, batch in enumerate(self._stream(request)):
            yield marked(batch, min(size, samples - number * size), share) if share.size > 1 else batch

    def close(self) -> None:
        """End the worker processes; they start again when needed."""
        # Not left to the collector: the traceback of a run that failed holds the pass, and that its workers.
        while self._loaders:
            end(self._loaders.popitem()[1][1])

    def _stream(self, whole: Request) -> Iterator[Batch]:
        batches = self._worked(whole) if self.workers else self._made_here(whole)
        return batches if self.device.type == "cpu" else copied_ahead(batches, self.device)

    def _made_here(self, whole: Request) -> Iterator[Batch]:
        for number in range(whole.first, whole.end):
            yield self._maker.make(whole.split, whole.epoch, number, whole.share)

    def _worked(self, whole: Request) -> Iterator[Batch]:
        """The batches of a pass, made by workers."""
        # Evaluation may come in the middle of an epoch, and a loader serves one pass at a time.
        evaluation, restarts, given = bool(whole.split), 0, whole.first
        while given < whole.end:
            maker, loader, sampler = self._loader(evaluation)
            sampler.coming = self._portions(whole._replace(first=given))
            passing = Passing(loader)
            try:
                for made in passing:
                    batches = maker.open(made)  # before the next portion is asked for, which may take its slot
                    given = made.request.end
                    yield from batches
                    if made.failure is not None:
                        self.close()
                        raise made.failure.error or RunError(f"a data worker failed:\n{made.failure.text}")
            except (RuntimeError, OSError, EOFError) as error:  # the loader's own: what a worker raises is a Failure
                del self._loaders[evaluation]
                passing.abandon()
                let_go(error)
                said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
                if restarts == RESTARTS or "timed out" in said:
                    raise RunError(
                        f"a data worker ended or hung: {said}\n"
                        "  workers are often killed for memory: set fewer workers, or workers = 0; data that comes "
                        "slowly needs a longer data.worker_timeout"
                    ) from error
                restarts += 1
                self.say(f"a data worker ended ({said}); they are started again, {restarts} of {RESTARTS} times")

    def _portions(self, whole: Request) -> list[Request]:
        """The requests of a pass: batches that are small together."""
        together = 1
        if self._sharing:
            together = min(
                self._most_together(bool(whole.split)), (whole.end - whole.first) // (_LEAST_PORTIONS * self.workers)
            )
        firsts = range(whole.first, whole.end, max(1, together))
        return [whole._replace(first=first, end=min(first + firsts.step, whole.end)) for first in firsts]

    @property
    def _sharing(self) -> bool:
        """Whether batches travel in memory shared with forked workers; those for CUDA are pinned by torch's thread."""
        return _FORKED and self.device.type == "cpu"

    def _batch_bytes(self, evaluation: bool) -> int:
        """Room for a batch as it most likely is, float32; one that turns out larger travels as torch sends it."""
        size = self.plan.eval_batch_size if evaluation else self.plan.batch_sizes[1]
        return room_for((size * math.prod(self.spec.input_shape), 4), (size * max(2, self.spec.outputs), 4), (size, 8))

    def _most_together(self, evaluation: bool) -> int:
        return max(1, min(_MOST_TOGETHER, _TOGETHER_BYTES // self._batch_bytes(evaluation)))

    def _loader(self, evaluation: bool) -> tuple[Maker, DataLoader[Any], Requests]:
        if evaluation not in self._loaders:
            slots = None
            if self._sharing:
                # One for each portion that torch has under way, and one that is being read.
                room = self._most_together(evaluation) * self._batch_bytes(evaluation)
                with contextlib.suppress(OSError):  # the system grants no such memory: torch sends them, as elsewhere
                    slots = Slots(self.workers * _PREFETCH + 1, room)
            maker, sampler = Maker(self.plan, slots), Requests(self.workers * _PREFETCH + 1)
            loader = DataLoader(
                maker,
                sampler=sampler,
                batch_size=None,
                num_workers=self.workers,
                collate_fn=_as_is,
                pin_memory=self.device.type == "cuda",
                timeout=self.timeout,
                multiprocessing_context="fork" if _FORKED else "spawn",
                # Its own generator: a loader draws a seed at every pass, by default from the global one.
                generator=torch.Generator().manual_seed(0),
                worker_init_fn=begin,
                persistent_workers=True,
                prefetch_factor=_PREFETCH,
            )
            self._loaders[evaluation] = maker, loader, sampler
        return self._loaders[evaluation]
