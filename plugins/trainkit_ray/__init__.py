"""The trials of a search on a Ray cluster."""

from __future__ import annotations

from typing import Literal

from trainkit import Component, Executor, NonNegative, Positive, PositiveInt, hookimpl


def ray(
    *,
    cluster: Literal["auto", "local"] = "auto",
    workers: PositiveInt | None = None,
    cpus: Positive | None = None,
    gpus: NonNegative | None = None,
    memory: Positive | None = None,
) -> Executor:
    """Trials on the machines of a Ray cluster, each in a worker that stays for the next; nodes may come and go.

    trainkit, its plugins and torch must be installed on every node in the same versions. Where a node sees the study
    folder under the same path, runs are written there; else their folders are carried to and fro.

    Args:
        cluster: auto is that of the command line's --on, else of the environment's RAY_ADDRESS where it is set, else
            the one that this machine is part of, else one begun here for this search alone; local begins one here,
            unless --on names one. An address cannot stand in a recipe: what comes from a cluster is trusted, and a
            recipe may be a stranger's.
        workers: how many trials at once; unset is as many as the cluster has room for.
        cpus: cores for each process of a trial, and threads for torch where the recipe's run.threads is unset; unset
            is that number of threads, else 1.
        gpus: GPUs for each process of a trial, such as 0.25 for four trials on one; 0: they see none; unset is 1 where
            run.device is cuda, or auto on a cluster that has GPUs, else 0.
        memory: GiB of a node's memory that are reserved for each process of a trial; unset reserves none.

    Source: Moritz et al. 2018, "Ray: a distributed framework for emerging AI applications", OSDI; its actors, and none
    of Ray Tune.
    """
    from trainkit_ray.driver import RayExecutor
    from trainkit_ray.share import Share

    return RayExecutor(cluster, workers, Share(cpus, gpus, memory))


@hookimpl
def trainkit_components() -> list[Component]:
    """The executor."""
    libraries = {"ray": "pip install 'trainkit[ray]'"}
    example = {"cluster": "local", "workers": 1}
    return [Component("executor", ray, example=example, capabilities={"elsewhere": True}, libraries=libraries)]
