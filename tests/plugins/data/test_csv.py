"""Tables of text."""

from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit import DataError, Dataset
from trainkit.feed import make_feed
from trainkit.finished import in_units
from trainkit_data.files import csv

ROWS = [
    "size,colour,code,label",
    *(
        f"{number},{'red' if number % 3 else 'blue'},{number % 2},{'yes' if number % 2 else 'no'}"
        for number in range(40)
    ),
]


def load(folder: Path, rows: list[str], **settings: Any) -> Dataset:
    (folder / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return csv(folder, **{"path": Path("table.csv"), "target": "label", **settings})


def whole(data: Dataset) -> torch.Tensor:
    return torch.cat([split.inputs[torch.arange(len(split))] for split in data.splits.values()])


def test_numbers_and_words_become_inputs(tmp_path: Path) -> None:
    data = load(tmp_path, ROWS)
    assert data.spec.task == "classification"
    assert data.spec.classes == ("no", "yes")
    assert data.spec.input_shape == (4,)  # size, code, and two colours
    assert data.spec.sizes == {"train": 26, "val": 6, "test": 8}
    train = data.splits["train"].inputs[torch.arange(26)]
    assert train[:, :2].mean(0).abs().max() < 1e-5
    assert (train[:, :2].std(0, correction=0) - 1).abs().max() < 1e-4
    assert train[:, 2:].unique().tolist() == [0.0, 1.0]
    assert torch.equal(train[:, 2:].sum(1), torch.ones(26))
    make_feed(data, batch_size=8, seed=0, device="cpu")


def test_declared_categories_and_ignored_columns(tmp_path: Path) -> None:
    data = load(tmp_path, ROWS, categorical=("code",), ignore=("colour",), standardise=False)
    assert data.spec.input_shape == (3,)
    assert whole(data)[:, 0].max() == 39


@pytest.mark.parametrize(
    ("values", "settings", "task"),
    [
        ([str(n % 3) for n in range(40)], {}, "classification"),
        ([str(n) for n in range(40)], {}, "regression"),
        ([str(n / 2) for n in range(40)], {}, "regression"),
        ([str(n % 3) for n in range(40)], {"task": "regression"}, "regression"),
        ([str(n % 2) for n in range(40)], {"task": "binary"}, "binary"),
    ],
)
def test_task(tmp_path: Path, values: list[str], settings: dict[str, Any], task: str) -> None:
    rows = ["x,label", *(f"{n},{value}" for n, value in enumerate(values))]
    data = load(tmp_path, rows, **settings)
    assert data.spec.task == task
    assert bool(data.spec.target_mean) == (task == "regression")


def test_classes_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    rows = ["x,label", *(f"{n},{(2, 10, 9)[n % 3]}" for n in range(30))]
    assert load(tmp_path, rows).spec.classes == ("2", "9", "10")


def test_missing_value_is_named_by_row_and_column(tmp_path: Path) -> None:
    rows = [*ROWS[:6], "7,,1,yes", *ROWS[6:]]
    with pytest.raises(
        DataError, match=r'table\.csv:7: column \'colour\' has no value; set missing = "mean" or "drop"'
    ):
        load(tmp_path, rows)


@pytest.mark.parametrize("mark", ["", "NA", "nan", "null", "?"])
def test_missing_rows_are_dropped(tmp_path: Path, mark: str) -> None:
    data = load(tmp_path, [*ROWS, f"{mark},red,1,yes", f"5,red,1,{mark}"], missing="drop")
    assert sum(data.spec.sizes.values()) == 40


def test_missing_values_are_filled_from_the_training_rows_alone(tmp_path: Path) -> None:
    rows = ["x,word,label", *(f"{n},{'a' if n % 5 else 'b'},{n % 2}" for n in range(30))]
    (tmp_path / "test.csv").write_text("x,word,label\n,,0\n1000,c,1\n")
    data = load(tmp_path, rows, missing="mean", test_path=Path("test.csv"), val=0.0, standardise=False)
    assert data.splits["test"].inputs[torch.arange(2)].tolist() == [[14.5, 1.0, 0.0], [1000.0, 0.0, 0.0]]


def test_missing_target_is_never_filled(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'table\.csv:42: column \'label\' has no value; set missing = "drop"'):
        load(tmp_path, [*ROWS, "7,red,1,"], missing="mean")


def test_splits_by_file(tmp_path: Path) -> None:
    (tmp_path / "later.csv").write_text("\n".join([ROWS[0], *ROWS[-5:]]))
    data = load(tmp_path, ROWS, test_path=Path("later.csv"), val_path=Path("later.csv"), standardise=False)
    assert data.spec.sizes == {"train": 40, "val": 5, "test": 5}
    assert data.splits["test"].inputs[torch.arange(5)][:, 0].tolist() == [35, 36, 37, 38, 39]
    (tmp_path / "later.csv").write_text("size,label\n1,yes\n")
    with pytest.raises(DataError, match=r"later\.csv:1: no column named 'colour'; it has: 'size', 'label'"):
        load(tmp_path, ROWS, test_path=Path("later.csv"))
    (tmp_path / "later.csv").write_text(f"{ROWS[0]}\n1,red,0,maybe\n")
    with pytest.raises(DataError, match=r"later\.csv:2: class 'maybe' is not among the training rows"):
        load(tmp_path, ROWS, test_path=Path("later.csv"))


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([*ROWS, "1,red"], {}, r"table\.csv:42: 2 values, the first line names 4 columns"),
        ([*ROWS, "inf,red,1,yes"], {}, r"table\.csv:42: column 'size' holds inf; use a finite number"),
        (
            ROWS,
            {"target": "lable"},
            r"table\.csv:1: no column named 'lable'; it has: 'size', 'colour', 'code', 'label'",
        ),
        (ROWS, {"ignore": ("age",)}, "no column named 'age'"),
        (ROWS, {"ignore": ("size", "colour", "code")}, "no column left for inputs"),
        (["a,a,label", "1,2,x"], {}, r"table\.csv:1: two columns are named 'a'"),
        (ROWS[:1], {}, "holds no rows"),
        ([], {}, "holds no rows"),
        (ROWS, {"task": "regression"}, r"table\.csv:2: the target 'label' holds '\w+'; a regression needs numbers"),
        (ROWS, {"ignore": ("label",)}, "'label' is a target, and ignore is of inputs; take it out of ignore"),
        (ROWS, {"target": "size", "task": "classification"}, "another value in every row; set task = .regression"),
        (ROWS, {"target": "size", "task": "binary"}, "'size' has 40 classes; binary needs two"),
        (
            ["name,label", *(f"n{n},{n % 2}" for n in range(300))],
            {},
            r"table\.csv:2: column 'name' holds 'n0', no number, and .* different words in all; put it into ignore",
        ),
        (
            ["x,label", *(f"{n}.5,{n % 2}" for n in range(300)), "3o,1"],
            {"val": 0.0, "test": 0.0},
            r"table\.csv:302: column 'x' holds '3o', no number, and",
        ),
        (ROWS, {"path": Path("none.csv")}, r"there is no file .*none\.csv"),
        (ROWS, {"val": 0.5, "test": 0.6}, "leave nothing for training"),
        (ROWS, {"delimiter": ";;"}, "delimiter must be one character"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, rows: list[str], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path, rows, **settings)


def test_one_class_and_too_few_rows_are_refused_before_training(tmp_path: Path) -> None:
    rows = ["x,label", *(f"{n},same" for n in range(20))]
    with pytest.raises(DataError, match="every training sample is of class 'same'"):
        make_feed(load(tmp_path, rows), batch_size=4, seed=0, device="cpu")
    with pytest.raises(DataError, match="26 samples, fewer than batch_size = 64"):
        make_feed(load(tmp_path, ROWS), batch_size=64, seed=0, device="cpu")


def test_other_delimiters_and_byte_order_marks(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("\n".join(ROWS).replace(",", ";"), encoding="utf-8-sig")
    data = csv(tmp_path, path=Path("other.csv"), target="label", delimiter=";")
    assert data.spec.input_shape == (4,)
    (tmp_path / "other.csv").write_bytes(b"a,label\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="is no UTF-8 text"):
        csv(tmp_path, path=Path("other.csv"), target="label")


NUMBERS = ["x,y,z,word", *(f"{n},{n / 4},{40 - n * n},{'abc'[n % 3]}" for n in range(40))]


def test_several_targets_are_standardised_each_by_itself(tmp_path: Path) -> None:
    data = load(tmp_path, NUMBERS, target="y", more_targets=("z",))
    assert (data.spec.task, data.spec.outputs, data.spec.targets) == ("regression", 2, ("y", "z"))
    targets = data.splits["train"].targets
    assert targets.shape == (26, 2)
    assert targets.mean(0).abs().max() < 1e-5
    restored = torch.cat([split.targets for split in data.splits.values()]) * torch.tensor(data.spec.target_std)
    restored = restored + torch.tensor(data.spec.target_mean)
    assert sorted(restored[:, 0].tolist()) == pytest.approx([n / 4 for n in range(40)], abs=1e-4)
    assert data.spec.input_shape == (4,)  # x and three words
    assert data.recut is not None
    again = data.recut({"train": torch.arange(20), "val": torch.arange(20, 32)})
    assert again.spec.targets == ("y", "z")
    assert again.spec.target_mean != data.spec.target_mean


def test_words_that_are_looked_up_stay_one_column_of_numbers(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("x,y,z,word\n1,2,3,d\n2,2,3,a\n")
    data = load(tmp_path, NUMBERS, target="y", ignore=("z",), embed=True, val=0.0, test_path=Path("test.csv"))
    assert data.spec.input_shape == (2,)
    assert data.spec.categories == (0, 4)  # a, b, c, and what is not known
    assert data.splits["train"].inputs[torch.arange(4)][:, 1].tolist() == [1.0, 2.0, 3.0, 1.0]
    assert data.splits["test"].inputs[torch.arange(2)][:, 1].tolist() == [0.0, 1.0]
    assert data.spec.input_std[1] == 1.0
    assert load(tmp_path, NUMBERS, target="y", ignore=("word",), embed=True).spec.categories == ()


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (
            ["x,same,always,label", *(f"{n},7,a,{n / 2}" for n in range(30))],
            {},
            r"table\.csv: columns hold the same value in every row: 'same' \(7\), 'always' \(a\); set ignore = "
            r'\["same", "always"\]',
        ),
        (["x,label", *(f"{n},5" for n in range(30))], {"task": "regression"}, "the target 'label' is 5 in every row"),
        (NUMBERS, {"target": "y", "more_targets": ("y",)}, "a target is named twice: y, y"),
        (
            NUMBERS,
            {"target": "y", "more_targets": ("word",)},
            r"csv:2: the target 'word' holds 'a'; a regression needs",
        ),
        (NUMBERS, {"target": "y", "categorical": ("y",)}, "'y' is a target, and categorical is of inputs"),
        (
            ["x,written,filled,label", *(f"{n},{('7', '7.0')[n % 2]},{('', '3')[n % 2]},{n / 2}" for n in range(30))],
            {"missing": "mean"},
            r"columns hold the same value in every row: 'written' \(7(\.0)?\), 'filled' \(3\); set ignore",
        ),
        (NUMBERS, {"target": "y", "more_targets": ("z",), "task": "binary"}, "are those of a regression, and the task"),
        (NUMBERS, {"target": "y", "more_targets": ("w",)}, "no column named 'w'"),
        ([*NUMBERS, "1,2,,a"], {"target": "y", "more_targets": ("z",), "missing": "mean"}, "column 'z' has no value"),
        (
            NUMBERS,
            {"target": "y", "more_targets": ("z", "x"), "ignore": ("word",)},
            "beside the target 'y' and 'z' and",
        ),
    ],
)
def test_regressions_that_cannot_be(tmp_path: Path, rows: list[str], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path, rows, **settings)


def test_numbers_far_from_0_keep_what_tells_them_apart(tmp_path: Path) -> None:
    """Seconds since 1970, of which float32 knows minutes."""
    moments = [1_700_000_000 + 7 * number for number in range(40)]
    rows = ["begin,end", *(f"{moment},{moment + 3 * (number % 5)}" for number, moment in enumerate(moments))]
    data = load(tmp_path, rows, target="end", task="regression")
    for split, part in data.splits.items():
        taken = in_units(part.targets, data.spec)
        assert (taken - taken.round()).abs().max() < 1e-3
        assert set(taken.round().tolist()) <= {moment + 3 * (number % 5) for number, moment in enumerate(moments)}, (
            split
        )
    train = data.splits["train"]
    for values in (train.inputs[torch.arange(len(train))][:, 0], train.targets):
        assert len(values.unique()) == len(train)
        assert abs(float(values.mean())) < 1e-5
        assert float(values.std(correction=0)) == pytest.approx(1, abs=1e-5)
