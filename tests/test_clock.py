"""Units of time: parsed exactly, converted exactly, floored once."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from trainkit.clock import UNITS, Clock, Span

REFERENCE = json.loads((Path(__file__).parent / "reference_values.json").read_text(encoding="utf-8"))["time_units"]


@pytest.fixture
def clock() -> Clock:
    """391 updates an epoch, as CIFAR-10 in batches of 128 has; ten epochs."""
    context = REFERENCE["context"]
    samples = context["global_batch_samples"]
    return Clock(
        context["updates_per_epoch"],
        samples,
        total_updates=context["total_updates"],
        tokens_per_sample=context["tokens_per_update"] // samples,
    )


@pytest.mark.parametrize(("text", "updates"), REFERENCE["cases"])
def test_a_duration_comes_to_the_reference_number_of_updates(clock, text, updates):
    assert clock.updates(text) == updates


def test_a_decimal_is_not_rounded_to_binary_first():
    trap = REFERENCE["float_trap"]
    assert int(0.29 * 100) == 28, "the trap: floating point loses an update"
    assert Clock(10, 1, total_updates=trap["total_updates"]).updates(trap["spec"]) == trap["exact"]


@pytest.mark.parametrize("tenths", range(1, 30))
def test_whole_results_never_lose_an_update(tenths):
    assert Clock(100, 1).updates(f"{tenths / 10:.1f}ep") == tenths * 10


def test_amounts_are_exact_fractions():
    assert Span.parse("0.1ep").amount == Fraction(1, 10)
    assert Span.parse("2e9tok").amount == 2 * 10**9
    assert Span.parse("1.5E-1dur").amount == Fraction(15, 100)


@pytest.mark.parametrize("text", ["20ep", "2.5ep", "300ba", "0.05dur"])
def test_a_span_writes_itself_as_it_was_read(text):
    assert Span.parse(str(Span.parse(text))) == Span.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "ep", "20", "-1ep", "+1ep", "1 ep", " 1ep", "1ep ", "1ep\n", ".5ep", "1.ep", "1,5ep", "1/2ep", "inf ep",
     "nanep", "1e9999ep", "0x10ep", "1_000ba", "\u0661ep"],
)  # fmt: skip
def test_what_is_not_a_number_and_a_unit_is_refused_with_examples(text):
    with pytest.raises(ValueError, match='"20ep"'):
        Span.parse(text)


@pytest.mark.parametrize("unit", ["epochs", "EP", "steps", "b", "s"])
def test_an_unknown_unit_is_named(unit):
    with pytest.raises(ValueError, match=f"unknown unit '{unit}'"):
        Span.parse(f"1{unit}")


def test_every_unit_is_converted(clock):
    assert {unit: clock.updates(f"1{unit}") for unit in UNITS} == {"ep": 391, "ba": 1, "sp": 0, "tok": 0, "dur": 3910}


def test_tokens_need_data_that_counts_them():
    with pytest.raises(ValueError, match="this data does not"):
        Clock(10, 4).updates("100tok")


@pytest.mark.parametrize(("batches", "accumulate", "updates"), [(10, 1, 10), (10, 2, 5), (10, 3, 4), (10, 16, 1)])
def test_the_last_update_of_an_epoch_may_take_fewer_batches(batches, accumulate, updates):
    clock = Clock(batches, 4 * accumulate, accumulate)
    assert clock.updates_per_epoch == updates
    assert clock.updates("3ep") == 3 * updates


@pytest.fixture
def uneven() -> Clock:
    """Epochs of 10, 10, 5 and 5 updates."""
    return Clock(10, 4, total_updates=30, epoch_starts=(0, 10, 20, 25, 30))


def test_epochs_of_their_own_lengths(uneven, clock):
    positions = [0, 5, 10, 19, 20, 21, 25, 30]
    assert [uneven.epochs_at(position) for position in positions] == [0, 0.5, 1, 1.9, 2, 2.2, 3, 4]
    assert [clock.epochs_at(position) for position in (0, 391, 2 * 391 + 17)] == [0, 1, 2 + 17 / 391]


@pytest.mark.parametrize(
    ("written", "times"),
    [
        ("1ep", [10, 20, 25, 30]),
        ("2ep", [20, 30]),
        ("3ep", [25]),
        ("5ep", []),
        ("0.5ep", [5, 10, 15, 20, 25, 30]),
        ("1.5ep", [15, 30]),
        ("7ba", [7, 14, 21, 28]),
        ("40sp", [10, 20, 30]),
        ("0ba", list(range(1, 31))),
    ],
)
def test_whole_epochs_are_real_ones_and_other_intervals_are_even(uneven, written, times):
    interval = uneven.interval(written)
    assert [position for position in range(1, 31) if interval.at(position)] == times
    for position in range(30):
        later = [time for time in times if time > position]
        assert interval.after(position) == later[0] if later else interval.after(position) > 30


def test_where_all_epochs_are_alike_every_interval_is_even(clock):
    for written, every in (("1ep", 391), ("2ep", 782), ("3ba", 3), ("0.1dur", 391)):
        interval = clock.interval(written)
        assert [interval.after(position) for position in (0, every - 1, every)] == [every, every, 2 * every]
        assert [interval.at(position) for position in (every, every + 1)] == [True, every == 1]
