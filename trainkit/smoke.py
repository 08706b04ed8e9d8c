"""Whether a recipe works at all: two updates, one evaluation, one save and load, in seconds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from trainkit import checkpoint, snapshot
from trainkit.build import build
from trainkit.distributed import WHOLE, Share
from trainkit.errors import CheckpointError
from trainkit.hookspecs import hookimpl
from trainkit.loop import train
from trainkit.manager import Plugins
from trainkit.outcome import named, report_of
from trainkit.protocols import Progress
from trainkit.recipe import Recipe
from trainkit.recorder import Recorder
from trainkit.run import Report, Run
from trainkit.rundir import RunFolder

UPDATES = 2
EVALUATION_BATCHES = 2
REASON = "smoke: two updates, one evaluation, one save and load"


def smoke(recipe: Recipe, plugins: Plugins, listeners: Sequence[object], progress: Progress) -> Report:
    """Train for two updates in a temporary folder, measure, save, and load what was saved.

    A compiled step would take longer to compile than all of this; it runs eagerly here.

    Raises:
        TrainkitError: whatever keeps the recipe from working, as a whole run would raise it.
    """
    recipe.tables["run"] = {**recipe.tables["run"], "compile": False, "updates_per_call": None}
    with tempfile.TemporaryDirectory(prefix="trainkit-smoke-") as name, RunFolder(Path(name) / "run") as place:
        built = build(recipe, plugins, place.path, progress, [*listeners, _Stop()])
        run = built.run
        run.feed = ShortFeed(run.feed)
        recorder = Recorder(run, place)
        try:
            train(run, built.program, recorder)
            recorder.evaluate(next((split for split in ("val", "test") if split in run.feed.spec.sizes), "train"))
            before = checkpoint.weights_sha256(run.model)
            _, tensors, state = checkpoint.load_newest(place.path / "checkpoints")
            with torch.no_grad():
                for parameter in run.model.parameters():
                    parameter.zero_()
            snapshot.restore_weights(run, tensors, state)
        except Exception as error:
            raise named(error, plugins, run) from error
        finally:
            recorder.close()
            run.feed.close()
        if checkpoint.weights_sha256(run.model) != before:
            raise CheckpointError("the weights came back changed from the checkpoint; please report this")
        return report_of(recorder, "finished", REASON)


class _Stop:
    """Ends the run after a few updates."""

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.position >= UPDATES:
            run.stop_reason = REASON


class ShortFeed:
    """A feed whose evaluation ends after a few batches."""

    def __init__(self, feed: Any) -> None:
        self._feed = feed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    def evaluate(self, split: str, share: Share = WHOLE) -> Iterator[Any]:
        """The first batches of a split."""
        for number, batch in enumerate(self._feed.evaluate(split, share)):
            if number == EVALUATION_BATCHES:
                return
            yield batch
