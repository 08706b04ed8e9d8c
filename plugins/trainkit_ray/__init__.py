"""The trials of a search on a Ray cluster."""

from __future__ import annotations

from trainkit import Component, Executor, NonNegative, Positive, PositiveInt, hookimpl


def ray(
    *,
    address: str | None = None,
    workers: PositiveInt | None = None,
    cpus: Positive = 1.0,
    gpus: NonNegative = 0.0,
) -> Executor:
    """Trials on the machines of a Ray cluster, each in a worker that stays for the next; nodes may come and go.

    The study folder must lie where every node sees it under the same path. trainkit, its plugins and torch must be
    installed on every node in the same versions.

    Args:
        address: of the cluster, such as "10.0.0.1:6379"; "auto" for the one that runs here, "local" to begin one here
            for this search alone; unset is RAY_ADDRESS where it is set, else auto where one runs, else local.
        workers: how many trials at once; unset is as many as the cluster has room for.
        cpus: cores that each worker is given, and threads for torch where the recipe's run.threads is unset.
        gpus: GPUs that each worker is given, such as 0.25 for four on one; 0: its trials see none.

    Source: Moritz et al. 2018, "Ray: a distributed framework for emerging AI applications", OSDI; its actors, and none
    of Ray Tune.
    """
    from trainkit_ray.driver import RayExecutor

    return RayExecutor(address, workers, cpus, gpus)


@hookimpl
def trainkit_components() -> list[Component]:
    """The executor."""
    libraries = {"ray": "pip install 'trainkit[ray]'"}
    return [Component("executor", ray, example={"address": "local", "workers": 1}, libraries=libraries)]
