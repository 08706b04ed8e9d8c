"""Finished runs built again for their report, and what keeps one from being built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
    from trainkit.finished import open_run, require_split
    from trainkit.report.look import look_at

    try:
        run = open_run(folder, plugins, progress)
    except UsageError:
        raise
    except TrainkitError as error:
        return None, f"what the model predicts is not shown: {error}"
    with keep_pages(run.recipe["run"]["keep_pages"]), contextlib.closing(run.feed):
        if split is not None:
            require_split(run.feed.spec, split)
        try:
            return look_at(run, split or split_of(run.feed.spec.sizes)), ""
        except TrainkitError as error:
            return None, f"what the model predicts is not shown: {error}"


def split_of(sizes: object) -> str:
    """The split that is looked at where none is named: one that the model has not been trained on, if there is one."""
    assert hasattr(sizes, "__contains__")
    return next((name for name in ("val", "test") if name in sizes), "train")
