"""A plugin that does at import what it should do when it is called."""

from __future__ import annotations

from pathlib import Path

from trainkit import Component, Schedule, hookimpl

print("a plugin is here")
TEXT = Path(__file__).read_text(encoding="utf-8")


def constant(*, value: float = 1.0) -> Schedule:
    """Stay.

    Args:
        value: the factor.
    """
    return lambda t, T, events=(): value


@hookimpl
def trainkit_components() -> list[Component]:
    return [Component("schedule", constant, "loud")]
