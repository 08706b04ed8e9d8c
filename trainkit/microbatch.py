"""Updates whose loader batches go through the model in smaller parts, found by halving where memory runs out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainkit.errors import RecipeError
from trainkit.recipe import Recipe, problem_at
from trainkit.run import Batch, Run, StepResult
from trainkit.seeding import put_back_generators, random_generators
from trainkit.steps import ClosureStep, EagerStep


class MicrobatchedStep(EagerStep):
    """As `EagerStep`; of each loader batch at most ``run.microbatch`` samples go through the model at once.

    Each part counts by what its mean loss was divided by, as with accumulation: the update is that of the whole batch
    up to rounding. With ``microbatch = "auto"`` an update whose gradients do not fit into memory is computed again with
    half as many samples at once; the number found is kept, also in checkpoints.
    """

    def __init__(self, run: Run, keep_outputs: bool) -> None:
        super().__init__(run, keep_outputs)
        self.auto = run.recipe["run"]["microbatch"] == "auto"

    def _gradients_of(self, batches: Sequence[Batch]) -> StepResult:
        run = self.run
        while True:
            for parameter in self.parameters:
                parameter.grad = None
            if not self.auto:
                return self._accumulate(in_parts(batches, run.microbatch))
            drawn = random_generators(run.device)
            buffers = [(buffer, buffer.clone()) for buffer in run.model.buffers()]
            try:
                return self._accumulate(in_parts(batches, run.microbatch))
            except (MemoryError, RuntimeError) as error:
                largest = max(map(len, in_parts(batches, run.microbatch)))
                if not out_of_memory(error) or largest <= 1:
                    raise
            # Nothing has changed but gradients, which are made anew, chance, and what a forward pass counts.
            run.microbatch = -(-largest // 2)
            put_back_generators(drawn, run.device)
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
            for parameter in self.parameters:
                parameter.grad = None
            if run.device.type == "cuda":
                torch.cuda.empty_cache()
            run.say(
                f"out of memory at update {run.step}: from here on {run.microbatch} samples go through the model at "
                "once; the updates stay the same up to rounding"
            )


class MicrobatchedClosureStep(ClosureStep):
    """As `ClosureStep`, with the loader batches in parts of ``run.microbatch`` samples."""

    def __call__(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        """Make the updates of one call, as `StepProgram` says."""
        return super().__call__([in_parts(updates[0], self.run.microbatch)])


def in_parts(batches: Sequence[Batch], size: int | None) -> list[Batch]:
    """The samples of some batches, in order, as batches of at most ``size``."""
    if size is None:
        return list(batches)
    return [
        Batch(
            *(part[i : i + size] for part in batch),
            whole=0 if i else batch.whole,  # so that all parts together are as many as the whole batch
            padding=batch.padding,
        )
        for batch in batches
        for i in range(0, len(batch), size)
    ]


# The last is what CUDA's libraries say that find no room for their own buffers.
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "status_alloc_failed")


def out_of_memory(error: BaseException) -> bool:
    """Whether there was not enough memory, in this process or on the device."""
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)
    )


def begin(recipe: Recipe, run: Run) -> None:
    """Take the recipe's number, and look for what parts of a batch would change.

    Raises:
        RecipeError: if the number is to be found by itself and the model has BatchNorm.
    """
    wanted = recipe.tables["run"]["microbatch"]
    run.microbatch = None if wanted == "auto" else wanted
    if wanted is None or (name := _batch_norm(run.model)) is None:
        return
    message = f"the statistics of BatchNorm '{name}' are those of a microbatch, not of the batch"
    if wanted == "auto":
        cure = "choose a norm that looks at each sample by itself, write a number, or lower data.batch_size"
        message = f'[run] microbatch = "auto": {message}, and the result would depend on the memory that is free'
        raise RecipeError([problem_at(recipe.tables, "run.microbatch", message, cure)])
    if wanted < run.feed.batch_sizes[1]:
        run.say(f"microbatch = {wanted}: {message}")


def _batch_norm(model: nn.Module) -> str | None:
    """The name of the first BatchNorm whose statistics come from the batch."""
    found = (n for n, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return next(found, None)
