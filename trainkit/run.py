"""Plain dataclasses that travel between the core and plugins: what a run is made of, and what it yields.

Those of its data are in `trainkit.dataset`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

# Modules that are given a run and its batches find both here.
from trainkit.dataset import Batch as Batch
from trainkit.dataset import Dataset as Dataset
from trainkit.dataset import DataSpec as DataSpec
from trainkit.dataset import Feed as Feed
from trainkit.dataset import Gatherable as Gatherable
from trainkit.dataset import Split as Split
from trainkit.distributed.group import ONE, Group

if TYPE_CHECKING:
    import pluggy
    import torch
    from torch import Tensor, nn

    from trainkit.clock import Clock
    from trainkit.device import Precision
    from trainkit.distributed.sharding import Sharded
    from trainkit.folding import Folding
    from trainkit.protocols import Events, Loss, Metric, Optimizer, Schedule

Status = Literal["finished", "stopped", "failed", "interrupted"]
Metrics = dict[str, float]


@dataclass(slots=True)
class StepResult:
    """What one call of the step program did.

    Args:
        losses: ``()`` or ``(updates,)``, the mean loss of each update's samples, on the device, detached.
        weights: what each mean was divided by, number or tensor of the shape of ``losses``: samples, unless the loss
            says otherwise.
        outputs: ``(samples, ...)`` what the model gave, detached, batch by batch; empty where metrics of the training
            batches are not wanted.
        targets: the targets that belong to ``outputs``.
        updates: optimizer updates made; less than planned where non-finite ones were skipped.
        skipped: updates left out because loss or gradients were not finite.
    """

    losses: Tensor
    weights: Tensor | float
    outputs: Sequence[Tensor] = ()
    targets: Sequence[Tensor] = ()
    updates: int = 1
    skipped: int = 0


@dataclass
class Report:
    """What ``report.json`` holds; see docs/run-folder.md."""

    status: Status
    reason: str
    steps: int
    epochs: float
    seconds: float
    metrics: Metrics
    best: dict[str, Any] | None
    weights_sha256: str
    microbatch: int | None = None
    memory: dict[str, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON writes it; ``microbatch`` only where batches were taken in parts, ``memory`` on CUDA."""
        report = dataclasses.asdict(self)
        for name in ("microbatch", "memory"):
            if report[name] is None:
                del report[name]
        return report


@dataclass(slots=True)
class Spent:
    """What one part of a run has taken.

    Args:
        seconds: wall seconds, without those of other parts that it called.
        calls: how often it was called; of data, batches.
    """

    seconds: float = 0.0
    calls: int = 0


class Watcher(Protocol):
    """Looks at figures and decides upon events.

    Args:
        watches: what looks; each has ``label`` and ``monitor``.
    """

    @property
    def watches(self) -> Sequence[Any]:
        """What looks."""
        ...

    def observe(self, run: Run, figures: Metrics) -> None:
        """Take in figures such as ``{"val.loss": 0.3}``."""
        ...


class _Unwatched:
    watches = ()

    def observe(self, run: Run, figures: Metrics) -> None:
        return


def _say_nothing(text: str) -> None:
    """For runs that nobody watches."""


def _follow_nothing(done: int, total: int) -> None:
    """For evaluations that nobody watches."""


@dataclass
class Run:
    """One training: everything built from the filled recipe, and where it stands.

    Args:
        recipe: the filled recipe, plain tables.
        seed: the recipe's seed.
        folder: the run folder.
        device: where model and batches live.
        clock: units of time; ``clock.total_updates`` is ``T``.
        feed: batches.
        model: the network, on ``device``.
        forward: calls the model on inputs, in the layout and compiled form that the recipe asks for.
        precision: number format of forward and backward, and the loss scaler.
        loss: ``loss(outputs, targets)``, a mean over the batch.
        metrics: metrics of the recipe by name.
        hook: the run's own hook relay (`pluggy`), holding plugins in use and built objects.
        optimizer: the optimizer, holding all parameter groups.
        bases: what each group held when it was made, by name, before any schedule: the base values.
        schedules: one for each scheduled value.
        step: ``t``, optimizer updates made so far.
        epoch: epochs begun and not ended, from 0.
        batch_in_epoch: loader batches already taken in this epoch.
        skipped: updates left out because they were not finite.
        skipped_in_a_row: how many of those were the newest updates tried.
        events: decisions taken from metrics, as ``(t, kind)``; kept in the checkpoint.
        history: every line of ``metrics.jsonl`` so far; all but the newest are read from the file when asked for.
        stop_reason: set by whoever wants the run to end at the next step boundary.
        interrupted: whether the reason is a signal from outside.
        keep_at: updates tried after which a checkpoint is saved and pinned, so that it stays; whoever wants such adds
            them before the run starts.
        interrupted_at: when the signal came, on the monotonic clock; 0 where none did.
        microbatch: samples that go through the model at once; ``None``: all of a batch.
        folding: folds BatchNorms for evaluations; ``None`` where that is not wanted.
        reactions: shown every new figure; turns them into events.
        say: tells the user something about the run, once.
        measuring: told after each batch of an evaluation how many samples are measured, and of how many.
        profile: seconds and calls by what they were spent on, where ``--profile`` asked for it.
        group: the processes that make this run together; mostly one.
        sharded: what divides the model among them, where each holds only some rows of its parameters.
        decided: outputs of which the likelier class is the one that is decided for, where a plugin decides by other
            than equal odds; ``predict`` and pages take predicted classes from them. ``None``: outputs themselves.
        own_figures: figures that components measure themselves: whether a higher one is better.
        pretrained: where the weights that the model began with come from, and what of them matched; ``None`` where they
            were drawn, and in a run that is continued.
        wish: why this process of several was asked to stop by a signal; they agree on it after an update.
    """

    recipe: Mapping[str, Any]
    seed: int
    folder: Path
    device: torch.device
    clock: Clock
    feed: Feed
    model: nn.Module
    forward: Callable[[Tensor], Tensor]
    precision: Precision
    loss: Loss
    metrics: Mapping[str, Metric]
    hook: pluggy.HookRelay
    # Made after the run exists, since hooks that take part in making them are given the run.
    optimizer: Optimizer = field(init=False)
    bases: list[dict[str, Any]] = field(default_factory=list)
    schedules: Sequence[ScheduledValue] = field(default=())
    step: int = 0
    epoch: int = 0
    batch_in_epoch: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    events: list[tuple[int, str]] = field(default_factory=list)
    history: Sequence[Mapping[str, Any]] = ()
    stop_reason: str | None = None
    interrupted: bool = False
    interrupted_at: float = 0.0
    keep_at: set[int] = field(default_factory=set)
    microbatch: int | None = None
    folding: Folding | None = None
    profile: dict[str, Spent] = field(default_factory=dict)
    reactions: Watcher = field(default_factory=lambda: _Unwatched())
    say: Callable[[str], None] = field(default=_say_nothing)
    measuring: Callable[[int, int], None] = field(default=_follow_nothing)
    group: Group = ONE
    sharded: Sharded | None = None
    decided: Callable[[Tensor], Tensor] | None = None
    own_figures: Mapping[str, bool] = field(default_factory=dict)
    wish: str | None = None
    pretrained: Mapping[str, Any] | None = None

    def higher_is_better(self, figure: str) -> bool:
        """Whether a figure such as ``val.accuracy`` is better when it is higher; losses are not."""
        name = figure.partition(".")[2]
        metric = self.metrics.get(name)
        return self.own_figures.get(name, False) if metric is None else metric.higher_is_better

    @property
    def position(self) -> int:
        """Updates tried: those made, and those left out because they were not finite."""
        return self.step + self.skipped

    @property
    def total_updates(self) -> int:
        """The updates planned for the whole run."""
        return self.clock.total_updates

    @property
    def schedule_updates(self) -> int:
        """``T`` as schedules see it: the run's length, unless a continued run keeps the one it began with."""
        return self.clock.schedule_updates


@dataclass(frozen=True)
class ScheduledValue:
    """One scheduled number: it follows ``base * schedule(t, T, events)``.

    Args:
        label: how previews and logs call it, such as ``lr/0``.
        base: its value where the schedule gives 1.
        schedule: the pure function of time.
        group: index of the parameter group, for a number of the optimizer.
        name: its key in the group, such as ``lr``.
        put: sets a number that is no plain entry of a group.
        whole: whether the number is whole: it is rounded, and at least 1.
    """

    label: str
    base: float
    schedule: Schedule
    group: int | None = None
    name: str = ""
    put: Callable[[float], None] | None = None
    whole: bool = False

    def at(self, t: int, total: int, events: Events = ()) -> float:
        """The number for update ``t`` of ``total``."""
        value = self.base * self.schedule(t, total, events)
        return max(1, round(value)) if self.whole else value
