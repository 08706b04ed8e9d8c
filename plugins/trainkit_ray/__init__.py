"""The trials of a search on a Ray cluster."""

from __future__ import annotations

from typing import Literal

from trainkit import Component, Executor, NonNegative, Positive, PositiveInt, hookimpl


def ray(
    *,
    cluster: Literal["auto", "local"] = "auto",
    workers: PositiveInt | None = None,
    cpus: Positive = 1.0,
    gpus: NonNegative = 0.0,
) -> Executor:
    """Trials on the machines of a Ray cluster, each in a worker that stays for the next; nodes may come and go.

    The study folder must lie where every node sees it under the same path. trainkit, its plugins and torch must be
    installed on every node in the same versions.

    Args:
        cluster: auto is that of the environment's RAY_ADDRESS where it is set, else the one that this machine is part
            of, else one begun here for this search alone; local always begins one here. An address cannot stand in a
            recipe: what comes from a cluster is trusted, and a recipe may be a stranger's.
        workers: how many trials at once; unset is as many as the cluster has room for.
        cpus: cores that each worker is given, and threads for torch where the recipe's run.threads is unset.
        gpus: GPUs that each worker is given, such as 0.25 for four on one; 0: its trials see none.

    Source: Moritz et al. 2018, "Ray: a distributed framework for emerging AI applications", OSDI; its actors, and none
    of Ray Tune.
    """
    from trainkit_ray.driver import RayExecutor

    return RayExecutor(cluster, workers, cpus, gpus)


@hookimpl
def trainkit_components() -> list[Component]:
    """The executor."""
    libraries = {"ray": "pip install 'trainkit[ray]'"}
    return [Component("executor", ray, example={"cluster": "local", "workers": 1}, libraries=libraries)]
