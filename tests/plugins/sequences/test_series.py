"""Series as windows: no target in two splits, all that is fitted is fitted on the past, folds go forward in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from sklearn.model_selection import TimeSeriesSplit

from trainkit import DataError, Dataset, DataSpec
from trainkit.feed import cut_anew, make_feed
from trainkit.feed.draws import rolled
from trainkit_sequences import forecasts, mase
from trainkit_sequences.data import airline, series
from trainkit_sequences.models import tcn
from trainkit_sequences.shipped import passengers
from trainkit_sequences.windows import Course, Shape, Windows, series_data

# Two shops, 40 days each; a shop's sales go up by its own step each day.
DAYS = [f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in range(40)]
ROWS = ["day,shop,sales,sun,note"] + [
    f"{day},{shop},{number * step + 100 * shop},{(number * 7) % 5},x"
    for number, day in enumerate(DAYS)
    for shop, step in ((1, 2), (2, 3))
]
FOLDS = {"fold_by": "auto", "train_on": "train", "seed": 0}


def load(folder: Path, rows: list[str] = ROWS, **settings: Any) -> Dataset:
    (folder / "series.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    plain = {"path": Path("series.csv"), "targets": ("sales",), "id": "shop", "time": "day"}
    return series(folder, **{**plain, "context": 6, "horizon": 3, **settings})


def test_windows_are_the_past_and_what_came_after_it() -> None:
    values = passengers()
    data = airline(standardise=False)
    assert data.spec.sizes == {"train": 61, "val": 13, "test": 13}
    assert (data.spec.input_shape, data.spec.outputs, data.spec.task) == ((1, 24), 12, "regression")
    begins = {"train": 0, "val": 144 - 48 - 24, "test": 144 - 24 - 24}
    for name, begin in begins.items():
        split = data.splits[name]
        for number, (past, after) in enumerate(zip(split.inputs, split.targets, strict=True)):
            assert past[0].tolist() == values[begin + number : begin + number + 24]
            assert after.tolist() == values[begin + number + 24 : begin + number + 36]
    make_feed(data, batch_size=8, seed=0, device="cpu")


def test_no_target_is_in_two_splits_and_scales_are_of_the_past_alone() -> None:
    values = numpy.array(passengers())
    data = airline()
    seen = {name: set(range(int(of[:, 0].min()), int(of[:, 1].max()) + 1)) for name, of in data.moments.items()}
    assert seen == {"train": set(range(24, 96)), "val": set(range(96, 120)), "test": set(range(120, 144))}
    assert data.spec.input_mean == (pytest.approx(values[:96].mean(), rel=1e-6),)
    assert data.spec.target_std == (pytest.approx(values[:96].std(), rel=1e-6),) * 12
    assert data.spec.naive_error == (pytest.approx(numpy.abs(values[12:96] - values[:84]).mean(), rel=1e-6),) * 12


@pytest.mark.parametrize("fold", range(3))
def test_each_fold_trains_on_the_past_of_what_it_validates_on(fold: int) -> None:
    values, data = numpy.array(passengers()), airline(val=0.0)
    cut = cut_anew(data, folds=3, fold=fold, **FOLDS)
    train, val = list(TimeSeriesSplit(3, gap=11).split(range(85)))[fold]
    starts = data.moments["train"][:, 0] - 24
    parts = rolled(data.moments["train"], 3, fold)
    assert starts[parts["train"]].tolist() == train.tolist()
    assert starts[parts["val"]].tolist() == val.tolist()
    origin = 24 + 85 - (3 - fold) * 21  # of 85 windows before the test, the last 63 validate
    assert cut.spec.sizes == {"train": origin - 24 - 11, "val": 21, "test": 13}
    assert cut.spec.input_mean == (pytest.approx(values[:origin].mean(), rel=1e-6),)
    assert cut.spec.naive_error[0] == pytest.approx(numpy.abs(values[12:origin] - values[: origin - 12]).mean())
    first = cut.splits["val"].targets[0] * cut.spec.target_std[0] + cut.spec.target_mean[0]
    assert first.tolist() == pytest.approx(values[origin : origin + 12].tolist(), rel=1e-5)
    last = cut.splits["train"].targets[-1] * cut.spec.target_std[0] + cut.spec.target_mean[0]
    assert last.tolist() == pytest.approx(values[origin - 12 : origin].tolist(), rel=1e-5)


def test_several_series_are_cut_on_one_clock(tmp_path: Path) -> None:
    data = load(tmp_path, inputs=("sun",), standardise=False, stride=2)
    assert data.spec.input_shape == (2, 6)
    for split in data.splits.values():
        for past, after in zip(split.inputs, split.targets, strict=True):
            shop = 1 if past[0, 1] - past[0, 0] == 2 else 2
            steps = {1: 2, 2: 3}[shop]
            assert (torch.cat((past[0], after)).diff() == steps).all(), "no window reaches from one shop into the other"
            day = int(past[0, 0] - 100 * shop) // steps
            assert past[1].tolist() == [((day + step) * 7) % 5 for step in range(6)]
            assert (40 - 9 - day) % 2 == 0, "windows end with the series, two days apart"
    assert data.moments["train"][:, 1].max() < 26 <= data.moments["val"][:, 0].min()
    assert data.moments["val"][:, 1].max() < 32 <= data.moments["test"][:, 0].min()


def test_several_targets_come_one_after_the_other(tmp_path: Path) -> None:
    data = load(tmp_path, targets=("sales", "sun"), standardise=False)
    past, after = data.splits["train"].inputs[0], data.splits["train"].targets[0]
    assert data.spec.outputs == 6
    assert after[:3].tolist() == [past[0, 5] + 2 * step for step in (1, 2, 3)]
    assert after[3:].tolist() == [(7 * day) % 5 for day in (6, 7, 8)]
    assert data.spec.naive_error[:3] == (data.spec.naive_error[0],) * 3
    scaled = load(tmp_path, targets=("sales", "sun"))
    assert scaled.spec.target_std == tuple(scaled.spec.input_std[place] for place in (0, 0, 0, 1, 1, 1))


def test_one_step_ahead_is_one_number(tmp_path: Path) -> None:
    data = load(tmp_path, horizon=1)
    assert data.splits["train"].targets.dim() == 1
    assert data.spec.outputs == 1


def test_windows_that_are_too_many_to_hold_are_cut_as_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    held = airline()
    monkeypatch.setattr("trainkit_sequences.windows._HELD", 10)
    data = airline()
    assert isinstance(data.splits["train"].inputs, Windows)
    index = torch.tensor([5, 0, 60, 5])
    assert torch.equal(data.splits["train"].inputs[index], held.splits["train"].inputs[index])
    batch = next(make_feed(data, batch_size=8, seed=3, device="cpu").train(0))
    assert torch.equal(batch.inputs, next(make_feed(held, batch_size=8, seed=3, device="cpu").train(0)).inputs)


def test_mase_is_the_error_over_that_of_a_season_before() -> None:
    data = airline()
    metric = mase(data.spec)
    values, truth = numpy.array(passengers()), data.splits["test"].targets
    last_year = data.splits["test"].inputs[:, 0, 12:]  # twelve months ahead, the season is the window's last year
    for part in ((0, 5), (5, 13)):
        metric.update(last_year[slice(*part)], truth[slice(*part)])
    apart = [
        abs(values[origin + step] - values[origin + step - 12]) for origin in range(120, 133) for step in range(12)
    ]
    assert metric.compute() == pytest.approx(
        numpy.mean(apart) / numpy.abs(values[12:96] - values[:84]).mean(), rel=1e-5
    )
    metric.reset()
    with pytest.raises(DataError, match="saw no sample"):
        metric.compute()
    with pytest.raises(DataError, match="use data series, or metric mae"):
        mase(DataSpec((6,), "regression", 1))


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (ROWS, {"targets": ("sale",)}, "no column 'sale'; it has: day, shop, sales, sun, note"),
        (ROWS, {"targets": ()}, "targets names no column to forecast"),
        (ROWS, {"inputs": ("sales",)}, "columns of their own"),
        (ROWS, {"id": None}, r"a second row with day = 2024-01-01, after line 2"),
        (ROWS, {"context": 38}, "the longest series has 40 steps, fewer than context = 38 and horizon = 3 together"),
        (ROWS, {"context": 30}, "40 steps leave 26 for training, which hold no window of context = 30"),
        (ROWS, {"val": 0.05}, r"val = 0.05 is 2 of 40 steps, .* set val = 0, or to 0.087 at least"),
        (ROWS, {"val": 0.5, "test": 0.5}, "leave nothing for training"),
        (ROWS, {"season": 30}, "season = 30, but training has 52 steps"),
        (ROWS, {"inputs": ("note",)}, r"series.csv:2: column 'note' holds 'x', which is no finite number"),
        (
            [row.replace("2024-01-03,1,104", "2024-01-03,1,") for row in ROWS],
            {},
            "series.csv:6: .*'sales' has no value",
        ),
        ([row.replace("2024-01-01,1,100", "2024-01-01,1,") for row in ROWS], {"missing": "last"}, "no step before has"),
        ([ROWS[0], *(f"{n},1,5,{n},x" for n in range(40))], {}, "'sales' is 5 at every step that trains"),
        (
            [*ROWS, "soon,1,5,0,x"],
            {},
            r"series.csv:82: column 'day' holds 'soon', and line 2 '2024-01-01', which cannot",
        ),
        (
            [ROWS[0], *(f"{n}/1/2024,1,{n},0,x" for n in range(1, 31))],
            {},
            r"series.csv:2: column 'day' holds '1/1/2024'",
        ),
        ([*ROWS, "2024-03-01T00:00+01:00,1,5,0,x"], {}, r"series.csv:82: .*cannot be put in order"),
    ],
)
def test_what_is_wrong_with_a_series_is_said_with_its_place(tmp_path: Path, rows, settings, message) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path, rows, **settings)


def test_a_series_that_repeats_itself_leaves_mase_nothing_to_compare_with(tmp_path: Path) -> None:
    rows = [ROWS[0], *(f"{day},1,{number % 4},{number},x" for number, day in enumerate(DAYS))]
    with pytest.raises(DataError, match="repeats itself exactly, or stands still; use metric mae, or another season"):
        mase(load(tmp_path, rows, season=4).spec)
    assert mase(load(tmp_path, rows, season=3).spec) is not None


@pytest.mark.parametrize(
    "moments",
    [
        [str(8 + step) for step in range(20)],  # 10 is after 9
        [str(1_700_000_000_000_000_000 + step) for step in range(20)],  # nanoseconds, which no float tells apart
        [f"{2023 + step // 12}-{1 + step % 12:02d}" for step in range(20)],
        [f"2024-01-31 {step:02d}:00" for step in range(20)],
        [f"{step:02d}:30" for step in range(20)],
    ],
)
def test_rows_are_put_in_order_by_numbers_dates_or_times_of_day(tmp_path: Path, moments: list[str]) -> None:
    rows = [f"{moment},1,{step},0,x" for step, moment in enumerate(moments)]
    data = load(tmp_path, [ROWS[0], *rows[::-1]], standardise=False, val=0.2, test=0.2)
    assert data.splits["train"].inputs[0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert data.splits["test"].targets[-1].tolist() == [17, 18, 19]


def test_one_moment_in_two_ways_of_writing_is_one_moment(tmp_path: Path) -> None:
    rows = [f"{step}{shop * '.0'},{shop},{step * step},0,x" for shop in (0, 1) for step in range(20)]
    assert int(load(tmp_path, [ROWS[0], *rows], val=0.2, test=0.2).moments["test"].max()) == 19


def test_forecasts_continue_the_channels_whose_units_they_have(tmp_path: Path) -> None:
    spec = load(tmp_path, targets=("sales", "sun")).spec
    with pytest.raises(DataError, match=r"continues = 1, but the 6 outputs are not 6 steps of each of the first 1"):
        tcn(spec, continues=1)
    outputs = tcn(spec, continues=2)(torch.tensor([[[3.0] * 6, [5.0] * 6]]))
    assert outputs.tolist() == [[3, 3, 3, 5, 5, 5]]


def test_a_series_without_an_error_to_compare_with_is_no_series() -> None:
    values = torch.arange(30.0, dtype=torch.float64)[:, None].sin()
    course = Course(values, 1, torch.arange(30), (30,), ("y",), "here")
    data = series_data(course, Shape(5, 2, 1, 4), val=0.2, test=0.0, scale=False)
    assert list(data.splits) == ["train", "val"]
    assert data.spec.target_std == ()
    assert mase(data.spec) is not None


def test_pictures_are_of_as_many_targets_as_the_series_has(tmp_path: Path) -> None:
    spec = load(tmp_path, targets=("sales", "sun")).spec
    assert forecasts(spec, targets=2).targets == 2
    for targets in (1, 3, 6):
        with pytest.raises(DataError, match=f"has targets = {targets}, and the series has 2 of them"):
            forecasts(spec, targets=targets)
    with pytest.raises(DataError, match="use data series, or leave the callback out"):
        forecasts(DataSpec((2, 6), "regression", 1))


@pytest.mark.parametrize("fold", [None, 0, 1, 2])
def test_another_future_changes_nothing_of_what_trains(fold: int | None) -> None:
    clock = torch.cat((torch.arange(50), torch.arange(8, 60)))  # one series begins later, and ends later
    values = torch.randn(102, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))

    def cut(future: int) -> Dataset:
        changed = torch.where(clock[:, None] < future, values, values.square() * 9)
        course = Course(changed, 2, clock, (50, 52), ("a", "b", "c"), "here")
        data = series_data(course, Shape(5, 3, 1, 4), val=0.2, test=0.2, scale=True)
        return data if fold is None else cut_anew(data, folds=3, fold=fold, **FOLDS)

    # 36 steps train and 12 validate; of the moments 5 to 33 and 36 to 45 that targets begin at, 9 are a stretch.
    future = {None: 36, 0: 17, 1: 26, 2: 37}[fold]
    one, other = cut(99), cut(future)
    for name in ("inputs", "targets"):
        mine, theirs = (getattr(data.splits["train"], name) for data in (one, other))
        assert torch.equal(mine, theirs)
    for name in ("input_mean", "input_std", "target_mean", "target_std", "naive_error"):
        assert getattr(one.spec, name) == getattr(other.spec, name)
    assert not torch.equal(one.splits["val"].targets[0], other.splits["val"].targets[0])
    if fold != 2:  # whose windows over the border to the validation steps stay out
        assert one.spec.input_mean != cut(future - 1).spec.input_mean, "the step before it is one of those that train"


def test_a_series_far_from_0_keeps_what_tells_its_steps_apart(tmp_path: Path) -> None:
    rows = [ROWS[0], *(f"{number},1,{1_700_000_000 + number % 3},{number},x" for number in range(40))]
    data = load(tmp_path, rows)
    steps = data.splits["train"].inputs[0, 0]
    back = steps.double() * data.spec.input_std[0] + data.spec.input_mean[0] - 1_700_000_000
    assert [round(step, 3) for step in back.tolist()] == [0, 1, 2, 0, 1, 2]
