"""Executors: where the trials of a search are trained: here, in processes kept warm, or as lanes of one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainkit import Component, Executor, NonNegativeInt, PositiveInt, Problem, hookimpl


def serial() -> Executor:
    """One trial after the other, in the process of the search; nothing is started.

    Source: as ``n_jobs=1`` of Optuna's study.optimize and the like; the reference of every other executor.
    """
    from trainkit_executors.here import Serial

    return Serial()


def processes(
    *,
    workers: PositiveInt | None = None,
    threads: PositiveInt = 1,
    devices: list[NonNegativeInt] = [],  # noqa: B006 - never changed
) -> Executor:
    """Trials in processes of their own that are kept warm: many at once, on cores or CUDA devices.

    Args:
        workers: how many trials at once; unset is one for each CUDA device where trials use them, else one for each
            core, or for as many of them as the recipe's run.processes.
        threads: CPU threads for torch in each process, where the recipe's run.threads is unset.
        devices: numbers of the CUDA devices that are dealt out to the processes in turn; empty for all.

    Source: as concurrent.futures.ProcessPoolExecutor, which gives up all jobs where one process dies.
    """
    from trainkit_executors.pool import Pool

    return Pool(workers, threads, devices)


def lanes(*, lanes: PositiveInt = 32) -> Executor:
    """Trials trained together as lanes of one vectorised model, in the process of the search, with the same results.

    Trials that differ in more than numbers are trained in groups, and those that cannot be lanes one by one, with the
    reason; docs/searching.md says what can be a lane.

    Args:
        lanes: how many trials at once at the most; fewer where memory is short.

    Source: torch.func's model ensembling with stack_module_state and vmap.
    """
    from trainkit_executors.together import Lanes

    return Lanes(lanes)


def auto(*, lanes: PositiveInt = 32) -> Executor:
    """Lanes where they are faster, else processes where a trial is long enough, else one trial after the other.

    What is faster is measured: twenty updates of the recipe as written, by themselves and in lanes.

    Args:
        lanes: how many trials at once at the most, where lanes are chosen.

    Source: the choice among the three other executors.
    """
    from trainkit_executors.chosen import Auto

    return Auto(lanes)


@hookimpl
def trainkit_components() -> list[Component]:
    """The executors."""
    return [
        Component("executor", serial),
        Component("executor", processes, example={"workers": 1}),
        Component("executor", lanes, example={"lanes": 16}),
        Component("executor", auto, example={"lanes": 16}),
    ]


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    """Lanes are many runs in one process, and a run of several processes is the opposite."""
    from trainkit import problem_at

    processes = recipe["run"]["processes"]
    problems = []
    for name in ("search", "ensemble"):
        use = ((recipe.get(name) or {}).get("executor") or {}).get("use", "")
        if processes > 1 and use.rpartition(":")[2] == "lanes":
            message = f"[{name}] executor lanes trains many runs in one process, and run.processes = {processes}"
            cure = 'leave run.processes out, or write executor = "processes" or "serial"'
            problems.append(problem_at(recipe, f"{name}.executor", message, cure))
    return problems
