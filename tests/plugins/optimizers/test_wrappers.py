"""Lookahead, sam and asam: their formulas step by step, what is inside them, what they leave alone, whole recipes."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import trainkit_optimizers as ours
from tests.plugins.conftest import (
    Catch,
    assert_same,
    closure_of,
    dense,
    digits,
    load,
    read,
    save,
    train,
    two_groups,
    whole,
)
from trainkit import OptimizerWrapper, RunError, checkpoint, hookimpl
from trainkit.cli import main
from trainkit.component import Component
from trainkit.errors import RecipeError
from trainkit.launch import launch
from trainkit.run_text import group_lines

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIMIZERS: dict[str, Component] = {c.name: c for c in ours.trainkit_components() if c.kind == "optimizer"}
SHARP = ["sam", "asam"]
UPDATES = range(12)


def model_of(dtype: torch.dtype = torch.float32) -> nn.Module:
    return dense(6, 16, 3, dtype=dtype)


def wrapped(case: str, optimizer: Any, model: nn.Module) -> Any:
    if case == "lookahead":
        return ours.lookahead(optimizer, k=3, alpha=0.4)
    return ours.sam(optimizer, model, rho=0.2) if case == "sam" else ours.asam(optimizer, model)


# ---------------------------------------------------------------- formulas


class Bowl(nn.Module):
    """0.5 (w - 1)^2 + 5 (b + 0.5)^2, the objective of the published values."""

    def __init__(self, weight: float, bias: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight], dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor([bias], dtype=torch.float64))

    def closure(self, optimizer: Any) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = (0.5 * (self.weight - 1) ** 2 + 5 * (self.bias + 0.5) ** 2).sum()
            loss.backward()
            return loss.detach()

        return closure

    @property
    def now(self) -> list[float]:
        return [self.weight.item(), self.bias.item()]


def slope(w: list[float]) -> list[float]:
    return [w[0] - 1, 10 * (w[1] + 0.5)]


def test_lookahead_follows_its_formula():
    bowl = Bowl(0.0, 0.0)
    optimizer = ours.lookahead(ours.sgd(whole(bowl), lr=0.05, momentum=0.9), k=3, alpha=0.3)
    fast, slow, velocity = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
    for k in range(1, 11):
        velocity = [0.9 * v + g for v, g in zip(velocity, slope(fast), strict=True)]
        fast = [w - 0.05 * v for w, v in zip(fast, velocity, strict=True)]
        if k % 3 == 0:
            slow = [s + 0.3 * (f - s) for s, f in zip(slow, fast, strict=True)]
            fast = slow
        optimizer.step(bowl.closure(optimizer))
        assert bowl.now == pytest.approx(fast, rel=1e-12)
        assert [optimizer.state[p]["slow"].item() for p in bowl.parameters()] == pytest.approx(slow, rel=1e-12)


def climbed(case: str, w: list[float], rho: float, eta: float) -> list[float]:
    """Where the gradient of an update is taken."""
    scale = [1.0, 1.0] if case == "sam" else [abs(w[0]) + eta, 1.0]  # the second is a bias
    steep = [t * g for t, g in zip(scale, slope(w), strict=True)]
    norm = math.hypot(*steep)
    return [x + rho * t * s / norm for x, t, s in zip(w, scale, steep, strict=True)]


@pytest.mark.parametrize("case", SHARP)
def test_sharpness_follows_its_formula(case):
    bowl = Bowl(0.3, 0.2)
    inner = ours.sgd(
        [{"params": [bowl.weight], "names": ["weight"]}, {"params": [bowl.bias], "names": ["bias"], "lr": 0.01}],
        lr=0.05,
        momentum=0.9,
    )
    optimizer = ours.sam(inner, bowl, rho=0.2) if case == "sam" else ours.asam(inner, bowl, rho=0.7, eta=0.05)
    w, velocity = [0.3, 0.2], [0.0, 0.0]
    for _ in range(6):
        there = climbed(case, w, *((0.2, 0.0) if case == "sam" else (0.7, 0.05)))
        loss = 0.5 * (w[0] - 1) ** 2 + 5 * (w[1] + 0.5) ** 2
        velocity = [0.9 * v + g for v, g in zip(velocity, slope(there), strict=True)]
        w = [x - lr * v for x, lr, v in zip(w, (0.05, 0.01), velocity, strict=True)]
        assert float(optimizer.step(bowl.closure(optimizer))) == pytest.approx(loss, rel=1e-12), "of the first pass"
        assert bowl.now == pytest.approx(w, rel=1e-12)


def test_the_defaults_are_the_papers():
    settings = {
        c.name: {s.name: s.default for s in c.settings} for c in ours.trainkit_components() if c.kind == "wrapper"
    }
    assert settings == {
        "asam": {"rho": 0.5, "eta": 0.01},
        "lookahead": {"k": 5, "alpha": 0.5},
        "sam": {"rho": 0.05},
    }


# ---------------------------------------------------------------- around every optimizer


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"sparse_adam", "muon"}))
def test_lookahead_changes_nothing_of_what_is_inside(name):
    """The same optimizer beside it, with the slow weights kept by hand, goes the same way bit for bit."""
    one, other = model_of(), model_of()
    settings = {"lr": 0.01} | ({"max_iter": 3} if name == "lbfgs" else {})
    optimizer = ours.lookahead(OPTIMIZERS[name].factory(whole(one), **settings), k=3, alpha=0.4)
    alone = OPTIMIZERS[name].factory(whole(other), **settings)
    slow = [parameter.detach().clone() for parameter in other.parameters()]
    for number in UPDATES:
        optimizer.step(closure_of(one, optimizer, number))
        alone.step(closure_of(other, alone, number))
        if number % 3 == 2:
            with torch.no_grad():
                for parameter, held in zip(other.parameters(), slow, strict=True):
                    parameter.copy_(held.lerp_(parameter, 0.4))
        assert_same(one, other)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert set(optimizer.state[a]) == {*alone.state.get(b, {}), "slow", "slow_step"}


INSIDE = ["sgd", "adamw", "lamb", "sgd_hd", "torch"]
PAIRS = [(case, name) for case in ("lookahead", *SHARP) for name in INSIDE] + [("lookahead", "lbfgs")]


@pytest.mark.parametrize("stop", [0, 1, 3, 4, 11])
@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_stopped_saved_loaded_and_gone_on_equals_straight_through(case, name, stop):
    def make(model: nn.Module, groups: list[dict[str, Any]]) -> Any:
        if name == "torch":  # without momentum it keeps no state, which must stay so inside
            return wrapped(case, torch.optim.SGD(groups, lr=0.05), model)
        inner = OPTIMIZERS[name].factory(groups, lr=0.02, **({"momentum": 0.9} if name in ("sgd", "sgd_hd") else {}))
        if name == "lbfgs":  # as the core does for an optimizer of a single group
            inner.param_groups[0]["names"] = groups[0]["names"]
        return wrapped(case, inner, model)

    straight, stopped, resumed = (model_of() for _ in range(3))
    losses = train(straight, make(straight, whole(straight)), UPDATES)
    first = make(stopped, whole(stopped))
    train(stopped, first, range(stop))
    saved = save(first)
    resumed.load_state_dict(stopped.state_dict())
    groups = whole(resumed)
    if case == "lookahead" and name not in ("lbfgs", "sgd_hd"):  # whose sums round otherwise in another order
        groups = [{key: value[::-1] for key, value in group.items()} for group in groups]
    second = make(resumed, groups)
    load(second, saved)
    assert train(resumed, second, range(stop, len(UPDATES))) == losses[stop:]
    assert_same(straight, resumed)


def test_lookahead_goes_around_sam():
    one, other = model_of(), model_of()
    optimizer = ours.lookahead(ours.sam(ours.sgd(whole(one), lr=0.05), one), k=2)
    alone = ours.sam(ours.sgd(whole(other), lr=0.05), other)
    slow = [parameter.detach().clone() for parameter in other.parameters()]
    assert train(one, optimizer, range(2)) == train(other, alone, range(2))
    for a, b, start in zip(one.parameters(), other.parameters(), slow, strict=True):
        assert torch.equal(a, start.lerp(b, 0.5))


def test_the_inner_optimizer_never_meets_the_slots():
    class Watching:
        def __init__(self, inner: Any) -> None:
            self.inner, self.param_groups, self.state, self.seen = inner, inner.param_groups, inner.state, []

        def step(self, closure: Any = None) -> Any:
            self.seen.append({key for state in self.state.values() for key in state})
            return self.inner.step(closure)

        def zero_grad(self, set_to_none: bool = True) -> None:
            self.inner.zero_grad(set_to_none)

    model = model_of()
    inner = Watching(ours.sgd(whole(model), lr=0.1))
    optimizer = ours.lookahead(inner, k=2)
    train(model, optimizer, range(3))
    assert inner.seen == [set(), {"step"}, {"step"}]
    assert {key for state in optimizer.state.values() for key in state} == {"step", "slow", "slow_step"}

    inner.step = lambda closure=None: 1 / 0
    with pytest.raises(ZeroDivisionError):
        optimizer.step(closure_of(model, optimizer, 3))
    assert all("slow" in state for state in optimizer.state.values()), "also where the update failed"


def test_a_wrapper_by_itself_changes_nothing():
    one, other = model_of(), model_of()
    inner = ours.adam(whole(one), lr=0.01)
    optimizer = OptimizerWrapper(inner)
    assert optimizer.param_groups is inner.param_groups
    assert optimizer.state is inner.state
    assert train(one, optimizer, UPDATES) == train(other, ours.adam(whole(other), lr=0.01), UPDATES)
    assert_same(one, other)
    optimizer.state, optimizer.param_groups = {}, inner.param_groups[:1]
    assert inner.state == {}


# ---------------------------------------------------------------- groups, frozen and missing, formats


@pytest.mark.parametrize("case", ["lookahead", *SHARP])
def test_groups_keep_their_own_numbers(case):
    one, other = model_of(), model_of()
    optimizer = wrapped(case, ours.sgd(two_groups(one, lr=1e-5), lr=0.1), one)
    optimizer.step(closure_of(one, optimizer, 0))
    alone = wrapped(case, ours.sgd(whole(other), lr=0.1), other)
    alone.step(closure_of(other, alone, 0))
    (first, *rest), (wider, *others) = list(one.parameters()), list(other.parameters())
    start = next(model_of().parameters())
    assert 0 < (first - start).abs().max() < (wider - start).abs().max() / 1000
    assert all(torch.equal(a, b) for a, b in zip(rest, others, strict=True)), "the norm is that of all groups"


@pytest.mark.parametrize("case", ["lookahead", *SHARP])
def test_frozen_parameters_and_missing_gradients_are_left_alone(case):
    model = model_of()
    first, *_, last = model.parameters()
    start = first.detach().clone()
    first.requires_grad_(False)
    optimizer = wrapped(case, ours.sgd(whole(model), lr=0.1), model)
    unused = nn.Parameter(torch.ones(3))
    optimizer.param_groups[0]["params"].append(unused)
    optimizer.param_groups[0]["names"].append("unused.weight")
    train(model, optimizer, range(4))
    assert torch.equal(first, start)
    assert torch.equal(unused, torch.ones(3))
    assert not optimizer.state.get(first)
    moved = last.detach().clone()
    last.requires_grad_(False)  # as the callback freeze does while a run goes on
    last.grad = None
    train(model, optimizer, range(4, 8))
    assert torch.equal(last, moved)
    first.requires_grad_(True)
    train(model, optimizer, range(8, 12))
    assert not torch.equal(first, start)


@pytest.mark.parametrize("case", ["lookahead", *SHARP])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_another_number_format_goes_the_same_way_rounded(case, dtype):
    model, twin = model_of(dtype), model_of()
    twin.load_state_dict(model.state_dict())
    for one in (model, twin):
        optimizer = wrapped(case, ours.sgd(whole(one), lr=0.1), one)
        train(one, optimizer, range(3))
        slots = [slot for p in one.parameters() for slot in optimizer.state[p].values() if isinstance(slot, Tensor)]
        assert all(slot.dtype is next(one.parameters()).dtype for slot in slots)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert a.dtype is dtype
        tolerance = 3e-2 if dtype is torch.bfloat16 else 1e-5
        torch.testing.assert_close(a.float(), b, rtol=tolerance, atol=tolerance / 3)


# ---------------------------------------------------------------- the second pass


@pytest.mark.parametrize("case", SHARP)
def test_the_second_pass_leaves_statistics_and_random_numbers_as_the_first_did(case):
    class Noted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 8)
            self.norm = nn.BatchNorm1d(8, momentum=None)
            self.seen: list[Tensor] = []

        def forward(self, inputs: Tensor) -> Tensor:
            values = nn.functional.dropout(self.norm(self.layer(inputs)), 0.5)
            self.seen.append((values != 0).clone())
            return values

    def fresh() -> Noted:
        torch.manual_seed(5)
        return Noted()

    one, other = fresh(), fresh()
    optimizer = wrapped(case, ours.sgd(whole(one), lr=0.5), one)
    torch.manual_seed(1)
    optimizer.step(closure_of(one, optimizer, 0))
    drawn = torch.rand(3)
    torch.manual_seed(1)
    closure_of(other, ours.sgd(whole(other), lr=0.5), 0)()
    assert torch.equal(drawn, torch.rand(3)), "the next update draws what it would have drawn"
    assert len(one.seen) == 2
    assert torch.equal(*one.seen), "dropout is the same in both passes"
    for (name, a), b in zip(one.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(a, b), name
    assert one.norm.num_batches_tracked == 1


@pytest.mark.parametrize("case", SHARP)
def test_the_weights_come_back_where_the_second_pass_fails(case):
    model, calls = model_of(), []
    optimizer = wrapped(case, ours.sgd(whole(model), lr=0.1), model)
    closure = closure_of(model, optimizer, 0)

    def failing() -> Tensor:
        calls.append(next(model.parameters()).detach().clone())
        if len(calls) == 2:
            raise KeyboardInterrupt
        return closure()

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(failing)
    assert not torch.equal(*calls), "it was somewhere else"
    assert_same(model, model_of())


@pytest.mark.parametrize("case", SHARP)
def test_a_gradient_of_zero_moves_nothing(case):
    model = model_of()
    optimizer = wrapped(case, ours.sgd(whole(model), lr=0.1), model)

    def flat() -> Tensor:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        return torch.zeros(())

    optimizer.step(flat)
    assert_same(model, model_of())


def test_without_a_closure_there_is_one_clear_error():
    model = model_of()
    with pytest.raises(RunError, match="computes the loss twice"):
        ours.sam(ours.sgd(whole(model), lr=0.1), model).step()


def test_sparse_gradients_are_refused():
    table = nn.Embedding(5, 2, sparse=True)
    optimizer = ours.sam(ours.sparse_adam(whole(table)), table)
    with pytest.raises(ValueError, match="sparse"):
        optimizer.step(lambda: table(torch.tensor([1])).sum().backward())


# ---------------------------------------------------------------- whole recipes


def text_of(name: str) -> str:
    return digits(f'use = "sgd"\nlr = 0.5\n[[optimizer.wrap]]\nuse = "{name}"')


class Shown(Catch):
    """Counts, too, what its gradients are shown to."""

    shown = 0

    @hookimpl
    def trainkit_gradients(self, gradients: Any) -> None:
        self.shown += 1


def go(folder: Path, name: str, *changes: str, catch: Any = None) -> Shown:
    caught = catch or Shown()
    count = len(list(folder.glob("run*")))
    launch(*read(folder, text_of(name), *changes), folder=folder / f"run{count}", listeners=[caught])
    return caught


@pytest.mark.parametrize("name", ["lookahead", *SHARP])
def test_it_trains_from_the_command_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text(text_of(name), encoding="utf-8")
    assert main(["run", "r.toml", "--run-dir", "out", "-q"]) == 0
    report = json.loads(Path("out/report.json").read_text(encoding="utf-8"))
    assert report["metrics"]["val.accuracy"] > 0.8
    # Nothing about schedules, groups or overrides changes.
    changes = ["schedule=cosine", "optimizer.wrap.0.use=sam", "optimizer.momentum=0.9", "run.duration=2ba"]
    assert main(["run", "r.toml", *changes, "--run-dir", "more", "-q"]) == 0
    line = json.loads(Path("more/metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert line["lr/0"] == pytest.approx(0.25)


def test_both_passes_take_all_batches_of_an_update(tmp_path):
    weights = []
    for accumulate in (1, 2, 4):
        changes = f"data.batch_size={128 // accumulate}", f"run.accumulate={accumulate}"
        caught = go(tmp_path, "sam", *changes, "optimizer.wrap.0.rho=0.5")
        weights.append(caught.run.model.head.weight.detach())
    plain = go(tmp_path, "sam", "optimizer.wrap=[]").run.model.head.weight.detach()
    for other in weights[1:]:
        torch.testing.assert_close(weights[0], other, rtol=1e-4, atol=2e-6)
    assert (weights[0] - plain).abs().max() > 1e-3, "which plain descent does not give"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_loss_and_metrics_are_those_of_the_first_pass(tmp_path, accumulate):
    changes = "run.duration=1ba", "run.log_every=1ba", f"run.accumulate={accumulate}"
    figures = []
    for more in ("optimizer.wrap.0.rho=5.0", "optimizer.wrap=[]"):
        caught = go(tmp_path, "sam", *changes, more)
        line = caught.run.history[0]
        figures.append([line["loss"], line["accuracy"]])
    assert figures[0] == figures[1]


def test_hooks_see_the_gradients_of_the_update_alone(tmp_path):
    caught = go(tmp_path, "sam", "run.duration=3ba")
    assert caught.shown == 3

    class Halve(Shown):
        @hookimpl
        def trainkit_gradients(self, gradients: Any) -> None:
            for gradient in gradients:
                gradient.mul_(0.5)

    halved = go(tmp_path, "sam", "optimizer.lr=1.0", "run.duration=3ba", catch=Halve())
    assert_same(caught.run.model, halved.run.model)


def test_the_slow_weights_are_in_the_checkpoint_by_name(tmp_path):
    caught = go(tmp_path, "lookahead", "run.duration=7ba")
    _, tensors, state = checkpoint.load_newest(tmp_path / "run0" / "checkpoints")
    weight = caught.run.model.head.weight
    assert torch.equal(tensors["optimizer/head.weight/slow"], caught.run.optimizer.state[weight]["slow"])
    assert state["optimizer"]["head.bias"]["slow_step"] == 7
    assert [group["names"] for group in caught.run.optimizer.param_groups] == [["head.weight", "head.bias"]]


@pytest.mark.parametrize("changes", ["optimizer={use='lbfgs', wrap=[{use='lookahead', k=2}]}", "run.accumulate=2"])
def test_lookahead_goes_with_every_way_of_making_updates(tmp_path, changes):
    caught = go(tmp_path, "lookahead", changes, "run.duration=4ba")
    assert all(parameter.isfinite().all() for parameter in caught.run.model.parameters())


def test_several_are_wrapped_from_the_inside_out(tmp_path):
    caught = go(tmp_path, "sam", "optimizer.wrap=[{use='asam'}, {use='lookahead', k=2}]", "run.duration=2ba")
    optimizer = caught.run.optimizer
    assert type(optimizer).__name__ == "Lookahead"
    assert optimizer.optimizer.eta == 0.01


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("sam", ["run.precision=float16"], "[[optimizer.wrap]] sam computes the loss again within a step, which the"),
        ("asam", ["run.nonfinite=skip"], "[[optimizer.wrap]] asam computes the loss again within a step, so that"),
        ("sam", ["run.compile=step"], 'sam computes the loss again within a step, which compile = "step"'),
        ("lookahead", ["run.compile=step"], "[[optimizer.wrap]] lookahead cannot be part of the compiled program"),
        ("sam", ["optimizer={use='lbfgs', wrap=[{use='sam'}]}"], "[optimizer] lbfgs inside it would have to do so too"),
        ("sam", ["optimizer.wrap=[{use='sam'},{use='asam'}]"], "asam computes the loss itself, and [[optimizer.wrap]]"),
        ("sam", ["optimizer.wrap=[{use='lookahead'},{use='lookahead'}]"], "lookahead cannot be in one recipe with"),
        ("lookahead", ["optimizer.wrap.0.k=0"], "k must be"),
        ("lookahead", ["optimizer.wrap.0.alpha=0"], "alpha must be"),
        ("sam", ["optimizer.wrap.0.eta=0.1"], "sam takes: rho: number above 0 = 0.05"),
        ("sma", [], "did you mean 'sam'"),
        ("sgd", [], "no wrapper named 'sgd'"),
    ],
)
def test_impossible_settings_are_problems(tmp_path, name, changes, message):
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text_of(name), *changes)
    assert message in str(caught.value)


def test_the_kind_is_listed_described_and_in_the_schema(capsys):
    assert main(["list", "wrapper"]) == 0
    assert "Sharpness-aware minimisation" in capsys.readouterr().out
    assert main(["describe", "wrapper", "asam"]) == 0
    text = capsys.readouterr().out
    assert '[[optimizer.wrap]]\nuse = "asam"' in "\n".join(line.strip() for line in text.splitlines())
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    (sgd,) = [part for part in schema["properties"]["optimizer"]["anyOf"] if "sgd" in part["properties"]["use"]["enum"]]
    assert sgd["properties"]["wrap"]["items"] == {"$ref": "#/$defs/wrapper"}
    assert "lookahead" in json.dumps(schema["$defs"]["wrapper"])


def test_the_wrapper_of_the_docs_is_one():
    text = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text(encoding="utf-8")
    code = textwrap.dedent(text[text.index("    class Halved") :].split("\n\n")[0])
    names: dict[str, Any] = {"OptimizerWrapper": OptimizerWrapper, "torch": torch}
    exec(code, names)
    one, other = model_of(), model_of()
    optimizer = names["Halved"](ours.sgd(whole(one), lr=0.1))
    train(one, optimizer, range(1))
    train(other, ours.sgd(whole(other), lr=0.05), range(1))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_what_is_shown_names_the_wrappers(tmp_path):
    caught = go(tmp_path, "sam", "optimizer.wrap=[{use='sam'}, {use='lookahead'}]", "run.duration=1ba")
    assert group_lines(caught.run)[0].startswith("sgd in sam in lookahead  parameters")


def test_a_wrapper_that_says_it_compiles_is_stepped_eagerly(tmp_path):
    from trainkit.compiled import CompiledStep

    caught = go(tmp_path, "lookahead", "run.duration=1ba")
    said: list[str] = []
    caught.run.say = said.append
    CompiledStep(caught.run, False, 1)
    assert "the optimizer's update cannot be traced" in said[0]
