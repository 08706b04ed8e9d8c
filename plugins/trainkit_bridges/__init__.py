"""Models of other libraries, with weights that lie on this machine: timm, torchvision, transformers."""

from __future__ import annotations

from trainkit import Component, hookimpl


@hookimpl
def trainkit_components() -> list[Component]:
    """List the components."""
    return []
