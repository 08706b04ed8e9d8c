"""Which layer a parameter is in, rates that fall from layer to layer, groups by type and dimensions, rates by batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainkit import RecipeError, hookimpl
from trainkit.groups import GroupDefaults
from trainkit.launch import launch
from trainkit.parameters import Owned, layers_of, parameters_of
from trainkit.run_text import MOST_GROUPS, group_lines

# Published values, from the first layer on: 0.75 ** depth for five layers, 2.6 ** -depth for four.
LAYER_DECAY = [0.31640625, 0.421875, 0.5625, 0.75, 1.0]
DISCRIMINATIVE = [0.05689576695493855, 0.14792899408284024, 0.38461538461538464, 1.0]
DEEP = "model={use='mlp', widths=[8, 8, 8, 8], norm='layer'}"
FOUR = "model={use='mlp', widths=[8, 8, 8]}"


class Block(nn.Module):
    """A block with a list inside, which is its own affair."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4))
        self.norm = nn.LayerNorm(4)


class Net(nn.Module):
    """A token, a stem, a stage of blocks in lists, a norm, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 4))
        self.first_norm = nn.LayerNorm(4)
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.stages = nn.ModuleList([nn.Sequential(Block(), Block()), Block()])
        self.drop = nn.Dropout()
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


def groups_of(recipe, model) -> list[dict]:
    return GroupDefaults(recipe).trainkit_parameter_groups(None, model)


def scales(finished) -> dict[str, float]:
    return {n: group["lr_scale"] for group in finished.run.optimizer.param_groups for n in group["names"]}


# ---------------------------------------------------------------- layers


def test_layers_are_the_modules_of_a_model_with_its_lists_opened():
    layers = layers_of(Net())
    assert layers.names == ["stem.0", "stages.0.0", "stages.0.1", "stages.1", "head"]
    assert {name: layers.number(name) for name in ("token", "first_norm.weight", "stem.0.bias", "stem.1.weight")} == {
        "token": 0,
        "first_norm.weight": 0,
        "stem.0.bias": 0,
        "stem.1.weight": 0,
    }
    assert layers.number("stages.0.1.parts.2.weight") == 2
    assert (layers.number("norm.weight"), layers.depth("norm.weight")) == (3, 1)
    assert layers.is_head("head.bias")
    assert not layers.is_head("norm.weight")


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (nn.Linear(2, 2), ["model"]),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), ["0", "2"]),
        (nn.ModuleDict({"a": nn.Linear(2, 2), "b": Block()}), ["a", "b"]),
        (nn.Sequential(nn.LayerNorm(2)), ["model"]),
    ],
)
def test_layers_of_small_models(model, names):
    layers = layers_of(model)
    assert list(layers.names) == names
    assert all(0 <= layers.depth(name) < len(names) for name, _ in model.named_parameters())


def test_a_head_that_shares_its_weight_is_still_the_head():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 3), nn.Linear(3, 5, bias=False))
    model[2].weight = model[0].weight
    layers = layers_of(model)
    assert list(layers.names) == ["0", "1", "2"]
    assert [layers.depth(name) for name, _ in model.named_parameters()] == [2, 1, 1]


# ---------------------------------------------------------------- rates by layer


def test_layer_decay_meets_the_reference(train):
    finished = train("optimizer.layer_decay=0.75", DEEP)
    found = scales(finished)
    order = ["body.0", "body.3", "body.6", "body.9", "head"]
    assert [found[f"{layer}.weight"] for layer in order] == pytest.approx(LAYER_DECAY, rel=1e-12)
    assert found["body.1.weight"] == found["body.0.weight"], "a norm belongs to the layer before it"
    rates = {n: g["lr"] for g in finished.run.optimizer.param_groups for n in g["names"]}
    assert all(rates[name] == pytest.approx(0.1 * found[name], rel=1e-12) for name in rates)


def test_discriminative_fine_tuning_meets_the_reference(train):
    found = scales(train("optimizer.discriminative=2.6", FOUR))
    order = ["body.0", "body.2", "body.4", "head"]
    assert [found[f"{layer}.weight"] for layer in order] == pytest.approx(DISCRIMINATIVE, rel=1e-12)


def test_layers_keep_their_ratio_while_the_schedule_moves(train):
    class Rates:
        seen: list[dict[str, float]] = []

        @hookimpl
        def trainkit_step_end(self, run):
            self.seen.append({n: g["lr"] for g in run.optimizer.param_groups for n in g["names"]})

    train("optimizer.layer_decay=0.5", FOUR, "schedule={use='cosine', warmup='3ba'}", listeners=[Rates()])
    assert len(Rates.seen) == 16
    for rates in Rates.seen:
        assert rates["body.0.weight"] == pytest.approx(rates["head.weight"] / 8, rel=1e-12)


def test_layer_decay_goes_with_groups_and_with_the_split_of_the_decay(train):
    more = "optimizer.group=[{match='body.0.*', lr_scale=4.0}]"
    finished = train("optimizer={use='sgd', lr=0.1, weight_decay=0.5, layer_decay=0.5}", FOUR, more)
    found = scales(finished)
    assert found == {
        **{f"body.0.{kind}": 4.0 / 8 for kind in ("weight", "bias")},
        **{f"body.2.{kind}": 1 / 4 for kind in ("weight", "bias")},
        **{f"body.4.{kind}": 1 / 2 for kind in ("weight", "bias")},
        **{f"head.{kind}": 1.0 for kind in ("weight", "bias")},
    }
    for group in finished.run.optimizer.param_groups:
        assert group["weight_decay"] == (0.0 if group["names"][0].endswith("bias") else 0.5)


def test_frozen_layers_count_and_a_decay_of_one_changes_no_rate(train):
    freeze = '[[callback]]\nuse = "keep_body"\n'
    assert scales(train(FOUR, "optimizer.layer_decay=0.5", more=freeze)) == {"head.weight": 1.0, "head.bias": 1.0}
    assert set(scales(train(FOUR, "optimizer.layer_decay=1")).values()) == {1.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["optimizer.layer_decay=0"], "layer_decay must be a number above 0 and at most 1"),
        (["optimizer.layer_decay=1.5"], "layer_decay must be a number above 0 and at most 1"),
        (["optimizer.discriminative=0.5"], "discriminative must be a number at least 1"),
        (["optimizer.layer_decay=0.5", "optimizer.discriminative=2.6"], "both say how the rate falls"),
        (["optimizer={use='lbfgs', layer_decay=0.5}"], "lbfgs takes all parameters as one group"),
        (["optimizer.lr_rule=sqrt"], "needs the batch that the rates are meant for"),
        (["optimizer.lr_for_batch=0"], "lr_for_batch must be an integer at least 1"),
        (["optimizer.lr_for_batch=32", "optimizer.lr_rule=cubic"], "lr_rule must be one of"),
    ],
)
def test_settings_that_cannot_be_are_problems(load, changes, said):
    with pytest.raises(RecipeError) as caught:
        load(*changes)
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


# ---------------------------------------------------------------- groups by type and dimensions


def test_groups_by_type_dimensions_and_all_at_once(load):
    groups = """
[[optimizer.group]]
type = "Conv2d"
ndim = 4
lr_scale = 2.0
[[optimizer.group]]
type = "_ConvNd"
lr_scale = 3.0
[[optimizer.group]]
match = "*.1.*"
type = "LayerNorm"
lr_scale = 5.0
[[optimizer.group]]
ndim = 1
lr_scale = 7.0
"""
    model = Net()
    found = {n: g["lr_scale"] for g in groups_of(load(more=groups), model) for n in g["names"]}
    assert found["stem.0.weight"] == 2.0
    assert found["stem.0.bias"] == 3.0, "the class that Conv2d derives from"
    assert {name for name, scale in found.items() if scale == 5.0} == {
        f"{prefix}.{kind}"
        for prefix in (
            "stages.0.0.parts.1",
            "stages.0.1.parts.1",
            "stages.1.parts.1",
            "stages.0.1.norm",
            "stages.1.norm",
        )
        for kind in ("weight", "bias")
    }
    assert found["stem.1.weight"] == 7.0
    assert found["token"] == found["head.weight"] == 1.0
    assert len(found) == len(dict(model.named_parameters()))


@pytest.mark.parametrize(
    ("group", "said", "cure"),
    [
        (
            'type = "Lineer"',
            'type = "Lineer" matches no parameter',
            "did you mean 'Linear'?  parameters here are held by",
        ),
        ("ndim = 3", "ndim = 3 matches no parameter", "parameters here have 1 or 2 dimensions"),
        ('type = "LayerNorm"\nndim = 2', 'type = "LayerNorm", ndim = 2 matches no', "all that a group says must hold"),
        ('match = "hed*"\nndim = 2', 'match = "hed*", ndim = 2 matches no', "parameters are named like head."),
        (
            'match = "again.weight"',
            'match = "again.weight" matches no',
            "tied to 'body.weight', under which it is found",
        ),
    ],
)
def test_what_nothing_meets_is_a_problem_that_shows_what_there_is(load, tmp_path, group, said, cure):
    recipe = load("model={use='tied'}", more=f"[[optimizer.group]]\n{group}\n")
    with pytest.raises(RecipeError) as raised:
        launch(recipe, recipe.plugins, folder=tmp_path / "run")
    (problem,) = raised.value.problems
    assert problem.message.startswith(f"[[optimizer.group]] {said}")
    assert cure in problem.cure
    assert problem.place.source in group.splitlines()


def test_types_end_where_torch_begins():
    assert Owned("w", nn.Parameter(torch.zeros(2)), nn.Conv2d(1, 1, 1)).types == ("Conv2d", "_ConvNd")
    assert [owned.types[0] for owned in parameters_of(Net())][:2] == ["Net", "LayerNorm"]


# ---------------------------------------------------------------- rates by batch


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ([], 16 / 64),
        (["optimizer.lr_rule=linear"], 16 / 64),
        (["run.accumulate=2"], 32 / 64),
        (["optimizer.lr_rule=sqrt"], math.sqrt(16 / 64)),
        (["optimizer.lr_rule=none"], 1.0),
        (["data.batch_size=58", "optimizer.lr_rule=sqrt"], math.sqrt(58 / 64)),
    ],
)
def test_the_rate_follows_the_batch_by_its_rule(train, changes, factor):
    groups = "optimizer.group=[{match='head.*', lr=0.5, lr_scale=2.0}]"
    finished = train("optimizer.lr_for_batch=64", groups, *changes)
    assert [g["lr"] for g in finished.run.optimizer.param_groups] == pytest.approx(
        [0.5 * 2 * factor, 0.1 * factor], rel=1e-12
    )
    assert finished.of("train")[0]["lr/1"] == pytest.approx(0.1 * factor, rel=1e-12)


def test_the_filled_recipe_scales_once_when_it_is_run_again(train, tmp_path):
    first = train("optimizer.lr_for_batch=64")
    text = (first.folder / "recipe.toml").read_text(encoding="utf-8")
    assert "lr = 0.1\n" in text
    assert "lr_rule" not in text, "what nobody wrote stays unset"
    again = train(text=text)
    assert again.run.optimizer.param_groups[0]["lr"] == pytest.approx(0.025, rel=1e-12)
    assert again.report.weights_sha256 == first.report.weights_sha256


def test_an_optimizer_of_one_group_follows_the_batch_too(train):
    finished = train("optimizer={use='lbfgs', lr_for_batch=58}", "data.batch_size=116", "run.duration=1ba")
    assert finished.run.optimizer.param_groups[0]["lr"] == pytest.approx(2.0, rel=1e-12)


# ---------------------------------------------------------------- what is shown


def test_layers_scales_and_the_rule_are_shown(train):
    finished = train("optimizer.layer_decay=0.5", "optimizer.lr_for_batch=64", FOUR)
    head, *rows, rule = group_lines(finished.run)
    assert head.split() == ["sgd", "layer", "parameters", "lr", "lr_scale", "weight_decay", "names"]
    assert [row.split()[2] for row in rows] == ["body.0", "body.2", "body.4", "head"]
    assert rows[0].split()[4:6] == ["0.003125", "0.03125"]
    assert rule == "lr x 0.25  linear rule: rates for 64 samples an update, which has 16"


def test_a_plain_run_shows_no_more_than_it_has(train):
    head, row = group_lines(train("run.duration=1ba").run)
    assert head.split() == ["sgd", "parameters", "lr", "weight_decay", "names"]
    assert row.split()[:2] == ["group", "0"]


def test_a_long_table_shows_both_ends(train):
    widths = [4] * (MOST_GROUPS + 4)
    finished = train(f"model={{use='mlp', widths={widths}}}", "optimizer.layer_decay=0.9", "run.duration=1ba")
    assert len(finished.run.optimizer.param_groups) == MOST_GROUPS + 5
    lines = group_lines(finished.run)
    assert len(lines) == MOST_GROUPS + 2
    assert "... 5 more" in lines[1 + MOST_GROUPS // 2]
    assert lines[-1].split()[2] == "head"
