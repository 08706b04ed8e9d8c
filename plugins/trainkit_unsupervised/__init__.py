"""Learning without labels: autoencoders and contrastive learning."""

from __future__ import annotations

from trainkit import Component, hookimpl


@hookimpl
def trainkit_components() -> list[Component]:
    """List the components."""
    return []
