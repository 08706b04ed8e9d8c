"""Folds: what they keep together and balance, that nothing is lost, and that what is fitted follows them."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainkit import Batch, DataError, Dataset, DataSpec, Split, split_by_fraction
from trainkit.errors import PluginDefect
from trainkit.feed import cut_anew, make_feed
from trainkit.feed.draws import deal, draw_bag
from trainkit.feed.folds import Picked, parts_of
from trainkit_data.files import csv
from trainkit_data.shipped import diabetes, digits, wine

CUT = {"fold_by": "auto", "train_on": "train", "seed": 3}


def made(train: int = 31, val: int = 12, test: int = 5, task: str = "classification") -> Dataset:
    """Samples whose input is their number, of three classes in unequal shares."""
    numbers = torch.arange(train + val + test)
    labels = (numbers % 5).clamp(max=2)
    ends = {"train": (0, train), "val": (train, train + val), "test": (train + val, len(numbers))}
    spec = DataSpec(
        (1,),
        task,
        1 if task == "regression" else 3,
        () if task == "regression" else ("a", "b", "c"),
        () if task == "regression" else tuple(labels[:train].bincount().tolist()),
        {name: end - first for name, (first, end) in ends.items()},
        "f" * 64,
    )
    targets = labels.float() if task == "regression" else labels
    return Dataset(
        spec, {name: Split(numbers[a:b, None].float(), targets[a:b]) for name, (a, b) in ends.items() if b > a}
    )


def numbers_of(data: Dataset, split: str) -> list[int]:
    held = data.splits[split]
    return [int(number) for number in held.inputs[torch.arange(len(held))].flatten()]


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=5), folds=st.integers(2, 7), seed=st.integers(0, 9))
def test_classes_and_sizes_differ_by_one_at_most(counts: list[int], folds: int, seed: int) -> None:
    classes = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    classes = classes[torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))]
    part = deal(len(classes), folds, seed, classes)
    sizes = torch.bincount(part, minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    for label in range(len(counts)):
        held = torch.bincount(part[classes == label], minlength=folds)
        assert held.max() - held.min() <= 1
    assert torch.equal(part, deal(len(classes), folds, seed, classes))


def test_shares_of_classes_are_those_of_scikit_learn() -> None:
    splits = pytest.importorskip("sklearn.model_selection")
    classes = torch.from_numpy(numpy.random.default_rng(0).choice(4, 203, p=[0.6, 0.25, 0.1, 0.05]))
    part = deal(203, 5, 0, classes)
    theirs = splits.StratifiedKFold(5, shuffle=True, random_state=0).split(classes, classes)
    held = sorted(torch.bincount(classes[part == fold], minlength=4).tolist() for fold in range(5))
    others = [numpy.bincount(classes[test], minlength=4).tolist() for _, test in theirs]
    for label in range(4):
        assert sorted(row[label] for row in held) == sorted(row[label] for row in others)


def test_groups_stay_whole_and_sizes_are_as_even_as_scikit_learn_makes_them() -> None:
    splits = pytest.importorskip("sklearn.model_selection")
    random = numpy.random.default_rng(1)
    groups = torch.from_numpy(random.choice(60, 500, p=random.dirichlet(numpy.full(60, 0.7))) * 7 - 100)
    part = deal(500, 4, 2, groups=groups)
    assert all(len(part[groups == group].unique()) == 1 for group in groups.unique())
    sizes = torch.bincount(part, minlength=4)
    theirs = [len(test) for _, test in splits.GroupKFold(4).split(groups, groups=groups)]
    assert int(sizes.max() - sizes.min()) <= max(theirs) - min(theirs)


def test_groups_balance_classes_as_well_as_scikit_learn() -> None:
    splits = pytest.importorskip("sklearn.model_selection")
    random = numpy.random.default_rng(2)
    groups = torch.from_numpy(random.integers(0, 40, 400))
    classes = torch.from_numpy((random.random(400) < 0.02 + 0.9 * (groups.numpy() % 4 == 0)).astype("int64"))
    part = deal(400, 4, 0, classes, groups)
    assert all(len(part[groups == group].unique()) == 1 for group in groups.unique())

    def spread(shares: list[float]) -> float:
        return max(shares) - min(shares)

    own = spread([float(classes[part == fold].float().mean()) for fold in range(4)])
    theirs = splits.StratifiedGroupKFold(4).split(groups, classes, groups)
    plain = deal(400, 4, 0, groups=groups)
    assert own <= spread([float(classes[test].float().mean()) for _, test in theirs]) + 0.02
    assert own < spread([float(classes[plain == fold].float().mean()) for fold in range(4)])


@pytest.mark.parametrize(("groups", "folds"), [([5, 5, 5, 9, 9, 1], 3), ([0, 1, 2, 3], 4), ([7] * 20 + [8, 9], 3)])
def test_every_fold_has_a_group(groups: list[int], folds: int) -> None:
    part = deal(len(groups), folds, 0, groups=torch.tensor(groups))
    assert len(part.unique()) == folds


@pytest.mark.parametrize("fold_by", ["auto", "class", "none"])
def test_folds_take_turns_and_the_test_samples_stay(fold_by: str) -> None:
    data, seen = made(), list[int]()
    for fold in range(4):
        cut = cut_anew(data, folds=4, fold=fold, **CUT | {"fold_by": fold_by})
        train, val = numbers_of(cut, "train"), numbers_of(cut, "val")
        assert sorted(train + val) == list(range(43))
        assert numbers_of(cut, "test") == numbers_of(data, "test")
        assert cut.spec.sizes == {"train": len(train), "val": len(val), "test": 5}
        assert cut.spec.class_counts == tuple(torch.bincount(cut.splits["train"].targets, minlength=3).tolist())
        assert [int(label) for label in cut.splits["val"].targets] == [min(number % 5, 2) for number in val]
        seen += val
    assert sorted(seen) == list(range(43))


def test_the_fingerprint_tells_folds_seeds_and_cuts_apart() -> None:
    def mark(data: Dataset = made(), fold: int = 0, **changes: object) -> str:  # noqa: B008
        return cut_anew(data, fold=fold, **{"folds": 4} | CUT | changes).spec.fingerprint

    other = dataclasses.replace(made(), spec=dataclasses.replace(made().spec, fingerprint="e" * 64))
    marks = [mark(), mark(fold=1), mark(seed=4), mark(folds=5), mark(folds=None, train_on="train+val"), mark(other)]
    assert len({*marks, made().spec.fingerprint}) == 7
    assert mark() == marks[0]
    assert mark(folds=None) == "f" * 64


def test_a_run_on_all_samples_has_no_validation_split() -> None:
    cut = cut_anew(made(), folds=None, fold=0, **CUT | {"train_on": "train+val"})
    assert list(cut.splits) == ["train", "test"]
    assert numbers_of(cut, "train") == list(range(43))
    assert cut.spec.sizes == {"train": 43, "test": 5}
    alone = made(val=0)
    assert cut_anew(alone, folds=None, fold=0, **CUT | {"train_on": "train+val"}) is alone


def test_data_without_validation_samples_can_be_folded() -> None:
    cut = cut_anew(made(val=0), folds=3, fold=1, **CUT)
    assert sorted(numbers_of(cut, "train") + numbers_of(cut, "val")) == list(range(31))


def grouped(**changes: object) -> Dataset:
    groups = {"train": torch.arange(31) % 6, "val": torch.arange(12) % 9}
    return dataclasses.replace(made(), groups=groups | changes)


def test_groups_of_the_data_are_kept_together_across_its_splits() -> None:
    numbers = [*range(31)], [*range(12)]
    of = {number: number % 6 for number in numbers[0]} | {31 + number: number % 9 for number in numbers[1]}
    cut = cut_anew(grouped(), folds=4, fold=2, **CUT)
    train, val = ({of[number] for number in numbers_of(cut, split)} for split in ("train", "val"))
    assert train
    assert val
    assert not train & val
    assert [of[number] for number in numbers_of(cut, "val")] == cut.groups["val"].tolist()
    both = cut_anew(grouped(), folds=4, fold=2, **CUT | {"fold_by": "class"})
    assert {of[number] for number in numbers_of(both, "train")} & {of[number] for number in numbers_of(both, "val")}


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        (made(), {"fold_by": "group"}, "has no groups\ntell the data"),
        (made(task="regression"), {"fold_by": "class"}, 'no classes\nwrite fold_by = "none"'),
        (made(train=3, val=1), {"folds": 5}, "folds = 5, but there are 4 samples"),
        (grouped(), {"folds": 10}, "folds = 10, but there are 9 groups .*\nwrite at most 9"),
    ],
)
def test_what_cannot_be_cut_says_why(data: Dataset, changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        cut_anew(data, fold=0, **{"folds": 4} | CUT | changes)


def test_groups_that_do_not_belong_to_the_samples_are_a_defect() -> None:
    with pytest.raises(PluginDefect, match=r"groups of split 'val' must be int64 \(12,\).*got torch.float32 \(12,\)"):
        cut_anew(grouped(val=torch.zeros(12)), folds=3, fold=0, **CUT)


def test_a_class_with_fewer_samples_than_folds_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    data = made()
    data.splits["train"].targets[:] = 0
    data.splits["val"].targets[:] = torch.tensor([1, 1] + [0] * 10)
    cut_anew(data, folds=3, fold=0, **CUT)
    assert "class 'b' has 2 samples for 3 folds" in capsys.readouterr().out


class Files:
    """Samples that are read by number, as from a file."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Copy them."""
        return self.values[index]


def test_files_stay_files_and_come_in_the_order_asked_for() -> None:
    picked = Picked([torch.arange(5.0), Files(torch.arange(5.0, 9.0))], torch.tensor([8, 0, 3, 5, 7]))
    picked = pickle.loads(pickle.dumps(picked))
    assert len(picked) == 5
    assert picked[torch.tensor([4, 0, 1, 3])].tolist() == [7, 8, 0, 5]
    assert picked[torch.tensor([1, 2])].tolist() == [0, 3]
    assert picked[torch.tensor([], dtype=torch.int64)].tolist() == []


def batches(data: Dataset, loading: str) -> list[Batch]:
    feed = make_feed(data, batch_size=8, seed=0, device="cpu", loading=loading, workers=0)
    return [*feed.train(1), *feed.evaluate("val")]


@pytest.mark.parametrize("files", [False, True])
def test_both_feeds_give_the_samples_of_a_fold(files: bool) -> None:
    data = made()
    if files:
        held = {name: Split(Files(split.inputs), split.targets) for name, split in data.splits.items()}
        data = dataclasses.replace(data, splits=held)
    cut = cut_anew(data, folds=4, fold=3, **CUT)
    resident, streamed = batches(cut, "resident"), batches(cut, "streamed")
    assert len(resident) == len(streamed)
    for one, other in zip(resident, streamed, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    seen = sorted(int(number) for batch in resident for number in batch.inputs.flatten())
    assert seen == list(range(43))


@pytest.mark.parametrize("fold", [0, 2])
def test_what_a_shipped_set_fits_is_fitted_on_the_folds_own_training_samples(fold: int) -> None:
    cut = cut_anew(wine(), folds=3, fold=fold, **CUT)
    train = cut.splits["train"].inputs[torch.arange(len(cut.splits["train"]))]
    assert train.mean(0).abs().max() < 1e-5
    assert (train.std(0, correction=0) - 1).abs().max() < 1e-4
    targets = cut_anew(diabetes(), folds=3, fold=fold, **CUT).splits["train"].targets
    assert abs(float(targets.mean())) < 1e-5
    assert abs(float(targets.std(correction=0)) - 1) < 1e-4


def test_images_are_cut_without_a_copy_of_what_they_are_scaled_by() -> None:
    data = digits()
    cut = cut_anew(data, folds=5, fold=0, **CUT)
    assert sum(cut.spec.sizes.values()) == 1797
    assert cut.spec.sizes["test"] == data.spec.sizes["test"]
    assert sum(cut.spec.class_counts) == cut.spec.sizes["train"]
    held = make_feed(cut, batch_size=64, seed=0, device="cpu").plan.dataset
    assert held.recut is None  # so that it travels to worker processes
    pickle.dumps(held)


ROWS = ["size,colour,patient,label", *(f"{n},{'red' if n % 4 else f'odd {n}'},p{n // 4},{n % 2}" for n in range(48))]


def table(folder: Path, rows: list[str] = ROWS, **changes: object) -> Dataset:
    (folder / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return csv(folder, **{"path": Path("table.csv"), "target": "label", "group": "patient"} | changes)


def test_a_column_of_groups_is_no_input_and_parts_no_split(tmp_path: Path) -> None:
    data = table(tmp_path, ignore=("colour",))
    assert data.spec.input_shape == (1,)
    assert data.spec.sizes == {"train": 32, "val": 8, "test": 8}
    inside = [set(data.groups[name].tolist()) for name in ("train", "val", "test")]
    assert [len(groups) for groups in inside] == [8, 2, 2]
    assert len(set.union(*inside)) == 12
    cut = cut_anew(data, folds=5, fold=4, **CUT)
    assert not set(cut.groups["train"].tolist()) & set(cut.groups["val"].tolist())
    assert cut.spec.sizes == {"train": 32, "val": 8, "test": 8}


def test_words_are_those_of_the_folds_own_training_rows(tmp_path: Path) -> None:
    data = table(tmp_path)
    for fold in range(3):
        cut = cut_anew(data, folds=3, fold=fold, **CUT)
        train, val = (cut.splits[name].inputs[:, 1:].sum(0) for name in ("train", "val"))
        assert bool((train > 0).all())  # a word for each column, of the training rows alone
        assert int((val == 0).sum()) == len(val) - 1  # the validation rows share "red" with them


def test_groups_that_a_table_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table.csv:3: column 'patient' has no value"):
        table(tmp_path, [*ROWS[:2], "1,red,,0", *ROWS[3:]])
    with pytest.raises(DataError, match="cannot be the target"):
        table(tmp_path, group="label")
    with pytest.raises(DataError, match="no column named 'nobody'"):
        table(tmp_path, group="nobody")


def test_groups_are_split_whole_into_shares() -> None:
    groups = torch.tensor([1] * 10 + [2] * 30 + [3] * 5 + [4] * 5 + [5] * 30 + [6] * 20)
    parts = split_by_fraction(groups, {"val": 0.2, "test": 0.2}, 0, groups=groups)
    assert torch.cat(list(parts.values())).sort().values.tolist() == list(range(100))
    sets = [set(groups[part].tolist()) for part in parts.values()]
    assert all(sets)
    assert sum(map(len, sets)) == 6
    with pytest.raises(DataError, match="2 groups cannot be split into train, val, test"):
        split_by_fraction(torch.zeros(4), {"val": 0.2, "test": 0.2}, 0, groups=torch.tensor([0, 0, 1, 1]))


# ---------------------------------------------------------------- bootstrap draws


def test_a_bag_is_drawn_from_the_training_samples_alone() -> None:
    data = made(train=500, val=100)
    cut = cut_anew(data, folds=None, fold=0, bag=0, **CUT)
    drawn = numbers_of(cut, "train")
    assert len(drawn) == 500 == cut.spec.sizes["train"]
    assert set(drawn) <= set(range(500))
    assert 0.6 < len(set(drawn)) / 500 < 0.67  # 1 - 1/e is 0.632
    assert max(numpy.bincount(drawn)) >= 3
    assert numbers_of(cut, "val") == numbers_of(data, "val")
    assert [int(label) for label in cut.splits["train"].targets] == [min(number % 5, 2) for number in drawn]
    assert cut.spec.class_counts == tuple(torch.bincount(cut.splits["train"].targets, minlength=3).tolist())


def test_each_sample_is_as_likely_to_be_drawn_as_any_other() -> None:
    often = torch.zeros(50)
    for bag in range(2000):
        often += torch.bincount(draw_bag(50, bag, 7), minlength=50)
    assert often.sum() == 100_000
    expected, spread = 2000.0, (2000 * 49 / 50) ** 0.5
    assert (often - expected).abs().max() < 4 * spread
    assert 0.6 < float(((often - expected) / spread).square().mean()) < 1.5  # as often as chance has it, and no more


def test_bags_follow_seed_and_number() -> None:
    def mark(bag: int | None = 0, **changes: object) -> str:
        return cut_anew(made(), bag=bag, fold=0, **{"folds": None} | CUT | changes).spec.fingerprint

    marks = [mark(), mark(1), mark(2), mark(seed=4), mark(folds=4), mark(folds=4, bag=None), mark(None)]
    assert len(set(marks)) == 7
    assert mark() == marks[0]


@pytest.mark.parametrize("changes", [{}, {"folds": 4}, {"train_on": "train+val"}])
@pytest.mark.parametrize("data", ["plain", "groups"])
def test_the_parts_of_a_bag_are_what_it_trains_on(data: str, changes: dict[str, object]) -> None:
    held = made() if data == "plain" else grouped()
    cutting = {"folds": None, "fold": 0, "bag": 3} | CUT | changes
    parts, cut = parts_of(held, **cutting), cut_anew(held, **cutting)
    for name, numbers in parts.items():
        assert numbers.tolist() == numbers_of(cut, name)  # the inputs of these samples are their numbers
    assert not set(parts["train"].tolist()) & set(parts.get("val", torch.tensor([])).tolist())
    own = parts_of(held, **{"folds": None, "fold": 0} | CUT)
    assert {name: numbers.tolist() for name, numbers in own.items()} == {
        name: numbers_of(held, name) for name in ("train", "val")
    }
    without = held.groups if data == "groups" else {}
    assert cut.groups.keys() == ({"train", "val"} & parts.keys() if without else set())


def test_groups_are_drawn_whole() -> None:
    data = grouped()
    of = data.groups["train"].tolist()
    for bag in range(5):
        drawn = numbers_of(cut_anew(data, folds=None, fold=0, bag=bag, **CUT), "train")
        times = numpy.bincount(drawn, minlength=31)
        assert all(len({times[number] for number in range(31) if of[number] == group}) == 1 for group in range(6))
        assert sum(times[group] for group in range(6)) == 6  # as many groups as there are


def test_what_was_fitted_stays_fitted_on_all_training_samples() -> None:
    """Members that are draws of the same samples are given the same inputs."""
    data, cut = wine(), cut_anew(wine(), folds=None, fold=0, bag=2, **CUT)
    assert torch.equal(data.splits["val"].inputs[torch.arange(9)], cut.splits["val"].inputs[torch.arange(9)])
    assert cut.splits["train"].inputs[torch.arange(50)].mean(0).abs().max() > 0.01
    pickle.dumps(make_feed(cut, batch_size=64, seed=0, device="cpu").plan.dataset)
