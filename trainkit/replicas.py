"""Updates that several processes make together: each computes its share of the batch, and the gradients are summed.

What a process weighs is known before it computes, so that one sum over all processes gives the gradient of the whole
batch's mean loss, exactly, however uneven the shares and whatever the loss divides by. The loss rides along: it is the
same everywhere, and so is whatever is decided by it.

Source: Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", arXiv:2006.15704, for
the method; gradients are summed in one piece, which on gloo is faster than in several that overlap with the backward
pass (benchmarks/gradient_sums.py).
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from trainkit.distributed import Group
from trainkit.distributed.batchnorm import Exchange, batch_norms, exchange_of, synchronise
from trainkit.distributed.buckets import Bucket, Overlapped
from trainkit.distributed.dropout import share_draws
from trainkit.errors import RecipeError
from trainkit.evaluate import loss_weight
from trainkit.feed.order import key_of
from trainkit.microbatch import MicrobatchedClosureStep, MicrobatchedStep, in_parts
from trainkit.protocols import StepProgram
from trainkit.recipe import Recipe, problem_at
from trainkit.run import Batch, Run, StepResult
from trainkit.seeding import put_back_generators, random_generators
from trainkit.steps import backward, implemented


class Replicas:
    """What the processes of a group do together for each update of a run.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.group = run.group
        self.parameters: list[Tensor] = [p for group in run.optimizer.param_groups for p in group["params"]]
        self._exchange = exchange_of(run.model)
        self._statistics = [
            buffer
            for layer in apart(run.model)
            for buffer in (layer.running_mean, layer.running_var)
            if isinstance(buffer, Tensor)
        ]
        settings = run.recipe["run"]  # parts of a batch are as many as a process makes of its own share
        draws_alike = settings["microbatch"] is None and settings["compile"] != "model"
        self._draws = share_draws(run.model) if draws_alike else None
        self.weighted = hasattr(run.loss, "weight")
        self.calls = 0  # forward passes of this update so far: each draws its own random numbers
        self._overlapped: Overlapped | None = None
        self._sending: list[int] = []

    def weights(self, batches: Sequence[Batch]) -> tuple[list[Any], Any]:
        """What each batch's own share weighs, and what all of them weigh together in all processes."""
        own: list[Any] = [0 if batch.padding else loss_weight(self.run.loss, batch.targets) for batch in batches]
        if not self.weighted:
            return own, sum(batch.whole for batch in batches)
        total = torch.as_tensor(sum(own), dtype=torch.float64, device=self.run.device).clone()
        return own, self.group.sum_(total)

    @contextlib.contextmanager
    def computing(self, batch: Batch) -> Iterator[None]:
        """What forward and backward pass of a batch run in.

        Random numbers are this process's own here: of seed, position and rank, and of nothing else; but dropout draws
        as in one process. BatchNorms know whether the batch stands for samples at all.
        """
        run = self.run
        if self._exchange is not None:
            self._exchange.padding = batch.padding
        python, numpys, *torchs = random_generators(run.device)
        drawn = int(run.device.type == "cuda")  # dropout draws on the device
        alike = key_of("alike", run.seed, run.position, self.calls)
        random.seed(alike)  # what is drawn by hand is drawn for the batch, not for its samples
        numpy.random.seed(alike % 2**32)
        own = key_of("rank", run.seed, run.position, self.calls, self.group.rank)
        torch.default_generator.manual_seed(own)  # torch.manual_seed takes 0.4 ms for each kind of device that sleeps
        if drawn:
            torch.cuda.manual_seed(own)
        self.calls += 1
        try:
            if self._draws is None:
                yield
            else:
                with self._draws.of(self.group.share.taken(batch.whole), batch.whole, torchs[drawn]):
                    yield
                torchs[drawn] = self._draws.state
        finally:
            put_back_generators((python, numpys, *torchs), run.device)

    def last(self) -> contextlib.AbstractContextManager[None]:
        """What the last backward pass of an update runs in, where gradients are sent while it still computes."""
        if self.run.device.type == "cpu" or self.run.recipe["run"]["microbatch"] == "auto":
            return contextlib.nullcontext()
        own = [parameter for parameter in self.parameters if parameter.requires_grad]
        if self._overlapped is None or [id(p) for p in own] != self._sending:
            if self._overlapped is not None:
                self._overlapped.close()
            self._overlapped, self._sending = Overlapped(own, self.group), [id(parameter) for parameter in own]
        return self._overlapped.last()

    def join(self, mean: Tensor) -> Tensor:
        """Sum the gradients of all processes, and their parts of the mean loss, which is returned.

        A parameter without a gradient anywhere stays without; one that has it in some process has it in all.
        """
        self.calls = 0  # an update that computes its loss once more does so with the same numbers
        if self._overlapped is not None:
            riders = torch.cat([mean.detach().double().reshape(1), *self._local(torch.float64)])
            sent = self.group.begin_sum(riders)
            self._overlapped.finish()
            self.group.end_sum(sent)
            self._keep(riders[1:])
            return riders[0].to(mean.dtype)
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for parameter in self.parameters:
            if parameter.requires_grad:
                kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        riders = torch.cat([mean.detach().reshape(1), *self._local(mean.dtype)])
        for number, parameters in enumerate(kinds.values()):
            bucket = Bucket(parameters, len(parameters) + len(riders) * (number == 0))
            there = bucket.gather()
            flags, rest = bucket.rest[: len(parameters)], bucket.rest[len(parameters) :]
            flags.copy_(torch.tensor(there))
            if number == 0:
                rest.copy_(riders)
            self.group.sum_(bucket.flat)
            for parameter, view, count in zip(parameters, bucket.views, flags.tolist(), strict=True):
                parameter.grad = view if count else None
            if number == 0:
                riders = rest.to(mean.dtype)
        if not kinds:
            self.group.sum_(riders)
        self._keep(riders[1:])
        return riders[0].clone()

    def _local(self, dtype: torch.dtype) -> list[Tensor]:
        """Running statistics of BatchNorms that look at their process's share alone: all go on from their mean."""
        return [buffer.reshape(-1).to(dtype) for buffer in self._statistics]

    def _keep(self, sums: Tensor) -> None:
        place = 0
        for buffer in self._statistics:
            part = sums[place : place + buffer.numel()]
            buffer.copy_((part / self.group.size).view_as(buffer))
            place += buffer.numel()

    def gathered(self, outputs: Sequence[Tensor], batches: Sequence[Batch]) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs and targets of all processes, from those of this one's shares, which may be in parts."""
        counts = self.group.counts(*(batch.whole for batch in batches if batch.whole))
        own = torch.cat(list(outputs))[: counts[self.group.rank]]
        targets = torch.cat([batch.targets for batch in batches])[: counts[self.group.rank]]
        return [self.group.concatenated(own, counts)], [self.group.concatenated(targets, counts)]


def share_statistics(model: nn.Module, group: Group, settings: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Let the BatchNorms of a model see whole batches, where the recipe does not want them to see shares alone."""
    if group.size == 1 or settings["batchnorm"] == "local":
        return
    if settings["microbatch"] is not None:  # parts of a batch are as many as a process makes of its own share
        if any(True for _ in batch_norms(model)):
            say("microbatch: the statistics of BatchNorm are those of each process's microbatches")
        return
    if others := synchronise(model, group, settings["compile"] == "model"):
        say(f"the statistics of '{others[0]}' are those of each process's share: it is no BatchNorm of torch's own")


def replica_program(recipe: Recipe, run: Run, keep_outputs: bool) -> StepProgram:
    """What makes the updates of a run together with other processes.

    Raises:
        RecipeError: if the recipe asks for what several processes cannot do.
    """
    compiled = run.recipe["run"]["compile"]
    if compiled == "step":
        message = f'[run] compile = "step" is for one process, and {run.group.size} train together'
        raise RecipeError([problem_at(recipe.tables, "run.compile", message, 'write compile = "model", or false')])
    if compiled == "auto":
        run.say('compile = "auto" is not used: several processes train together; the run stays eager')
    if implemented(run, "trainkit_train_step") is not None:
        message = "a plugin makes the updates itself, of which other processes would know nothing"
        raise RecipeError(
            [problem_at(recipe.tables, "run.processes", message, "train in one process, or leave it out")]
        )
    loss = recipe.components[("loss",)]
    if loss.capabilities.get("whole_batches"):
        message = f"[loss] {loss.name} compares the samples of a batch with each other, of which each process has some"
        raise RecipeError([problem_at(recipe.tables, "loss.use", message, "train in one process")])
    smallest = run.feed.batch_sizes[0]
    if smallest < run.group.size:
        message = f"[data] batch_size = {smallest}: a batch has fewer samples than the {run.group.size} processes"
        cure = "enlarge the batch, or start fewer processes"
        raise RecipeError([problem_at(recipe.tables, "data.batch_size", message, cure)])
    if apart(run.model) and run.microbatch is None and (least := _least(run)) < 2 * run.group.size:
        message = (
            f"a batch of {least} samples leaves less than two to each of {run.group.size} processes, whose BatchNorms "
            "look at their own samples alone"
        )
        cure = 'write data.drop_last = true where an epoch\'s last batch is short, or batchnorm = "sync"'
        raise RecipeError([problem_at(recipe.tables, "run.batchnorm", message, cure)])
    if any(part.capabilities.get("needs_closure") for _, part in recipe.making_updates()):
        return ReplicaClosureStep(run, keep_outputs)
    return ReplicaStep(run, keep_outputs)


def apart(model: nn.Module) -> list[nn.Module]:
    """The BatchNorms of a model that look at each process's own samples alone."""
    return [layer for _, layer in batch_norms(model) if not isinstance(getattr(layer, "exchange", None), Exchange)]


def _least(run: Run) -> int:
    """Samples in the smallest batch that the run will train on, short last ones included."""
    feed, least = run.feed, run.feed.batch_sizes[0]
    for epoch in range(math.ceil(run.clock.epochs_at(run.total_updates))):
        last = feed.batches_in(epoch)
        least = min(least, feed.samples_before(epoch, last) - feed.samples_before(epoch, last - 1))
    return least


class ReplicaStep(MicrobatchedStep):
    """As `MicrobatchedStep`, with the share of each batch that is this process's."""

    def __init__(self, run: Run, keep_outputs: bool) -> None:
        super().__init__(run, keep_outputs)
        self.plain = False
        self.replicas = Replicas(run)
        self._total: Any = 0.0

    def _gradients_of(self, batches: Sequence[Batch]) -> StepResult:
        replicas = self.replicas
        replicas.calls = 0
        _, self._total = replicas.weights(batches)
        # Nothing in it talks to others: where memory runs out here alone, it is repeated here alone.
        result = super()._gradients_of(batches)
        result.losses, result.weights = replicas.join(result.losses), self._total
        if self.keep_outputs:
            result.outputs, result.targets = replicas.gathered(result.outputs, in_parts(batches, self.run.microbatch))
        return result

    def _accumulate(self, batches: Sequence[Batch]) -> StepResult:
        run, replicas = self.run, self.replicas
        mean, outputs = None, []
        for batch in batches:
            weight = 0 if batch.padding else loss_weight(run.loss, batch.targets)
            with replicas.computing(batch):
                with run.precision.context():
                    output = run.forward(batch.inputs)
                    part = self.loss(output, batch) * (weight / self._total)
                with replicas.last() if batch is batches[-1] else contextlib.nullcontext():
                    backward(self.scaler.scale(part))
            mean = part.detach() if mean is None else mean + part.detach()
            if self.keep_outputs:
                outputs.append(output.detach())
        assert mean is not None
        return StepResult(mean, self._total, outputs)


class ReplicaClosureStep(MicrobatchedClosureStep):
    """As `MicrobatchedClosureStep`, with the share of each batch that is this process's."""

    def __init__(self, run: Run, keep_outputs: bool) -> None:
        super().__init__(run, keep_outputs)
        self.replicas = Replicas(run)

    def __call__(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        """Make the updates of one call, as `StepProgram` says."""
        self.replicas.calls = 0
        return super().__call__(updates)

    def weights(self, batches: Sequence[Batch]) -> tuple[list[Any], Any]:
        """See `Replicas.weights`."""
        return self.replicas.weights(batches)

    def computing(self, batch: Batch) -> contextlib.AbstractContextManager[None]:
        """See `Replicas.computing`."""
        return self.replicas.computing(batch)

    def join(self, mean: Tensor) -> Tensor:
        """See `Replicas.join`."""
        return self.replicas.join(mean)

    def seen(self, outputs: Sequence[Tensor], batches: Sequence[Batch]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """See `Replicas.gathered`."""
        return self.replicas.gathered(outputs, batches)
