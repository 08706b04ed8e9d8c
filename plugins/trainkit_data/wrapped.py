"""Data sets around another data set. Importing this is cheap."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from trainkit import Dataset, Nested, NonNegativeInt, PositiveInt


def subset(
    *,
    of: Annotated[Any, Nested("data")],
    classes: list[str] = [],  # noqa: B006 - a default of the schema, never changed
    without: list[str] = [],  # noqa: B006
    per_class: PositiveInt | None = None,
    draw_seed: NonNegativeInt = 0,
) -> Dataset:
    """Some classes of another data set, all splits alike, and so many training samples of each.

    Classes are numbered anew, in the data's own order. What the data fits on its training samples, such as a
    standardisation, stays fitted on all of them: two subsets of one data set have inputs of one scale. ``[data.of]`` is
    the table of the data set, without batch size and the like, which stay in ``[data]``.

    Args:
        of: the data set, which must have classes.
        classes: names of the classes that stay; empty for all.
        without: names of classes that do not stay.
        per_class: training samples of each class, drawn at random; unset for all. Validation and test samples all stay.
        draw_seed: which they are is a function of this number, not of the recipe's seed; of one class more samples
            contain fewer.

    Raises:
        DataError: if a class is not there, fewer than two stay, or one has too few samples.
    """
    from trainkit_data.choosing import take_subset

    return take_subset(of, classes, without, per_class, draw_seed)


def one_against_rest(
    *,
    of: Annotated[Any, Nested("data")],
    positive: list[str],
    task: Literal["binary", "classification"] = "binary",
) -> Dataset:
    """Some classes of another data set against all others: two classes, of which the first is ``rest``.

    Samples, splits, folds and groups are those of the other data. Most often there are far fewer positive samples.

    Args:
        of: the data set, which must have classes.
        positive: names of the classes that make the second class.
        task: binary has one logit a sample, classification one for each of the two classes.

    Raises:
        DataError: if a class is not there, or no other class is left.
    """
    from trainkit_data.against import against_rest

    return against_rest(of, positive, task)
