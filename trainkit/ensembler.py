"""What an ensemble is made of: members, what they gave for validation samples, and what an ensembler is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from trainkit.dataset import DataSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainkit.protocols import Loss


@dataclass(frozen=True)
class Cost:
    """What was spent on training.

    Args:
        updates: optimizer updates.
        epochs: passes over the training samples.
        seconds: wall seconds.
    """

    updates: int = 0
    epochs: float = 0.0
    seconds: float = 0.0


@dataclass(eq=False)
class Member:
    """One model of an ensemble: a finished run, a checkpoint of one, or any module with weights and a recipe.

    Args:
        name: how messages and reports call it, such as ``runs/a``, ``runs/a at update 400`` or ``trial 7``; unlike the
            names of all other members.
        module: the model in evaluation mode, holding the weights that evaluations measure. It gives ``(batch,
            outputs)`` for inputs ``(batch, ...)`` as the ensemble's own data component prepares them, and, for
            regression, targets in that component's units, whatever the member itself was trained on.
        recipe: the filled recipe of its run, as plain tables without ``[search]`` and ``[ensemble]``.
        spec: the data that it was trained on.
        figures: what its run measured with these weights, such as ``{"val.loss": 0.31}``.
        ancestors: what its weights come from: SHA-256 of the weights that its run began with, and of checkpoints that
            it went on from. Only weights of members that share one may be averaged.
        cost: what training it has taken; of members that are checkpoints of one run, up to each.
        folder: the run folder, where there is one.
        step: updates its weights have seen.
        fold: which part of the samples it was not trained on, where folds were cut; else ``None``.
    """

    name: str
    module: nn.Module
    recipe: Mapping[str, Any]
    spec: DataSpec
    figures: Mapping[str, float] = field(default_factory=dict)
    ancestors: frozenset[str] = frozenset()
    cost: Cost = Cost()
    folder: Path | None = None
    step: int = 0
    fold: int | None = None


@dataclass(frozen=True)
class Validation:
    """All that an ensembler may choose by: samples that members were not trained on. It has no way to the test split.

    Args:
        outputs: ``(members, samples, outputs)`` float32 on the CPU, what each member gives, in the order in which they
            were added: logits, or the mean for regression.
        targets: ``(samples,)`` int64 classes, or float32 ``(samples,)`` or ``(samples, outputs)``.
        held_out: ``(members, samples)`` bool: whether the member was not trained on the sample. All are true unless
            members are folds or bootstrap draws of the same samples.
        index: ``(samples,)`` int64, the samples' numbers: in the validation split or, for folds and bootstrap draws,
            through the training split and on through the validation split.
        spec: what is known of the data.
        loss: the recipe's loss.
        measure: the outputs of another module, such as one of averaged weights, for the same samples: ``(samples,
            outputs)`` float32 on the CPU.
        renew: measures the statistics of a module's BatchNorm layers again, in place, over all training samples;
            whether it has such layers.
        say: tells the user something, once.
    """

    outputs: Tensor
    targets: Tensor
    held_out: Tensor
    index: Tensor
    spec: DataSpec
    loss: Loss
    measure: Callable[[nn.Module], Tensor]
    renew: Callable[[nn.Module], bool]
    say: Callable[[str], None] = print


class Workshop(Protocol):
    """Where an ensembler gets members: what is there already, or what it has trained.

    Args:
        recipe: the filled recipe that members are trained from, without ``[search]`` and ``[ensemble]``: after a search
            that of its winner, for finished runs that of the first.
        given: the finished runs that the user named, in this order, each with its newest weights; ``None`` where a
            recipe says what is trained.
        trials: the trials of the search that are done, the best first; ``None`` where there was no search. A trial
            that was trained once for each fold is one member, which gives for each sample what the run gave that was
            not trained on it, and for new ones the mean.
        seed: the recipe's seed.
        folder: the ensemble folder.
        settings: the filled table ``[ensemble]``, as plain values.
        spec: what is known of the data by which members are chosen and measured, with the sizes of its splits.
    """

    recipe: Mapping[str, Any]
    settings: Mapping[str, Any]
    given: Sequence[Member] | None
    trials: Sequence[Member] | None
    seed: int
    folder: Path
    spec: DataSpec

    def train(self, changes: Sequence[Mapping[str, Any]], parent: Member | None = None) -> list[Member]:
        """Train a run for each set of changes, many at once where that is possible.

        What was trained by an earlier call that was cut short, or before the ensemble was continued, is not trained
        again: runs are told apart by their number, counted over all calls.

        Args:
            changes: settings by dotted key, such as ``{"seed": 18}``; a table as a whole by its name, such as
                ``{"schedule": {...}}``.
            parent: a run whose newest checkpoint they begin from; ``None``: from nothing.

        Raises:
            RecipeError: if the changes make no recipe.
            RunError: if one of them failed; those that have not are kept.
        """
        ...

    def checkpoints(self, member: Member) -> list[Member]:
        """The checkpoints that a member's run has kept, up to the member's own, the oldest first.

        Those that are pinned, as the callback ``keep_checkpoints`` pins some at given times; all if none is. A pinned
        one has a file beside it that ends in ``.pin``.

        Raises:
            CheckpointError: if there is none.
        """
        ...

    def store(self, ensembler: Ensembler, key: str) -> Path:
        """Write an ensembler that is a setting of this one, and was fitted, as an ensemble folder of its own.

        Args:
            ensembler: what was built of that setting.
            key: the setting's name.

        Returns:
            The folder, which members that are trained from now on may name in their recipes.
        """
        ...

    def say(self, text: str) -> None:
        """Tell the user something, once."""
        ...


@runtime_checkable
class Ensembler(Protocol):
    """Makes one model of several.

    For a new ensemble `gather` is called once, then `add` for each member, then `fit`; then `members` and `state` are
    stored. For a stored one `add` is called for each of the stored members, in the same order, and then `load_state`.
    `predict` may be called any number of times after that.

    An ensembler may also have ``variance(inputs) -> (batch, outputs)``, for regression: the variance of what it
    predicts. And ``anew() -> Ensembler``, of a fitted or stored one: another with the same settings and no members,
    which keeps what was long in choosing, such as a penalty. Temperature and report fit it anew to fewer members and to
    other samples, many times; without `anew` each of these is made of the settings alone, and chooses all again.
    """

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """Get the members: choose among those that are there, or have them trained.

        Raises:
            UsageError, RecipeError: if they cannot be what it needs, before any of them is trained or measured.
        """
        ...

    def add(self, member: Member, /) -> None:
        """Take in one member."""
        ...

    def fit(self, validation: Validation, /) -> None:
        """Decide which members count, and how much, by validation samples alone.

        Raises:
            UsageError: if these members cannot be combined so; the message has the reason and the cure.
        """
        ...

    def predict(self, inputs: Tensor, /) -> Tensor:
        """What the ensemble gives for a batch.

        Args:
            inputs: ``(batch, ...)``, the inputs of a batch, on the device of the members. Modules that are attributes
                of the ensembler are moved there together with them; tensors of its own it takes there itself, such as
                with ``.to(inputs)``.

        Returns:
            ``(batch, outputs)``: for classes numbers whose softmax are the probabilities, such as their logarithms;
            for a binary task the logit; for regression the mean. It is made of torch's operations on tensors alone,
            so that it can be exported.
        """
        ...

    def members(self) -> Sequence[Member]:
        """The members that `predict` needs: those that were added, or fewer, or new ones such as an average."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What `predict` needs beside the members: tensors, numbers, text, and lists and dicts of these."""
        ...

    def load_state(self, state: Mapping[str, Any], /) -> None:
        """Take back what `state` gave; the stored members have been added."""
        ...
