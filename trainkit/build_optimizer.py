"""The optimizer of a run: parameters in groups, its wrappers, and the model's rows where processes divide it."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from trainkit.agreement import replicas_agree
from trainkit.composite import Share, batch_factor, make_parts
from trainkit.distributed.sharding import Sharded
from trainkit.errors import RecipeError
from trainkit.hooking import wrong_answer
from trainkit.instantiate import Builder
from trainkit.recipe import problem_at
from trainkit.run import Run


def make_optimizer(builder: Builder, run: Run, model: nn.Module, divided_for: Tensor | None = None) -> Any:
    """Group the parameters, build the optimizer and its wrappers; each rate is scaled as the recipe says.

    Args:
        builder: builds them.
        run: the run.
        model: the model.
        divided_for: samples, where the model is to be divided among processes, once its parameters are grouped.
    """
    groups: list[dict[str, Any]] = run.hook.trainkit_parameter_groups(run=run, model=model)
    if not isinstance(groups, list) or not all(isinstance(group, dict) and "params" in group for group in groups):
        raise wrong_answer(run.hook.trainkit_parameter_groups, repr(groups)[:80], "a list of groups with params")
    factor = batch_factor(builder.tables["optimizer"], run.clock.samples_per_update)
    optimizer: Any = make_parts(builder, groups, model, factor, partial(_divided, builder, run, divided_for))
    for number in range(len(builder.tables["optimizer"]["wrap"])):
        optimizer = builder.make("optimizer", "wrap", number, optimizer=optimizer, model=model)
    return optimizer


def _divided(builder: Builder, run: Run, sample: Tensor | None, groups: Share) -> Share:
    """Parameter groups of rows, where the model is divided among processes; the first call divides it."""
    if sample is None:
        return groups
    if run.sharded is None:
        replicas_agree(run)  # once each has some rows of them nobody could tell
        try:
            run.sharded = Sharded(run.model, run.group, sample.to(run.device))
        except ValueError as error:
            cure = 'write strategy = "ddp" in [run], which gives every process the whole model'
            raise RecipeError([problem_at(builder.tables, "run.strategy", f"[run] strategy: {error}", cure)]) from error
    return run.sharded.exchanged(groups)
