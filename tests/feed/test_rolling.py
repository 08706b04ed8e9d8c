"""Folds of data in time validate on later moments than they train on, as scikit-learn cuts them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from trainkit.dataset import Dataset, DataSpec, Split
from trainkit.errors import DataError, PluginDefect
from trainkit.feed import cut_anew
from trainkit.feed.draws import rolled
from trainkit.feed.folds import parts_of

CUT = {"fold_by": "auto", "train_on": "train", "seed": 1}


def windows(count: int, horizon: int) -> torch.Tensor:
    begins = torch.arange(count)
    return torch.stack((begins, begins + horizon - 1), 1)


def made(train: int = 20, val: int = 6, horizon: int = 3) -> Dataset:
    spec = DataSpec((1,), "regression", 1, sizes={"train": train, "val": val}, fingerprint="f" * 64)
    numbers = torch.arange(train + val).float()
    splits = {
        "train": Split(numbers[:train, None], numbers[:train]),
        "val": Split(numbers[train:, None], numbers[train:]),
    }
    moments = windows(train + val, horizon)
    return Dataset(spec, splits, moments={"train": moments[:train], "val": moments[train:]})


@pytest.mark.parametrize(("count", "folds", "horizon"), [(60, 5, 1), (61, 4, 6), (17, 3, 2)])
def test_folds_are_those_of_scikit_learn(count: int, folds: int, horizon: int) -> None:
    split = pytest.importorskip("sklearn.model_selection").TimeSeriesSplit(folds, gap=horizon - 1)
    for fold, (train, val) in enumerate(split.split(torch.zeros(count, 1))):
        own = rolled(windows(count, horizon), folds, fold)
        assert own["train"].tolist() == train.tolist()
        assert own["val"].tolist() == val.tolist()


def test_samples_of_one_moment_stay_together() -> None:
    moments = windows(12, 2).repeat(3, 1)  # three series on one clock
    for fold in range(3):
        parts = rolled(moments, 3, fold)
        assert moments[parts["train"], 1].max() < moments[parts["val"], 0].min()
        assert sorted(moments[parts["val"], 0].tolist()) == sorted([3 + 3 * fold + place for place in range(3)] * 3)


def test_data_with_moments_is_cut_in_time_unless_told_otherwise() -> None:
    cut = cut_anew(made(), folds=4, fold=1, **CUT)
    train, val = (cut.splits[name].targets.tolist() for name in ("train", "val"))
    assert val == [11, 12, 13, 14, 15]
    assert train == list(range(9)), "two windows reach into the stretch that validates"
    assert parts_of(made(), folds=4, fold=1, **CUT)["val"].tolist() == val
    mixed = cut_anew(made(), folds=4, fold=1, **CUT | {"fold_by": "none"})
    assert max(mixed.splits["train"].targets.tolist()) > max(mixed.splits["val"].targets.tolist())


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        (dataclasses.replace(made(), moments={}), {"fold_by": "time"}, 'no moments\nwrite fold_by = "none"'),
        (made(3, 1), {"folds": 4}, "folds = 4, but targets begin at 4 moments\nwrite at most 3"),
        (made(3, 1, 9), {"folds": 3}, "fold 0 nothing to train on"),
    ],
)
def test_what_cannot_be_cut_says_why(data: Dataset, changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        cut_anew(data, fold=0, **CUT | {"folds": 4} | changes)


def test_moments_that_do_not_belong_to_the_samples_are_a_defect() -> None:
    wrong = dataclasses.replace(made(), moments={"train": windows(20, 1)})
    with pytest.raises(PluginDefect, match=r"moments of split 'val' must be int64 \(6, 2\).*got none"):
        cut_anew(wrong, folds=4, fold=0, **CUT)
