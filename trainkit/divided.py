"""Updates and checkpoints of a model that is divided among processes, whose gradients FSDP2 sums.

All else is as with replicas (`trainkit.replicas`): each process computes its share of the batch and weighs it, so that
the sum is the gradient of the whole batch's mean loss; what it keeps of that sum are its own rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainkit.distributed.sharding import Sharded
from trainkit.replicas import Replicas, ReplicaStep
from trainkit.run import Batch, Run, StepResult
from trainkit.saving import Saver


class DividedReplicas(Replicas):
    """As `Replicas`, where gradients are summed by the backward pass itself.

    Args:
        run: the run, whose model is divided.
        sharded: what divides it.
    """

    def __init__(self, run: Run, sharded: Sharded) -> None:
        super().__init__(run)
        self.sharded = sharded

    def weights(self, batches: Sequence[Batch]) -> tuple[list[Any], Any]:
        """See `Replicas.weights`; an update begins with this."""
        self.sharded.follow()
        self.sharded.begin()
        self.sharded.summing(False)
        return super().weights(batches)

    @contextlib.contextmanager
    def computing(self, batch: Batch) -> Iterator[None]:
        """See `Replicas.computing`; a microbatch that others need leaves nothing in the statistics of BatchNorms."""
        extra = batch.padding and not batch.whole
        before = [(buffer, buffer.clone()) for buffer in self.run.model.buffers()] if extra else []
        with super().computing(batch):
            yield
        with torch.no_grad():
            for buffer, held in before:
                buffer.copy_(held)

    @contextlib.contextmanager
    def last(self) -> Iterator[None]:
        """See `Replicas.last`."""
        self.sharded.summing(True)
        yield

    def join(self, mean: Tensor) -> Tensor:
        """See `Replicas.join`: what is left to be summed is the loss, and what rides along with it."""
        self.sharded.collect()
        riders = self.group.sum_(torch.cat([mean.detach().reshape(1), *self._local(mean.dtype)]))
        self._keep(riders[1:])
        return riders[0].clone()


class DividedStep(ReplicaStep):
    """As `ReplicaStep`, of a model that is divided among the processes."""

    def __init__(self, run: Run, keep_outputs: bool) -> None:
        super().__init__(run, keep_outputs)
        assert run.sharded is not None
        self.replicas = DividedReplicas(run, run.sharded)

    def agreed(self, finite: bool) -> bool:
        """Whether gradients are finite in every process: each has looked at its own rows."""
        return not self.run.group.any_of(not finite)

    def _accumulate(self, batches: Sequence[Batch]) -> StepResult:
        """Forward and backward of each batch, as often in every process: weights are gathered for each by all."""
        batches = list(batches)
        most = self.run.microbatch
        lacking = 0
        if most is not None:
            shares = [-(-batch.whole // self.run.group.size) for batch in batches if batch.whole]
            lacking = sum(-(-share // most) for share in shares) - len(batches)
        own = len(batches)
        for _ in range(lacking):  # a sample fewer than others have may be a microbatch fewer
            batches.append(Batch(*batches[0], whole=0, padding=True))
        result = super()._accumulate(batches)
        result.outputs = result.outputs[:own]
        return result


class DividedSaver(Saver):
    """Writes the checkpoints of a run whose model is divided: every process its rows, while training waits.

    Args:
        parent: the run's ``checkpoints`` folder, as the first process has it.
        keep: newest checkpoints to keep.
        sharded: what divides the model.
    """

    def __init__(self, parent: Path, keep: int, sharded: Sharded) -> None:
        super().__init__(Path(sharded.group.from_first(str(parent))), keep, False)
        self._sharded = sharded

    def save(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        state: Mapping[str, Any],
        durable: Any = lambda: None,
        best: str = "",
        best_name: str | None = None,
        last: bool = False,
        pinned: bool = False,
    ) -> None:
        """See `Saver.save`; collective, and over when it returns.

        Raises:
            MachineError: in every process, if the disk refuses one of them; older checkpoints are untouched.
        """
        from trainkit import sharded

        before, after = partial(self.before, step, durable, pinned), partial(self.after, best, best_name)
        try:
            sharded.save(self.parent, step, tensors, state, self._sharded, before, after)
        except OSError as error:
            raise self.refused(step, error) from error
