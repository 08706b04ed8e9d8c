"""A second plugin, which supplies a component of a name that the first one has too."""

from __future__ import annotations

from trainkit import Component, hookimpl


def early_stop(*, patience: int = 3) -> None:
    """Stop early in another way."""


def twin() -> None:
    """Alone of its name."""


@hookimpl
def trainkit_components() -> list[Component]:
    return [Component("callback", early_stop), Component("callback", twin)]
