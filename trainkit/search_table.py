"""The settings of ``[search]``, and those of ``[data]`` that cut folds; each signature is a schema, as in `tables`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from trainkit.settings import Between, Nested, NonNegativeInt, PositiveInt

FoldBy = Literal["auto", "class", "group", "time", "none"]


def cut(
    *,
    folds: Annotated[int, Between(2)] | None = None,
    fold: NonNegativeInt = 0,
    fold_by: FoldBy = "auto",
    train_on: Literal["train", "train+val"] = "train",
    bag: NonNegativeInt | None = None,
    seed: NonNegativeInt | None = None,
) -> None:
    """Which samples train and which validate.

    Args:
        folds: put training and validation samples together and cut them into so many parts, one of which validates;
            the test samples stay out of it.
        fold: number of the part that validates, from 0.
        fold_by: what folds keep together or balance: classes in equal shares, groups whole, or nothing; time: each
            fold validates on later samples than it trains on. auto is time where the data has moments, else group
            where it has groups, else class where it has classes.
        train_on: "train+val" trains on the validation samples too; then nothing is measured before the end.
        bag: number of a bootstrap draw: as many training samples as there are are drawn with replacement, from the
            seed and this number; the validation samples stay as they are. Unset: each trains once an epoch.
        seed: what folds, bootstrap draws and the data component draw from; unset is the recipe's seed, which the order
            of batches, augmentations and the model follow in any case.
    """


def search(
    *,
    trials: PositiveInt = 32,
    objective: str | None = None,
    mode: Literal["min", "max"] | None = None,
    objectives: list[str] = [],  # noqa: B006
    modes: list[Literal["min", "max"]] = [],  # noqa: B006
    take: Literal["last", "best"] = "last",
    executor: Annotated[Any, Nested("executor", by_name=True)] = {"use": "auto"},  # noqa: B006
    batch: PositiveInt | None = None,
    folds: Annotated[int, Between(2)] | None = None,
    fold_by: FoldBy = "auto",
    repeats: PositiveInt = 1,
    refit: bool = False,
    test: bool = True,
    trial_timeout: Annotated[float, Between(0)] = 0.0,
    time_limit: Annotated[float, Between(0)] = 0.0,
    checkpoints: Literal["rungs", "all"] = "rungs",
    warm_start: list[str] = [],  # noqa: B006
    space: dict[str, Any],
    start: list[dict[str, Any]] = [],  # noqa: B006
    constraint: list[dict[str, Any]] = [],  # noqa: B006
    fail: dict[str, Any] = {},  # noqa: B006
) -> None:
    """What every search can be given.

    Args:
        trials: trials to begin, the recipe as written among them.
        objective: the figure to make as good as possible, such as "val.accuracy"; also "parameters" and "seconds";
            unset is the run's own monitor.
        mode: whether lower or higher is better; unset follows from the figure.
        objectives: several figures instead of one, for a searcher that weighs them against each other.
        modes: whether lower or higher is better, for each of the objectives.
        take: a trial's value is that of its last evaluation, or its best one.
        executor: where trials are trained.
        batch: trials asked for before the results of any are told; with it a study is the same for any number of
            workers. Unset: results are told as they come.
        folds: train each trial so many times, each time with another part of training and validation samples held out;
            its value is the mean.
        fold_by: what folds keep together or balance: classes in equal shares, groups whole, or nothing; time: each
            fold validates on later samples than it trains on. auto is time where the data has moments, else group
            where it has groups, else class where it has classes.
        repeats: train each trial with so many seeds; its value is the mean.
        refit: train the winner once more, on training and validation samples.
        test: measure the winner, and it alone, on the test samples.
        trial_timeout: seconds after which a trial's run is stopped; 0 for no limit.
        time_limit: seconds after which the search stops, to be continued; 0 for no limit.
        checkpoints: rungs saves each trial where it pauses and ends, and at its best evaluation only with take =
            "best"; all saves as [run] says.
        warm_start: folders of earlier studies whose results the searcher is told first.
        space: the settings that are varied, with their ranges or choices.
        start: points that are tried first.
        constraint: what the values of several settings must meet together.
        fail: what is done where trials fail, by their status.
    """
