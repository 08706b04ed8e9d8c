"""The components that DESIGN.md's example of two problems names."""

from __future__ import annotations

from trainkit import Component, Fraction, hookimpl


def named(kind: str, name: str) -> Component:
    """A component without settings."""

    def nothing() -> None:
        """Nothing."""

    return Component(kind, nothing, name=name)


def sgd(*, lr: float = 0.1, momentum: Fraction = 0.0, nesterov: bool = False, weight_decay: float = 0.0) -> None:
    """Descend."""


def cosine(*, end: Fraction = 0.0) -> None:
    """Half a cosine."""


@hookimpl
def trainkit_components() -> list[Component]:
    kinds = {"data": "digits", "model": "resnet", "loss": "cross_entropy", "metric": "accuracy", "logger": "curves"}
    return [
        *(named(kind, name) for kind, name in kinds.items()),
        *(named("optimizer", name) for name in ("adam", "adamw", "lion")),
        Component("optimizer", sgd),
        Component("schedule", cosine),
    ]
