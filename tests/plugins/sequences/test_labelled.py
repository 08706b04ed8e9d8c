"""Sequences of tables: long and wide files, uneven lengths, scaling, and one message for each thing that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from trainkit import DataError, Dataset
from trainkit.feed import cut_anew, make_feed
from trainkit_sequences.data import control_charts, csv_sequences
from trainkit_sequences.shipped import CHARTS

# 20 sequences of 3 to 6 steps, in the order of their times backwards.
LONG = ["who,when,up,down,ward,label"] + [
    f"s{number},{step},{number + step},{10 - step},{number // 4},{'yes' if number % 2 else 'no'}"
    for number in range(20)
    for step in reversed(range(3 + number % 4))
]
WIDE = ["label,a,b,c,d"] + [
    f"{'yes' if number % 2 else 'no'},{number},{number + 1},{number + 2},{'' if number % 3 else number + 3}"
    for number in range(20)
]


def load(folder: Path, rows: list[str], **settings: Any) -> Dataset:
    (folder / "steps.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return csv_sequences(folder, **{"path": Path("steps.csv"), "target": "label", **settings})


def long(folder: Path, rows: list[str] = LONG, **settings: Any) -> Dataset:
    return load(folder, rows, **{"id": "who", "time": "when", "ignore": ("ward",), **settings})


def whole(data: Dataset) -> torch.Tensor:
    return torch.cat([split.inputs[torch.arange(len(split))] for split in data.splits.values()])


def test_rows_of_a_long_file_become_channels_in_the_order_of_time(tmp_path: Path) -> None:
    data = long(tmp_path, standardise=False)
    assert data.spec.input_shape == (3, 6)  # up, down and the mask
    assert data.spec.masked
    assert (data.spec.task, data.spec.classes) == ("classification", ("no", "yes"))
    assert data.spec.sizes == {"train": 13, "val": 3, "test": 4}
    for split in data.splits.values():
        for sample, label in zip(split.inputs, split.targets.tolist(), strict=True):
            number, length = int(sample[0, 0]), int(sample[2].sum())
            assert length == 3 + number % 4
            assert sample[0].tolist() == [number + step for step in range(length)] + [0] * (6 - length)
            assert sample[1].tolist() == [10 - step for step in range(length)] + [0] * (6 - length)
            assert label == number % 2
    make_feed(data, batch_size=4, seed=0, device="cpu")


def test_channels_are_scaled_by_the_steps_that_train(tmp_path: Path) -> None:
    plain, data = long(tmp_path, standardise=False), long(tmp_path)
    train = plain.splits["train"].inputs[torch.arange(13)]
    held = train[:, 2].bool().numpy()
    for channel in range(2):
        steps = train[:, channel].numpy()[held]
        assert data.spec.input_mean[channel] == pytest.approx(steps.mean(), rel=1e-5)
        assert data.spec.input_std[channel] == pytest.approx(numpy.std(steps), rel=1e-5)
        found = (whole(plain)[:, channel] - steps.mean()) / numpy.std(steps) * whole(plain)[:, 2]
        torch.testing.assert_close(whole(data)[:, channel], found, atol=1e-5, rtol=1e-5)
    assert data.spec.input_std[2:] == (1.0,)
    fold = cut_anew(data, folds=4, fold=1, fold_by="auto", train_on="train", seed=0)
    assert fold.spec.input_mean != data.spec.input_mean
    torch.testing.assert_close(
        (fold.splits["train"].inputs[:, 0] * fold.splits["train"].inputs[:, 2]).sum(),
        torch.tensor(0.0),
        atol=1e-4,
        rtol=0,
    )


def test_rows_of_a_wide_file_are_sequences(tmp_path: Path) -> None:
    data = load(tmp_path, WIDE, standardise=False)
    assert (data.spec.input_shape, data.spec.masked) == ((2, 4), True)
    lengths = sorted(whole(data)[:, 1].sum(1).tolist())
    assert lengths == [3.0] * 13 + [4.0] * 7
    even = load(tmp_path, WIDE, length=3)
    assert (even.spec.input_shape, even.spec.masked) == ((1, 3), False)


def test_groups_stay_together_and_lacking_steps_can_be_filled(tmp_path: Path) -> None:
    data = long(tmp_path, group="ward", ignore=())
    homes = {name: set(numbers.tolist()) for name, numbers in data.groups.items()}
    assert not homes["train"] & homes["val"]
    assert not homes["train"] & homes["test"]
    rows = [row.replace("s3,5,8,5", "s3,5,,5") for row in LONG]
    with pytest.raises(DataError, match=r"steps.csv:\d+: column 'up' has no value; .*missing = \"last\""):
        long(tmp_path, rows)
    filled = long(tmp_path, rows, missing="last", standardise=False)
    assert sum(sample[0].tolist() == [3, 4, 5, 6, 7, 7] for sample in whole(filled)) == 1


def test_numbers_as_labels_are_a_regression_in_their_own_units(tmp_path: Path) -> None:
    rows = [LONG[0]] + [row.rsplit(",", 1)[0] + f",{int(row.split(',')[0][1:]) * 1.5}" for row in LONG[1:]]
    data = long(tmp_path, rows)
    assert (data.spec.task, data.spec.outputs) == ("regression", 1)
    truth = data.splits["test"].targets * data.spec.target_std[0] + data.spec.target_mean[0]
    assert all((value / 1.5) == pytest.approx(round(value / 1.5), abs=1e-4) for value in truth.tolist())


def test_channels_and_targets_far_from_0_keep_what_tells_them_apart(tmp_path: Path) -> None:
    far = 1_700_000_000
    rows = ["label,a,b", *(f"{far + number % 3},{far + number},{far + number + 1}" for number in range(20))]
    data = load(tmp_path, rows, task="regression")
    apart = (data.splits["train"].inputs * data.spec.input_std[0])[:, 0].diff(dim=1)
    torch.testing.assert_close(apart, torch.ones_like(apart), rtol=0, atol=1e-5)
    truth = data.splits["train"].targets.double() * data.spec.target_std[0] + data.spec.target_mean[0] - far
    assert {round(value, 3) for value in truth.tolist()} == {0, 1, 2}


def test_a_number_written_in_two_ways_is_one_class(tmp_path: Path) -> None:
    rows = [WIDE[0], *(f"{('2', '10', '10.0')[number % 3]},{number},1,2,3" for number in range(30))]
    assert load(tmp_path, rows).spec.classes == ("2", "10")


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (LONG, {"target": "lable"}, r"no column 'lable'; it has: who, when, up, down, ward, label"),
        (LONG, {"time": "who"}, "columns of their own"),
        (LONG, {"id": None}, "id names no column of them; write id too"),
        (LONG, {"val": 0.5, "test": 0.5}, "leave nothing for training"),
        (LONG, {"delimiter": ",,"}, "one character"),
        (LONG, {"task": "regression"}, r"steps.csv:4: the target 'label' holds 'no'"),
        ([*LONG, "s0,2,1,1,0,no"], {}, r"a second row of sequence 's0' with when = 2, after line 2"),
        ([*LONG, "s0,9,1,1,0,yes"], {}, "has label = yes here and no in line|has label = no here and yes in line"),
        ([*LONG, "s0,9,x,1,0,no"], {}, "column 'up' holds 'x', which is no finite number"),
        ([*LONG, "s0,9,inf,1,0,no"], {}, "column 'up' holds 'inf'"),
        ([*LONG, ",9,1,1,0,no"], {}, r"column 'who' has no value, and it names the sequence"),
        ([*LONG, "s0,,1,1,0,no"], {}, r"column 'when' has no value, and it says when"),
        ([*LONG, "t,1,1,1,0,"], {}, r"the target 'label' has no value; label the sequence"),
        ([*LONG, "s0,9"], {}, "2 values, the first line names 6 columns"),
        (LONG[:1], {}, "holds no rows"),
        (
            ["who,when,up,down,ward,label", *(f"s{n},0,{n},3,0,{n % 2}" for n in range(20))],
            {},
            "'down' is 3 at every step",
        ),
    ],
)
def test_what_is_wrong_with_a_long_file_is_said_with_its_place(tmp_path: Path, rows, settings, message) -> None:
    with pytest.raises(DataError, match=message):
        long(tmp_path, rows, **settings)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("no,1,,3,4", "column 'b' has no value before the sequence's end"),
        ("no,1,x,3,4", "column 'b' holds 'x'"),
        ("no,,,,", "the sequence has no step"),
    ],
)
def test_what_is_wrong_with_a_wide_file_is_said_with_its_place(tmp_path: Path, row, message) -> None:
    with pytest.raises(DataError, match=rf"steps.csv:22: .*{message}"):
        load(tmp_path, [*WIDE, row])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*TRAINKIT_DATA"):
        csv_sequences(tmp_path, path=Path("none.csv"), target="label")


def test_control_charts_are_what_the_formulas_say() -> None:
    data = control_charts(samples=40, val=0.0, test=0.0, standardise=False)
    charts, labels = data.splits["train"].inputs[:, 0], data.splits["train"].targets
    assert (data.spec.input_shape, data.spec.masked, data.spec.classes) == ((1, 60), False, CHARTS)
    of = {name: charts[labels == place] for place, name in enumerate(CHARTS)}
    assert of["normal"].min() >= 24
    assert of["normal"].max() <= 36
    slopes = {name: [numpy.polyfit(range(60), chart, 1)[0] for chart in part.numpy()] for name, part in of.items()}
    assert 0.15 < min(slopes["increasing"]) < max(slopes["increasing"]) < 0.55
    assert -0.55 < min(slopes["decreasing"]) < max(slopes["decreasing"]) < -0.15
    shifts = of["upward shift"][:, 41:].mean(1) - of["upward shift"][:, :19].mean(1)
    assert 4 < shifts.min() < shifts.max() < 24
    shifts = of["downward shift"][:, 41:].mean(1) - of["downward shift"][:, :19].mean(1)
    assert -24 < shifts.min() < shifts.max() < -4
    assert of["cyclic"].amax(1).min() > 36
    with pytest.raises(DataError, match="shortest = 61 is above steps = 60"):
        control_charts(shortest=61)
