"""Schedule-free optimizers of the library schedulefree: the average of the weights takes the schedule's place.

Training goes on at a point between the average and the newest iterate; evaluations, checkpoints' predictions and
finished runs use the average, with BatchNorm statistics of its own. Listing them imports neither torch nor the library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from trainkit import Between, Component, NonNegative, NonNegativeInt, Positive, hookimpl, named_tables, problem_at

if TYPE_CHECKING:
    from trainkit import Optimizer, Problem

VERSION = "1.4.1"
Inner = Annotated[float, Between(0, 1, low_open=True, high_open=True)]
Beta = Annotated[float, Between(0, 1, high_open=True)]


def schedulefree_adamw(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 2.5e-3,
    betas: tuple[Inner, Beta] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
    warmup_steps: NonNegativeInt = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
) -> Optimizer:
    """AdamW without a schedule: a weighted average of its iterates is what is evaluated.

    Wraps `schedulefree.AdamWScheduleFree` (Apache-2.0). The decay is decoupled and taken at the point of the gradient.
    It learns at rates from 1 to 10 times those of AdamW. ``warmup`` of ``[schedule]`` does what ``warmup_steps`` does.

    Args:
        lr: learning rate.
        betas: how far the point of the gradient lies from the newest iterate to the average; decay of the mean square.
        eps: added to the root, so that nothing is divided by zero.
        weight_decay: share of the weights, times the learning rate, that each update takes off.
        warmup_steps: updates over which the rate rises in a straight line.
        r: power of the update's number in its weight in the average.
        weight_lr_power: power of the largest rate so far in that weight.

    Source: Defazio et al. 2024, "The Road Less Scheduled", algorithm 1; arXiv 2405.15682.
    """
    from trainkit_schedulefree.points import make

    numbers = {"eps": eps, "weight_decay": weight_decay, "warmup_steps": warmup_steps}
    weighting = {"r": r, "weight_lr_power": weight_lr_power}
    return make("AdamWScheduleFree", schedulefree_adamw, params, {"lr": lr, "betas": betas, **numbers, **weighting})


def schedulefree_radam(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 2.5e-3,
    betas: tuple[Inner, Beta] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
    silent_sgd_phase: bool = True,
) -> Optimizer:
    """RAdam without a schedule: it needs no warm-up either, and the average of its iterates is what is evaluated.

    Wraps `schedulefree.RAdamScheduleFree` (Apache-2.0). The decay is decoupled and taken at the point of the gradient.

    Args:
        lr: learning rate.
        betas: how far the point of the gradient lies from the newest iterate to the average; decay of the mean square.
        eps: added to the root, so that nothing is divided by zero.
        weight_decay: share of the weights, times the learning rate, that each update takes off.
        r: power of the update's number in its weight in the average.
        weight_lr_power: power of the largest rate so far in that weight.
        silent_sgd_phase: make no update while the mean square cannot be trusted, instead of plain descent.

    Source: Defazio et al. 2024, "The Road Less Scheduled", arXiv 2405.15682; rectification as in arXiv 1908.03265.
    """
    from trainkit_schedulefree.points import make

    numbers = {"eps": eps, "weight_decay": weight_decay, "silent_sgd_phase": silent_sgd_phase}
    weighting = {"r": r, "weight_lr_power": weight_lr_power}
    return make("RAdamScheduleFree", schedulefree_radam, params, {"lr": lr, "betas": betas, **numbers, **weighting})


def schedulefree_sgd(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1.0,
    momentum: Inner = 0.9,
    weight_decay: NonNegative = 0.0,
    warmup_steps: NonNegativeInt = 0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
) -> Optimizer:
    """Descent without a schedule: a weighted average of its iterates is what is evaluated.

    Wraps `schedulefree.SGDScheduleFree` (Apache-2.0). It learns at rates from 10 to 50 times those of SGD. ``warmup``
    of ``[schedule]`` does what ``warmup_steps`` does.

    Args:
        lr: learning rate.
        momentum: how far the point of the gradient lies from the newest iterate to the average.
        weight_decay: factor of the weights that is added to the gradient.
        warmup_steps: updates over which the rate rises in a straight line.
        r: power of the update's number in its weight in the average.
        weight_lr_power: power of the largest rate so far in that weight.

    Source: Defazio et al. 2024, "The Road Less Scheduled", section 2; arXiv 2405.15682.
    """
    from trainkit_schedulefree.points import make

    numbers = {"weight_decay": weight_decay, "warmup_steps": warmup_steps}
    weighting = {"r": r, "weight_lr_power": weight_lr_power}
    return make("SGDScheduleFree", schedulefree_sgd, params, {"lr": lr, "momentum": momentum, **numbers, **weighting})


_NAMES = ("schedulefree_adamw", "schedulefree_radam", "schedulefree_sgd")


@hookimpl
def trainkit_components() -> list[Component]:
    libraries = {"schedulefree": f"pip install 'schedulefree=={VERSION}'"}
    # An average callback would be measured in place of the optimizer's own average.
    owns = ("evaluation",)
    return [
        Component("optimizer", schedulefree_adamw, example={"lr": 2.5e-3}, owns=owns, libraries=libraries),
        Component("optimizer", schedulefree_radam, example={"lr": 2.5e-3}, owns=owns, libraries=libraries),
        Component("optimizer", schedulefree_sgd, example={"lr": 1.0}, owns=owns, libraries=libraries),
    ]


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    problems = []
    optimizer, schedule = recipe["optimizer"], recipe["schedule"]
    name = _bare(optimizer)
    for key, table in named_tables(optimizer, "optimizer"):
        if table is not optimizer and _bare(table) in _NAMES:
            message = (
                f"{_bare(table)} keeps an average of the whole model, so that it cannot be a part of another optimizer"
            )
            problems.append(problem_at(recipe, f"{key}.use", message, "write it as the [optimizer] itself"))
    if name not in _NAMES:
        return problems
    if optimizer.get("wrap"):
        message = f"[optimizer] {name} works out its average from the weights, which no other optimizer may move"
        problems.append(problem_at(recipe, "optimizer.wrap.0", message, "leave [[optimizer.wrap]] out"))
    why = f"[optimizer] {name} takes the place of a schedule"
    if schedule["use"].rpartition(":")[2] != "constant":
        message = f"{why}, so that it goes with none: not with '{schedule['use']}'"
        problems.append(problem_at(recipe, "schedule.use", message, 'leave [schedule] out, or write use = "constant"'))
    for number, callback in enumerate(recipe["callback"]):
        if _bare(callback) == "lookahead":
            message = f"[optimizer] {name} works out its average from the weights, which lookahead would move"
            problems.append(problem_at(recipe, f"callback.{number}.use", message, "leave lookahead out"))
    for key in ("multiply", "react"):
        if schedule.get(key):
            message = f"{why}, which [[schedule.{key}]] would bring back"
            problems.append(problem_at(recipe, f"schedule.{key}.0", message, f"leave [[schedule.{key}]] out"))
    for number, also in enumerate(schedule.get("also") or []):
        if str(also.get("target")).split(".")[0] in ("betas", "momentum"):
            message = f"[optimizer] {name} works out its average with '{also['target']}', which must stay as it is"
            problems.append(problem_at(recipe, f"schedule.also.{number}.target", message, "leave this schedule out"))
    for number, group in enumerate(optimizer["group"]):
        for key in ("warmup_steps", "r", "weight_lr_power"):
            if key in group:
                message = f"[optimizer] {name} has one '{key}' for all groups, since they share one average"
                cure = f"write {key} in [optimizer], and leave it out here"
                problems.append(problem_at(recipe, f"optimizer.group.{number}.{key}", message, cure))
    if optimizer.get("warmup_steps") and any(digit in "123456789" for digit in str(schedule["warmup"])):
        message = (
            f'warmup_steps = {optimizer["warmup_steps"]} and [schedule] warmup = "{schedule["warmup"]}" both warm up'
        )
        problems.append(problem_at(recipe, "optimizer.warmup_steps", message, "leave one of them out"))
    return problems


def _bare(table: Mapping[str, Any]) -> str:
    return str(table.get("use", "")).rpartition(":")[2]
