"""Parameter groups: first match wins, no decay on biases and norms, rates in proportion, tied weights once."""

from __future__ import annotations

import pytest
import torch

from trainkit import RecipeError, checkpoint, hookimpl
from trainkit.launch import launch

DECAY = "optimizer={use='sgd', lr=0.1, weight_decay=0.5}"
TIED = "model={use='tied'}"


def names(finished) -> list[list[str]]:
    return [group["names"] for group in finished.run.optimizer.param_groups]


def test_biases_and_norms_get_no_decay(train):
    finished = train(DECAY, TIED)
    decayed, spared = finished.run.optimizer.param_groups
    assert decayed["names"] == ["body.weight", "head.weight"]
    assert spared["names"] == ["body.bias", "again.bias", "norm.weight", "norm.bias", "head.bias"]
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0.0)
    assert all(p.dim() <= 1 for p in spared["params"])


def test_decay_takes_from_weights_alone(train):
    with_decay, without = (train("run.duration=1ba", f"optimizer.weight_decay={decay}") for decay in (0.5, 0.0))
    for name, tensor in with_decay.weights.items():
        assert torch.equal(tensor, without.weights[name]) == name.endswith("bias")


def test_decay_on_everything_where_the_recipe_says_so(train):
    finished = train(DECAY, TIED, "optimizer.no_decay=none")
    (group,) = finished.run.optimizer.param_groups
    assert (len(group["names"]), group["weight_decay"]) == (7, 0.5)


@pytest.mark.parametrize("optimizer", ["{use='sgd', lr=0.1}", "{use='sgd', lr=0.1, weight_decay=0}"])
def test_without_decay_there_is_one_group(train, optimizer):
    assert len(names(train(f"optimizer={optimizer}", TIED))) == 1


GROUPS = """
[[optimizer.group]]
match = "head.*"
lr_scale = 10.0
[[optimizer.group]]
match = "*.weight"
lr = 0.02
momentum = 0.5
[[optimizer.group]]
match = "*"
lr_scale = 0.5
"""


def test_the_first_match_wins_and_overrides_its_own_parameters_alone(train):
    finished = train(TIED, text_groups(GROUPS), "optimizer.momentum=0.9")
    assert names(finished) == [
        ["head.weight", "head.bias"],
        ["body.weight", "norm.weight"],
        ["body.bias", "again.bias", "norm.bias"],
    ]
    groups = finished.run.optimizer.param_groups
    assert [group["lr"] for group in groups] == pytest.approx([1.0, 0.02, 0.05])
    assert [group["momentum"] for group in groups] == [0.9, 0.5, 0.9]


def text_groups(groups: str) -> str:
    """The groups as one override, for a recipe whose optimizer table is not its last."""
    import tomllib

    listed = tomllib.loads(groups)["optimizer"]["group"]
    items = ["{" + ", ".join(f"{k} = {v!r}" for k, v in group.items()) + "}" for group in listed]
    return f"optimizer.group=[{', '.join(items)}]"


def test_a_group_that_states_its_decay_means_all_that_it_matches(train):
    finished = train(DECAY, TIED, "optimizer.group=[{match='head.*', weight_decay=0.25}]")
    assert names(finished)[0] == ["head.weight", "head.bias"]
    assert [group["weight_decay"] for group in finished.run.optimizer.param_groups] == [0.25, 0.5, 0.0]


def test_what_matches_no_group_keeps_the_optimizers_numbers(train):
    finished = train(TIED, "optimizer.group=[{match='head.*', lr_scale=10.0}]")
    assert [group["lr"] for group in finished.run.optimizer.param_groups] == pytest.approx([1.0, 0.1])


def test_the_schedule_keeps_rates_in_proportion(train):
    class Rates:
        seen: list[list[float]] = []

        @hookimpl
        def trainkit_step_end(self, run):
            self.seen.append([group["lr"] for group in run.optimizer.param_groups])

    more = "optimizer.group=[{match='head.*', lr_scale=10.0}, {match='norm.*', lr_scale=0.25}]"
    finished = train(TIED, more, "schedule={use='cosine', warmup='3ba'}", listeners=[Rates()])
    assert len(Rates.seen) == 16
    assert all(rates == pytest.approx([40 * rates[1], rates[1], 4 * rates[1]]) for rates in Rates.seen)
    assert Rates.seen[0][2] == pytest.approx(0.1 / 4)
    assert {f"lr/{i}" for i in range(3)} <= set(finished.of("train")[0])


def test_tied_weights_are_one_parameter_and_are_saved_and_loaded_as_such(train):
    finished = train(TIED, DECAY)
    listed = [name for group in names(finished) for name in group]
    assert "again.weight" not in listed
    assert len(set(listed)) == len(listed) == 7
    assert finished.run.model.again.weight is finished.run.model.body.weight


@pytest.mark.parametrize(
    ("pattern", "near"),
    [("hed.*", "head."), ("norms.*", "norm."), ("body", "body."), ("qqq", "body.weight, body.bias")],
)
def test_a_pattern_that_matches_nothing_is_a_problem_with_near_names_and_its_line(load, tmp_path, pattern, near):
    groups = f'[[optimizer.group]]\nmatch = "{pattern}"\n'
    recipe = load(TIED, more=groups)
    with pytest.raises(RecipeError) as raised:
        launch(recipe, recipe.plugins, folder=tmp_path / "run")
    (problem,) = raised.value.problems
    assert problem.message.startswith(f'[[optimizer.group]] match = "{pattern}" matches no parameter')
    assert problem.place.source == f'match = "{pattern}"'
    assert problem.place.line == len((tmp_path / "small.toml").read_text(encoding="utf-8").splitlines())
    assert problem.cure.startswith(f"first match wins; parameters are named like {near}")
    assert not (tmp_path / "run").exists()


def test_every_pattern_that_is_left_without_parameters_is_told_at_once(load, tmp_path):
    groups = (
        '[[optimizer.group]]\nmatch = "*"\n[[optimizer.group]]\nmatch = "head.*"\n[[optimizer.group]]\nmatch = "x"\n'
    )
    recipe = load(TIED, more=groups)
    with pytest.raises(RecipeError) as raised:
        launch(recipe, recipe.plugins, folder=tmp_path / "run")
    assert [problem.place.source for problem in raised.value.problems] == ['match = "head.*"', 'match = "x"']


def test_frozen_parameters_are_in_no_group_and_do_not_move(train):
    freeze = '[[callback]]\nuse = "keep_body"\n'
    finished = train(TIED, DECAY, more=freeze)
    start = train(TIED, "run.duration=1ba", "optimizer.lr=1e-300", more=freeze)
    assert names(finished) == [["head.weight"], ["head.bias"]]
    for name, tensor in finished.weights.items():
        assert torch.equal(tensor, start.weights[name]) == (not name.startswith("head")), name


def test_a_pattern_of_frozen_parameters_is_not_a_misspelling(train):
    finished = train(TIED, "optimizer.group=[{match='body.*', lr_scale=0.1}]", more='[[callback]]\nuse = "keep_body"\n')
    assert names(finished) == [["head.weight", "head.bias"]]


def test_a_model_that_is_frozen_whole_is_a_problem(train):
    class Ice:
        @hookimpl
        def trainkit_prepare_model(self, model):
            model.requires_grad_(False)

    with pytest.raises(RecipeError, match="no parameter to train"):
        train(listeners=[Ice()])


def test_a_plugin_may_make_the_groups(train):
    class Halves:
        @hookimpl
        def trainkit_parameter_groups(self, run, model):
            named = list(model.named_parameters())
            return [
                {"names": [n for n, _ in part], "params": [p for _, p in part], "lr_scale": scale}
                for part, scale in ((named[:2], 1.0), (named[2:], 3.0))
            ]

    finished = train(listeners=[Halves()])
    assert names(finished) == [["body.0.weight", "body.0.bias"], ["head.weight", "head.bias"]]
    assert [group["lr"] for group in finished.run.optimizer.param_groups] == pytest.approx([0.1, 0.3])


def test_an_optimizer_of_one_group_is_given_all_parameters_as_one(train):
    finished = train("optimizer={use='lbfgs'}", TIED, "data.batch_size=116")
    (group,) = finished.run.optimizer.param_groups
    assert len(group["names"]) == len(group["params"]) == 7


def test_the_state_of_the_optimizer_is_saved_by_parameter_name(train):
    finished = train(TIED, "optimizer={use='adamw'}")
    _, tensors, state = checkpoint.load_newest(finished.folder / "checkpoints")
    held = finished.run.optimizer.state[finished.run.model.head.weight]
    torch.testing.assert_close(tensors["optimizer/head.weight/exp_avg"], held["exp_avg"], rtol=0, atol=0)
    assert set(state["optimizer"]) == {name for group in names(finished) for name in group}
    assert state["optimizer"]["head.weight"]["step"] == 16
