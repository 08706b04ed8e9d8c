"""What is gathered between two log lines: its mean, and how it lies in a checkpoint."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from trainkit import Run, StepResult
from trainkit.tally import FOLD_EVERY, Tally


def tally(nonfinite: str = "error") -> Tally:
    run = SimpleNamespace(
        metrics={},
        loss=object(),
        position=0,
        epoch=0,
        device=torch.device("cpu"),
        model=torch.nn.Linear(1, 1),
        recipe={"run": {"nonfinite": nonfinite}},
        precision=SimpleNamespace(scaler=SimpleNamespace(is_enabled=lambda: False)),
    )
    return Tally(cast(Run, run))


def filled(losses: list[float], **options: Any) -> Tally:
    made = tally(**options)
    for number, loss in enumerate(losses):
        finite = loss == loss
        made.add(StepResult(torch.tensor(loss), 1 + number % 3, updates=int(finite), skipped=int(not finite)))
    return made


def expected(losses: list[float]) -> float:
    pairs = [(loss, 1 + number % 3) for number, loss in enumerate(losses) if loss == loss]
    return sum(float(torch.tensor(loss)) * weight for loss, weight in pairs) / sum(weight for _, weight in pairs)


@pytest.mark.parametrize("count", [1, FOLD_EVERY - 1, FOLD_EVERY, 5 * FOLD_EVERY + 7])
def test_the_mean_weighs_each_update(count: int) -> None:
    losses = [1 / (1 + number) for number in range(count)]
    assert filled(losses).figures() == {"loss": pytest.approx(expected(losses), rel=1e-12)}


def test_updates_that_were_left_out_weigh_nothing() -> None:
    losses = [0.5, float("nan"), 2.0]
    assert filled(losses, nonfinite="skip").figures() == {"loss": pytest.approx(expected(losses), rel=1e-12)}


def test_a_long_interval_lies_in_few_tensors_and_goes_on_with_the_same_bits() -> None:
    losses = [1 / (1 + number) for number in range(10 * FOLD_EVERY + 3)]
    straight, saved = filled(losses), filled(losses)
    state = saved.save()
    assert state is not None
    assert len(state["losses"]) == len(state["weights"]) == 1
    gone_on = tally()
    gone_on.restore(state)
    for each in (straight, saved, gone_on):
        each.add(StepResult(torch.tensor(7.0), 2))
    assert straight.figures() == saved.figures() == gone_on.figures()
