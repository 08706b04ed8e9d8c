"""Sequences and series as data. Listing them does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from trainkit import Between, Component, DataError, Dataset, Fraction, NonNegativeInt, PositiveInt


def csv_sequences(
    data_root: Path,
    /,
    *,
    path: Path,
    target: str,
    id: str | None = None,
    time: str | None = None,
    group: str | None = None,
    ignore: tuple[str, ...] = (),
    missing: Literal["error", "last"] = "error",
    task: Literal["auto", "classification", "binary", "regression"] = "auto",
    length: PositiveInt | None = None,
    val: Fraction = 0.15,
    test: Fraction = 0.2,
    split_seed: NonNegativeInt = 0,
    standardise: bool = True,
    standardise_targets: bool = True,
    delimiter: str = ",",
) -> Dataset:
    """Sequences with one label each, of a table of text whose first line names the columns.

    With ``id`` each row is one step, and each column that is not named here a channel (long form). Without it each row
    is one sequence, and its columns are the steps of one channel (wide form), where empty cells at the end make a
    shorter one. Sequences of uneven lengths are filled with zeros, and a last channel tells a step (1) from none (0).

    Args:
        path: the file.
        target: name of the column of labels; in the long form it has one value for all steps of a sequence.
        id: column that names the sequence a row belongs to; unset: each row is a sequence.
        time: column that the rows of a sequence are put in order by, numbers or dates such as 2024-01-31; unset: they
            come in order.
        group: column whose value says which sequences belong together, such as a patient: no split and no fold parts
            them.
        ignore: columns to leave out.
        missing: what to do with steps that lack a value in the long form: stop and name the row (``error``), or take
            that of the step before (``last``).
        task: what is learned; ``auto``: classification where labels are words or at most 20 different whole numbers,
            else regression.
        length: steps after which sequences are cut off; unset: as long as the longest.
        val: share of the sequences for validation.
        test: share of the sequences for the test.
        split_seed: the random split is a function of this number, not of the recipe's seed.
        standardise: give each channel mean 0 and standard deviation 1 over the steps of the training split.
        standardise_targets: the same for the targets of a regression; metrics are in the original units all the same.
        delimiter: the character between two values.

    Raises:
        DataError: if the table cannot be used; the message names file, row and column.
    """
    from trainkit_sequences.labelled import load_sequences

    return load_sequences(
        data_root / path.expanduser(),
        target=target,
        key=id,
        time=time,
        group=group,
        ignore=ignore,
        missing=missing,
        task=task,
        length=length,
        shares={"val": val, "test": test},
        split_seed=split_seed,
        scale=standardise,
        scale_targets=standardise_targets,
        delimiter=delimiter,
    )


def control_charts(
    *,
    samples: PositiveInt = 100,
    steps: Annotated[int, Between(2)] = 60,
    shortest: Annotated[int, Between(2)] | None = None,
    data_seed: NonNegativeInt = 0,
    val: Fraction = 0.2,
    test: Fraction = 0.5,
    split_seed: NonNegativeInt = 0,
    standardise: bool = True,
) -> Dataset:
    """Control charts of six classes, made by the formulas of the UCI data set: one channel of 60 steps.

    Classes are normal, cyclic, increasing, decreasing, upward shift and downward shift.

    Args:
        samples: charts of each class; 100 as published.
        steps: of a chart; 60 as published.
        shortest: draw each chart's length from this to ``steps``; unset: all have ``steps``.
        data_seed: the charts are a function of this number, not of the recipe's seed.
        val: share of the charts for validation.
        test: share of the charts for the test.
        split_seed: the random split is a function of this number.
        standardise: give the steps of the training split mean 0 and standard deviation 1.

    Raises:
        DataError: if ``shortest`` is above ``steps``.

    Source: Alcock & Manolopoulos 1999, "Time-Series Similarity Queries Employing a Feature-Based Approach", section 5.
    """
    from trainkit_sequences.shipped import charts_data

    if shortest is not None and shortest > steps:
        raise DataError(f"shortest = {shortest} is above steps = {steps}; write at most {steps}")
    return charts_data(
        samples=samples,
        steps=steps,
        shortest=steps if shortest is None else shortest,
        data_seed=data_seed,
        val=val,
        test=test,
        split_seed=split_seed,
        scale=standardise,
    )


def series(
    data_root: Path,
    /,
    *,
    path: Path,
    targets: tuple[str, ...],
    inputs: tuple[str, ...] = (),
    id: str | None = None,
    time: str | None = None,
    context: PositiveInt = 24,
    horizon: PositiveInt = 1,
    stride: PositiveInt = 1,
    season: PositiveInt = 1,
    missing: Literal["error", "last"] = "error",
    val: Fraction = 0.15,
    test: Fraction = 0.2,
    standardise: bool = True,
    delimiter: str = ",",
) -> Dataset:
    """Time series of a table of text, one row a step: windows of the past, and the steps after each to forecast.

    The last steps are the test, those before them validate; no target is in two splits. Folds are cut in time too: each
    validates on the stretch after what it trains on (rolling origin). The model's outputs are ``horizon`` numbers for
    each target, one target after the other.

    Args:
        path: the file, whose first line names the columns.
        targets: columns to forecast; their past is what the model sees first.
        inputs: columns whose past it sees besides.
        id: column that names the series a row belongs to; unset: all rows are one.
        time: column that rows are put in order by, numbers or dates such as 2024-01-31; unset: they come in order, and
            several series begin together. Steps are taken to be equally far apart.
        context: steps that the model sees.
        horizon: steps after them that it forecasts.
        stride: steps from one window to the next.
        season: steps after which the series repeats itself, such as 12 of months; what metric ``mase`` compares with.
        missing: what to do with steps that lack a value: stop and name the row (``error``), or take that of the step
            before (``last``).
        val: share of the time for validation.
        test: share of the time for the test.
        standardise: give each column mean 0 and standard deviation 1 over the steps that train; metrics are in the
            original units all the same.
        delimiter: the character between two values.

    Raises:
        DataError: if the table cannot be used, or has too few steps; the message names file, row and column.
    """
    from trainkit_sequences.windows import Shape, read_course, series_data

    course = read_course(
        data_root / path.expanduser(),
        targets=targets,
        inputs=inputs,
        key=id,
        time=time,
        missing=missing,
        delimiter=delimiter,
    )
    return series_data(course, Shape(context, horizon, stride, season), val=val, test=test, scale=standardise)


def airline(
    *,
    context: PositiveInt = 24,
    horizon: PositiveInt = 12,
    stride: PositiveInt = 1,
    season: PositiveInt = 12,
    val: Fraction = 0.17,
    test: Fraction = 0.17,
    standardise: bool = True,
) -> Dataset:
    """International airline passengers, 144 months from 1949 to 1960, in thousands: a trend, and a season that grows.

    Windows and splits are those of ``series``; by default two years validate and the last two are the test.

    Args:
        context: months that the model sees.
        horizon: months after them that it forecasts.
        stride: months from one window to the next.
        season: months after which the series repeats itself; what metric ``mase`` compares with.
        val: share of the time for validation.
        test: share of the time for the test.
        standardise: give the months that train mean 0 and standard deviation 1; metrics are in passengers all the same.

    Raises:
        DataError: if there are too few months for such windows.

    Source: Box & Jenkins 1976, "Time Series Analysis: Forecasting and Control", series G.
    """
    from trainkit_sequences.shipped import airline_data
    from trainkit_sequences.windows import Shape

    return airline_data(Shape(context, horizon, stride, season), val=val, test=test, scale=standardise)


def data() -> list[Component]:
    """The data of this plugin."""
    of_the_user = {"builds_from_its_example": "it reads a file of the user's own"}
    return [
        Component(
            "data",
            csv_sequences,
            example={"path": "steps.csv", "target": "label", "id": "sequence"},
            exempt=of_the_user,
        ),
        Component("data", control_charts, example={"samples": 12, "shortest": 30}),
        Component(
            "data", series, example={"path": "series.csv", "targets": ["sales"], "season": 7}, exempt=of_the_user
        ),
        Component("data", airline, example={"context": 12, "horizon": 6}),
    ]
