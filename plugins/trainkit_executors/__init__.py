"""Executors: where the trials of a search are trained: here, in processes kept warm, or as lanes of one model."""

from __future__ import annotations

from trainkit import Component, hookimpl


@hookimpl
def trainkit_components() -> list[Component]:
    """The executors."""
    return []
