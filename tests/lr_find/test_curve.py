"""The values of a sweep, smoothing, divergence, and what a curve suggests."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit.lr_find.curve import (
    KEEPS,
    Divergence,
    Smoothed,
    Sweep,
    considered,
    falls,
    harmless,
    lowest,
    noise,
    steepest,
    valley,
)
from trainkit.lr_find.found import Found
from trainkit.lr_find.setting import Setting
from trainkit.lr_find.sweeping import Curve
from trainkit.lr_find.traces import Traces


def smooth(losses, updates=100):
    mean = Smoothed(updates)
    return [mean.add(loss) for loss in losses]


def test_a_sweep_begins_and_ends_where_it_is_told_and_rises_by_equal_factors_or_steps():
    by_factors, by_steps = Sweep(1e-7, 10.0, False, 9), Sweep(0.1, 0.9, True, 9)
    values = [by_factors.at(update) for update in range(9)]
    assert (values[0], values[-1]) == (1e-7, 10.0)
    assert values == pytest.approx([10.0**power for power in range(-7, 2)], rel=1e-12)
    assert [by_steps.at(update) for update in range(9)] == pytest.approx([0.1 * n for n in range(1, 10)], rel=1e-12)


def test_the_running_mean_weighs_losses_by_their_age_and_begins_with_the_first():
    losses = [3.0, 1.0, 4.0, 1.5]
    for end, mean in enumerate(smooth(losses), 1):
        weights = [KEEPS ** (end - 1 - place) for place in range(end)]
        assert mean == pytest.approx(
            sum(w * x for w, x in zip(weights, losses, strict=False)) / sum(weights), rel=1e-12
        )
    assert smooth([7.0] * 5, 1000) == pytest.approx([7.0] * 5, rel=1e-12)


def test_a_longer_test_has_a_mean_over_as_much_of_its_range():
    # A step from 1 to 0 in the middle: after a tenth of the range as much is left of it, however long the test.
    left = [smooth([1.0] * half + [0.0] * half, 2 * half)[half + half // 5 - 1] for half in (50, 500)]
    assert left == pytest.approx([KEEPS**10] * 2, rel=1e-4)


def test_a_loss_has_diverged_above_four_times_its_least():
    divergence = Divergence()
    assert [divergence.at(loss) for loss in (2.0, 0.5, 2.0, 2.001)] == [False, False, False, True]
    assert Divergence().at(math.nan)
    assert Divergence().at(math.inf)


def test_a_loss_that_can_be_negative_has_diverged_three_falls_above_its_least():
    divergence = Divergence()
    assert [divergence.at(loss) for loss in (1.0, -1.0, 4.9, 5.1)] == [False, False, False, True]
    rising = Divergence()
    assert [rising.at(loss) for loss in (-1.0, -0.9, 1.9, 2.1)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("smoothed", "why"),
    [
        ([1.0, 0.5, 2.5], "above 4 times its least"),
        ([1.0, -1.0, 5.1], "far above its least"),
        ([1.0, math.nan], "the loss is not finite"),
    ],
)
def test_the_reason_of_an_end_is_true_of_losses_of_either_sign(smoothed, why):
    values = [0.1 * (place + 1) for place in range(len(smoothed))]
    curve = Curve(values, smoothed, smoothed, diverged=True)
    setting = Setting("optimizer.lr", ("optimizer", "lr"), "lr", 0.1)
    found = Found("mine.toml", setting, Sweep(0.1, 1.0, True, 10), curve, None, "loss", Traces({}, {}))
    assert found.end() == f"diverged at update {len(values)} of 10, at {values[-1]:.3g}: " + (
        why if "not finite" in why else f"the smoothed loss is {why}"
    )


def fall(places=100, at=60, width=4.0):
    return [1 / (1 + math.exp((place - at) / width)) + 0.1 for place in range(places)]


def test_the_steepest_place_of_a_curve_with_one_fall_is_its_middle():
    assert steepest(fall(), fall(), 100) == 60
    assert steepest(fall(at=33), fall(at=33), 100) == 33


def test_a_rise_after_the_least_counts_for_nothing():
    curve, level = [*fall()[:80], *[5.0, 1.0] * 10], [*fall()[:80], *[fall()[79]] * 20]
    assert considered(curve) == (10, 80)
    assert steepest(curve, curve, 100) == 60
    assert valley(curve, curve, 100) == valley(level, level, 100) == 10 + 70 - 1 - 70 + 23 + 11


@pytest.mark.parametrize("updates", [40, 100, 400])
def test_noise_is_no_fall(updates):
    found = 0
    for seed in range(100):
        chance = random.Random(seed)
        losses = [2.3 + chance.gauss(0, 0.1) for _ in range(updates)]
        assert noise(losses) == pytest.approx(0.1, rel=0.6)
        found += falls(smooth(losses, updates), losses, updates)
    assert found <= 5


@pytest.mark.parametrize("losses", [[1.0] * 50, [1.0], [], [1.0, 2.0, 3.0]])
def test_a_curve_that_does_not_fall_suggests_nothing(losses):
    assert steepest(losses, losses, 100) is valley(losses, losses, 100) is None


def reference_valley(losses):
    """The rule as fastai describes it: by the lengths of all falling subsequences, each from all before it."""
    lengths = []
    for place, loss in enumerate(losses):
        lengths.append(1 + max((lengths[before] for before in range(place) if losses[before] > loss), default=0))
    longest = max(lengths)
    start = max(0, lengths.index(longest) - longest + int(longest / 3) + int(longest / 3 / 2))
    return start


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 30), min_size=12, max_size=60))
def test_the_valley_is_that_of_the_published_rule(losses):
    losses = [float(loss) for loss in losses]
    begin, _ = considered(losses)
    found = valley(losses, losses, 60)
    assert found is None or found == begin + reference_valley(losses[begin:])


def test_the_valley_lies_in_the_middle_of_a_single_fall():
    flat_then_falling = [1.0] * 50 + [1.0 - step / 60 for step in range(50)]
    found = valley(flat_then_falling, flat_then_falling, 100)
    assert found == 50 - 1 + 50 // 3 + 50 // 6  # as many places as it is long, which begins one before the fall


def test_a_setting_is_harmless_up_to_where_its_curve_leaves_the_other_one():
    held = [1.0, 0.5, 0.4, 0.4, 0.4]
    assert harmless([1.0, 0.5, 0.41, 0.43, 0.6], held) == 2
    assert harmless([2.0, 2.0, 2.0], held) is None
    assert harmless(held, held) == 4
    assert lowest([1.0, 0.5, 0.3, 0.35, 0.6], held) == 2
    assert lowest([1.0, 0.5, 0.39, 0.4, 0.6], held) is None  # alike, as far as anyone knows
