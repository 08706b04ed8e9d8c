"""Schedules against reference values, against torch's, and as pure functions of time."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import trainkit_schedules as schedules
from trainkit import Schedule
from trainkit.scheduled import warmed_up

REFERENCE = json.loads((Path(__file__).parents[2] / "reference_values.json").read_text(encoding="utf-8"))["schedules"]
RELATIVE = 1e-12  # what the reference values are good for


def make(name: str, every: int = 1, **settings: Any) -> Schedule:
    """A schedule as a factory gets it: durations are updates by then."""
    if name in ("step", "exponential"):
        settings["every"] = every
    schedule: Schedule = getattr(schedules, name)(**settings)
    return schedule


def from_reference(case: dict[str, Any]) -> Schedule:
    params = dict(case["params"])
    name = case["id"].partition("/")[0]
    if name == "warmup":
        return warmed_up(schedules.constant(), params["warmup"])
    return make(name, **params)


@pytest.mark.parametrize("case", REFERENCE, ids=lambda case: case["id"])
def test_it_meets_the_reference_values(case):
    schedule = from_reference(case)
    for t, value in [*case["values"], *([case["after_end"]] if "after_end" in case else [])]:
        assert case["base"] * schedule(t, case["T"]) == pytest.approx(value, rel=RELATIVE, abs=0), f"t = {t}"


def test_warmup_and_cosine_are_one_after_the_other():
    both, cosine = warmed_up(schedules.cosine(), 100), schedules.cosine()
    assert both(0, 1000) == pytest.approx(1 / 101, rel=RELATIVE)
    assert both(99, 1000) == pytest.approx(100 / 101, rel=RELATIVE)
    assert both(100, 1000) == 1.0
    assert both(999, 1000) == pytest.approx(3.046171104809261e-06, rel=RELATIVE)
    assert both(1100, 1000) == 0.0
    assert [both(t + 100, 1000) for t in range(900)] == [cosine(t, 900) for t in range(900)]


EVERY = {
    "constant": schedules.constant(),
    "linear": schedules.linear(),
    "linear to a tenth": schedules.linear(end=0.1),
    "cosine": schedules.cosine(),
    "cosine k": schedules.cosine(end=0.01, k=2.5),
    "step": schedules.step(every=3, gamma=0.5),
    "exponential": schedules.exponential(rate=0.96, every=5),
    "exponential k": schedules.exponential(k=0.1, every=5),
    "exponential staircase": schedules.exponential(rate=0.5, every=4, staircase=True),
}


@pytest.mark.parametrize("name", EVERY)
def test_it_is_a_pure_function_of_time(name):
    for schedule in (EVERY[name], warmed_up(EVERY[name], 7)):
        forwards = [schedule(t, 50) for t in range(70)]
        backwards = [schedule(t, 50) for t in reversed(range(70))]
        mixed = [(schedule(t, 23), schedule(t, 50))[1] for t in range(70)]
        assert forwards == backwards[::-1] == mixed


@pytest.mark.parametrize("name", EVERY)
def test_short_runs_have_finite_values_and_no_update_with_rate_zero(name):
    for total in range(1, 51):
        for warmup in range(total + 1):
            schedule = warmed_up(EVERY[name], warmup)
            values = [schedule(t, total) for t in range(total)]
            assert all(math.isfinite(value) and 0 < value <= 1 for value in values), (total, warmup)
            assert math.isfinite(schedule(total, total))


@pytest.mark.parametrize("name", ["linear", "linear to a tenth", "cosine", "cosine k"])
def test_what_depends_on_the_length_holds_its_end(name):
    schedule = EVERY[name]
    assert len({schedule(t, 40) for t in (40, 41, 100, 10**9)}) == 1
    assert schedule(0, 0) == schedule(40, 40), "a run without updates does not divide by zero"


def test_the_run_in_the_making_is_held_at_its_end_after_a_warmup_of_its_whole_length():
    assert warmed_up(schedules.cosine(end=0.25), 10)(10, 10) == 0.25


def by_torch(make_scheduler: Any, total: int) -> list[float]:
    """The rates that a torch scheduler gives updates 0 to ``total - 1``, from base 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR calls its own deprecated form
        scheduler = make_scheduler(optimizer)
        rates = []
        for _ in range(total):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (make("constant"), lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0)),
        (make("linear"), lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, 200)),
        (make("linear", end=0.1), lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.1, 200)),
        (make("linear"), lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 200, power=1.0)),
        (make("cosine"), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 200)),
        (make("cosine", end=0.01), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 200, eta_min=0.01)),
        (make("step", 30, gamma=0.1), lambda o: torch.optim.lr_scheduler.StepLR(o, 30, 0.1)),
        (make("exponential", rate=0.99), lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.99)),
        (make("exponential", k=0.01), lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: math.exp(-0.01 * t))),
        (
            warmed_up(make("cosine"), 20),
            lambda o: torch.optim.lr_scheduler.SequentialLR(
                o,
                [
                    torch.optim.lr_scheduler.LinearLR(o, 1 / 21, 1.0, 20),
                    torch.optim.lr_scheduler.CosineAnnealingLR(o, 180),
                ],
                [20],
            ),
        ),
    ],
    ids=["constant", "linear", "linear end", "polynomial", "cosine", "cosine end", "step", "rate", "k", "warmup"],
)
def test_it_agrees_with_torch(ours, theirs):
    rates = by_torch(theirs, 200)
    assert [ours(t, 200) for t in range(200)] == pytest.approx(rates, rel=0, abs=1e-9)


def test_a_rate_and_its_constant_are_the_same_decay():
    rate, k = make("exponential", 10, rate=math.exp(-0.1)), make("exponential", 10, k=0.1)
    assert [rate(t, 99) for t in range(99)] == pytest.approx([k(t, 99) for t in range(99)], rel=RELATIVE)


def test_events_change_nothing_here():
    assert all(schedule(5, 20, [(3, "drop")]) == schedule(5, 20) for schedule in EVERY.values())
