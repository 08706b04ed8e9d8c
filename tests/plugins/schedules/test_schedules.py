"""Schedules against reference values, against torch's, and as pure functions of time."""

from __future__ import annotations

import json
import math
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import trainkit_schedules as schedules
from trainkit import Phase, Schedule
from trainkit.scheduled import product, rising, warmed_up

REFERENCE = json.loads((Path(__file__).parents[2] / "reference_values.json").read_text(encoding="utf-8"))["schedules"]
RELATIVE = 1e-12  # what the reference values are good for


def make(name: str, every: int = 1, **settings: Any) -> Schedule:
    """A schedule as a factory gets it: durations are updates by then."""
    if name in ("step", "exponential", "inverse_time"):
        settings.setdefault("every", every)
    schedule: Schedule = getattr(schedules, name)(**settings)
    return schedule


def from_reference(case: dict[str, Any]) -> Schedule:
    params = dict(case["params"])
    name, _, variant = case["id"].partition("/")
    if name == "noam":
        return schedules.noam(d_model=params["d_model"], rise=params["warmup"])
    if name == "piecewise":
        at, factors = zip(*params["points"], strict=True)
        return schedules.piecewise(at=list(at), factors=list(factors))
    if name in ("momentum", "weight_decay"):
        return schedules.ramp(start=params["a"], end=params["b"], shape=params["shape"])
    if name == "batch_size":
        return schedules.growth(**params)
    if variant == "momentum":
        return schedules.onecycle_momentum(high=params["hi"], low=params["lo"], pct=params["pct"])
    if variant == "chain_const*exp":
        low = Phase(schedules.ramp(start=params["factor"], end=params["factor"]), params["n"])
        first = schedules.phases(phases=[low, Phase(schedules.constant(), None)])
        return product([first, schedules.exponential(rate=params["gamma"], every=1)])
    if variant == "exp_then_swa_tail":
        body = schedules.exponential(rate=params["body_gamma"], every=1)
        tail = {"start": params["start_t"], "anneal": params["anneal"], "swa": params["swa"], "shape": params["shape"]}
        return schedules.swa_tail(body=body, **tail)
    if name == "compose":
        rise = rising(params["W"], params["start"])
        body = schedules.cosine(end=params["end"])
        return warmed_up(body, params["W"], rise, "overlay" in variant, params.get("C", 0))
    warmup = params.pop("warmup", 0)
    if name == "inverse_sqrt":
        params.setdefault("timescale", warmup)  # the usual rule
    elif name == "wsd":
        params["timescale"] = warmup
    # The reference lets a warm-up begin at zero where it says nothing, the entry of trainkit's own start apart.
    start = params.pop("start", None if variant == "linear_auto" else 0.0) if warmup else None
    shape = variant if variant in ("cosine", "exp") and name == "warmup" else "linear"
    body = schedules.constant() if name == "warmup" else make(name, **params)
    return warmed_up(body, warmup, rising(warmup, start, shape))


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
    "budget": schedules.budget(),
    "polynomial": schedules.polynomial(power=2.0, end=0.1),
    "polynomial late": schedules.polynomial(power=0.5),
    "multistep": schedules.multistep(milestones=[3, 7, 20], gamma=0.5),
    "inverse_time": schedules.inverse_time(k=0.3, every=5),
    "inverse_time staircase": schedules.inverse_time(k=0.3, every=5, staircase=True),
    "inverse_sqrt": schedules.inverse_sqrt(timescale=4),
    "noam": schedules.noam(d_model=4, rise=6),
    "rex": schedules.rex(),
    "rex straight": schedules.rex(d=0.0),
    "cosine_restarts": schedules.cosine_restarts(first=3, mult=2, decay=0.5, end=0.1),
    "cosine_restarts equal": schedules.cosine_restarts(first=4),
    "cosine_cycles": schedules.cosine_cycles(cycles=3),
    "cyclic": schedules.cyclic(up=3, down=5),
    "cyclic lower": schedules.cyclic(up=3, mode="triangular2"),
    "cyclic ever lower": schedules.cyclic(up=1, mode="exp_range", gamma=0.9),
    "onecycle": schedules.onecycle(),
    "onecycle tenth": schedules.onecycle(pct=0.1),
    "onecycle three phases": schedules.onecycle(pct=0.4, shape="linear", three_phase=True),
    "onecycle three short": schedules.onecycle(pct=0.1, three_phase=True),
    "onecycle half": schedules.onecycle(pct=0.5, three_phase=True),
    "onecycle all": schedules.onecycle(pct=1.0),
    "onecycle none": schedules.onecycle(pct=0.0),
    "slanted_triangular": schedules.slanted_triangular(),
    "slanted_triangular all": schedules.slanted_triangular(cut_frac=1.0),
    "slanted_triangular none": schedules.slanted_triangular(cut_frac=0.0),
    "tanh": schedules.tanh(),
    "tanh steep": schedules.tanh(lower=-300.0, upper=30.0),
    "piecewise": schedules.piecewise(at=[2, 10, 40], factors=[0.2, 1.0, 0.1]),
    "piecewise point": schedules.piecewise(at=[0], factors=[0.2]),
    "temperature": schedules.temperature(),
    "temperature linear": schedules.temperature(start=2.0, law="linear"),
    "temperature boltzmann": schedules.temperature(law="boltzmann"),
    "trapezoid": schedules.trapezoid(decay=4),
    **{
        f"wsd {shape}": schedules.wsd(decay=7, shape=shape)
        for shape in ("1-sqrt", "linear", "cosine", "1-square", "exp")
    },
    "wsd rsqrt": schedules.wsd(decay=5, stable="rsqrt", timescale=3, end=0.1),
    "wsd sudden": schedules.wsd(decay=0),
    "ramp": schedules.ramp(start=0.04, end=0.4),
    "ramp cosine": schedules.ramp(start=0.4, end=0.04, shape="cosine"),
    "ramp exp": schedules.ramp(start=0.001, end=1.0, shape="exp"),
    "onecycle_momentum": schedules.onecycle_momentum(),
    "onecycle_momentum three phases": schedules.onecycle_momentum(pct=0.4, shape="linear", three_phase=True),
    "growth": schedules.growth(every=7, growth=1.0, maximum=1.0),
    "snapshot_cycles": schedules.snapshot_cycles(cycles=3),
    "fge_tail": schedules.fge_tail(body=schedules.cosine(), start=9, cycle=6, high=0.5, low=0.01),
    "swa_tail": schedules.swa_tail(body=schedules.cosine(), start=30, anneal=10, swa=0.5),
    "swa_tail sudden": schedules.swa_tail(body=schedules.linear(), start=5, anneal=0, swa=1.0, shape="linear"),
    "phases": schedules.phases(
        phases=[
            Phase(schedules.ramp(start=0.1, end=1.0), 5),
            Phase(schedules.cosine(end=0.1), None),
            Phase(schedules.constant(), 3),
        ]
    ),
    "phases of phases": schedules.phases(
        phases=[Phase(schedules.phases(phases=[Phase(schedules.linear(), 4)]), 4), Phase(schedules.rex(), None)]
    ),
}
HELD = [
    "linear",
    "linear to a tenth",
    "cosine",
    "cosine k",
    "budget",
    "polynomial",
    "rex",
    "cosine_cycles",
    "snapshot_cycles",
    "onecycle",
    "onecycle all",
    "onecycle three phases",
    "slanted_triangular",
    "tanh",
    "temperature",
    "temperature linear",
    "trapezoid",
    "wsd 1-sqrt",
    "wsd rsqrt",
    "ramp",
    "ramp exp",
    "onecycle_momentum",
    "onecycle_momentum three phases",
    "swa_tail",
    "phases",
]
# What never rises.
FALLING = [
    *("constant", "linear", "linear to a tenth", "cosine", "cosine k", "budget", "polynomial", "polynomial late"),
    *("rex", "rex straight", "step", "multistep", "exponential", "exponential k", "exponential staircase"),
    *("inverse_time", "inverse_time staircase", "inverse_sqrt", "tanh", "tanh steep", "temperature"),
    *("temperature linear", "temperature boltzmann", "trapezoid", "wsd 1-sqrt", "wsd linear", "wsd cosine"),
    *("wsd 1-square", "wsd exp", "wsd rsqrt", "wsd sudden", "ramp cosine"),
]


@pytest.mark.parametrize("name", EVERY)
def test_short_runs_have_finite_values_and_no_update_with_rate_zero(name):
    for total in range(1, 51):
        for warmup in range(total + 1):
            schedule = warmed_up(EVERY[name], warmup)
            values = [schedule(t, total) for t in range(total)]
            assert all(math.isfinite(value) and 0 < value <= 1 for value in values), (total, warmup)
            assert math.isfinite(schedule(total, total))


@pytest.mark.parametrize("name", HELD)
def test_what_depends_on_the_length_holds_its_end(name):
    schedule = EVERY[name]
    assert len({schedule(t, 40) for t in (40, 41, 100, 10**9)}) == 1
    # Others begin where a run without updates ends.
    if not name.startswith(("onecycle", "slanted", "wsd rsqrt", "swa_tail", "phases", "snapshot")):
        assert schedule(0, 0) == schedule(40, 40), "a run without updates does not divide by zero"
    assert math.isfinite(schedule(0, 0))


@pytest.mark.parametrize("name", FALLING)
def test_it_never_rises_whatever_the_length(name):
    for total in (1, 2, 3, 10, 49, 1000):
        values = [EVERY[name](t, total) for t in range(total + 5)]
        assert all(later <= earlier * (1 + 1e-15) for earlier, later in pairwise(values)), total


@pytest.mark.parametrize("name", ["linear", "cosine", "polynomial", "rex", "tanh", "temperature", "ramp", "ramp exp"])
def test_a_run_that_is_made_longer_or_shorter_has_the_same_curve_over_it(name):
    schedule = EVERY[name]
    for t in range(40):
        assert schedule(t, 40) == pytest.approx(schedule(3 * t, 120), rel=1e-12, abs=1e-300)
        assert schedule(100 + t, 40) == schedule(40, 40)


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


def by_cyclic(up: int, down: int, mode: str) -> Any:
    def make_scheduler(optimizer: Any) -> Any:
        cyclic = torch.optim.lr_scheduler.CyclicLR
        return cyclic(optimizer, 0.1, 1.0, up, down, mode, gamma=0.99, cycle_momentum=False)

    return make_scheduler


def by_onecycle(total: int, shape: str, three_phase: bool) -> Any:
    def make_scheduler(optimizer: Any) -> Any:
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1.0, total + 1, anneal_strategy=shape, three_phase=three_phase, cycle_momentum=False
        )

    return make_scheduler


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (make("constant"), lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0)),
        (make("linear"), lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, 200)),
        (make("linear", end=0.1), lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.1, 200)),
        (make("linear"), lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 200, power=1.0)),
        (make("cosine"), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 200)),
        (make("cosine", end=0.01), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 200, eta_min=0.01)),
        (make("polynomial", power=0.9), lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 200, power=0.9)),
        (
            make("multistep", milestones=[20, 80, 120]),
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [20, 80, 120], 0.1),
        ),
        (
            make("cosine_restarts", first=10, mult=3, end=0.01),
            lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 10, 3, 0.01),
        ),
        *(
            (make("cyclic", up=20, down=down, mode=mode, gamma=0.99), by_cyclic(20, down, mode))
            for down, mode in ((20, "triangular"), (13, "triangular"), (13, "triangular2"), (20, "exp_range"))
        ),
        *(
            (make("onecycle", shape=shape, three_phase=three), by_onecycle(200, shape, three))
            for shape in ("cos", "linear")
            for three in (False, True)
        ),
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
    ids=[
        *("constant", "linear", "linear end", "polynomial", "cosine", "cosine end", "power", "multistep", "restarts"),
        *("triangular", "asymmetric", "triangular2", "exp_range", "onecycle", "three phases", "onecycle linear"),
        *("three phases linear", "step", "rate", "k", "warmup"),
    ],
)
def test_it_agrees_with_torch(ours, theirs):
    rates = by_torch(theirs, 200)
    # OneCycleLR refuses the step after its last, so it is one longer.
    total = 201 if "onecycle" in getattr(ours, "__qualname__", "") else 200
    assert [ours(t, total) for t in range(200)] == pytest.approx(rates, rel=0, abs=1e-9)


@pytest.mark.parametrize("shape", ["cos", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
def test_the_momentum_of_one_cycle_agrees_with_torch(shape, three_phase):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, 200, anneal_strategy=shape, three_phase=three_phase, pct_start=0.37
    )
    ours = schedules.onecycle_momentum(pct=0.37, shape=shape, three_phase=three_phase)
    for t in range(200):
        assert ours(t, 200) == pytest.approx(optimizer.param_groups[0]["momentum"], rel=0, abs=1e-12), t
        optimizer.step()
        if t < 199:
            theirs.step()


@pytest.mark.parametrize("shape", ["cos", "linear"])
def test_the_tail_agrees_with_torch(shape):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    body = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)
    tail = torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.4, anneal_epochs=12, anneal_strategy=shape)
    optimizer.param_groups[0]["lr"] = 1.0
    ours = schedules.swa_tail(body=schedules.exponential(rate=0.97, every=1), start=50, anneal=12, swa=0.4, shape=shape)
    for t in range(100):
        assert ours(t, 100) == pytest.approx(optimizer.param_groups[0]["lr"], rel=0, abs=1e-9), t
        optimizer.step()
        (body if t < 50 else tail).step()


def test_torch_climbs_again_where_a_cosine_holds_its_end():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    for _ in range(110):
        optimizer.step()
        theirs.step()
    assert optimizer.param_groups[0]["lr"] > 0.02, "torch has put it right: say so here"
    assert schedules.cosine()(110, 100) == 0.0


def test_growth_is_the_same_however_long_it_goes_on():
    schedule = schedules.growth(every=1, growth=10.0, maximum=50.0)
    assert [schedule(t, 9) for t in (0, 1, 2, 3, 10**9)] == [1.0, 10.0, 50.0, 50.0, 50.0]
    assert schedules.growth(every=3, growth=1e6, maximum=1e6)(10**12, 1) == 1e6
    assert schedules.growth(every=3, growth=1.0, maximum=7.0)(100, 1) == 1.0


def test_each_phase_has_its_own_clock_and_the_open_one_takes_what_remains():
    inner = schedules.cosine(end=0.1)
    schedule = schedules.phases(
        phases=[Phase(schedules.linear(end=0.5), 10), Phase(inner, None), Phase(schedules.step(every=2), 6)]
    )
    for total in (17, 40, 1000):
        assert [schedule(t, total) for t in range(10)] == [schedules.linear(end=0.5)(t, 10) for t in range(10)]
        middle = total - 16
        assert [schedule(10 + t, total) for t in range(middle)] == [inner(t, middle) for t in range(middle)]
        last = [schedule(total - 6 + t, total) for t in range(6)]
        assert last == [schedules.step(every=2)(t, 6) for t in range(6)]


def test_a_rate_and_its_constant_are_the_same_decay():
    rate, k = make("exponential", 10, rate=math.exp(-0.1)), make("exponential", 10, k=0.1)
    assert [rate(t, 99) for t in range(99)] == pytest.approx([k(t, 99) for t in range(99)], rel=RELATIVE)


@pytest.mark.parametrize(("total", "cycles"), [(12, 3), (16, 3), (17, 5), (5, 7), (100, 6)])
def test_snapshot_cycles_is_the_papers_formula(total, cycles):
    schedule = schedules.snapshot_cycles(cycles=cycles)
    length = math.ceil(total / cycles)
    for t in range(total):
        paper = 0.1 / 2 * (math.cos(math.pi * (t % length) / length) + 1)  # t - 1 there, counted from 1
        assert 0.1 * schedule(t, total) == pytest.approx(paper, rel=1e-12)
    assert [t for t in range(total) if schedule(t, total) == 1.0] == list(range(0, total, length))


def test_fge_tail_is_the_papers_formula_after_its_body():
    body, high, low, c, start = schedules.cosine(), 0.05, 0.0005, 8, 30
    schedule = schedules.fge_tail(body=body, start=start, cycle=c, high=high, low=low)
    assert [schedule(t, 70) for t in range(start)] == [body(t, 70) for t in range(start)]
    for i in range(1, 41):  # the paper counts from 1
        share = ((i - 1) % c + 1) / c
        paper = (
            (1 - 2 * share) * high + 2 * share * low if share <= 0.5 else (2 - 2 * share) * low + (2 * share - 1) * high
        )
        assert schedule(start + i - 1, 70) == pytest.approx(paper, rel=1e-12)
    lowest = [t for t in range(start, 70) if schedule(t, 70) == low]
    assert lowest == [33, 41, 49, 57, 65], "the update numbered c / 2 of each cycle, from 1"
