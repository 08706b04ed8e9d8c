"""Batches made by worker processes, for data that is too large or too slow to gather in the training process.

Workers are forked where the system can (Linux: no copy of the data, ready in milliseconds, one thread each) and spawned
elsewhere. They get numbers of batches, compute the order themselves, and give back whole batches: workers that died are
replaced, and the batches are the same.
"""

from __future__ import annotations

import dataclasses
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from trainkit.dataset import Batch, DataSpec
from trainkit.errors import RunError, TrainkitError
from trainkit.feed.cuts import Cuts
from trainkit.feed.order import Chance
from trainkit.feed.pipeline import Plan, Planned, gather
from trainkit.feed.workers import Passing, begin, end, let_go

# A worker that gives nothing for so long hangs: on a dead network drive, say.
TIMEOUT_S = 120
RESTARTS = 2  # of the workers, within one pass
_PREFETCH = 4

Request = tuple[str, int, int]
"""Split (``""`` for training), epoch and number of a batch."""


@dataclass
class Failure:
    """What went wrong in a worker, as it travels back: an exception of ours, or a traceback as text."""

    error: TrainkitError | None
    text: str


class Maker(Dataset[Any]):
    """Makes the batch that a request names; the part that lives in the workers."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._order: tuple[int, Tensor] = -1, torch.empty(0)
        self._bounds: list[int] = []

    def make(self, request: Request) -> Batch:
        """Make one batch on the CPU."""
        split, epoch, number = request
        plan = self.plan
        if split:
            held, size = plan.split(split), plan.eval_batch_size
            index = torch.arange(number * size, min((number + 1) * size, len(held)))
        else:
            held, size = plan.split("train"), plan.batch_size
            if self._order[0] != epoch:
                self._order = epoch, plan.order(epoch, torch.device("cpu"))
                self._bounds = [] if plan.cuts is None else plan.cuts.bounds(epoch)
            first, end = self._bounds[number : number + 2] or (number * size, (number + 1) * size)
            index = self._order[1][first:end].clone()
        batch = Batch(gather(held.inputs, index), held.targets.index_select(0, index), index)
        if split or not plan.augmentations:
            return plan.prepare(batch)
        return plan.finish(batch, Chance(plan.seed, epoch, index), 0)

    def __getitem__(self, request: Request) -> tuple[Tensor, ...] | Failure:
        """Make one batch, or say why not: an exception would lose its kind on the way to the training process."""
        try:
            return tuple(self.make(request))
        except TrainkitError as error:
            return Failure(error, str(error))
        except Exception:  # any defect of a plugin must reach the training process
            return Failure(None, traceback.format_exc())


class Requests(Sampler[Request]):
    """The requests of the coming pass; persistent workers keep the sampler, so it is filled anew each time."""

    def __init__(self) -> None:
        self.coming: list[Request] = []

    def __iter__(self) -> Iterator[Request]:
        return iter(self.coming)

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
        self._loaders: dict[bool, tuple[DataLoader[Any], Requests]] = {}

    def follow(self, cuts: Cuts) -> None:
        """Cut the epochs in another way."""
        self.close()  # workers hold the plan that they began with
        self.plan = dataclasses.replace(self.plan, cuts=cuts)
        self._maker = Maker(self.plan)

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the training batches of an epoch, from the batch numbered ``start`` on."""
        return self._stream([("", epoch, number) for number in range(start, self.batches_in(epoch))])

    def evaluate(self, split: str) -> Iterator[Batch]:
        """Yield the batches of a split in stored order, without augmentation."""
        return self._stream([(split, 0, number) for number in range(self.plan.eval_batches(split))])

    def close(self) -> None:
        """End the worker processes; they start again when needed."""
        # Not left to the collector: the traceback of a run that failed holds the pass, and that its workers.
        while self._loaders:
            end(self._loaders.popitem()[1][0])

    def _stream(self, requests: list[Request]) -> Iterator[Batch]:
        if not requests:
            return
        for made in self._made(requests):
            batch = Batch(*made) if isinstance(made, tuple | list) else made
            if isinstance(batch, Failure):
                self.close()
                raise batch.error or RunError(f"a data worker failed:\n{batch.text}")
            if self.device.type != "cpu":
                batch = Batch(*(part.to(self.device, non_blocking=True) for part in batch))
            yield batch

    def _made(self, requests: list[Request]) -> Iterator[Any]:
        if not self.workers:
            yield from map(self._maker.make, requests)
            return
        # Evaluation may come in the middle of an epoch, and a loader serves one pass at a time.
        evaluation, restarts, given = bool(requests[0][0]), 0, 0
        while given < len(requests):
            loader, sampler = self._loader(evaluation)
            sampler.coming = requests[given:]
            passing = Passing(loader)
            try:
                for made in passing:
                    given += 1
                    yield made
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

    def _loader(self, evaluation: bool) -> tuple[DataLoader[Any], Requests]:
        if evaluation not in self._loaders:
            sampler = Requests()
            loader = DataLoader(
                self._maker,
                sampler=sampler,
                batch_size=None,
                num_workers=self.workers,
                collate_fn=_as_is,
                pin_memory=self.device.type == "cuda",
                timeout=self.timeout,
                multiprocessing_context="fork" if sys.platform == "linux" else "spawn",
                # Its own generator: a loader draws a seed at every pass, by default from the global one.
                generator=torch.Generator().manual_seed(0),
                worker_init_fn=begin,
                persistent_workers=True,
                prefetch_factor=_PREFETCH,
            )
            self._loaders[evaluation] = loader, sampler
        return self._loaders[evaluation]
