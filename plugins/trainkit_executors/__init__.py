"""Executors: where the trials of a search are trained: here, in processes kept warm, or as lanes of one model."""

from __future__ import annotations

from trainkit import Component, Executor, hookimpl


def serial() -> Executor:
    """One trial after the other, in the process of the search; nothing is started.

    Source: as ``n_jobs=1`` of Optuna's study.optimize and the like; the reference of every other executor.
    """
    from trainkit_executors.here import Serial

    return Serial()


@hookimpl
def trainkit_components() -> list[Component]:
    """The executors."""
    return [Component("executor", serial)]
