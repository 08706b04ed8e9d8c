"""A job whose run is trained together with others: what it does between its updates, and evaluations made for all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainkit.dataset import Batch
from trainkit.errors import MachineError
from trainkit.evaluate import Defaults, Meter, figures_of
from trainkit.hookspecs import hookimpl
from trainkit.lanes.lane import Lane, as_if_alone
from trainkit.loop import Underway, make_updates
from trainkit.recorder import Recorder
from trainkit.run import Metrics, Run, StepResult
from trainkit.signals import Stopper
from trainkit.steps import implemented
from trainkit.work import Job, Outcome

if TYPE_CHECKING:
    from trainkit.lanes.stack import Stack

OUTPUTS_AT_ONCE = 16384  # samples of all lanes together that go through the model at once in evaluations


class Ahead:
    """Gives an evaluation whose forward passes were made for all lanes at once."""

    stateless = True

    def __init__(self) -> None:
        self.made: list[tuple[Batch, Tensor]] | None = None
        self.figures: Metrics | None = None

    @hookimpl
    def trainkit_evaluate(self, run: Run, split: str) -> Metrics | None:
        """Called after all plugins and before the core's own, which makes the evaluations that are not made ahead."""
        made, figures, self.made, self.figures = self.made, self.figures, None, None
        return figures if made is None or figures is not None else figures_of(run, made)


class Member:
    """A job on its way.

    Args:
        job: the job.
        parts: its run, as `trainkit.trial_run.job_parts` gives it, with ``ahead`` among its listeners.
        stopper: lets others stop the run.
        ahead: gives it evaluations that were made for all.

    Attributes:
        outcome: how it came to rest.
        fatal: what no other run would fare better with, such as a full disk.
        order: what the order of its batches follows from.
    """

    def __init__(self, job: Job, parts: Generator[Underway, None, Outcome], stopper: Stopper, ahead: Ahead) -> None:
        self.job = job
        self.parts = parts
        self.stopper = stopper
        self.ahead = ahead
        self.stretch: Underway | None = None
        self.lane: Lane | None = None
        self.outcome: Outcome | None = None
        self.fatal: MachineError | None = None
        self.order: tuple[str, int] = "", 0

    @property
    def rests(self) -> bool:
        """Whether it has come to rest, or can go no further."""
        return self.outcome is not None or self.fatal is not None

    @property
    def run(self) -> Run:
        """The run, which is built."""
        assert self.stretch is not None
        return self.stretch.run

    @property
    def recorder(self) -> Recorder:
        """What logs, evaluates and saves the run, which is built."""
        assert self.stretch is not None
        return self.stretch.recorder

    def proceed(self, error: BaseException | None = None) -> None:
        """Do all that is due until the next updates, or to the end; the global random numbers are the run's afterwards.

        Args:
            error: what went wrong with the updates.
        """
        lane = self.lane
        if lane is not None:
            lane.put()
        try:
            self._proceed(error)
        finally:
            if lane is not None and self.lane is lane:
                lane.hold()

    def _proceed(self, error: BaseException | None) -> None:
        self.stretch = None  # a run that goes back to a checkpoint is built anew, and its memory must be free
        try:
            stretch = next(self.parts) if error is None else self.parts.throw(error)
        except StopIteration as end:
            self.outcome, self.lane = end.value, None
            return
        except MachineError as machine:
            self.fatal, self.lane = machine, None
            return
        self.stretch, self.ahead.made, self.ahead.figures = stretch, None, None
        if self.lane is None or self.lane.run is not stretch.run:
            assert stretch.recipe is not None
            self.lane = Lane(stretch.run, stretch.recipe)
            tables = stretch.run.recipe
            self.order = json.dumps(tables["data"], default=str, sort_keys=True), stretch.run.seed
            self._step_end = implemented(stretch.run, "trainkit_step_end")

    def update_alone(self) -> None:
        """Make updates by itself until something is due, and do that."""
        assert self.lane is not None
        assert self.stretch is not None
        error: BaseException | None = None
        with as_if_alone(self.lane):
            try:
                make_updates(self.stretch)
            except (Exception, SystemExit) as raised:
                error = raised
        self.proceed(error)

    def took(self, result: StepResult) -> bool:
        """Count an update that was made for this run among others; say whether anything is due."""
        assert self.stretch is not None
        run, recorder = self.stretch.run, self.stretch.recorder
        run.step += result.updates
        run.skipped += result.skipped
        run.batch_in_epoch += 1
        recorder.tally.add(result)
        if self._step_end is not None and self.lane is not None:
            with as_if_alone(self.lane):
                self._step_end(run=run, result=result)
        return self._is_due

    def took_all(self, result: StepResult | None, updates: int) -> bool:
        """Take in what updates yielded that are counted already; say whether anything is due.

        Args:
            result: what they did; ``None`` if the tally has it.
            updates: how many.
        """
        if result is not None:
            self.recorder.tally.add(result, updates)
        return self._is_due

    @property
    def _is_due(self) -> bool:
        run, recorder = self.run, self.recorder
        return run.step + run.skipped >= recorder.next_due or run.stop_reason is not None or recorder.saver.failed

    @property
    def updates_left(self) -> int:
        """Updates until something is due."""
        return self.recorder.next_due - self.run.position

    @property
    def looks_at_updates(self) -> bool:
        """Whether somebody is told of every update."""
        return self._step_end is not None

    @property
    def measured_with_others(self) -> bool:
        """Whether an evaluation is due that needs nothing but the model's outputs for the split."""
        if self.stretch is None or not self.stretch.recorder.evaluates or self.run.stop_reason is not None:
            return False
        return all(type(impl.plugin) in (Defaults, Ahead) for impl in self.run.hook.trainkit_evaluate.get_hookimpls())

    def close(self) -> None:
        """Leave the run as if its process were killed here."""
        self.parts.close()


def metrics_alike(runs: Sequence[Run]) -> bool:
    """Whether the metrics of all runs are made alike."""
    first = runs[0].recipe.get("metric")
    return first is not None and all(run.recipe.get("metric") == first for run in runs)


def evaluate_ahead(stack: Stack, members: Sequence[Member], due: Sequence[Member]) -> None:
    """Make the forward passes of the evaluations that are due for several lanes on the same samples at once.

    Args:
        stack: the stack.
        members: its members, by place.
        due: those of them at which something is due.
    """
    wanted: dict[Any, list[Member]] = {}
    for member in due:
        if member.measured_with_others:
            seed = member.run.recipe["data"].get("seed")
            wanted.setdefault((member.order[0], member.run.seed if seed is None else seed), []).append(member)
    row = {id(member): number for number, member in enumerate(members)}
    for alike in wanted.values():
        if 2 * len(alike) < len(members) or len(alike) < 2:  # most outputs would be made for nothing
            continue
        try:
            _make_ahead(stack, alike, [row[id(member)] for member in alike], len(members))
        except (Exception, SystemExit):  # each evaluates by itself, which shows whose mistake it is
            for member in alike:
                member.ahead.made = member.ahead.figures = None


def _make_ahead(stack: Stack, alike: Sequence[Member], rows: Sequence[int], lanes: int) -> None:
    """Give runs the model's outputs for the same samples, and all figures where these can be told at once.

    Args:
        stack: the stack.
        alike: the runs.
        rows: the row of each in what the stack gives.
        lanes: rows that the stack gives.
    """
    for member in alike:
        member.ahead.made = []
    together: list[tuple[Batch, Tensor]] = []
    for batch in alike[0].run.feed.evaluate("val"):
        stacked = _outputs(stack, batch.inputs, lanes)
        together.append((batch, stacked))
        outputs = stacked.unbind(0)
        for member, number in zip(alike, rows, strict=True):
            made = member.ahead.made
            assert made is not None
            made.append((batch, outputs[number]))
    runs = [member.run for member in alike]
    if len(alike) == lanes and getattr(runs[0].loss, "weight", None) is None and metrics_alike(runs):
        with contextlib.suppress(Exception, SystemExit):  # each run by itself says what is wrong
            for member, figures in zip(alike, _figures(runs, together), strict=False):
                member.ahead.figures = figures


def _figures(runs: Sequence[Run], together: Sequence[tuple[Batch, Tensor]]) -> Sequence[Metrics]:
    """Loss and metrics of each run, of outputs ``(runs, batch, ...)``; none where metrics are to be told run by run."""
    meters = [Meter(dict(run.metrics), run.loss) for run in runs]
    total, weight = torch.zeros((), dtype=torch.float64, device=runs[0].device), 0
    for batch, outputs in together:
        targets = batch.targets.expand(len(runs), *batch.targets.shape)
        if not Meter.update_together(meters, outputs, targets):
            return []
        with runs[0].precision.context():
            parts = zip(runs, outputs.unbind(0), strict=True)
            values = torch.stack([run.loss(part, batch.targets) for run, part in parts])
        total = total + values.detach().double() * len(batch.targets)
        weight += len(batch.targets)
    losses = (total / weight).tolist()
    return [{"loss": loss, **meter.compute_metrics()} for loss, meter in zip(losses, meters, strict=True)]


def _outputs(stack: Stack, inputs: Tensor, lanes: int) -> Tensor:
    at_once = max(256, OUTPUTS_AT_ONCE // lanes)
    if len(inputs) <= at_once:
        return stack.outputs(inputs)
    return torch.cat([stack.outputs(part) for part in torch.split(inputs, at_once)], 1)


class Batches:
    """The batches of many runs: those that are at the same place of the same order share one."""

    def __init__(self) -> None:
        self._next: dict[Any, Iterator[Batch]] = {}

    def take(self, members: Sequence[Member]) -> list[Batch | BaseException]:
        """The next batch of each, or what went wrong with it."""
        made: dict[Any, Batch | BaseException] = {}
        ahead: dict[Any, Iterator[Batch]] = {}
        taken: list[Batch | BaseException] = []
        for member in members:
            run = member.run
            order, epoch, number = member.order, run.epoch, run.batch_in_epoch
            at = order, epoch, number
            batch = made.get(at)
            if batch is None:
                batches = self._next.get(at)
                try:
                    if batches is None:
                        batches = run.feed.train(epoch, number)
                    batch = next(batches)
                    ahead[order, epoch, number + 1] = batches
                except (Exception, SystemExit) as error:
                    batch = error
                made[at] = batch
            taken.append(batch)
        self._next = ahead
        return taken

    def forget(self) -> None:
        """Begin anew where the runs stand."""
        self._next = {}
