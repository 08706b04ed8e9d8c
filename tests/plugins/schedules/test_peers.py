"""Schedules against those of timm, transformers and pytorch_optimizer, where they are installed.

None of them is needed for anything else: `pip install timm transformers pytorch-optimizer` to run these.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

import trainkit_schedules as schedules
from trainkit import Schedule
from trainkit.scheduled import rising, warmed_up

T = 1000


def peer(name: str) -> Any:
    """A library's module; the test is skipped where it is not installed or does not load."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except Exception as error:
            pytest.skip(f"{name.partition('.')[0]} is not there: {error}")


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def by_timm(name: str, **settings: Any) -> Callable[[int], float]:
    owner = optimizer()
    theirs = getattr(peer("timm.scheduler"), name)(owner, **settings)

    def rate(t: int) -> float:
        theirs.step(t)
        return float(owner.param_groups[0]["lr"])

    return rate


def by_lambda(module: str, name: str, *positional: Any, **settings: Any) -> Callable[[int], float]:
    """The factor that a `LambdaLR` of theirs multiplies by; the base is 1."""
    theirs = getattr(peer(module), name)(optimizer(), *positional, **settings)
    return lambda t: float(theirs.lr_lambdas[0](t))


def by_transformers(name: str, *positional: Any, **settings: Any) -> Callable[[int], float]:
    return by_lambda("transformers.optimization", name, *positional, **settings)


def after(warmup: int, body: Schedule, start: float = 0.0, overlay: bool = False) -> Schedule:
    return warmed_up(body, warmup, rising(warmup, start), overlay)


def wsd(shape: str, **settings: Any) -> Schedule:
    return after(100, schedules.wsd(decay=200, shape=shape, timescale=100, **settings))


AGREEING: dict[str, tuple[Schedule, Callable[[], Callable[[int], float]]]] = {
    "timm step": (
        schedules.step(every=300, gamma=0.1),
        lambda: by_timm("StepLRScheduler", decay_t=300, decay_rate=0.1),
    ),
    "timm poly": (
        schedules.polynomial(power=0.9, end=0.01),
        lambda: by_timm("PolyLRScheduler", t_initial=T, power=0.9, lr_min=0.01),
    ),
    "timm cosine": (schedules.cosine(end=0.01), lambda: by_timm("CosineLRScheduler", t_initial=T, lr_min=0.01)),
    "timm k-decay": (schedules.cosine(k=2.0), lambda: by_timm("CosineLRScheduler", t_initial=T, k_decay=2)),
    "timm restarts": (
        schedules.cosine_restarts(first=100, mult=2),
        lambda: by_timm("CosineLRScheduler", t_initial=100, cycle_mul=2, cycle_limit=4),
    ),
    "timm lower restarts": (
        schedules.cosine_restarts(first=100, decay=0.5, end=0.001),
        lambda: by_timm("CosineLRScheduler", t_initial=100, cycle_decay=0.5, cycle_limit=11, lr_min=0.001),
    ),
    "timm tanh": (schedules.tanh(), lambda: by_timm("TanhLRScheduler", t_initial=T)),
    "timm prefix": (
        after(100, schedules.cosine(), 0.1),
        lambda: by_timm("CosineLRScheduler", t_initial=900, warmup_t=100, warmup_lr_init=0.1, warmup_prefix=True),
    ),
    "timm overlay": (
        after(100, schedules.cosine(), 0.1, overlay=True),
        lambda: by_timm("CosineLRScheduler", t_initial=T, warmup_t=100, warmup_lr_init=0.1),
    ),
    **{
        f"timm wsd {shape}": (
            wsd(shape, **ours),
            lambda shape=shape, theirs=theirs: by_timm(
                "WSDLRScheduler", t_initial=900, decay_t=200, warmup_t=100, decay_fn=shape, **theirs
            ),
        )
        for shape, ours, theirs in (
            ("1-sqrt", {"end": 0.1}, {"lr_min": 0.1}),
            ("linear", {}, {}),
            ("cosine", {}, {}),
            ("exp", {}, {}),
        )
    },
    "timm rsqrt": (
        wsd("linear", stable="rsqrt"),
        lambda: by_timm(
            "WSDLRScheduler", t_initial=900, decay_t=200, warmup_t=100, decay_fn="linear", stable_fn="rsqrt"
        ),
    ),
    "transformers constant": (
        after(100, schedules.constant()),
        lambda: by_transformers("get_constant_schedule_with_warmup", 100),
    ),
    "transformers linear": (
        after(100, schedules.linear()),
        lambda: by_transformers("get_linear_schedule_with_warmup", 100, T),
    ),
    "transformers cosine": (
        after(100, schedules.cosine()),
        lambda: by_transformers("get_cosine_schedule_with_warmup", 100, T),
    ),
    "transformers polynomial": (
        schedules.polynomial(power=0.9, end=0.01),
        lambda: by_transformers("get_polynomial_decay_schedule_with_warmup", 0, T, lr_end=0.01, power=0.9),
    ),
    "transformers cycles": (
        schedules.cosine_cycles(cycles=3),
        lambda: by_transformers("get_cosine_with_hard_restarts_schedule_with_warmup", 0, T, 3),
    ),
    "transformers inverse_sqrt": (
        after(100, schedules.inverse_sqrt(timescale=400)),
        lambda: by_transformers("get_inverse_sqrt_schedule", 100, timescale=400),
    ),
    **{
        f"transformers wsd {shape}": (
            wsd(shape),
            lambda shape=shape: by_transformers("get_wsd_schedule", 100, 200, T, decay_type=shape),
        )
        for shape in ("1-sqrt", "linear", "cosine")
    },
}


@pytest.mark.parametrize("name", AGREEING)
def test_it_agrees_with_a_peer(name):
    ours, make = AGREEING[name]
    theirs = make()
    for t in range(T):
        assert ours(t, T) == pytest.approx(theirs(t), rel=0, abs=1e-9), t


# Each has its value here and theirs, at one update: where they have put it right, the case can go to the ones above.
DIFFERING: dict[str, tuple[Schedule, Callable[[], Callable[[int], float]], int, float, float]] = {
    "timm drops one update early": (
        schedules.multistep(milestones=[200, 400], gamma=0.1),
        lambda: by_timm("MultiStepLRScheduler", decay_t=[200, 400], decay_rate=0.1),
        199,
        1.0,
        0.1,
    ),
    "timm restarts one cycle late": (
        schedules.cosine_restarts(first=10, mult=3),
        lambda: by_timm("CosineLRScheduler", t_initial=10, cycle_mul=3, cycle_limit=8),
        1210,
        1.0,
        0.0,
    ),
    "transformers climbs again after the end": (
        schedules.cosine(),
        lambda: by_transformers("get_cosine_schedule_with_warmup", 0, T),
        1100,
        0.0,
        0.024471741852423235,
    ),
    "transformers lifts the warm-up with the end": (
        wsd("1-sqrt", end=0.1),
        lambda: by_transformers("get_wsd_schedule", 100, 200, T, decay_type="1-sqrt", min_lr_ratio=0.1),
        0,
        0.0,
        0.1,
    ),
    "pytorch_optimizer forgets the end": (
        wsd("1-sqrt", end=0.1),
        lambda: by_lambda(
            "pytorch_optimizer", "get_wsd_schedule", 100, 700, 200, min_lr_ratio=0.1, cooldown_type="1-sqrt"
        ),
        850,
        0.55,
        0.5,
    ),
}


@pytest.mark.parametrize("name", DIFFERING)
def test_it_differs_from_a_peer_where_that_is_wrong(name):
    ours, make, t, right, wrong = DIFFERING[name]
    assert make()(t) == pytest.approx(wrong, rel=0, abs=1e-9), "they have put it right"
    assert ours(t, T) == pytest.approx(right, rel=0, abs=1e-9)
