"""The tables of a recipe, and the settings that the core itself reads; each signature is the schema of its table.

A table that names a component (``use``) takes the component's own settings and those that the core adds to every
component of that kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from trainkit.ensemble_table import ensemble
from trainkit.run_table import run
from trainkit.search_table import cut, search
from trainkit.settings import (
    Between,
    Duration,
    Fraction,
    Nested,
    NonNegativeInt,
    PositiveInt,
    Setting,
)
from trainkit.signature import read_settings

FORMAT_VERSION = 1


def recipe(
    *,
    recipe: Annotated[int, Between(1, FORMAT_VERSION)] = FORMAT_VERSION,
    seed: NonNegativeInt = 0,
    requires: list[str] = [],  # noqa: B006 - a default of the schema, never changed
) -> None:
    """The keys at the top of a recipe.

    Args:
        recipe: version of the recipe format.
        seed: every random choice of the run follows from it.
        requires: distributions the recipe needs, such as ``"trainkit-lion>=0.2"``.
    """


def data(
    *,
    batch_size: PositiveInt = 64,
    eval_batch_size: PositiveInt | None = None,
    loading: Literal["auto", "resident", "streamed"] = "auto",
    workers: NonNegativeInt = 0,
    worker_timeout: PositiveInt = 120,
    shuffle: bool = True,
    sampling: Literal["once", "balanced"] = "once",
    drop_last: bool = False,
    augment: list[Annotated[Any, Nested("augmentation")]] = [],  # noqa: B006
) -> None:
    """How samples become batches.

    Args:
        batch_size: samples in a loader batch.
        eval_batch_size: samples in a batch of evaluation, of all processes together; unset chooses a fast one.
        loading: resident keeps the set as tensors on the device, streamed reads it through workers; auto is resident
            where the set fits.
        workers: processes that prepare streamed batches; 0 prepares them in the run itself.
        worker_timeout: seconds without a batch after which workers count as hung, and the run fails.
        shuffle: draw a new order for each epoch, from seed and epoch.
        sampling: once lets each training sample come once an epoch; balanced draws as many samples an epoch, each class
            equally often: those of a rare class come several times, those of a frequent one in turns.
        drop_last: leave out the last batch of an epoch if it is short.
        augment: changes to training batches, in this order.
    """


def model(
    *,
    weights: Path | None = None,
    head: list[str] | None = None,
    rename: dict[str, str] | None = None,
) -> None:
    """What a model begins with.

    Args:
        weights: weights to begin with instead of random ones, matched by name: a run folder (its best checkpoint;
            "/best", "/newest" or "/step-..." behind it names one), a checkpoint, a study folder (its winner), a
            safetensors file or a folder with one. A run that is continued has those of its checkpoint.
        head: patterns of names that are not taken from there, such as "head.*": of the model they begin anew, of the
            weights they are left out. All else must match.
        rename: beginnings of names there, and what they are in the model: { "encoder." = "" }.
    """


def optimizer(
    *,
    group: list[dict[str, Any]] = [],  # noqa: B006
    no_decay: Literal["norms_and_biases", "none"] = "norms_and_biases",
) -> None:
    """How parameters are grouped.

    Args:
        group: settings of their own for some parameters; the first match wins.
        no_decay: parameters that get no weight decay.
    """


def optimizer_finer(
    *,
    wrap: list[Annotated[Any, Nested("wrapper")]] = [],  # noqa: B006
    layer_decay: Annotated[float, Between(0, 1, low_open=True)] | None = None,
    discriminative: Annotated[float, Between(1)] | None = None,
    lr_for_batch: PositiveInt | None = None,
    lr_rule: Literal["linear", "sqrt", "none"] | None = None,
    rest: Annotated[Any, Nested("optimizer", adds="rest")] | None = None,
) -> None:
    """What every optimizer can be given beside, and few need.

    Args:
        wrap: optimizers around this one, such as "sam"; the first is the innermost.
        layer_decay: the learning rate is multiplied by this once for each layer between a parameter and the head.
        discriminative: the same as a divisor: 2.6 divides the rate by 2.6 a layer, from the head down.
        lr_for_batch: samples in an update that the learning rates are meant for; a run with another number of them
            scales the rates by lr_rule.
        lr_rule: linear multiplies the rates by the ratio of the two numbers, sqrt by its root, none leaves them; unset
            is linear.
        rest: a second optimizer, for parameters that this one is not for.
    """


def schedule(*, warmup: Duration = "0ba") -> None:
    """What every schedule can be given.

    Args:
        warmup: the learning rate rises linearly over this time, from 1/(W+1); the schedule itself begins after it.
    """


def schedule_finer(
    *,
    warmup_start: Fraction | None = None,
    warmup_shape: Literal["linear", "cosine", "exp"] = "linear",
    warmup_mode: Literal["prefix", "overlay"] = "prefix",
    cooldown: Duration = "0ba",
    multiply: list[Annotated[Any, Nested("schedule")]] = [],  # noqa: B006
    react: list[Annotated[Any, Nested("reaction", adds="react")]] = [],  # noqa: B006
    also: list[Annotated[Any, Nested("schedule", adds="also")]] = [],  # noqa: B006
) -> None:
    """What every schedule can be given beside, and few need.

    Args:
        warmup_start: factor that the warm-up starts from; unset is 1/(W+1), which is above zero; exp needs one above 0.
        warmup_shape: curve of the warm-up.
        warmup_mode: prefix lets the schedule begin after the warm-up, with T - W updates; overlay lets it begin with
            the run, hidden until the warm-up is over.
        cooldown: the schedule ends this much before the run, and the value of its end is held.
        multiply: schedules by whose values this one's are multiplied; they have its clock.
        react: changes that a figure decides upon while the run goes on.
        also: schedules of other numbers than the learning rate.
    """


@dataclass(frozen=True)
class TableKind:
    """A table, or list of tables, whose ``use`` names a component.

    Args:
        kind: the component's kind.
        many: whether it is a list of tables.
        default: what stands where the recipe has none, or where the table has no ``use``; ``None`` if the recipe must
            have it.
        shared: settings that the core adds to the component's own.
        finer: those that it adds too, and that a line of what the table takes leaves out unless one is meant.
        named: the table's name, where that is not the kind.
        optional: whether a recipe without the table has none, instead of the default.
        keeps: whether a changed ``use`` leaves the core's settings as they are, instead of starting the table afresh.
    """

    kind: str
    many: bool = False
    default: Any = None
    shared: tuple[Setting, ...] = ()
    finer: tuple[Setting, ...] = ()
    named: str = ""
    optional: bool = False
    keeps: bool = False

    @property
    def name(self) -> str:
        """The table's name."""
        return self.named or self.kind

    @property
    def added(self) -> tuple[Setting, ...]:
        """Every setting that the core adds."""
        return self.shared + self.finer


COMPONENT_TABLES: Mapping[str, TableKind] = {
    table.name: table
    for table in (
        TableKind("data", shared=read_settings(data), finer=read_settings(cut)),
        TableKind("model", finer=read_settings(model)),
        TableKind("loss"),
        TableKind("metric", many=True, default=()),
        TableKind("optimizer", shared=read_settings(optimizer), finer=read_settings(optimizer_finer)),
        TableKind(
            "schedule",
            default={"use": "constant"},
            shared=read_settings(schedule),
            finer=read_settings(schedule_finer),
        ),
        TableKind("callback", many=True, default=()),
        TableKind("logger", many=True, default=({"use": "curves"}, {"use": "report"})),
        TableKind(
            "searcher",
            default={"use": "random"},
            shared=read_settings(search),
            named="search",
            optional=True,
            keeps=True,
        ),
        TableKind(
            "ensembler",
            default={"use": "seeds"},
            shared=read_settings(ensemble),
            named="ensemble",
            optional=True,
            keeps=True,
        ),
    )
}
# Tables that say what is made of several runs: no single run has them, and they have no clock.
OF_SEVERAL_RUNS = ("search", "ensemble")
TOP_SETTINGS = read_settings(recipe)
RUN_SETTINGS = read_settings(run)
# Settings that may be the name of a component alone: `executor = "ray"` stands for `executor = { use = "ray" }`.
BY_NAME: frozenset[tuple[str, str]] = frozenset(
    (table.name, setting.name)
    for table in COMPONENT_TABLES.values()
    for setting in table.added
    if setting.nested is not None and setting.nested.by_name
)


def table_of(kind: str) -> TableKind | None:
    """The table at the top of a recipe that names a component of a kind; ``None`` if there is none."""
    return next((table for table in COMPONENT_TABLES.values() if table.kind == kind), None)


# Kinds whose components stand in a list inside another table.
INSIDE: Mapping[str, tuple[str, str]] = {
    "augmentation": ("data", "augment"),
    "reaction": ("schedule", "react"),
    "wrapper": ("optimizer", "wrap"),
}
# Those whose component is a table inside another table.
WITHIN: Mapping[str, tuple[str, str]] = {
    "executor": ("search", "executor"),
}
