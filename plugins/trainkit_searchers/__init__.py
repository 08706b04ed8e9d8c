"""Searchers: what a search tries next, from a plain grid to Bayesian models, rungs over any of them, populations."""

from __future__ import annotations

from trainkit import Component, hookimpl


@hookimpl
def trainkit_components() -> list[Component]:
    """The searchers."""
    return []
