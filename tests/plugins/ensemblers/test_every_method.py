"""What every way to combine members keeps; one joins with a line in `METHODS`."""

from __future__ import annotations

import copy
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
from trainkit import DataSpec, Ensembler
from trainkit_ensemblers.methods import COMPONENTS, bagging, convex, folds, greedy, seeds, stacking, topk, vote

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
EACH = pytest.mark.parametrize("name", METHODS)
CASES = [
    pytest.param(name, spec, id=f"{name} of {task}")
    for name in METHODS
    for task, spec in TASKS.items()
    if task != "numbers" or ("logit" not in name and "accuracy" not in name and name != "vote")
]
OF_EACH_TASK = pytest.mark.parametrize(("name", "spec"), CASES)


def test_every_component_is_here() -> None:
    assert {component.name for component in COMPONENTS} <= set(METHODS)


@OF_EACH_TASK
def test_one_member_is_itself(name: str, spec: DataSpec) -> None:
    outputs, targets = drawn(1, 60, spec)
    made = fitted(METHODS[name](), outputs, targets, spec)
    assert torch.equal(given_by(made, 60), outputs[0])
    assert [one.name for one in made.members()] == ["m0"]
    assert torch.equal(given_by(stored(made, METHODS[name]), 60), outputs[0])


@OF_EACH_TASK
def test_what_is_stored_predicts_the_same_bit_for_bit(name: str, spec: DataSpec) -> None:
    outputs, targets = drawn(4, 120, spec)
    made = fitted(METHODS[name](), outputs, targets, spec)
    opened = stored(made, METHODS[name])
    assert torch.equal(given_by(opened, 120), given_by(made, 120))
    assert [one.name for one in opened.members()] == [one.name for one in made.members()]
    again = stored(opened, METHODS[name])
    assert torch.equal(given_by(again, 120), given_by(made, 120))
    if hasattr(made, "variance") and spec.task == "regression":
        numbers = torch.arange(120).float()[:, None]
        assert torch.equal(opened.variance(numbers), made.variance(numbers))


# But where members are equally good, which the order decides: accuracies often are.
@pytest.mark.parametrize(("name", "spec"), [case for case in CASES if case.values[0] != "greedy by accuracy"])
def test_the_order_of_members_changes_nothing(name: str, spec: DataSpec) -> None:
    outputs, targets = drawn(5, 200, spec, seed=3)
    order = [3, 0, 4, 2, 1]
    made, other = METHODS[name](), METHODS[name]()
    members = members_of(outputs, spec)
    for number in range(5):
        made.add(members[number])
        other.add(members[order[number]])
    made.fit(validation(outputs, targets, spec))
    other.fit(validation(outputs[order], targets, spec))
    assert {one.name for one in made.members()} == {one.name for one in other.members()}
    tolerance = 1e-3 if name == "stacking" else 2e-5
    torch.testing.assert_close(given_by(made, 200), given_by(other, 200), rtol=tolerance, atol=tolerance)


@OF_EACH_TASK
def test_a_sample_is_predicted_the_same_alone(name: str, spec: DataSpec) -> None:
    outputs, targets = drawn(4, 120, spec)
    made = fitted(METHODS[name](), outputs, targets, spec)
    whole = given_by(made, 120)
    assert whole.shape == (120, spec.outputs)
    with torch.no_grad():
        alone = torch.cat([made.predict(torch.tensor([[float(number)]])) for number in range(120)])
    torch.testing.assert_close(alone, whole, rtol=1e-5, atol=1e-5)


@EACH
def test_fitting_changes_no_member_and_no_sample(name: str) -> None:
    outputs, targets = drawn(4, 120)
    members = members_of(outputs)
    before = copy.deepcopy([one.module.state_dict() for one in members])
    samples = validation(outputs, targets)
    kept = samples.outputs.clone(), samples.targets.clone(), samples.held_out.clone()
    made = METHODS[name]()
    for one in members:
        made.add(one)
    made.fit(samples)
    for state, one in zip(before, members, strict=True):
        assert all(torch.equal(state[key], value) for key, value in one.module.state_dict().items())
        assert not one.module.training
    assert all(map(torch.equal, kept, (samples.outputs, samples.targets, samples.held_out)))
    given = given_by(made, 120)
    made.fit(samples)  # the state is what was fitted last
    assert torch.equal(given_by(made, 120), given)


@EACH
def test_it_is_an_ensembler(name: str) -> None:
    assert isinstance(METHODS[name](), Ensembler)
