"""Components of every kind that do nothing: goldens must not change because a real plugin does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from trainkit import (
    Between,
    Component,
    Duration,
    Fraction,
    Nested,
    NonNegative,
    Period,
    Positive,
    PositiveInt,
    Problem,
    hookimpl,
)
from trainkit.recipe import problem_at


def digits(*, root: Path | None = None, classes: list[str] = []) -> None:  # noqa: B006
    """Handwritten digits.

    Args:
        root: where the files lie.
        classes: names to keep.
    """


def resnet(
    *, depth: Literal[8, 14, 20] = 8, widths: tuple[PositiveInt, ...] = (16, 32, 64), norm: str = "batch"
) -> None:
    """A residual network.

    Args:
        depth: layers.
        widths: channels of each stage.
        norm: which normalisation.
    """


def cross_entropy(*, label_smoothing: Fraction = 0.0, weights: dict[str, Positive] | None = None) -> None:
    """Cross entropy."""


def blend(*, parts: list[Annotated[Any, Nested("loss")]], share: Fraction = 0.5) -> None:
    """A mean of losses."""


def teacher(*, temperature: Positive = 2.0) -> None:
    """A loss that takes over the loss hook."""


def accuracy() -> None:
    """Share of right answers."""


def top(*, k: PositiveInt = 5) -> None:
    """Right answer among the first k."""


def sgd(
    *,
    lr: Positive = 0.01,
    momentum: Fraction = 0.0,
    nesterov: bool = False,
    weight_decay: NonNegative = 0.0,
) -> None:
    """Stochastic gradient descent.

    Args:
        lr: size of a step.
        momentum: share of the last step that stays.
    """


def adam(*, lr: Positive = 0.001, betas: tuple[Fraction, Fraction] = (0.9, 0.999), eps: Positive = 1e-8) -> None:
    """Adam."""


def adamw(*, lr: Positive = 0.001, weight_decay: NonNegative = 0.01) -> None:
    """Adam with decoupled decay."""


def lion(*, lr: Positive) -> None:
    """Sign of the momentum.

    Args:
        lr: size of a step.
    """


def lbfgs(*, history: Annotated[int, Between(1, 1000)] = 10) -> None:
    """Limited-memory BFGS."""


def lookahead(*, inner: Annotated[Any, Nested("optimizer")] = {"use": "sgd"}, every: PositiveInt = 5) -> None:  # noqa: B006
    """Slow weights around an inner optimizer."""


def constant() -> None:
    """The base value."""


def cosine(*, end: Annotated[float, Between(0, 1)] = 0.0) -> None:
    """Half a cosine."""


def steps(*, milestones: list[Duration], rate: Positive = 0.1) -> None:
    """Multiply at milestones.

    Args:
        milestones: when.
    """


def stairs(*, every: Period = "30ep") -> None:
    """Multiply every so often.

    Args:
        every: how often.
    """


def crop(*, padding: PositiveInt = 4) -> None:
    """Random crop."""


def flip() -> None:
    """Random flip."""


def clip_norm(*, max_norm: Positive) -> None:
    """Clip gradients by norm.

    Args:
        max_norm: largest norm.
    """


def clip_value(*, limit: Positive = 1.0) -> None:
    """Clip gradients by value."""


def early_stop(*, monitor: str = "val.loss", patience: Duration = "5ep") -> None:
    """Stop when a figure stops improving."""


def hen() -> None:
    """Comes before the egg."""


def egg() -> None:
    """Comes before the hen."""


def own_step() -> None:
    """Takes over the step."""


def other_step() -> None:
    """Takes over the step as well."""


def every_one() -> None:
    """Must see every update."""


def curves() -> None:
    """Pictures at the end."""


def needs_more() -> None:
    """Needs a library that nobody has."""


class Given:
    """Has the methods of searchers and ensemblers, and keeps what its factory was given."""

    def __init__(self, *given: Any) -> None:
        self.given = given

    def _nothing(self, *arguments: Any) -> None:
        """Recipes are checked here, not run."""

    begin = ask = took = tell = gather = add = fit = predict = members = state = load_state = _nothing


def random() -> Any:
    """Draws points."""
    return Given()


def weigh() -> None:
    """Weighs several objectives."""


def rungs(*, over: Annotated[Any, Nested("searcher")] = {"use": "random"}, first: Duration = "1ep") -> Any:  # noqa: B006
    """Rungs over another searcher.

    Args:
        over: who says what is tried.
        first: time before the first rung.
    """
    return Given(over, first)


def seeds(*, members: PositiveInt = 5, cycle: Duration = "2ep", spread: list[Duration] = []) -> Any:  # noqa: B006
    """Members that differ in their seeds.

    Args:
        members: how many.
        cycle: time between two of them.
        spread: other times.
    """
    return Given(members, cycle, spread)


def greedy(*, rounds: PositiveInt = 25) -> None:
    """Chooses some of those that are there.

    Args:
        rounds: how often.
    """


def auto() -> None:
    """Trains trials somewhere."""


def processes(*, workers: PositiveInt = 2) -> None:
    """Trains trials in processes.

    Args:
        workers: how many.
    """


@hookimpl
def trainkit_components() -> list[Component]:
    absent = {"no_such_library_at_all": "pip install 'trainkit[more]'"}
    return [
        *(Component("data", factory) for factory in (digits,)),
        Component("model", resnet),
        *(Component("loss", factory) for factory in (cross_entropy, blend)),
        Component("loss", teacher, owns=("loss",)),
        Component("metric", accuracy, capabilities={"higher_is_better": True}),
        Component("metric", top),
        Component("optimizer", sgd, capabilities={"compiles": True}),
        *(Component("optimizer", factory) for factory in (adam, adamw, lookahead)),
        Component("optimizer", lion, example={"lr": 1e-4}),
        Component("optimizer", lbfgs, capabilities={"needs_closure": True, "single_group": True}),
        *(Component("schedule", factory) for factory in (constant, cosine, stairs, steps)),
        *(Component("augmentation", factory) for factory in (crop, flip)),
        Component("callback", clip_norm),
        Component("callback", clip_value, before=("clip_norm",)),
        Component("callback", early_stop),
        Component("callback", hen, before=("egg",)),
        Component("callback", egg, before=("hen",)),
        Component("callback", own_step, owns=("step",)),
        Component("callback", other_step, owns=("step",), conflicts=("early_stop",)),
        Component("callback", every_one, capabilities={"every_update": True}),
        Component("callback", needs_more, libraries=absent),
        Component("logger", curves),
        Component("searcher", random, capabilities={"repeatable": True}),
        Component("searcher", weigh, capabilities={"multi_objective": True}),
        Component("searcher", rungs),
        *(Component("ensembler", factory) for factory in (seeds, greedy)),
        *(Component("executor", factory) for factory in (auto, processes)),
    ]


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    """Adam and a very large step do not go together; a broken norm shows what a failing check looks like."""
    if recipe["model"].get("norm") == "raise":
        raise RuntimeError("the check itself is broken")
    if recipe["model"].get("norm") == "garbage":
        return ["lr is wrong"]  # type: ignore[list-item]
    if recipe["optimizer"]["use"] == "adam" and recipe["optimizer"]["lr"] > 1:
        return [problem_at(recipe, "optimizer.lr", f"adam with lr {recipe['optimizer']['lr']} diverges", "write 0.001")]
    return []
