"""The optimizers of the library pytorch_optimizer, as ``kozistr:soap`` and so on.

Names and signatures stand in `table`, which is made from the library, so that recipes are checked and components listed
where it is not installed; `facts` says what signatures do not. Neither torch nor the library is imported for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainkit import Component, hookimpl, named_tables, problem_at
from trainkit_kozistr import facts
from trainkit_kozistr.entries import PREFIX, entries, factory
from trainkit_kozistr.table import VERSION

if TYPE_CHECKING:
    from trainkit import Problem


@hookimpl
def trainkit_components() -> list[Component]:
    libraries = {"pytorch_optimizer": f"pip install 'pytorch_optimizer=={VERSION}'"}
    return [
        Component(
            "optimizer",
            factory(entry),
            PREFIX + entry.name,
            example=entry.example,
            capabilities=entry.capabilities,
            libraries=libraries,
            exempt=entry.exempt,
        )
        for entry in entries()
    ]


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    problems = []
    warms = any(digit in "123456789" for digit in str(recipe["schedule"]["warmup"]))
    for key, table in named_tables(recipe["optimizer"], "optimizer"):
        use = str(table["use"])
        if not use.startswith(PREFIX):
            continue
        if (refused := facts.REFUSED.get(use.removeprefix(PREFIX))) is not None:
            why, cure = refused
            message = f"[{key}] {use} {why}"
            problems.append(problem_at(recipe, f"{key}.use", message, cure or "choose another optimizer"))
        if table.get("relative_step"):
            problems += _without_schedule(recipe, f"[{key}] {use} works out its rate itself with relative_step = true")
        if warms and table.get("safeguard_warmup") is False:
            message = f'[{key}] {use} estimates its rate wrongly during warmup = "{recipe["schedule"]["warmup"]}"'
            cure = "write safeguard_warmup = true, or leave warmup out of [schedule]"
            problems.append(problem_at(recipe, "schedule.warmup", message, cure))
    return problems


def _without_schedule(recipe: Mapping[str, Any], why: str) -> list[Problem]:
    schedule, cure = recipe["schedule"], "write relative_step = false in [optimizer], or {}"
    if schedule["use"].rpartition(":")[2] != "constant":
        message = f"{why}, so that the schedule '{schedule['use']}' would change nothing"
        return [problem_at(recipe, "schedule.use", message, cure.format('use = "constant" here'))]
    if any(digit in "123456789" for digit in str(schedule["warmup"])):
        message = f'{why}, so that warmup = "{schedule["warmup"]}" would change nothing'
        return [problem_at(recipe, "schedule.warmup", message, cure.format("leave warmup out"))]
    return []
