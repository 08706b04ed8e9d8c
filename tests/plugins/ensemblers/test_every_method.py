"""What our ways to combine members keep beyond the contracts of ensemblers, and other settings than their examples'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.plugins.ensemblers.made import (
    BINARY,
    CLASSES,
    NUMBERS,
    drawn,
    fitted,
    given_by,
    members_of,
    stored,
    validation,
)
from trainkit import Component, DataSpec
from trainkit.testing import EnsemblerContract
from trainkit_ensemblers.methods import COMPONENTS, bagging, convex, folds, greedy, seeds, stacking, topk, vote
from trainkit_ensemblers.of_weights import average

METHODS: dict[str, Callable[[], Any]] = {
    "seeds": seeds,
    "seeds of logits": lambda: seeds(combine="logit"),
    "topk": lambda: topk(k=2),
    "greedy": lambda: greedy(0),
    "greedy by accuracy": lambda: greedy(0, metric="accuracy"),
    "convex": convex,
    "vote": vote,
    "stacking": lambda: stacking(0),
    "folds": folds,
    "bagging": bagging,
}
TASKS = {"classes": CLASSES, "binary": BINARY, "numbers": NUMBERS}
CASES = [
    pytest.param(name, spec, id=f"{name} of {task}")
    for name in METHODS
    for task, spec in TASKS.items()
    if task != "numbers" or ("logit" not in name and "accuracy" not in name and name != "vote")
]


def test_every_component_is_here() -> None:
    assert {component.name for component in COMPONENTS} <= set(METHODS)


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_one_member_is_itself_bit_for_bit(name: str, spec: DataSpec) -> None:
    outputs, targets = drawn(1, 60, spec)
    made = fitted(METHODS[name](), outputs, targets, spec)
    assert torch.equal(given_by(made, 60), outputs[0])
    assert [one.name for one in made.members()] == ["m0"]
    assert torch.equal(given_by(stored(made, METHODS[name]), 60), outputs[0])


# But where members are equally good, which the order decides: accuracies often are. Stacking is fitted by steps.
@pytest.mark.parametrize(
    ("name", "spec"), [case for case in CASES if case.values[0] not in ("greedy by accuracy", "stacking")]
)
def test_the_order_of_members_changes_no_more_than_rounding(name: str, spec: DataSpec) -> None:
    outputs, targets = drawn(5, 200, spec, seed=3)
    order = [3, 0, 4, 2, 1]
    made, other = METHODS[name](), METHODS[name]()
    members = members_of(outputs, spec)
    for number in range(5):
        made.add(members[number])
        other.add(members[order[number]])
    made.fit(validation(outputs, targets, spec))
    other.fit(validation(outputs[order], targets, spec))
    torch.testing.assert_close(given_by(made, 200), given_by(other, 200), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", METHODS)
def test_the_state_is_what_was_fitted_last(name: str) -> None:
    outputs, targets = drawn(4, 120)
    made = fitted(METHODS[name](), outputs, targets)
    given = given_by(made, 120)
    made.fit(validation(outputs, targets))
    assert torch.equal(given_by(made, 120), given)


# ---------------------------------------------------------------- other settings


class TestLogits(EnsemblerContract):
    component = Component("ensembler", seeds, "logits", example={"combine": "logit"})


class TestGreedyByAccuracy(EnsemblerContract):
    component = Component(
        "ensembler",
        greedy,
        "greedy_by_accuracy",
        example={"metric": "accuracy", "rounds": 10},
        exempt={"order_of_members_changes_nothing": "of members with one accuracy the first is taken"},
    )


class TestUniformAverage(EnsemblerContract):
    component = Component("ensembler", average, "uniform_average", example={"method": "uniform"})


class TestMovingAverage(EnsemblerContract):
    component = Component(
        "ensembler",
        average,
        "moving_average",
        example={"method": "ema", "decay": 0.5},
        exempt={"order_of_members_changes_nothing": "the newest weights weigh the most"},
    )
