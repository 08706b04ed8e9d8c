"""The trials of a search on a Ray cluster."""

from __future__ import annotations

from trainkit import Component, hookimpl


@hookimpl
def trainkit_components() -> list[Component]:
    """The executor."""
    return []
