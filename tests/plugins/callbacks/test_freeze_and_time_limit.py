"""freeze and time_limit."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from trainkit import RecipeError
from trainkit_callbacks import stopping, time_limit


def test_what_is_frozen_stays_bit_for_bit_and_the_rest_moves(train):
    start = train("run.duration=1ba", "optimizer.lr=1e-300").weights
    finished = train(more='[[callback]]\nuse = "freeze"\nmatch = ["body.*", "head.bias"]\n')
    assert [name for name, tensor in finished.weights.items() if not torch.equal(tensor, start[name])] == [
        "head.weight"
    ]
    assert [group["names"] for group in finished.run.optimizer.param_groups] == [["head.weight"]]
    assert all(p.grad is None for name, p in finished.run.model.named_parameters() if name != "head.weight")


def test_each_pattern_without_a_parameter_is_told_with_the_nearest(train):
    more = '[[callback]]\nuse = "early_stop"\n[[callback]]\nuse = "freeze"\nmatch = ["body.*", "haed.weight", "x"]\n'
    with pytest.raises(RecipeError) as raised:
        train(more=more)
    messages = [problem.message for problem in raised.value.problems]
    assert messages == [
        '[[callback]] freeze: match: "haed.weight" matches no parameter',
        '[[callback]] freeze: match: "x" matches no parameter',
    ]
    assert raised.value.problems[0].cure.startswith("parameters are named like head.weight")
    assert raised.value.problems[0].place.source.startswith('match = ["body.*"')


@pytest.mark.parametrize(("match", "said"), [('["*"]', "no parameter to train"), ("[]", "freezes nothing")])
def test_nothing_left_to_train_and_nothing_to_freeze_are_problems(train, match, said):
    with pytest.raises(RecipeError, match=said):
        train(more=f'[[callback]]\nuse = "freeze"\nmatch = {match}\n')


def test_the_limit_counts_minutes_from_the_start_of_the_run(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    callback, run = time_limit(minutes=1.5), SimpleNamespace(stop_reason=None, position=3, total_updates=9)
    now[0] = 1000.0
    callback.trainkit_run_start()
    now[0] = 1089.9
    callback.trainkit_step_end(run)
    assert run.stop_reason is None
    now[0] = 1090.0
    callback.trainkit_step_end(run)
    assert run.stop_reason == "time_limit: 1.5 minutes are over"


@pytest.mark.parametrize(("reason", "position"), [("signal SIGTERM", 3), (None, 9)])
def test_an_earlier_reason_and_a_run_that_is_complete_stand(reason, position):
    callback = time_limit(minutes=1e-9)
    run = SimpleNamespace(stop_reason=reason, position=position, total_updates=9)
    callback.trainkit_step_end(run)
    assert run.stop_reason == reason


def test_the_run_ends_at_its_first_update_with_a_checkpoint(train):
    finished = train(more='[[callback]]\nuse = "time_limit"\nminutes = 1e-9\n')
    assert (finished.report.status, finished.report.steps) == ("stopped", 1)
    assert finished.report.reason.startswith("time_limit: 1e-09 minutes")
    assert finished.checkpoints == [1]
    assert train(more='[[callback]]\nuse = "time_limit"\nminutes = 60\n').report.status == "finished"


@pytest.mark.parametrize("minutes", ["0", "-1", '"1h"', "true"])
def test_a_limit_that_is_none_is_a_problem(load, minutes):
    with pytest.raises(RecipeError, match="minutes"):
        load(more=f'[[callback]]\nuse = "time_limit"\nminutes = {minutes}\n')
