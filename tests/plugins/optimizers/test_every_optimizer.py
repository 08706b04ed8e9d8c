"""Every optimizer but sgd, adam, adamw and lbfgs: torch's values, published values, resuming, groups, whole recipes."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import trainkit_optimizers as ours
from tests.plugins.conftest import assert_same, dense, digits, read, run_text, two_groups, whole
from trainkit import checkpoint
from trainkit.component import Component
from trainkit.errors import RecipeError
from trainkit.launch import launch

pytestmark = pytest.mark.usefixtures("one_thread")
COMPONENTS: dict[str, Component] = {part.name: part for part in ours.trainkit_components() if part.kind == "optimizer"}
# Factory, settings, name in torch.optim and what is written there besides; no name: torch has none.
CASES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "sgdw": ("sgdw", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}, "", {}),
    "sgdw nesterov": ("sgdw", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, "", {}),
    "sgdw plain": ("sgdw", {"lr": 0.05, "momentum": 0.0}, "", {}),
    "lion": ("lion", {"lr": 0.01, "weight_decay": 0.1}, "", {}),
    "nadam": ("nadam", {"lr": 0.01}, "NAdam", {}),
    "nadam decay": ("nadam", {"lr": 0.01, "weight_decay": 0.1, "momentum_decay": 0.01}, "NAdam", {}),
    "nadamw": ("nadamw", {"lr": 0.01, "weight_decay": 0.1}, "NAdam", {"decoupled_weight_decay": True}),
    "radam": ("radam", {"lr": 0.01}, "RAdam", {}),
    "radam decay": ("radam", {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1}, "RAdam", {}),
    "adamax": ("adamax", {"lr": 0.01}, "Adamax", {}),
    "adamax decay": ("adamax", {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1}, "Adamax", {}),
    "rmsprop": ("rmsprop", {"lr": 0.001}, "RMSprop", {}),
    "rmsprop momentum": ("rmsprop", {"lr": 0.001, "momentum": 0.9, "weight_decay": 0.1}, "RMSprop", {}),
    "rmsprop centered": ("rmsprop", {"lr": 0.001, "alpha": 0.9, "centered": True}, "RMSprop", {}),
    "rmsprop all": ("rmsprop", {"lr": 0.001, "centered": True, "momentum": 0.9, "eps": 1e-4}, "RMSprop", {}),
    "adagrad": ("adagrad", {"lr": 0.01}, "Adagrad", {}),
    "adagrad decay": ("adagrad", {"lr": 0.01, "lr_decay": 0.1, "weight_decay": 0.1}, "Adagrad", {}),
    "adadelta": ("adadelta", {}, "Adadelta", {}),
    "adadelta decay": ("adadelta", {"lr": 0.5, "rho": 0.8, "weight_decay": 0.1}, "Adadelta", {}),
}
LAYERWISE: dict[str, dict[str, Any]] = {
    "lars": {"lr": 1.0, "weight_decay": 0.01},
    "lars plain": {"lr": 1.0, "momentum": 0.0},
    "lamb": {"lr": 0.01},
}
WRAPPED: dict[str, tuple[str, dict[str, Any]]] = {
    "adafactor": ("Adafactor", {"lr": 0.01, "weight_decay": 0.1}),
    "asgd": ("ASGD", {"lr": 0.01, "lambd": 0.01, "t0": 3.0, "weight_decay": 0.1}),
    "rprop": ("Rprop", {"lr": 0.01}),
    "sparse_adam": ("SparseAdam", {"lr": 0.01}),
}
# Looked at more closely in test_muon.py.
OF_MATRICES: dict[str, dict[str, Any]] = {"muon": {"lr": 0.02, "weight_decay": 0.1}}
Between = Callable[[int, nn.Module, Any], None]
EVERY = [*CASES, *LAYERWISE, *OF_MATRICES, *WRAPPED]
RULES = [*CASES, *LAYERWISE]
UPDATES = range(30)
AGREEING = [case for case, (_, _, name, _) in CASES.items() if name]
# Torch keeps nadam's product of momenta, and multiplies radam's factors, in float32; the others round alike.
EXACT = [case for case in AGREEING if case.split()[0] not in ("nadam", "nadamw", "radam")]


def settings_of(case: str) -> dict[str, Any]:
    """The settings of any case of the three tables."""
    if case in CASES:
        return CASES[case][1]
    return WRAPPED[case][1] if case in WRAPPED else (LAYERWISE | OF_MATRICES)[case]


def make(case: str, groups: list[dict[str, Any]]) -> Any:
    """The optimizer of a case, over these groups."""
    return COMPONENTS[case.split()[0]].factory(groups, **settings_of(case))


def model_of(case: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A model that the case's optimizer takes, always with the same weights."""
    if case == "sparse_adam":
        torch.manual_seed(5)
        return nn.Sequential(nn.Embedding(12, 4, sparse=True), nn.Embedding(12, 4, sparse=True)).to(dtype)
    return dense(6, 16, 8, 3, bias=case != "muon", dtype=dtype)


def gradients(model: nn.Module, number: int) -> None:
    """The gradients of update ``number``: the same for the same weights, whoever asks."""
    for parameter in model.parameters():
        parameter.grad = None
    generator = torch.Generator().manual_seed(number)
    if isinstance(model[0], nn.Embedding):
        rows = torch.randint(12, (5,), generator=generator)
        loss = sum((table(rows) - 0.5).square().sum() for table in model)
    else:
        inputs = torch.randn(12, 6, generator=generator).to(next(model.parameters()).dtype) * (1 + number % 3)
        outputs = model(inputs)
        loss = outputs.square().mean() + outputs.sum() * 0.01
    loss.backward()


def train(model: nn.Module, optimizer: Any, updates: range, between: Between | None = None) -> None:
    for number in updates:
        gradients(model, number)
        if between is not None:
            between(number, model, optimizer)
        optimizer.step()


def assert_near(one: nn.Module, other: nn.Module, relative: float, least: float) -> None:
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=relative, atol=least, msg=lambda text, name=name: f"{name}: {text}")


def theirs(case: str, groups: list[dict[str, Any]]) -> Any:
    _, settings, name, more = CASES[case]
    return getattr(torch.optim, name)(groups, **settings, **more)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", AGREEING)
def test_it_equals_torchs_optimizer(case, dtype):
    one, other = model_of(case, dtype), model_of(case, dtype)
    mine, reference = make(case, whole(one)), theirs(case, whole(other))
    train(one, mine, UPDATES)
    train(other, reference, UPDATES)
    assert not torch.equal(one[0].weight, model_of(case, dtype)[0].weight), "it moved at all"
    if case in EXACT:
        assert_same(one, other)
    else:
        assert_near(one, other, 1e-6, 1e-6)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        held, expected = mine.state[a], reference.state[b]
        assert set(held) == set(expected) - {"mu_product"}
        for name in mine.rule.slots(mine.param_groups[0]):
            torch.testing.assert_close(held[name], expected[name], rtol=2e-5, atol=1e-7)
        assert held["step"] == int(expected["step"]) == len(UPDATES)


@pytest.mark.parametrize("case", AGREEING)
def test_groups_keep_their_own_numbers_and_these_may_change(case):
    def fall(number: int, model: nn.Module, optimizer: Any) -> None:
        for group in optimizer.param_groups:
            group["lr"] *= 0.95

    one, other = model_of(case), model_of(case)
    own = {"lr": 0.003, "weight_decay": 0.05}
    train(one, make(case, two_groups(one, **own)), UPDATES, fall)
    train(other, theirs(case, two_groups(other, **own)), UPDATES, fall)
    assert_near(one, other, 1e-6, 1e-6)


# The published values of three updates: 0.5 (w0 - 1)^2 + 5 (w1 + 0.5)^2 from (0, 0), in float64.
PUBLISHED: dict[str, tuple[str, dict[str, Any], list[list[float]]]] = {
    "lion": (
        "lion",
        {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1},
        [[0.01, -0.01], [0.01999, -0.01999], [0.02997001, -0.02997001]],
    ),
    "sgdw": (
        "sgdw",
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1},
        [[0.05, -0.25], [0.14225000000000002, -0.59875], [0.26767625000000006, -0.86138125]],
    ),
    "nesterov": (
        "sgd",
        {"lr": 0.05, "momentum": 0.9, "nesterov": True},
        [[0.095, -0.475], [0.221475, -0.7012499999999999], [0.368537375, -0.7024375]],
    ),
    "adam": (
        "adam",
        {"lr": 0.1},
        [
            [0.09999999900000002, -0.0999999998],
            [0.1995877702876619, -0.19881257999801202],
            [0.29841372549558504, -0.29512874998302163],
        ],
    ),
    "lamb": (
        "lamb",
        {"lr": 0.1, "weight_decay": 0.01, "eps": 1e-6},
        [
            [0.0999999000001, -0.099999980000004],
            [0.11003892459701672, -0.10996079046616654],
            [0.12109343642378628, -0.12090597990883646],
        ],
    ),
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_three_updates_give_the_published_values(case):
    name, settings, expected = PUBLISHED[case]
    # A matrix, as lamb scales no vector.
    weight = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    optimizer = COMPONENTS[name].factory([{"params": [weight], "names": ["w"]}], **settings)
    for values in expected:
        optimizer.zero_grad()
        (0.5 * (weight[0, 0] - 1) ** 2 + 5 * (weight[0, 1] + 0.5) ** 2).backward()
        optimizer.step()
        assert weight[0].tolist() == pytest.approx(values, rel=1e-12)


def test_lars_follows_its_formula():
    weight = torch.tensor([[3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    groups = [{"params": [weight, bias], "names": ["w", "b"]}]
    optimizer = ours.lars(groups, lr=2.0, momentum=0.9, weight_decay=0.1, trust=0.01)
    expected, velocity = [3.0, 4.0], [0.0, 0.0]
    for slope in ([1.0, 0.0], [0.6, -0.8]):
        weight.grad = torch.tensor([slope], dtype=torch.float64)
        bias.grad = torch.zeros_like(bias)
        size, steepness = math.hypot(*expected), math.hypot(*slope)
        ratio = 0.01 * size / (steepness + 0.1 * size + 1e-8)
        velocity = [0.9 * v + ratio * (g + 0.1 * w) for v, g, w in zip(velocity, slope, expected, strict=True)]
        expected = [w - 2.0 * v for w, v in zip(expected, velocity, strict=True)]
        optimizer.step()
        assert weight[0].tolist() == pytest.approx(expected, rel=1e-12)
    # Two updates of plain momentum: v = 0.1 w each time.
    first = [0.8 * w for w in (3.0, 4.0)]
    second = [w - 2.0 * (0.9 * 0.1 * start + 0.1 * w) for w, start in zip(first, (3.0, 4.0), strict=True)]
    assert bias.tolist() == pytest.approx(second, rel=1e-12), "a vector is not scaled"


@pytest.mark.parametrize("case", LAYERWISE)
def test_zero_weights_and_zero_gradients_stay_finite(case):
    zero, still = torch.zeros(2, 2, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    optimizer = make(case, [{"params": [zero, still], "names": ["zero", "still"], "weight_decay": 0.0}])
    zero.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    optimizer.step()
    torch.testing.assert_close(zero.detach(), torch.full((2, 2), -settings_of(case)["lr"]))
    assert torch.equal(still, torch.ones(2, 2))


@pytest.mark.parametrize("case", WRAPPED)
def test_it_is_torchs_own_optimizer_with_names(case):
    name, settings = WRAPPED[case]
    one, other = model_of(case), model_of(case)
    mine = make(case, whole(one))
    assert type(mine) is getattr(torch.optim, name)
    assert mine.param_groups[0]["names"] == [name for name, _ in one.named_parameters()]
    train(one, mine, UPDATES)
    train(other, getattr(torch.optim, name)(whole(other), **settings), UPDATES)
    assert_same(one, other)


@pytest.mark.parametrize("name", [case for case, (theirs, _) in WRAPPED.items()])
def test_the_defaults_are_torchs(name):
    model = model_of(name)
    mine = COMPONENTS[name].factory(whole(model))
    assert mine.defaults == getattr(torch.optim, WRAPPED[name][0])(whole(model)).defaults


@pytest.mark.parametrize("name", ["nadam", "radam", "adamax", "rmsprop", "adagrad", "adadelta"])
def test_the_defaults_of_rules_are_torchs(name):
    model = model_of(name)
    mine = COMPONENTS[name].factory(whole(model)).defaults
    expected = next(
        getattr(torch.optim, theirs)(whole(model)).defaults for case, _, theirs, _ in CASES.values() if case == name
    )
    assert mine == {key: expected[key] for key in mine}


# torch works out the factors of these in the weights' own format, so that their rounding is not one update's.
OWN_FORMAT = ("adafactor", "muon")
FORMATS = [(case, torch.float64) for case in EVERY]
FORMATS += [(case, torch.bfloat16) for case in EVERY if case not in OWN_FORMAT]


@pytest.mark.parametrize(("case", "dtype"), FORMATS, ids=str)
def test_another_number_format_makes_the_same_update_rounded(case, dtype):
    model, twin = model_of(case, dtype), model_of(case)
    optimizer, single = make(case, whole(model)), make(case, whole(twin))
    gradients(model, 0)
    before = [parameter.detach().float() for parameter in model.parameters()]
    for parameter, value, given in zip(twin.parameters(), before, model.parameters(), strict=True):
        parameter.data.copy_(value)
        parameter.grad = given.grad.float()
    optimizer.step()
    single.step()
    for parameter, expected, was in zip(model.parameters(), twin.parameters(), before, strict=True):
        assert parameter.dtype == dtype
        slots = [slot for slot in optimizer.state[parameter].values() if isinstance(slot, Tensor) and slot.dim()]
        assert all(slot.dtype == dtype for slot in slots)
        moved = float((expected.detach() - was).abs().max())
        relative, share = (2**-7, 0.05) if dtype is torch.bfloat16 else (1e-6, 2e-5)
        if case == "muon":  # it works in bfloat16 within, whatever it is given
            share = 0.05
        # Each rounding is relative to what is rounded: the weight before, the weight after, or the way between.
        allowed = relative * (was.abs() + expected.detach().abs()) + share * moved
        assert bool(((parameter.detach().float() - expected.detach()).abs() <= allowed).all())


@pytest.mark.parametrize("case", RULES)
def test_the_pure_form_is_the_same_update_and_changes_nothing(case):
    model = model_of(case, torch.float64)
    optimizer = make(case, whole(model))
    (group,) = optimizer.param_groups
    names = optimizer.rule.slots(group)
    twin = {parameter: parameter.detach().clone() for parameter in model.parameters()}
    states = {parameter: [torch.zeros_like(parameter) for _ in names] for parameter in twin}

    def alongside(number: int, model: nn.Module, optimizer: Any) -> None:
        for parameter in twin:
            given = [twin[parameter], parameter.grad, *states[parameter]]
            kept = [tensor.clone() for tensor in given]
            numbers = optimizer.rule.numbers(group, number + 1)
            new, fresh = optimizer.rule.update(given[0], given[1], given[2:], numbers)
            assert all(torch.equal(a, b) for a, b in zip(given, kept, strict=True))
            twin[parameter], states[parameter] = new, list(fresh)

    train(model, optimizer, UPDATES, alongside)
    for parameter, value in twin.items():
        torch.testing.assert_close(value, parameter.detach(), rtol=1e-10, atol=1e-12)
        for name, slot in zip(names, states[parameter], strict=True):
            torch.testing.assert_close(slot, optimizer.state[parameter][name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("case", RULES)
def test_numbers_may_be_tensors_in_the_pure_form(case, k):
    optimizer = make(case, whole(model_of(case)))
    (group,) = optimizer.param_groups
    parameter, gradient = torch.randn(4, 3), torch.randn(4, 3)
    state = [torch.rand(4, 3) for _ in optimizer.rule.slots(group)]
    numbers = optimizer.rule.numbers(group, k)
    plain, _ = optimizer.rule.update(parameter, gradient, state, numbers)
    held, _ = optimizer.rule.update(parameter, gradient, state, [torch.tensor(number) for number in numbers])
    torch.testing.assert_close(plain, held)


@pytest.mark.parametrize("case", RULES)
def test_numbers_depend_on_their_arguments_alone(case):
    optimizer = make(case, whole(model_of(case)))
    (group,) = optimizer.param_groups
    backwards = [optimizer.rule.numbers(group, k) for k in (100_000, 500, 20, 2, 1)]
    assert backwards[::-1] == [optimizer.rule.numbers(group, k) for k in (1, 2, 20, 500, 100_000)]
    assert all(math.isfinite(number) for numbers in backwards for number in numbers)


def test_a_torch_without_the_optimizer_is_named(monkeypatch):
    monkeypatch.delattr(torch.optim, "Adafactor")
    with pytest.raises(ValueError, match="has no Adafactor"):
        ours.adafactor(whole(model_of("adafactor")))


def test_adafactors_eps_may_differ_between_groups():
    optimizer = ours.adafactor(two_groups(model_of("adafactor"), eps=0.1))
    assert [group["eps"] for group in optimizer.param_groups] == [(None, 0.1), (None, 1e-3)]


def test_building_and_stepping_rules_leaves_the_compiler_unimported():
    names = sorted({factory for factory, *_ in CASES.values()} | {"lars", "lamb"})
    code = (
        "import sys, trainkit_optimizers as ours\n"
        "ours.trainkit_components()\n"
        "assert 'torch' not in sys.modules\n"
        "import torch\n"
        f"for name in {names}:\n"
        "    p = torch.zeros(3, 2, requires_grad=True)\n"
        "    o = getattr(ours, name)([{'params': [p]}], lr=0.1)\n"
        "    p.sum().backward()\n"
        "    o.step()\n"
        "found = [name for name in sys.modules if name.startswith(('torch._dynamo', 'torch._inductor'))]\n"
        "assert not found, found[:5]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


# Rates at which a linear layer learns the digits within three epochs.
RATES = {
    "adagrad": 0.1,
    "lars": 20.0,
    "lion": 3e-3,
    "lamb": 0.05,
    "radam": 0.1,
    "sgd": 0.5,
    "sgd_hd": 0.5,
    "rprop": 1e-3,
    "asgd": 0.2,
    "sgdw": 0.1,
    "adafactor": 1.0,
}


def text_of(name: str) -> str:
    return digits(f'use = "{name}"')


@pytest.mark.parametrize("name", sorted(set(COMPONENTS) - {"sparse_adam", "lbfgs"}))
def test_it_learns_the_digits_through_a_recipe(tmp_path, name):
    changes = [f"optimizer.lr={RATES.get(name, 0.02 if name != 'adadelta' else 1.0)}"]
    if name in ("muon", "lars"):  # lars moves biases at the rate itself, which is large
        changes.append("model.bias=false")
    report, run = run_text(tmp_path, text_of(name), *changes)
    assert report.metrics["val.accuracy"] > 0.8
    groups = run.optimizer.param_groups
    assert sorted(name for group in groups for name in group["names"]) == sorted(dict(run.model.named_parameters()))
    launch(*read(tmp_path, text_of(name), *changes), smoke=True)


def test_a_wrapped_optimizers_state_is_in_the_checkpoint_by_name(tmp_path):
    _, run = run_text(tmp_path, text_of("rprop"), "run.duration=2ba")
    _, tensors, state = checkpoint.load_newest(tmp_path / "run" / "checkpoints")
    weight = run.model.head.weight
    assert torch.equal(tensors["optimizer/head.weight/prev"], run.optimizer.state[weight]["prev"])
    assert set(state["optimizer"]) == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("sgdw", ["optimizer.lr=0.1", "optimizer.nesterov=true", "optimizer.momentum=0.0"], "needs momentum above 0"),
        ("rprop", ["schedule=cosine"], "the schedule 'cosine' would change nothing"),
        ("rprop", ["schedule.warmup=1ep"], "would make small for good"),
        ("rprop", ["optimizer.step_sizes=[1.0, 0.1]"], "the smallest and the largest, got 1 and 0.1"),
        ("rprop", ["optimizer.etas=[1.0, 1.2]"], "etas"),
        ("rmsprop", ['optimizer.group=[{match="*bias", centered=true}]'], "one 'centered' for all groups"),
        ("adagrad", ["run.compile=step", "optimizer.lr=-1"], "lr must be"),
        ("lars", ["optimizer.lr=1", "run.compile=step"], "lars cannot be part of the compiled program"),
        ("adafactor", ["optimizer.d=0.5"], "d must be"),
    ],
)
def test_impossible_settings_are_problems(tmp_path, name, changes, message):
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text_of(name), *changes)
    assert message in str(caught.value)


def test_a_rule_makes_the_same_run_in_compiled_form(tmp_path):
    weights = []
    for number, compiled in enumerate(["false", "step"]):
        changes = "run.duration=4ba", f"run.compile={compiled}"
        _, run = run_text(tmp_path, text_of("radam"), *changes, name=f"run{number}")
        weights.append(run.model.head.weight.detach())
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)
