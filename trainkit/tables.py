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


def run(
    *,
    duration: Duration,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto",
    processes: Annotated[int, Between(1, 4096)] = 1,
    strategy: Literal["auto", "ddp", "fsdp"] = "auto",
    batchnorm: Literal["sync", "local"] = "sync",
    accumulate: PositiveInt = 1,
    compile: Literal[False, "model", "step", "auto"] = False,
    updates_per_call: PositiveInt | None = None,
    cuda_graphs: bool = True,
    tune_convolutions: bool = False,
    channels_last: Literal[True, False, "auto"] = "auto",
    threads: Annotated[int, Between(1, 1024)] | None = None,
    keep_pages: bool = True,
    fold_batchnorm: bool = True,
    microbatch: Literal["auto", 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] | None = None,
    nonfinite: Literal["error", "skip", "rollback"] = "error",
    rollback_factor: Annotated[float, Between(0, 1, low_open=True, high_open=True)] = 0.5,
    rollbacks: PositiveInt = 3,
    evaluate_every: Duration = "1ep",
    log_every: Duration = "1ep",
    save_every: Duration = "1ep",
    save_pause: Annotated[float, Between(0, 3600)] = 1.0,
    save_in_background: bool = True,
    save_best: bool = True,
    keep: Annotated[int, Between(2)] = 2,
    monitor: str = "val.loss",
    on_length_change: Literal["error", "rescale", "keep"] = "error",
    on_conflict: Literal["error", "recipe", "checkpoint"] = "error",
) -> None:
    """How long the run is, and how it is executed.

    Args:
        duration: length of the run.
        device: where the model lives; auto is cuda if there is one, else cpu.
        precision: number format of forward and backward; auto is float32 on cpu and bfloat16 autocast on cuda;
            float16 comes with a loss scaler; float64 computes all in double precision.
        processes: processes that make the run together, each computing its share of every batch; results are those of
            one process. torchrun's own number counts before it.
        strategy: what each of several processes holds: ddp the whole model, fsdp a part of every weight, of its
            gradient and of the optimizer's state; auto is ddp.
        batchnorm: the statistics of BatchNorm in several processes: sync are those of the whole batch, local those of
            each process's share, which saves messages and is not the result of one process.
        accumulate: loader batches that one update takes.
        compile: "model" compiles the model alone, "step" forward, loss, backward and optimizer as one program; "auto"
            does so in the background where the updates that are left pay for it (CPU).
        updates_per_call: updates in one call of a compiled step; hooks are called once a call; unset chooses about ten
            for a small model, else one.
        cuda_graphs: record a compiled step on CUDA as one graph and replay that, which saves the calls of its kernels.
        tune_convolutions: on CUDA, try cuDNN's algorithms on each new shape and keep to the quickest, which may be
            another one, that rounds otherwise, from process to process.
        channels_last: memory layout of images and convolutions; auto chooses it for convolutional models.
        threads: CPU threads for torch; unset leaves torch's own choice. CPU results depend on it.
        keep_pages: keep freed memory, up to 1 GB, for the next update instead of giving it back to the kernel; glibc
            only.
        fold_batchnorm: evaluate with each BatchNorm folded into the convolution or linear layer before it, where that
            is possible; rounding differs.
        microbatch: the most samples of a loader batch that go through the model at once; the update stays the same.
            "auto" begins with all of them and halves them where memory runs out; unset is all.
        nonfinite: what to do when loss or gradients are not finite: end the run, leave the update out, or go back to
            the last checkpoint with smaller learning rates.
        rollback_factor: what learning rates are multiplied by when the run goes back.
        rollbacks: how often a run goes back before it fails.
        evaluate_every: how often the validation split is measured.
        log_every: how often training loss and metrics are written; nothing waits for the device in between.
        save_every: how often a checkpoint is saved.
        save_pause: seconds after a checkpoint within which `save_every` brings no other, so that short epochs do not
            wait for the disk; it begins after 20 checkpoints, and never holds back the best or the last; 0 for none.
        save_in_background: a checkpoint is copied at its update, and written while training goes on; false lets
            training wait until it is on the disk, and needs no memory for the copy.
        save_best: keep a checkpoint of the best evaluation so far, whenever it is made; false leaves best.json out.
        keep: newest checkpoints to keep, beside the best and those that are pinned.
        monitor: figure that tells the best checkpoint, such as "val.loss" or "val.accuracy".
        on_length_change: what a continued run does whose length is another than its checkpoint's: refuse; rescale, so
            that schedules go on with the new length; or keep the old length for schedules and "dur".
        on_conflict: what a continued run does where hyperparameters of the optimizer, its parameters or the data are
            others than its checkpoint's: refuse, or go on with those of the recipe or of the checkpoint.
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
