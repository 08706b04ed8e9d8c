"""A measured ensemble shown to plugins, which may draw it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainkit.hooking import tell_each
from trainkit.manager import Plugins


def tell_plugins(folder: Path, report: Mapping[str, Any], plugins: Plugins, say: Callable[[str], None]) -> None:
    """Call ``trainkit_ensemble_end`` of the modules of all plugins; their errors are shown and change nothing.

    Of all, not of those in use alone, as after a search: no table of a recipe names who draws an ensemble.
    """
    plugins.load()
    tell_each(
        plugins.plugins,
        lambda hook: hook.trainkit_ensemble_end(folder=folder, report=report),
        lambda error: say(f"after the ensemble: {plugins.blame(error) or error}"),
    )
