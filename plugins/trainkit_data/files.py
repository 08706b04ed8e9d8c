"""Data of one's own: tables, arrays and folders of images. Importing this is cheap."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainkit import Dataset, Fraction, NonNegativeInt, PositiveInt

if TYPE_CHECKING:
    from trainkit import Progress


def image_folder(
    data_root: Path,
    cache_root: Path,
    progress: Progress,
    /,
    *,
    path: Path,
    size: PositiveInt | None = None,
    channels: Literal[1, 3] = 3,
    val: Fraction = 0.1,
    test: Fraction = 0.2,
    split_seed: NonNegativeInt = 0,
    standardise: bool = True,
) -> Dataset:
    """Images in folders, one folder a class: ``path/class/image.jpg``, or ``path/train/class/image.jpg``.

    Where ``path`` holds a folder ``train``, its ``test`` and ``val`` are the splits. All images are decoded once, into
    a cache of bytes that is made anew when a file changes.

    Args:
        path: the folder.
        size: resize images to squares of this side, cut from the middle; unset: all must have one size.
        channels: 1 for grey, 3 for colour.
        val: share of the images (of ``train``, where there is such a folder) for validation; without effect where
            there is a folder ``val``.
        test: share of the images for the test; without effect where there is a folder ``train``.
        split_seed: the random split is a function of this number, not of the recipe's seed.
        standardise: give each channel mean 0 and standard deviation 1, fitted on the training split; else pixels go
            from 0 to 1.

    Raises:
        DataError: if the folder holds no such images; damaged ones and odd sizes are named.
    """
    from trainkit_data.folder import decode_tree, read_tree
    from trainkit_data.pixels import hold_out, images
    from trainkit_data.tabular import split_randomly

    tree = read_tree(data_root / path.expanduser())
    if tree.parts:
        parts = hold_out(tree.targets, tree.parts, val, split_seed)
    else:
        parts = split_randomly(tree.targets, val, test, split_seed)
    kept = decode_tree(tree, cache_root, progress, size, channels)
    return images(kept.pixels, tree.targets, parts, classes=tree.classes, standardise=standardise, known=kept.sha256)


def csv(
    data_root: Path,
    /,
    *,
    path: Path,
    target: str,
    more_targets: tuple[str, ...] = (),
    val_path: Path | None = None,
    test_path: Path | None = None,
    task: Literal["auto", "classification", "binary", "regression"] = "auto",
    categorical: tuple[str, ...] = (),
    embed: bool = False,
    ignore: tuple[str, ...] = (),
    missing: Literal["error", "mean", "drop"] = "error",
    val: Fraction = 0.15,
    test: Fraction = 0.2,
    split_seed: NonNegativeInt = 0,
    standardise: bool = True,
    standardise_targets: bool = True,
    delimiter: str = ",",
    group: str | None = None,
) -> Dataset:
    """A table of text, whose first line names the columns; all but the target and those ignored are inputs.

    Columns of words become one input for each word that training rows hold; other words become zeros.

    Args:
        path: the file.
        target: name of the column to predict.
        more_targets: further columns to predict, all of numbers: a regression of several targets.
        val_path: file of the validation rows, with the same columns; unset: a share of ``path``.
        test_path: file of the test rows, with the same columns; unset: a share of ``path``.
        task: what is learned; ``auto``: classification where the target holds words or at most 20 different whole
            numbers, else regression.
        categorical: columns to take as words although they hold numbers.
        embed: leave each column of words one input, which holds the word's number, for a model that learns what each
            word means (``tabular``); 0 stands for words that no training row holds.
        ignore: columns to leave out.
        missing: what to do with rows that lack a value: stop and name the row (``error``), fill in the training
            rows' mean or most frequent word (``mean``), or leave them out (``drop``).
        val: share of the rows for validation.
        test: share of the rows for the test.
        split_seed: the random split is a function of this number, not of the recipe's seed.
        standardise: give each column of numbers mean 0 and standard deviation 1, fitted on the training split.
        standardise_targets: the same for the targets of a regression; metrics are in the original units all the same.
        delimiter: the character between two values.
        group: column whose value says which rows belong together, such as a patient: no split and no fold of this file
            parts them. It is no input.

    Raises:
        DataError: if the table cannot be used; the message names file, row and column.
    """
    from trainkit_data.table import load_table

    paths = {"train": path, "val": val_path, "test": test_path}
    return load_table(
        {name: data_root / given.expanduser() for name, given in paths.items() if given is not None},
        target=(target, *more_targets),
        task=task,
        categorical=categorical,
        embed=embed,
        ignore=ignore,
        missing=missing,
        shares={"val": val, "test": test},
        split_seed=split_seed,
        standardise=standardise,
        standardise_targets=standardise_targets,
        delimiter=delimiter,
        group=group,
    )


def arrays(
    data_root: Path,
    /,
    *,
    path: Path,
    targets: Path | None = None,
    task: Literal["auto", "classification", "binary", "regression"] = "auto",
    classes: tuple[str, ...] = (),
    val: Fraction = 0.15,
    test: Fraction = 0.2,
    split_seed: NonNegativeInt = 0,
    standardise: bool = True,
    standardise_targets: bool = True,
) -> Dataset:
    """NumPy arrays: an ``.npz`` with ``inputs`` and ``targets``, or two ``.npy`` files.

    An ``.npz`` may hold the splits: ``train_inputs`` and ``train_targets``, the same for ``val`` and ``test``. Inputs
    are ``(samples, ...)``; bytes ``(samples, channels, height, width)`` are taken for images.

    Args:
        path: the ``.npz``, or the ``.npy`` of the inputs.
        targets: the ``.npy`` of the targets, where ``path`` is one.
        task: what is learned; ``auto``: classification for whole numbers, else regression.
        classes: names of the classes in the order of their numbers; unset: the numbers.
        val: share of the samples for validation, where the file holds no splits.
        test: share of the samples for the test, where the file holds no splits.
        split_seed: the random split is a function of this number, not of the recipe's seed.
        standardise: give each feature (of images: each channel) mean 0 and standard deviation 1, fitted on the
            training split.
        standardise_targets: the same for the targets of a regression; metrics are in the original units all the same.

    Raises:
        DataError: if the file cannot be used; the message names file and row.
    """
    from trainkit_data.array_file import load_arrays

    return load_arrays(
        data_root / path.expanduser(),
        None if targets is None else data_root / targets.expanduser(),
        task=task,
        classes=classes,
        shares={"val": val, "test": test},
        split_seed=split_seed,
        standardise=standardise,
        standardise_targets=standardise_targets,
    )
