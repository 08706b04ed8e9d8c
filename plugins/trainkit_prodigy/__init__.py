"""Prodigy, of the library prodigyopt: Adam that finds its learning rate. Listing it imports neither torch nor that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from trainkit import Between, Component, NonNegative, Positive, PositiveInt, hookimpl, named_tables, problem_at

if TYPE_CHECKING:
    from trainkit import Optimizer, Problem

VERSION = "1.1.2"
Beta = Annotated[float, Between(0, 1, high_open=True)]


def prodigy(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1.0,
    betas: tuple[Beta, Beta] = (0.9, 0.999),
    beta3: Beta | None = None,
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
    decouple: bool = True,
    use_bias_correction: bool = False,
    safeguard_warmup: bool = False,
    d0: Positive = 1e-6,
    d_coef: Positive = 1.0,
    growth_rate: Annotated[float, Between(1, None, low_open=True)] = float("inf"),
    slice_p: PositiveInt = 1,
) -> Optimizer:
    """Prodigy: Adam that estimates its own rate from the distance to the start; ``lr`` is a factor on it.

    Wraps `prodigyopt.Prodigy` (MIT) without its switch for sharded parameters. All groups have one learning rate. Each
    update waits for the device. With a warm-up the estimate needs ``safeguard_warmup``.

    Args:
        lr: factor on the estimated rate, 1 as a rule; a schedule acts on it.
        betas: decay of the two moving averages, gradient and squared gradient.
        beta3: decay of the sums that the estimate is made from; unset is the root of ``betas[1]``.
        eps: added to the root, in proportion to the estimate.
        weight_decay: share of the weights, times the rate, that each update takes off.
        decouple: whether the decay is apart from the gradient, as AdamW has it, or added to it.
        use_bias_correction: correct the averages for their start, as Adam does.
        safeguard_warmup: leave ``lr`` out of the estimate, so that a warm-up does not spoil it.
        d0: first estimate; rarely of consequence.
        d_coef: factor on the estimate; the number to tune.
        growth_rate: the estimate grows at most by this factor an update; 1.02 acts like a warm-up.
        slice_p: make the estimate from every so-manieth number of a tensor; 11 saves most of the extra memory.

    Source: Mishchenko & Defazio 2024, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", algorithm 4;
    arXiv 2306.06101.
    """
    from trainkit_prodigy.adapted import make

    return make(
        prodigy,
        params,
        lr=lr,
        betas=betas,
        beta3=beta3,
        eps=eps,
        weight_decay=weight_decay,
        decouple=decouple,
        use_bias_correction=use_bias_correction,
        safeguard_warmup=safeguard_warmup,
        d0=d0,
        d_coef=d_coef,
        growth_rate=growth_rate,
        slice_p=slice_p,
    )


# The estimate is one for all groups, and the library reads these of the first or the last group.
_OF_ALL_GROUPS = ("betas", "beta3", "use_bias_correction", "d0", "d_coef", "growth_rate", "decouple")


@hookimpl
def trainkit_components() -> list[Component]:
    libraries = {"prodigyopt": f"pip install 'prodigyopt=={VERSION}'"}
    capabilities = {"one_lr": True}
    return [
        Component("optimizer", prodigy, example={"lr": 1.0}, capabilities=capabilities, libraries=libraries),
    ]


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    problems = []
    schedule = recipe["schedule"]
    warms = any(digit in "123456789" for digit in str(schedule["warmup"]))
    for key, table in named_tables(recipe["optimizer"], "optimizer"):
        if table["use"] not in ("prodigy", "trainkit_prodigy:prodigy", "trainkit:prodigy") or "d_coef" not in table:
            continue
        if warms and not table["safeguard_warmup"]:
            message = (
                f'[{key}] prodigy estimates its rate wrongly during warmup = "{schedule["warmup"]}", '
                "as small steps hardly leave the start"
            )
            cure = "write safeguard_warmup = true, or leave warmup out of [schedule]"
            problems.append(problem_at(recipe, "schedule.warmup", message, cure))
        for number, group in enumerate(table.get("group") or []):
            for setting in _OF_ALL_GROUPS:
                if setting in group:
                    message = f"[{key}] prodigy has one '{setting}' for all groups"
                    cure = f"write {setting} in [{key}], and leave it out here"
                    problems.append(problem_at(recipe, f"{key}.group.{number}.{setting}", message, cure))
    return problems
