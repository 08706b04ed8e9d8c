"""Two optimizers in one: who gets what, that each does what it does alone, one state by name, what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trainkit import RecipeError, checkpoint, hookimpl
from trainkit.composite import CompositeOptimizer
from trainkit.launch import launch
from trainkit.routing import route
from trainkit.run_text import group_lines
from trainkit.snapshot import optimizer_state

MUON = "optimizer={use='muon', lr=0.02, rest={use='adamw', lr=3e-3, weight_decay=0.1}}"
DEEP = "model={use='mlp', widths=[8, 8], norm='layer'}"


def routed(load, model: nn.Module, optimizer: str) -> set[str]:
    """The names of the parameters that go to the rest."""
    routes = route(load(f"optimizer={optimizer}"), model)
    return {name for name, parameter in model.named_parameters() if routes[parameter]}


def by_optimizer(finished) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for group in finished.run.optimizer.param_groups:
        found.setdefault(group["optimizer"], []).extend(group["names"])
    return found


class Reader(nn.Module):
    """Embeddings, a convolution, a hidden layer and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(6, 4)
        self.rare = nn.EmbeddingBag(6, 4, sparse=True)
        self.conv = nn.Conv1d(4, 4, 3)
        self.norm = nn.LayerNorm(4)
        self.hidden = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)


# ---------------------------------------------------------------- routing

SMALL = {"norm.weight", "norm.bias", "conv.bias", "hidden.bias", "head.bias"}


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("{use='muon', rest={use='adamw'}}", SMALL | {"words.weight", "rare.weight", "head.weight"}),
        ("{use='muon', rest={use='adamw', match=['hidden.*']}}", SMALL | {"hidden.weight"}),
        ("{use='muon', rest={use='adamw', ndim=[3], type=['Embedding']}}", SMALL | {"conv.weight", "words.weight"}),
        ("{use='muon', rest={use='adamw', match=[]}}", SMALL),
        ("{use='sgd', lr=1, rest={use='adamw', type=['_NormBase', 'LayerNorm']}}", None),
        ("{use='sgd', lr=1, rest={use='adamw', type=['LayerNorm']}}", {"norm.weight", "norm.bias"}),
        ("{use='sgd', lr=1, rest={use='adamw'}}", set()),
        ("{use='adam', rest={use='sparse_adam'}}", {"rare.weight"}),
        ("{use='sparse_adam', rest={use='adam'}}", "all but rare"),
    ],
)
def test_who_goes_where(load, optimizer, expected):
    model = Reader()
    if expected is None:
        with pytest.raises(RecipeError, match=r'type = "_NormBase" is no parameter\'s'):
            routed(load, model, optimizer)
        return
    everything = {name for name, _ in model.named_parameters()}
    assert routed(load, model, optimizer) == (everything - {"rare.weight"} if expected == "all but rare" else expected)


def test_a_tied_head_goes_with_its_embedding(load):
    model = Reader()
    model.head = nn.Linear(4, 6)
    model.head.weight = model.words.weight
    assert routed(load, model, "{use='muon', rest={use='adamw'}}") == {*SMALL, "words.weight", "rare.weight"}


def test_muon_and_adamw_share_a_run(train):
    finished = train(MUON, DEEP)
    assert isinstance(finished.run.optimizer, CompositeOptimizer)
    found = by_optimizer(finished)
    assert found["muon"] == ["body.0.weight", "body.3.weight"]
    assert sorted(found["muon"] + found["adamw"]) == sorted(name for name, _ in finished.run.model.named_parameters())
    assert [(g["optimizer"], g["lr"], g["weight_decay"]) for g in finished.run.optimizer.param_groups] == [
        ("muon", 0.02, 0.1),
        ("adamw", 3e-3, 0.1),
        ("adamw", 3e-3, 0.0),
    ]


def test_each_part_does_what_it_does_alone(train):
    """Half of the model frozen, the other half's optimizer alone: from the same gradients the same update."""

    class Gradients:
        kept: dict[str, torch.Tensor] = {}
        start: dict[str, torch.Tensor] = {}

        @hookimpl
        def trainkit_run_start(self, run):
            self.start = {n: p.detach().clone() for n, p in run.model.named_parameters()}

        @hookimpl
        def trainkit_step_end(self, run):
            self.kept = {n: p.grad.clone() for n, p in run.model.named_parameters()}

    seen = Gradients()
    finished = train(
        "optimizer={use='sgd', lr=0.1, momentum=0.9, rest={use='adam', lr=0.01, ndim=[1]}}",
        "run.duration=1ba",
        listeners=[seen],
    )
    for name, weight in finished.run.model.named_parameters():
        alone = seen.start[name].clone().requires_grad_()
        alone.grad = seen.kept[name]
        kind: Any = torch.optim.Adam([alone], lr=0.01) if alone.dim() == 1 else torch.optim.SGD([alone], lr=0.1)
        kind.step()
        torch.testing.assert_close(weight.detach(), alone.detach(), rtol=1e-6, atol=1e-8)


def test_one_schedule_moves_both_from_their_own_rates(train):
    class Rates:
        seen: list[list[float]] = []

        @hookimpl
        def trainkit_step_end(self, run):
            self.seen.append([group["lr"] for group in run.optimizer.param_groups])

    more = "optimizer.group=[{match='head.*', lr_scale=10.0}]"
    finished = train(MUON, more, DEEP, "schedule={use='cosine', warmup='3ba'}", listeners=[Rates()])
    assert by_optimizer(finished)["adamw"][:2] == ["head.weight", "head.bias"]
    assert Rates.seen[0] == pytest.approx([0.02 / 4, 0.03 / 4, 0.03 / 4, 3e-3 / 4], rel=1e-12)
    assert all(r == pytest.approx([20 * r[3] / 3, 10 * r[3], 10 * r[3], r[3]], rel=1e-12) for r in Rates.seen)
    assert {f"lr/{i}" for i in range(4)} <= set(finished.of("train")[0])


def test_group_settings_go_to_whichever_optimizer_the_group_has(train):
    groups = "optimizer.group=[{match='body.0.weight', momentum=0.5, lr=0.1}, {match='head.*', betas=[0.5, 0.6]}]"
    finished = train(MUON, DEEP, groups)
    held = {tuple(g["names"]): g for g in finished.run.optimizer.param_groups}
    assert (held["body.0.weight",]["momentum"], held["body.0.weight",]["lr"]) == (0.5, 0.1)
    assert held["body.3.weight",]["momentum"] == 0.95
    assert tuple(held["head.weight",]["betas"]) == (0.5, 0.6)


def test_rates_by_layer_and_by_batch_reach_both(train):
    finished = train(MUON, DEEP, "optimizer.layer_decay=0.5", "optimizer.lr_for_batch=32")
    rates = {n: g["lr"] for g in finished.run.optimizer.param_groups for n in g["names"]}
    assert rates["body.3.weight"] == pytest.approx(0.02 / 2 / 2, rel=1e-12)
    assert rates["body.0.weight"] == pytest.approx(0.02 / 4 / 2, rel=1e-12)
    assert rates["head.weight"] == pytest.approx(3e-3 / 2, rel=1e-12)
    assert rates["body.1.weight"] == pytest.approx(3e-3 / 4 / 2, rel=1e-12)


def test_groups_of_a_plugin_are_divided(train):
    class One:
        @hookimpl
        def trainkit_parameter_groups(self, run, model):
            names, params = zip(*model.named_parameters(), strict=True)
            return [{"names": list(names), "params": list(params), "lr_scale": 2.0}]

    finished = train(MUON, DEEP, listeners=[One()])
    assert [(g["optimizer"], g["lr"]) for g in finished.run.optimizer.param_groups] == [("muon", 0.04), ("adamw", 6e-3)]
    assert by_optimizer(finished)["muon"] == ["body.0.weight", "body.3.weight"]


# ---------------------------------------------------------------- state


def make(rate: float = 0.1) -> tuple[nn.Module, CompositeOptimizer]:
    import trainkit_optimizers as ours

    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    named = dict(model.named_parameters())
    first = {"names": ["0.weight"], "params": [named.pop("0.weight")]}
    halves = [{"names": [name], "params": [parameter]} for name, parameter in named.items()]
    return model, CompositeOptimizer([ours.muon([first], lr=rate), torch.optim.AdamW(halves, lr=rate / 10)])


def go(model: nn.Module, optimizer: CompositeOptimizer, updates: range) -> None:
    for number in updates:
        optimizer.zero_grad()
        inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(number))
        model(inputs).square().mean().backward()
        for group in optimizer.param_groups:
            group["lr"] *= 0.95
        optimizer.step()


def test_stopped_saved_loaded_and_gone_on_equals_straight_through():
    straight, optimizer = make()
    go(straight, optimizer, range(20))
    stopped, first = make()
    go(stopped, first, range(9))
    tensors: dict[str, torch.Tensor] = {}
    saved = checkpoint.split_state(optimizer_state(first), "optimizer", tensors)
    assert set(saved) == {name for name, _ in stopped.named_parameters()}
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    resumed, second = make(1.0)
    resumed.load_state_dict(stopped.state_dict())
    for group, old in zip(second.param_groups, first.param_groups, strict=True):
        group["lr"] = old["lr"]
        for name, parameter in zip(group["names"], group["params"], strict=True):
            second.state[parameter] = checkpoint.join_state(saved, tensors)[name]
    go(resumed, second, range(9, 20))
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_state_is_one_mapping():
    model, optimizer = make()
    weight, bias, *_ = model.parameters()
    assert len(optimizer.state) == 0
    assert optimizer.state.get(bias) is None
    assert len(optimizer.state) == 0, "looking makes no state"
    go(model, optimizer, range(1))
    assert set(optimizer.state) == set(model.parameters())
    assert set(optimizer.state[weight]) == {"step", "momentum_buffer"}
    assert optimizer.state[bias] is optimizer.parts[1].state[bias]
    del optimizer.state[bias]
    assert bias not in optimizer.state
    assert len(optimizer.state) == 3
    with pytest.raises(KeyError):
        optimizer.state[torch.zeros(1)]


def test_a_closure_is_called_once():
    model, optimizer = make()
    calls = []

    def closure() -> torch.Tensor:
        calls.append(1)
        loss = model(torch.ones(2, 5)).sum()
        loss.backward()
        return loss.detach()

    before = [parameter.detach().clone() for parameter in model.parameters()]
    loss = model(torch.ones(2, 5)).sum().detach()
    assert torch.equal(optimizer.step(closure), loss)
    assert len(calls) == 1
    assert not any(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_the_checkpoint_has_both_states_by_name(train):
    finished = train(MUON, DEEP)
    _, tensors, state = checkpoint.load_newest(finished.folder / "checkpoints")
    held = finished.run.optimizer.state
    assert torch.equal(
        tensors["optimizer/body.0.weight/momentum_buffer"], held[finished.run.model.body[0].weight]["momentum_buffer"]
    )
    assert torch.equal(tensors["optimizer/head.bias/exp_avg"], held[finished.run.model.head.bias]["exp_avg"])
    assert set(state["optimizer"]) == {name for name, _ in finished.run.model.named_parameters()}
    assert [group["optimizer"] for group in state["groups"]] == ["muon", "adamw", "adamw"]


def test_two_runs_are_the_same_bit_for_bit_and_the_filled_recipe_gives_them_again(train):
    first, second = train(MUON, DEEP), train(MUON, DEEP)
    again = train(text=(first.folder / "recipe.toml").read_text(encoding="utf-8"))
    assert first.report.weights_sha256 == second.report.weights_sha256 == again.report.weights_sha256


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_in_another_number_format(train, precision):
    finished = train(MUON, DEEP, f"run.precision={precision}", more='[[callback]]\nuse = "clip_norm"\nmax_norm = 1.0\n')
    assert finished.report.status == "finished"
    assert finished.report.steps + finished.run.skipped == 16


@pytest.mark.parametrize("wrapper", ["lookahead", "sam"])
def test_with_a_wrapper_around_both(train, wrapper):
    wrapped = MUON.removesuffix("}") + f", wrap=[{{use='{wrapper}'}}]}}"
    finished, plain = train(wrapped, DEEP), train(MUON, DEEP)
    assert finished.report.status == "finished"
    assert finished.report.weights_sha256 != plain.report.weights_sha256
    held = finished.run.optimizer.state
    assert "momentum_buffer" in held[finished.run.model.body[0].weight]
    assert "exp_avg" in held[finished.run.model.head.weight]


# ---------------------------------------------------------------- what is shown


def test_the_routing_is_shown(train):
    lines = group_lines(train(MUON, DEEP, "run.duration=1ba").run)
    assert lines[0].split() == ["muon", "optimizer", "parameters", "lr", "weight_decay", "names"]
    assert [line.split()[2] for line in lines[1:]] == ["muon", "adamw", "adamw"]
    assert "body.0.weight, body.3.weight" in lines[1]


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            ["optimizer={use='lbfgs', rest={use='adam'}}"],
            "[optimizer] lbfgs computes the loss again for all parameters",
        ),
        (["optimizer={use='muon', rest={use='lbfgs'}}"], "[optimizer.rest] lbfgs computes the loss again"),
        ([MUON, "run.compile=step"], "[optimizer] muon cannot be part of the compiled program"),
        (
            ["optimizer={use='sgd', lr=1, rest={use='adam', ndim=[1]}}", "run.compile=step"],
            "[optimizer] sgd and [optimizer.rest] adam are two programs",
        ),
        (["optimizer={use='muon', rest={use='adamw', lr=-1}}"], "[optimizer.rest] adamw lr must be a number above 0"),
        (["optimizer={use='muon', rest={use='adamw', group=[]}}"], "adamw has no setting 'group'"),
        (["optimizer={use='muon', rest={use='adamw', rest={use='sgd', lr=1}}}"], "adamw has no setting 'rest'"),
        (["optimizer={use='muon', rest={use='adamwx'}}"], "did you mean 'adamw'"),
        (["optimizer={use='muon', rest='adamw'}"], "write { use ="),
        (["optimizer={use='muon', rest={use='adamw', match='head.*'}}"], "match must be a list of text"),
        (["optimizer={use='muon', rest={use='sgd', lr=1, nesterov=true}}"], "needs momentum above 0"),
        (["optimizer={use='muon', rest={use='rprop'}}", "schedule=cosine"], "[optimizer.rest] rprop reads its lr"),
        ([MUON, "optimizer.group=[{match='head.*', beta=[0.5, 0.5]}]"], "did you mean 'betas'"),
        (
            ["optimizer={use='rmsprop', lr=1, rest={use='sgd', lr=1}, group=[{ndim=1, momentum=1.5}]}"],
            "momentum must be a number at least 0 and below 1, got 1.5",
        ),
        ([MUON, "optimizer.group=[{ndim=2, nesterov=true}]"], "muon has one 'nesterov' for all groups"),
    ],
)
def test_what_cannot_be_is_a_problem_of_the_recipe(load, changes, said):
    with pytest.raises(RecipeError) as caught:
        load(*changes)
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["optimizer={use='muon'}"], "[optimizer] muon takes parameters of at least 2 dimensions: 'body.0.bias'"),
        (
            ["optimizer={use='sgd', lr=1, rest={use='muon', match=['body.*']}}"],
            "[optimizer.rest] muon takes parameters of at least 2 dimensions: 'body.0.bias' of shape (8,)",
        ),
        (["optimizer={use='sparse_adam'}"], "[optimizer] sparse_adam takes sparse gradients alone"),
        (["optimizer={use='sgd', lr=1, rest={use='adam'}}"], "nothing is left for [optimizer.rest] adam"),
        (["optimizer={use='sgd', lr=1, rest={use='adam', match=['*']}}"], "nothing is left for [optimizer] sgd"),
        (["model=linear", MUON], "nothing is left for [optimizer] muon"),
        (["optimizer={use='muon', rest={use='adam', match=['hed.*']}}"], 'match = "hed.*" is no parameter\'s'),
        (["optimizer={use='muon', rest={use='adam', ndim=[3]}}"], "ndim = 3 is no parameter's"),
        (
            [MUON, "optimizer.group=[{match='head.*', momentum=0.5}]"],
            "momentum: parameters of this group go to [optimizer.rest] adamw, which has none",
        ),
    ],
)
def test_what_the_model_does_not_bear_is_a_problem_too(load, tmp_path, changes, said):
    recipe = load(*changes)
    with pytest.raises(RecipeError) as raised:
        launch(recipe, recipe.plugins, folder=tmp_path / "run")
    (problem,) = raised.value.problems
    assert said in problem.message
    assert str(problem.place) == "command line"
    assert problem.cure
    assert not (tmp_path / "run").exists()
