"""Sequences and time series: data of files, recurrent and convolutional models."""

from __future__ import annotations

from trainkit import Component, hookimpl


@hookimpl
def trainkit_components() -> list[Component]:
    """List the components."""
    return []
