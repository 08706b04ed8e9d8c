"""From a checked recipe to its data: the samples, which of them train and which validate, and how batches are made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from trainkit.dataset import Dataset, DataSpec
from trainkit.datasets import Datasets
from trainkit.device import Precision, choose_eval_batch_size
from trainkit.errors import DataError, RecipeError
from trainkit.feed import cut_anew
from trainkit.instantiate import Builder
from trainkit.recipe import problem_at
from trainkit.recipe.pack_drift import check_data
from trainkit.seeding import seed_everything

_CUT_SETTINGS = ("folds", "fold", "fold_by", "train_on", "bag")
_FEED_SETTINGS = (
    *("batch_size", "eval_batch_size", "loading", "workers", "worker_timeout", "shuffle", "sampling", "drop_last"),
)


def make_dataset(builder: Builder, say: Callable[[str], None], datasets: Datasets | None = None) -> Dataset:
    """Build the data, and cut its samples for training and validation as ``[data]`` says."""
    return cut_dataset(builder, whole_dataset(builder, datasets), say)


def whole_dataset(builder: Builder, datasets: Datasets | None = None) -> Dataset:
    """Build the data with the splits that its component gives it."""
    seed = data_seed(builder.tables)
    seed_everything(seed, "data")

    def make() -> Dataset:
        made: Dataset = builder.make("data", seed=seed)
        return made

    dataset = make() if datasets is None else datasets.get(builder, seed, make)
    if builder.recipe.pack is not None:
        check_data(builder.recipe, builder.recipe.pack, dataset.spec)
    return dataset


def cut_dataset(builder: Builder, dataset: Dataset, say: Callable[[str], None]) -> Dataset:
    """Cut the samples for training and validation as ``[data]`` says."""
    with of_the_data(builder.tables):
        return cut_anew(dataset, **cutting(builder.tables), say=say)


def cutting(tables: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe says of which samples train and which validate, as `cut_anew` and `parts_of` take it."""
    # Of a recipe that was read from its text, what is unset is not there.
    return {key: tables["data"].get(key) for key in _CUT_SETTINGS} | {"seed": data_seed(tables)}


def feed_settings(builder: Builder, spec: DataSpec, precision: Precision, processes: int = 1) -> dict[str, Any]:
    """What ``[data]`` says of how batches are made, as `make_feed` takes it; a size that is chosen is a process's."""
    feeding = {key: builder.tables["data"][key] for key in _FEED_SETTINGS}
    if feeding["eval_batch_size"] is None and (chosen := choose_eval_batch_size(spec.input_shape, precision)):
        feeding["eval_batch_size"] = chosen * processes
    return feeding


def data_seed(tables: Mapping[str, Any]) -> int:
    """What the data component, folds and bootstrap draws draw from."""
    own = tables["data"].get("seed")
    seed: int = tables["seed"] if own is None else own
    return seed


@contextlib.contextmanager
def of_the_data(tables: Mapping[str, Any]) -> Iterator[None]:
    """Turn what the data cannot do into a problem of the recipe."""
    try:
        yield
    except DataError as error:
        message, _, cure = str(error).partition("\n")
        key = next((f"data.{key}" for key in (*_CUT_SETTINGS, "sampling") if message.startswith(f"{key} =")), "data")
        raise RecipeError([problem_at(tables, key, f"[data] {message}", cure.strip())]) from error
