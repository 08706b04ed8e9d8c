"""What a factory of each kind must return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from trainkit.dataset import Batch
    from trainkit.run import StepResult

Events = Sequence[tuple[int, str]]


@runtime_checkable
class Schedule(Protocol):
    """A pure function of time: the factor on a base value for update ``t`` of ``T``.

    The same arguments give the same value, whatever was called before.

    A schedule that does not fit every length also has ``check(T) -> None``. It is called once, before the run, with the
    updates that the schedule has, and raises ``ValueError("message\\ncure")``, which becomes a problem of the recipe.
    """

    def __call__(self, t: int, T: int, events: Events = ()) -> float:
        """The factor for update ``t`` of ``T``."""
        ...


@dataclass(frozen=True)
class Phase:
    """A schedule for a part of the run, as ``Nested("schedule", adds="phase")`` hands it over.

    Args:
        schedule: its clock begins with the phase.
        length: updates of the phase; ``None`` takes what the others leave.
    """

    schedule: Schedule
    length: int | None


@runtime_checkable
class Reaction(Protocol):
    """Turns a figure into events while the run goes on, and events into a change of the schedule.

    The decisions are kept as events ``(t, kind)`` in every checkpoint; what `react` makes of them is a pure function,
    so that a continued run has the same values. Like a schedule it may have ``check(T)``, with the updates of the run.
    """

    def observe(self, t: int, value: float, /) -> str | None:
        """Look at a new value of the figure.

        Args:
            t: updates made so far; an event decided now acts from update ``t`` on.
            value: the figure, **lower is better**: of a figure that is better when higher the core gives the negative.
                NaN where the figure was not a number.

        Returns:
            The event's kind, a word such as ``reduce``, or ``None``.
        """
        ...

    def react(self, body: Schedule, start: int, /) -> Schedule:
        """The schedule as this reaction's own events change it.

        Args:
            body: what is changed; its clock stands at 0 at the end of the warm-up.
            start: the update of the run at which that is. Events come on the same clock, ``(t - start, kind)``.

        Returns:
            A schedule. Of its events, those of a kind that `observe` gave are the reaction's own; the others belong to
            reactions inside the body, and are handed on to it with the time that the body's clock shows.
        """
        ...

    def describe(self, kind: str, /) -> str:
        """What an event of this kind does, for people: ``learning rate times 0.5``."""
        ...

    def save(self) -> Mapping[str, Any]:
        """What `observe` needs to go on, beside the events: numbers, lists, text."""
        ...

    def restore(self, state: Mapping[str, Any], /) -> None:
        """Take back what `save` gave."""
        ...


@runtime_checkable
class Loss(Protocol):
    """Scalar mean over the batch, differentiable.

    A loss whose mean is not over samples (class weights) also has ``weight(targets) -> Tensor``, the scalar that the
    mean was divided by, so that means over uneven batches stay exact.

    A loss that is the mean over samples may have ``each(outputs, targets) -> (batch,)``, the loss of each of them, with
    which the losses of many lanes are computed at once. It may have ``sloped(outputs, targets)`` besides, of outputs
    ``(..., classes)`` and targets ``(...)``: what ``each`` gives, and the gradient of each sample's loss with respect
    to its outputs, fresh and in the outputs' layout; ``None`` where it does not give them. Nothing need be recorded
    for them then.

    A loss that needs other numbers than targets have, such as a mean and a variance, has ``outputs``, how many numbers
    the model is to give for a sample, and ``predictions(outputs)``: what outputs ``(..., outputs)`` predict, in the
    form that the model would give for another loss, such as ``(..., targets)``. Metrics, pages, ensembles and
    ``trainkit predict`` are given those. Such a loss may have ``equal(targets)``, the outputs ``(batch, outputs)`` of a
    model that knows nothing of its inputs, whose loss a probe holds that of the untrained model against;
    ``details(outputs)``, more that outputs say of each sample, by name and in the data's units, which
    ``trainkit predict`` writes; ``variances(outputs)``, ``(..., targets)`` as the model sees targets, which ensembles
    mix; and ``quantiles(outputs, levels)``, ``(..., targets, levels)``, of all levels or of its attribute ``levels``,
    of which pages show how many targets lie below.

    A loss whose validation targets are no truth to hold predictions against says why in ``no_truth``, which pages show.
    """

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """The mean loss of one batch."""
        ...


@runtime_checkable
class Metric(Protocol):
    """A figure over a whole split, exact whatever the batches.

    ``higher_is_better`` says which way is good, as does the capability of that name. ``update`` must not wait for the
    device; ``compute`` may. What it gathers are attributes that a checkpoint can hold: tensors, numbers, text, lists
    and dicts of such, replaced and not changed in place, as some batches come in inference mode. One that also
    has a static ``update_lanes(metrics, outputs, targets)`` can be told of many runs at once: each of ``metrics``, made
    alike, takes in its row of the tensors ``(runs, batch, ...)``, to the same figure as by ``update``.

    Of a loss with ``predictions`` a metric is given those; one that has ``of_outputs = True`` is given the outputs
    themselves, and asks for the ``loss`` to know what they mean. Ensembles, which combine predictions, leave it out.

    One of predicted classes says ``decides = True``, so that whoever decides by other than equal odds can show it
    outputs of which the likelier class is the one that was decided for.
    """

    higher_is_better: bool

    def reset(self) -> None:
        """Forget everything seen."""

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Take in one batch of detached model outputs and targets."""

    def compute(self) -> float | Mapping[str, float]:
        """The figure over everything seen since `reset`; a mapping where one metric gives several figures."""


class Continues(Protocol):
    """A model of text that can write on: what ``trainkit predict --prompt`` asks of it."""

    def following(self, tokens: Tensor, state: Any = None, /) -> tuple[Tensor, Any]:
        """Scores of the token that comes next, after all that came before.

        Called in evaluation mode, without gradients, first with the tokens of the prompt, then with one more at a time.

        Args:
            tokens: ``(batch, count)`` int64, those that have come since the last call; at least one.
            state: what the last call gave, such as what has been computed for the tokens before; ``None`` at first. It
                is not used again.

        Returns:
            ``(batch, outputs)``, as `DataSpec` counts outputs, and the state. Texts longer than the model can see are
            its own affair.
        """
        ...


@runtime_checkable
class Optimizer(Protocol):
    """What `torch.optim.Optimizer` offers and the core uses."""

    param_groups: list[dict[str, Any]]
    state: Any  # mapping from parameter to its state: tensors and numbers by name

    def step(self, closure: Callable[[], Tensor] | None = None) -> Any:
        """Make one update from the gradients that the parameters hold."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""


@runtime_checkable
class Augmentation(Protocol):
    """Changes a training batch; every random choice is a function of (seed, epoch, sample index).

    Args of the call: ``inputs`` as gathered (before `Dataset.prepare`), ``targets``, and ``draw``, which
    gives uniform numbers in [0, 1) of shape ``(batch, count)`` that depend on seed, epoch, sample and name alone. The
    given batch stays as it is.

    One that has ``always = True`` changes batches of evaluation too, with the draws of an epoch -1: the same each time.
    It may give several views of each sample, ``(batch, views, ...)``, which the data then prepares one by one.
    """

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """The batch, changed."""
        ...


class Draw(Protocol):
    """Uniform float32 numbers in [0, 1), ``(batch, count)``, one row a sample, on the batch's device."""

    @property
    def epoch(self) -> int:
        """The epoch that the batch is of, from 0."""
        ...

    def __call__(self, name: str, count: int = 1, /) -> Tensor:
        """``count`` numbers a sample, drawn for the purpose ``name`` anew in each epoch."""
        ...

    def lasting(self, name: str, count: int = 1, /) -> Tensor:
        """``count`` numbers a sample, drawn for the purpose ``name`` once: the same in every epoch."""
        ...


class Progress(Protocol):
    """Shows how far something long has come."""

    def __call__(self, done: int, total: int, text: str, /) -> None:
        """Say that ``done`` of ``total`` is done; ``text`` says of what."""
        ...


def silent(done: int, total: int, text: str) -> None:
    """A `Progress` that shows nothing."""


class StepProgram(Protocol):
    """Makes the updates of one call."""

    updates_per_call: int

    def __call__(self, updates: Sequence[Sequence[Batch]], /) -> StepResult:
        """Make one update for each list of loader batches, with scheduled values set before each."""
        ...
