"""The settings that the core adds to tables inside other tables; each signature is the schema of its table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from trainkit.settings import Duration, Fraction, Nested, NonNegativeInt, Positive, Setting
from trainkit.signature import read_settings


def parameter_group(
    *, match: str | None = None, type: str | None = None, ndim: NonNegativeInt | None = None, lr_scale: Positive = 1.0
) -> None:
    """One ``[[optimizer.group]]``; it also takes any setting of the optimizer, for its parameters alone.

    Args:
        match: shell-style pattern of parameter names, such as ``head.*``.
        type: class of the module that holds the parameter, or a class it derives from, such as ``Conv2d``.
        ndim: number of dimensions: 0 or 1 for biases and norms, 2 for matrices, 4 for kernels of images.
        lr_scale: factor on the learning rate.
    """


def rest(
    *,
    match: list[str] | None = None,
    type: list[str] | None = None,
    ndim: list[NonNegativeInt] | None = None,
) -> None:
    """What ``[optimizer.rest]`` takes besides: which parameters it is for, beside those that the other cannot take.

    Args:
        match: patterns of parameter names; any one is enough, as it is for the next two.
        type: classes of the modules that hold the parameters, such as ``Embedding``.
        ndim: numbers of dimensions.
    """


def phase(*, length: Duration | None = None) -> None:
    """What a schedule takes inside a list of phases.

    Args:
        length: time of the phase; one phase may leave it out and takes what the others leave.
    """


def react(*, monitor: str | None = None, after: Duration | None = None) -> None:
    """What every reaction can be given.

    Args:
        monitor: the figure, such as "val.loss"; unset is the run's own monitor. Whether lower or higher is better
            follows from the figure.
        after: figures before this time are not looked at; unset is the end of the warm-up.
    """


def also(
    *,
    target: str,
    match: str | None = None,
    base: float | None = None,
    warmup: Duration = "0ba",
    warmup_start: Fraction | None = None,
    warmup_shape: Literal["linear", "cosine", "exp"] = "linear",
    warmup_mode: Literal["prefix", "overlay"] = "prefix",
    cooldown: Duration = "0ba",
    multiply: list[Annotated[Any, Nested("schedule")]] = [],  # noqa: B006
) -> None:
    """What a schedule of another number takes.

    Args:
        target: the number: one of the optimizer's ("weight_decay", "momentum", "betas.0"), "data.batch_size", or one
            that a part has: "loss.label_smoothing", "callback.ema.decay", "model.body.*.p".
        match: pattern of parameter names; of the optimizer's groups, only those that hold such a parameter. With it the
            target can be "lr": groups of which every parameter matches follow this schedule instead of [schedule].
        base: value where the schedule gives 1; unset is what the recipe says, or 1 for a schedule of values, such as
            ramp.
        warmup: the number rises over this time, as the learning rate does in its own.
        warmup_start: factor that the warm-up starts from; unset is 1/(W+1).
        warmup_shape: curve of the warm-up.
        warmup_mode: prefix or overlay, as for the learning rate.
        cooldown: the schedule ends this much before the run, and the value of its end is held.
        multiply: schedules by whose values this one's are multiplied.
    """


GROUP_SETTINGS = read_settings(parameter_group)
# What tables inside other tables take beside the settings of the component they name; `Nested` says which.
ADDED: Mapping[str, tuple[Setting, ...]] = {
    "phase": read_settings(phase),
    "react": read_settings(react),
    "also": read_settings(also),
    "rest": read_settings(rest),
}
