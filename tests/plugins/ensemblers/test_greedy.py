"""Greedy selection against a plain one written anew, its ties, limits and bags."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from torch import Tensor, nn

from tests.plugins.ensemblers.made import (
    BINARY,
    CLASSES,
    NUMBERS,
    Told,
    drawn,
    fitted,
    given_by,
    members_of,
    stored,
    validation,
    weights_of,
)
from trainkit import UsageError, multiplications
from trainkit.ensemble.replay import FromOutputs
from trainkit_ensemblers.greedily import Limits, select
from trainkit_ensemblers.methods import greedy
from trainkit_ensemblers.selection import passes_of

Array = numpy.ndarray[Any, Any]


def plain_greedy(
    probabilities: numpy.ndarray[Any, Any], targets: numpy.ndarray[Any, Any], metric: str, rounds: int
) -> list[int]:
    """Caruana's selection as the paper has it, in plain numpy; what is kept of it."""

    def badness(members: list[int]) -> float:
        mean = numpy.mean([probabilities[m] for m in members], axis=0)
        if metric == "nll":
            return float(-numpy.log(mean[range(len(targets)), targets]).mean())
        if metric == "accuracy":
            return float(-(mean.argmax(1) == targets).mean())
        return float(((mean - numpy.eye(mean.shape[1])[targets]) ** 2).sum(1).mean())

    members: list[int] = []
    path = []
    for _ in range(rounds):
        found = [(round(badness([*members, m]), 12), m not in members, m) for m in range(len(probabilities))]
        value, _, best = min(found)
        members.append(best)
        path.append(value)
    return members[: path.index(min(path)) + 1]


@pytest.mark.parametrize("metric", ["nll", "accuracy", "brier"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), members=st.integers(1, 6))
def test_it_is_the_selection_of_the_paper(metric: str, seed: int, members: int) -> None:
    outputs, targets = drawn(members, 40, seed=seed)
    found = select(outputs, targets, CLASSES, metric, "probability", 12, range(members), Limits())
    kept = plain_greedy(softmax(outputs.double().numpy(), axis=2), targets.numpy(), metric, 12)
    assert list(found.added) == kept
    often = Counter(kept)
    assert found.weights == [often[m] / len(kept) for m in range(members)]


def test_of_logits_and_of_a_binary_task_too() -> None:
    outputs, targets = drawn(5, 60, BINARY, seed=4)
    both = torch.cat([-outputs, outputs], dim=2).sigmoid().double().numpy()
    found = select(outputs, targets, BINARY, "nll", "probability", 10, range(5), Limits())
    assert list(found.added) == plain_greedy(both, targets.long().numpy(), "nll", 10)
    # The mean of logits by hand: every choice is the best of its round.
    outputs, targets = drawn(5, 60, seed=5)
    chosen = select(outputs, targets, CLASSES, "nll", "logit", 6, range(5), Limits())

    def loss(members: list[int]) -> float:
        return float(nn.functional.cross_entropy(outputs[members].double().mean(0), targets))

    for length, number in enumerate(chosen.added):
        before = list(chosen.added[:length])
        assert number == min(range(5), key=lambda m: loss([*before, m]))
        assert chosen.figures[length] == pytest.approx(loss([*before, number]), rel=1e-12)


def test_a_regression_is_chosen_by_squared_error() -> None:
    outputs, targets = drawn(4, 50, NUMBERS, seed=3)
    made = fitted(greedy(0, rounds=8), outputs, targets, NUMBERS)

    def error(members: list[int]) -> float:
        return float((outputs[members].double().mean(0) - targets).square().mean())

    counts: list[int] = []
    for _ in range(8):
        counts.append(min(range(4), key=lambda m: error([*counts, m])))
    path = [error(counts[:length]) for length in range(1, 9)]
    kept = counts[: path.index(min(path)) + 1]
    assert weights_of(made) == {f"m{m}": kept.count(m) / len(kept) for m in sorted(set(kept))}
    assert made.state()["metric"] == "mse"


def certain(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows).log()[None]


def test_of_equal_members_the_first_is_added_and_then_the_one_that_is_in() -> None:
    outputs, targets = drawn(1, 30)
    same = outputs.repeat(4, 1, 1)
    told = Told()
    assert weights_of(fitted(greedy(0), same, targets, say=told)) == {"m0": 1.0}
    assert "combine" not in told  # one member is the same in both means
    found = select(same, targets, CLASSES, "nll", "probability", 25, range(4), Limits())
    assert found.added == (0,)  # adding it again is no better, so that the shortest beginning is one member
    # Members 1 and 2 are equal, and both better in the mean with 0: once 1 is in, 2 is never added.
    a = certain([[0.9, 0.1], [0.4, 0.6]])
    b = certain([[0.6, 0.4], [0.9, 0.1]])
    two = dataclasses.replace(CLASSES, outputs=2)
    chosen = select(torch.cat([a, b, b]), torch.tensor([0, 0]), two, "nll", "probability", 25, range(3), Limits())
    assert 1 in chosen.added
    assert 2 not in chosen.added


def test_accuracy_is_full_of_ties_which_bring_no_further_members() -> None:
    outputs, targets = drawn(1, 30)
    better = outputs.clone()
    better[0, torch.arange(30), targets] += 10
    found = select(
        torch.cat([outputs, better, better]), targets, CLASSES, "accuracy", "probability", 25, range(3), Limits()
    )
    assert found.added == (1,)
    assert found.figures == (1.0,)


def test_the_kept_choice_is_not_changed_by_rounds_after_it() -> None:
    """A peer kept its best ensemble by reference, and so the last one."""
    outputs, targets = drawn(5, 40, seed=8)
    few, many = (
        select(outputs, targets, CLASSES, "nll", "probability", rounds, range(5), Limits()) for rounds in (25, 60)
    )
    length = len(few.added)
    assert many.added[: min(length, len(many.added))] == few.added[: len(many.added)]
    assert few.figures[-1] == min(few.figures)
    mean = numpy.mean([softmax(outputs[m].double().numpy(), axis=1) for m in few.added], axis=0)
    assert few.figures[-1] == pytest.approx(-numpy.log(mean[range(40), targets]).mean(), rel=1e-12)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_the_limit_of_members_holds_within_the_search(most: int) -> None:
    outputs, targets = drawn(8, 300, seed=2, worst=2.4)
    free = fitted(greedy(0, combine="probability"), outputs, targets)
    assert len(free.members()) > 3
    made = fitted(greedy(0, max_members=most, combine="probability"), outputs, targets)
    assert len(made.members()) == most
    if most == 1:
        losses = [float(nn.functional.cross_entropy(table.double(), targets)) for table in outputs]
        assert weights_of(made) == {f"m{losses.index(min(losses))}": 1.0}


def test_the_limit_of_passes_is_one_of_cost() -> None:
    outputs, targets = drawn(6, 80, seed=2)
    found = select(
        outputs, targets, CLASSES, "nll", "probability", 25, range(6), Limits(None, [1, 1, 1, 0.5, 0.5, 0.25], 0.8)
    )
    assert set(found.added) <= {3, 4, 5}
    assert not {3, 4} <= set(found.added)  # together they cost 1.0
    with pytest.raises(UsageError, match="max_passes allows no member at all"):
        select(outputs, targets, CLASSES, "nll", "probability", 25, range(6), Limits(None, [1.0] * 6, 0.5))


def test_passes_are_counted_in_multiplications() -> None:
    outputs, _ = drawn(3, 4)
    members = members_of(outputs)
    for one, width in zip(members, (100, 50, 25), strict=True):
        one.module = nn.Sequential(nn.Linear(1, width), nn.Linear(width, 3))
    assert passes_of(members) == [1.0, 0.5, 0.25]


def test_attention_counts_and_what_cannot_be_counted_stops_nothing() -> None:
    outputs, _ = drawn(2, 4)
    members = members_of(outputs)
    attention = nn.TransformerEncoderLayer(16, 2, 16, batch_first=True).eval()
    seen = multiplications(attention, torch.zeros(1, 5, 16))
    assert seen == 4 * 5 * 16 * 16 + 2 * 5 * 5 * 16 + 2 * 5 * 16 * 16
    for one, layers in zip(members, (2, 1), strict=True):
        one.module = nn.Sequential(*[attention] * layers)
        one.spec = dataclasses.replace(CLASSES, input_shape=(5, 16))
    assert passes_of(members) == [1.0, 0.5]
    for one, rows in zip(members, (8, 2), strict=True):
        one.module = nn.Sequential(nn.Embedding(rows, 3))  # numbers of words alone: zeros that are no integers end it
    assert passes_of(members) == [1.0, 0.25]


def test_a_limit_of_passes_holds_for_members_that_are_outputs_alone() -> None:
    outputs, targets = drawn(4, 80, seed=2)
    members = members_of(outputs)
    torch.manual_seed(0)
    for one, width in zip(members, (100, 50, 50, 25), strict=True):
        one.module = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 3)).eval()
    numbers = torch.arange(80).float()[:, None]
    with torch.no_grad():
        held = validation(torch.stack([one.module(numbers) for one in members]), targets)
    made = greedy(0, max_passes=0.8, combine="probability")
    for one in members:
        made.add(one)
    made.fit(held)
    assert {one.name for one in made.members()} < {"m1", "m2", "m3"}
    again = FromOutputs(
        stored(made, lambda: greedy(0, max_passes=0.8, combine="probability")).anew, members, held, None
    )
    torch.testing.assert_close(again(range(4)).validation, given_by(made, 80))
    assert again([0, 3]).validation.equal(held.outputs[3]), "the dearest of two costs more than 0.8"


def test_bags_choose_from_random_halves_and_weights_are_their_mean() -> None:
    outputs, targets = drawn(6, 60, seed=1)
    one, again, other = (fitted(greedy(seed, bags=10, combine="probability"), outputs, targets) for seed in (0, 0, 1))
    assert weights_of(one) == weights_of(again) != weights_of(other)
    assert sum(weights_of(one).values()) == pytest.approx(1)
    assert len(one.members()) > len(fitted(greedy(0, combine="probability", rounds=1), outputs, targets).members())
    single = fitted(greedy(0, bags=3), outputs[:1], targets)
    assert weights_of(single) == {"m0": 1.0}


def test_bags_and_limits_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="leave bags out, or the limits"):
        greedy(0, bags=2, max_members=3)
    with pytest.raises(ValueError, match="leave bags out, or the limits"):
        greedy(0, bags=2, max_passes=3.0)


def test_auto_takes_the_choice_with_the_lower_negative_log_likelihood_and_says_both() -> None:
    outputs, targets = drawn(5, 60, seed=11)
    told = Told()
    made = fitted(greedy(0), outputs, targets, say=told)
    nll = made.state()["nll"]
    assert made.state()["combine"] == min(nll, key=lambda space: nll[space])
    for space, value in nll.items():
        alone = fitted(greedy(0, combine=space), outputs, targets)
        assert alone.state()["figures"][-1] == pytest.approx(value, rel=1e-9)
        assert f"{value:.4f} of {space}" in told


def test_a_figure_that_the_task_has_not_is_refused() -> None:
    outputs, targets = drawn(2, 20)
    with pytest.raises(UsageError, match='metric = "mse" is no figure of a classification task'):
        fitted(greedy(0, metric="mse"), outputs, targets)


def test_only_samples_that_no_member_was_trained_on_choose() -> None:
    outputs, targets = drawn(3, 60, seed=6)
    held = torch.ones(3, 60, dtype=torch.bool)
    held[1, :30] = False
    lied = outputs.clone()
    lied[1, torch.arange(30), targets[:30]] += 50  # it has learnt these by heart
    made = fitted(greedy(0), lied, targets, held_out=held)
    honest = fitted(greedy(0), outputs[:, 30:], targets[30:])
    assert weights_of(made) == weights_of(honest)
    held = torch.eye(3, dtype=torch.bool).repeat_interleave(20, dim=1)
    with pytest.raises(UsageError, match="greedy compares members on samples that none of them was trained on"):
        fitted(greedy(0), outputs, targets, held_out=held)


def test_a_member_that_is_not_finite_is_named() -> None:
    outputs, targets = drawn(3, 20)
    outputs[1, 3:5] = math.nan
    with pytest.raises(UsageError, match="m1 gives values that are not finite for 2 of 20 validation samples"):
        fitted(greedy(0), outputs, targets)
    with pytest.raises(UsageError, match="there are no validation samples"):
        greedy(0).fit(validation(outputs[:0, :0], targets[:0]))
