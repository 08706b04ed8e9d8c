"""Finished runs built again for their report, and what keeps one from being built."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit.errors import TrainkitError

if TYPE_CHECKING:
    from trainkit.manager import Plugins
    from trainkit.protocols import Progress
    from trainkit.report.look import Look


def look_into(folder: Path, split: str | None, plugins: Plugins, progress: Progress) -> tuple[Look | None, str]:
    """Build a run again, with the weights of its newest checkpoint, and look at what it predicts for a split.

    Args:
        folder: the run folder.
        split: the split; validation, else test, else training samples if not given.
        plugins: the plugins of this process.
        progress: told how far building has come.

    Returns:
        What was seen; or nothing and why, where the run cannot be built here: data, plugin or checkpoint is missing.

    Raises:
        UsageError: if the data has no split that was named.
    """
    import contextlib

    from trainkit.allocator import keep_pages
    from trainkit.errors import UsageError
    from trainkit.finished import reopen, require_split, warn
    from trainkit.report.look import look_at

    try:
        made = reopen(folder, plugins, progress)
    except UsageError:
        raise
    except TrainkitError as error:
        return None, f"what the model predicts is not shown: {error}"
    warn(made)
    run = made.run
    with keep_pages(run.recipe["run"]["keep_pages"]), contextlib.closing(run.feed):
        if split is not None:
            require_split(run.feed.spec, split)
        try:
            look = look_at(run, split or split_of(run.feed.spec.sizes))
        except TrainkitError as error:
            return None, f"what the model predicts is not shown: {error}"
    look.events = _events(made.state.get("events"))  # the run itself has those that it decides upon from here on
    return look, ""


def _events(found: Any) -> list[tuple[int, str]]:
    """What was decided on the way, as a checkpoint has it; nothing of another form."""
    pairs = [event for event in found if isinstance(event, list) and len(event) == 2] if isinstance(found, list) else []
    return [(at, kind) for at, kind in pairs if isinstance(at, int) and isinstance(kind, str)]


def split_of(sizes: Container[str]) -> str:
    """The split that is looked at where none is named: one that the model has not been trained on, if there is one."""
    return next((name for name in ("val", "test") if name in sizes), "train")
