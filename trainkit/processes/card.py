"""What the processes of one training must have alike."""

from __future__ import annotations

import platform

import torch

import trainkit
from trainkit.distributed.meeting import Card, flat
from trainkit.recipe import Recipe


def card_of(recipe: Recipe) -> Card:
    """What the processes of a run must have alike: its recipe, and the versions of what computes it.

    Args:
        recipe: the checked recipe, with all defaults.
    """
    plugins = dict(plugin.recorded_version for plugin in recipe.plugins_in_use())
    versions = {
        **{f"version of {name}": version for name, version in plugins.items()},
        "version of trainkit": trainkit.__version__,
        "version of torch": torch.__version__,
        "version of Python": ".".join(platform.python_version_tuple()[:2]),
    }
    return {"recipe": flat(recipe.tables), "versions": versions}
