"""Language modelling: text as data, transformers, and the figures of both."""

from __future__ import annotations

from trainkit import Component, hookimpl
from trainkit_text.data import data
from trainkit_text.figures import figures
from trainkit_text.models import models


@hookimpl
def trainkit_components() -> list[Component]:
    """List the components."""
    return [*data(), *figures(), *models()]
