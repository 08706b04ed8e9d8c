"""sgd_hd and adam_hd: the paper's algorithms in 50 digits, one rate a group, resuming, whole recipes."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import trainkit_optimizers as ours
from tests.plugins.conftest import dense, digits, load, read, save, train, whole
from trainkit import checkpoint
from trainkit.cli import main
from trainkit.errors import RecipeError

Numbers = list[Decimal]
FACTORIES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "sgd_hd": (ours.sgd_hd, {"lr": 0.05, "hyper_lr": 1e-3}),
    "momentum": (ours.sgd_hd, {"lr": 0.02, "hyper_lr": 1e-3, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (ours.sgd_hd, {"lr": 0.02, "hyper_lr": 1e-4, "momentum": 0.9, "nesterov": True}),
    "adam_hd": (ours.adam_hd, {"lr": 0.1, "hyper_lr": 1e-3}),
    "adam_hd decay": (ours.adam_hd, {"lr": 0.1, "hyper_lr": 1e-3, "betas": (0.8, 0.99), "weight_decay": 0.1}),
}
pytestmark = pytest.mark.usefixtures("one_thread")
UPDATES = range(12)


# ---------------------------------------------------------------- 50 digits


def plain(state: dict[str, Numbers], g: Numbers, s: dict[str, Any], t: int) -> Numbers:
    """Algorithms 4 and 5: minus the derivative of the update by the learning rate."""
    mu = Decimal(repr(s.get("momentum", 0.0)))
    state["v"] = [mu * v + x for v, x in zip(state.get("v", [Decimal(0)] * len(g)), g, strict=True)]
    if s.get("nesterov"):
        return [x + mu * v for x, v in zip(g, state["v"], strict=True)]
    return state["v"]


def adam(state: dict[str, Numbers], g: Numbers, s: dict[str, Any], t: int) -> Numbers:
    """Algorithm 6."""
    b1, b2 = (Decimal(repr(b)) for b in s.get("betas", (0.9, 0.999)))
    zero = [Decimal(0)] * len(g)
    state["m"] = [b1 * m + (1 - b1) * x for m, x in zip(state.get("m", zero), g, strict=True)]
    state["v"] = [b2 * v + (1 - b2) * x * x for v, x in zip(state.get("v", zero), g, strict=True)]
    pairs = zip(state["m"], state["v"], strict=True)
    return [m / (1 - b1**t) / ((v / (1 - b2**t)).sqrt() + Decimal("1e-8")) for m, v in pairs]


def exact(case: str, slope: Callable[[Numbers], Numbers], updates: int) -> list[tuple[list[float], float]]:
    """Weights and rate after each update, rounded once at the end."""
    settings = FACTORIES[case][1]
    direction = adam if case.startswith("adam") else plain
    found = []
    with localcontext() as context:
        context.prec = 50
        lr, beta = Decimal(repr(settings["lr"])), Decimal(repr(settings["hyper_lr"]))
        decay = Decimal(repr(settings.get("weight_decay", 0.0)))
        w, last, state = [Decimal(0), Decimal(0)], [Decimal(0), Decimal(0)], dict[str, Numbers]()
        for t in range(1, updates + 1):
            g = [x + decay * y for x, y in zip(slope(w), w, strict=True)]
            lr += beta * sum(x * d for x, d in zip(g, last, strict=True))
            last = direction(state, g, settings, t)
            w = [y - lr * d for y, d in zip(w, last, strict=True)]
            found.append(([float(y) for y in w], float(lr)))
    return found


def bowl_slope(w: Numbers) -> Numbers:
    return [w[0] - 1, 10 * (w[1] + Decimal("0.5"))]


@pytest.mark.parametrize("case", FACTORIES)
def test_it_follows_the_papers_algorithm(case):
    factory, settings = FACTORIES[case]
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = factory([{"params": [w, b], "names": ["w", "b"]}], **settings)
    for weights, lr in exact(case, bowl_slope, 8):
        optimizer.zero_grad()
        (0.5 * (w - 1) ** 2 + 5 * (b + 0.5) ** 2).sum().backward()
        optimizer.step()
        assert [w.item(), b.item()] == pytest.approx(weights, rel=1e-12)
        assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(lr, rel=1e-12)
    assert lr != settings["lr"]


def test_the_first_values_by_hand():
    """lr 0.05, hyper_lr 1e-3: the gradients are (-1, 5), then (-0.95, 2.5); their product is 13.45."""
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = ours.sgd_hd([{"params": [w], "names": ["w"]}], lr=0.05, hyper_lr=1e-3)
    for _ in range(2):
        w.grad = torch.stack([w[0] - 1, 10 * (w[1] + 0.5)]).detach()
        optimizer.step()
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.06345, rel=1e-12)
    assert w.tolist() == pytest.approx([0.05 + 0.06345 * 0.95, -0.25 - 0.06345 * 2.5], rel=1e-12)


# ---------------------------------------------------------------- groups, gradients, formats, resuming


def model_of(dtype: torch.dtype = torch.float32) -> nn.Module:
    return dense(6, 16, 3, dtype=dtype)


def make(case: str, groups: list[dict[str, Any]]) -> Any:
    factory, settings = FACTORIES[case]
    return factory(groups, **{**settings, "lr": 0.02})


@pytest.mark.parametrize("case", FACTORIES)
def test_every_group_has_a_rate_of_its_own(case):
    model, twin = model_of(), model_of()
    (group,) = whole(model)
    halves = [{key: value[part] for key, value in group.items()} for part in (slice(2), slice(2, None))]
    halves[0]["hyper_lr"] = 0.0
    optimizer = make(case, halves)
    train(model, optimizer, UPDATES)
    still, moving = (float(group["lr"]) for group in optimizer.param_groups)
    assert still == 0.02
    assert moving != 0.02
    assert all(float(optimizer.state[p]["lr"]) == moving for p in halves[1]["params"])
    fixed = {"sgd_hd": torch.optim.SGD, "adam_hd": torch.optim.Adam}.get(case)
    if fixed is not None:  # at a rate that stays it is the plain optimizer
        off = FACTORIES[case][0](whole(model_of()), lr=0.02, hyper_lr=0.0)
        model = model_of()
        off = FACTORIES[case][0](whole(model), lr=0.02, hyper_lr=0.0)
        train(model, off, UPDATES)
        train(twin, fixed(twin.parameters(), lr=0.02), UPDATES)
        for a, b in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", FACTORIES)
def test_frozen_parameters_and_missing_gradients_have_no_part(case):
    model, twin = model_of(), model_of()
    unused, frozen = nn.Parameter(torch.ones(3)), next(model.parameters())
    for one in (model, twin):
        next(one.parameters()).requires_grad_(False)
    groups = whole(model)
    groups[0]["params"].append(unused)
    groups[0]["names"].append("unused")
    optimizer, alone = make(case, groups), make(case, [{k: v[1:] for k, v in whole(twin)[0].items()}])
    train(model, optimizer, UPDATES)
    train(twin, alone, UPDATES)
    assert torch.equal(unused, torch.ones(3))
    assert torch.equal(frozen, next(model_of().parameters()))
    assert not optimizer.state.get(unused)
    assert not optimizer.state.get(frozen)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)
    assert float(optimizer.param_groups[0]["lr"]) == float(alone.param_groups[0]["lr"])


@pytest.mark.parametrize("case", FACTORIES)
@pytest.mark.parametrize(("stop", "policy"), [(1, "groups too"), (1, "state alone"), (5, "state alone"), (0, "")])
def test_stopped_saved_loaded_and_gone_on_equals_straight_through(case, stop, policy):
    straight, stopped, resumed = (model_of() for _ in range(3))
    whole_way = make(case, whole(straight))
    train(straight, whole_way, UPDATES)
    first = make(case, whole(stopped))
    train(stopped, first, range(stop))
    saved, rate = save(first), first.param_groups[0]["lr"]
    resumed.load_state_dict(stopped.state_dict())
    second = make(case, whole(resumed))
    load(second, saved)
    if policy == "groups too":
        second.param_groups[0]["lr"] = rate.clone()
    train(resumed, second, range(stop, len(UPDATES)))
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(whole_way.param_groups[0]["lr"], second.param_groups[0]["lr"])


@pytest.mark.parametrize("case", FACTORIES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_another_number_format_goes_the_same_way_rounded(case, dtype):
    model, twin = model_of(dtype), model_of()
    twin.load_state_dict(model.state_dict())
    rates = []
    for one in (model, twin):
        optimizer = make(case, whole(one))
        train(one, optimizer, range(3))
        rates.append(float(optimizer.param_groups[0]["lr"]))
        states = [optimizer.state[parameter] for parameter in one.parameters()]
        kept = [value for state in states for name, value in state.items() if name not in ("step", "lr")]
        assert all(value.dtype is next(one.parameters()).dtype for value in kept)
    rounded = dtype is torch.bfloat16
    assert rates[0] == pytest.approx(rates[1], rel=2e-2 if rounded else 1e-5)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert a.dtype is dtype
        tolerance = 3e-2 if rounded else 1e-5
        torch.testing.assert_close(a.float(), b, rtol=tolerance, atol=tolerance)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="no parameter to optimize"):
        ours.sgd_hd([{"params": []}], lr=0.1)
    table = nn.Embedding(5, 2, sparse=True)
    optimizer = ours.adam_hd([{"params": [table.weight]}])
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse"):
        optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    assert not table.weight.grad.to_dense().any()
    optimizer.zero_grad()
    assert table.weight.grad is None


# ---------------------------------------------------------------- whole recipes

RECIPE = digits(
    """\
use = "sgd_hd"
lr = 0.1
hyper_lr = 0.5
[[optimizer.group]]
match = "head.*"
lr_scale = 0.5""",
    run='duration = "4ep"\nlog_every = "1ba"',
    model='use = "mlp"\nwidths = [16]',
)


def test_the_rate_of_every_group_is_logged_as_it_was_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text(RECIPE, encoding="utf-8")
    assert main(["run", "r.toml", "--run-dir", "out", "-q"]) == 0
    lines = [json.loads(line) for line in Path("out/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = [(line["lr/0"], line["lr/1"]) for line in lines if line["split"] == "train"]
    assert rates[0] == (0.05, 0.1), "the first update has the recipe's, times lr_scale"
    assert len(set(rates)) == len(rates), "it moves at every update"
    assert rates[-1][1] > 0.15
    report = json.loads(Path("out/report.json").read_text(encoding="utf-8"))
    assert report["metrics"]["val.accuracy"] > 0.8
    _, tensors, _ = checkpoint.load_newest(tmp_path / "out" / "checkpoints")
    assert float(tensors["optimizer/head.weight/lr"]) == rates[-1][0]


def test_adam_too_learns_the_digits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text(RECIPE, encoding="utf-8")
    changes = ['optimizer={use="adam_hd", lr=0.005, hyper_lr=1e-5}', "run.duration=6ep"]
    assert main(["run", "r.toml", *changes, "--run-dir", "out", "-q"]) == 0
    report = json.loads(Path("out/report.json").read_text(encoding="utf-8"))
    assert report["metrics"]["val.accuracy"] > 0.8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["schedule=cosine"],
            "[optimizer] sgd_hd sets its own learning rate, so that the schedule 'cosine' would",
        ),
        (["schedule.warmup=1ep"], 'sets its own learning rate, which warmup = "1ep" cannot do too'),
        (["schedule.cooldown=0.1dur"], 'which cooldown = "0.1dur" cannot do too'),
        (["schedule.multiply=[{use='cosine'}]"], "which [[schedule.multiply]] cannot change"),
        (["run.compile=step"], "sgd_hd cannot be part of the compiled program"),
        (["optimizer.nesterov=true"], "nesterov = true needs momentum above 0"),
        (["optimizer.hyper_lr=-1"], "hyper_lr must be"),
        (["optimizer.hyperlr=1"], "did you mean 'hyper_lr'"),
    ],
)
def test_impossible_settings_are_problems(tmp_path, changes, message):
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, RECIPE, *changes)
    assert message in str(caught.value)


def test_a_constant_schedule_without_warmup_may_be_written(tmp_path):
    read(tmp_path, RECIPE, "schedule.use=constant", "schedule.warmup=0ep")
