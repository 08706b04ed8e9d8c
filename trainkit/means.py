"""Means of speed: which settings they are, and when one does anything (``trainkit bench``).

This table is the only place where they are listed. A test holds it to the settings of ``[run]`` and ``[data]``: each
is a means, or is named in `NOT_MEANS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainkit.allocator import can_keep_pages
from trainkit.recorder import UNPAUSED_SAVES

if TYPE_CHECKING:
    from trainkit.build import Built

LATE = '"1dur"'  # an interval as long as the run: nothing is due before its end


@dataclass(frozen=True)
class Window:
    """The updates of a run that are timed.

    Args:
        built: the run as its recipe says.
        start: updates made before; what is due after the last of them counts.
        updates: how many are timed; what is due after the last of them does not count.
    """

    built: Built
    start: int
    updates: int

    def setting(self, name: str) -> object:
        """A setting of ``[run]``."""
        return self.built.run.recipe["run"][name]

    def due(self, name: str) -> bool:
        """Whether what ``log_every``, ``evaluate_every`` or ``save_every`` says comes within."""
        run = self.built.run
        next_due = run.clock.interval(run.recipe["run"][name]).after(self.start - 1)
        return next_due < min(self.start + self.updates, run.total_updates)

    @property
    def saves(self) -> int:
        """How many checkpoints ``save_every`` asks for up to the last update."""
        run = self.built.run
        interval, count, position = run.clock.interval(run.recipe["run"]["save_every"]), 0, 0
        while (position := interval.after(position)) < min(self.start + self.updates, run.total_updates):
            count += 1
        return count

    @property
    def evaluates(self) -> bool:
        """Whether the validation split is measured within."""
        return self.due("evaluate_every") and "val" in self.built.run.feed.spec.sizes


@dataclass(frozen=True)
class Mean:
    """One means of speed.

    Args:
        key: its setting.
        off: what the setting is where it is switched off, as TOML, or what gives that of the filled recipe.
        active: whether it does anything within the updates that are timed.
        drops: settings that mean nothing without it.
        same_work: whether switching it off leaves the updates' work as it is, as a raw loop has it.
    """

    key: str
    off: str | Callable[[Mapping[str, Any]], str]
    active: Callable[[Window], bool]
    drops: tuple[str, ...] = ()
    same_work: bool = True

    def off_in(self, tables: Mapping[str, Any]) -> str:
        """What switches it off in a filled recipe, as TOML."""
        return self.off if isinstance(self.off, str) else self.off(tables)


def _folds(window: Window) -> bool:
    folding = window.built.run.folding
    return folding is not None and bool(folding.pairs)


def _compiled_step(window: Window) -> bool:
    return window.setting("compile") not in (False, "model")


def _graphs(window: Window) -> bool:
    return _compiled_step(window) and bool(window.setting("cuda_graphs")) and window.built.run.device.type == "cuda"


def _tunes(window: Window) -> bool:
    return bool(window.setting("tune_convolutions")) and window.built.run.device.type == "cuda"


def _channels_last(window: Window) -> bool:
    import torch

    parameters = window.built.run.model.parameters()
    return any(
        p.dim() == 4 and not p.is_contiguous() and p.is_contiguous(memory_format=torch.channels_last)
        for p in parameters
    )


MEANS: tuple[Mean, ...] = (
    Mean(
        "run.compile",
        "false",
        lambda w: w.setting("compile") is not False,
        drops=("run.updates_per_call", "run.cuda_graphs"),
    ),
    Mean("run.updates_per_call", "1", lambda w: _compiled_step(w) and w.built.program.updates_per_call > 1),
    Mean("run.cuda_graphs", "false", _graphs),
    Mean("run.channels_last", "false", _channels_last),
    Mean("run.tune_convolutions", "false", _tunes),
    Mean("run.precision", '"float32"', lambda w: w.built.run.precision.name != "float32", same_work=False),
    Mean("run.keep_pages", "false", lambda w: bool(w.setting("keep_pages")) and can_keep_pages()),
    Mean("data.loading", '"streamed"', lambda w: w.built.run.recipe["data"]["loading"] != "streamed", same_work=False),
    Mean("run.fold_batchnorm", "false", lambda w: w.evaluates and _folds(w)),
    Mean(
        "data.eval_batch_size",
        lambda tables: str(tables["data"]["batch_size"]),
        lambda w: w.evaluates and w.built.run.recipe["data"]["eval_batch_size"] is None,
    ),
    Mean(
        "run.save_in_background",
        "false",
        lambda w: bool(w.setting("save_in_background")) and w.due("save_every"),
    ),
    Mean("run.save_pause", "0.0", lambda w: w.setting("save_pause") != 0.0 and w.saves > UNPAUSED_SAVES),
    Mean("run.save_every", LATE, lambda w: w.due("save_every")),
    Mean("run.evaluate_every", LATE, lambda w: w.evaluates),
    Mean("run.log_every", LATE, lambda w: w.due("log_every")),
)

# Those that say what is trained, on what and how long, or what happens when something goes wrong.
NOT_MEANS = {
    "run": (
        *(
            "duration",
            "device",
            "processes",
            "strategy",
            "batchnorm",
            "accumulate",
            "threads",
            "microbatch",
            "nonfinite",
            "rollback_factor",
            "rollbacks",
        ),
        *("keep", "save_best", "monitor", "on_length_change", "on_conflict"),
    ),
    "data": (
        *("batch_size", "workers", "worker_timeout", "shuffle", "sampling", "drop_last", "augment"),
        *("seed", "folds", "fold", "fold_by", "train_on", "bag"),
    ),
}
