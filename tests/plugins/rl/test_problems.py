"""What is wrong with a recipe that plays, in one message each, with place, cure and exit code."""

from __future__ import annotations

import gymnasium
import pytest
import torch

from trainkit import DataError, MachineError, RecipeError
from trainkit.errors import Exit
from trainkit_rl import gym


def refusal(load, *changes, **texts):
    with pytest.raises(RecipeError) as raised:
        load(*changes, **texts)
    assert raised.value.exit_code == Exit.RECIPE
    (problem,) = raised.value.problems
    return problem


@pytest.mark.parametrize(
    ("changes", "message", "cure"),
    [
        (
            ["callback=[]", "run.monitor=train.loss"],
            "[data] gym: nothing plays the environment",
            'write [[callback]] use = "ppo" with [loss]',
        ),
        (
            ["loss.use=reinforce"],
            "[loss] reinforce is no loss of steps that [[callback]] ppo plays",
            '[loss] use = "ppo"',
        ),
        (["loss.use=cross_entropy"], "[loss] cross_entropy is no loss of steps", '[loss] use = "ppo"'),
        (["run.monitor=val.loss"], "[run] monitor: an environment has no 'val.loss'", 'monitor = "val.return"'),
        (["data.val=0"], "[run] monitor looks at 'val.return', and with val = 0 no", "let val be 20"),
        (["data.folds=3"], "[data] folds chooses among samples", "leave folds out"),
        (["data.sampling=balanced"], "[data] sampling chooses among samples", "leave sampling out"),
    ],
)
def test_tables_that_do_not_go_together(load, changes, message, cure):
    problem = refusal(load, *changes)
    assert problem.message.startswith(message)
    assert cure in problem.cure


def test_data_without_an_environment_cannot_be_played(load):
    problem = refusal(load, "data={ use = 'synthetic', batch_size = 16 }")
    assert problem.message == "[[callback]] ppo plays an environment, and the data is 'synthetic'"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('[[metric]]\nuse = "accuracy"\n', "[[metric]] accuracy compares outputs with targets, and nobody knows"),
        ('[[data.augment]]\nuse = "flip"\n', "[[data.augment]] flip changes samples, and [data] gym plays its own"),
        ('[ensemble]\nuse = "average"\nmembers = 2\n', "[ensemble] is measured on samples, and nobody knows"),
        ('[[callback]]\nuse = "early_stop"\n', "[[callback]] early_stop: an environment has no 'val.loss'"),
    ],
)
def test_parts_that_need_samples(load, more, message):
    assert refusal(load, more=more).message.startswith(message)


def test_a_figure_that_a_callback_measures_may_be_looked_at(load):
    load(more='[[callback]]\nuse = "early_stop"\nmonitor = "val.return"\n')
    problem = refusal(load, "run.monitor=val.retrun")
    assert problem.cure.startswith(("did you mean", "write monitor"))
    assert "val.return" in problem.cure


def test_a_search_makes_the_return_higher(load):
    recipe = load(
        more='[search]\nuse = "random"\ntrials = 2\n[search.space]\n"optimizer.lr" = { low = 0.1, high = 1 }\n'
    )
    (objective,) = recipe.search.objectives
    assert (objective.figure, objective.mode) == ("val.return", "max")


@pytest.mark.parametrize(
    ("environment", "says", "cure"),
    [
        ("CartPole-v7", "gymnasium has no environment 'CartPole-v7'", "did you mean 'CartPole-v"),
        ("CartPole", "gymnasium has no environment 'CartPole'", "names bear their version"),
        ("os:CartPole-v1", "gymnasium has no environment 'os:CartPole-v1'", "a module given with -p may register more"),
        ("Pendulum-v1", "has actions Box(-2.0, 2.0, (1,), float32)", "take an environment that has them"),
        ("Blackjack-v1", "has observations Tuple(Discrete(32)", "FlattenObservation"),
    ],
)
def test_environments_that_cannot_be_played(train, environment, says, cure):
    with pytest.raises(RecipeError) as raised:
        train(f"data.environment={environment}")
    (problem,) = raised.value.problems
    assert raised.value.exit_code == Exit.RECIPE
    assert says in problem.message
    assert problem.place.source == f"data.environment={environment}"
    assert cure in f"{problem.message} {problem.cure}"


def test_one_step_is_no_data():
    with pytest.raises(DataError, match=r"is one sample\na policy is updated with several"):
        gym(environments=1, steps=1)


def test_a_library_that_an_environment_needs_is_a_lack_of_the_machine(train, monkeypatch):
    def make(*names, **options):
        raise gymnasium.error.DependencyNotInstalled('Box2D is not installed, run `pip install "gymnasium[box2d]"`')

    monkeypatch.setattr(gymnasium, "make", make)
    with pytest.raises(MachineError) as raised:
        train("data.environment=LunarLander-v3")
    assert raised.value.exit_code == Exit.ENVIRONMENT
    assert "environment 'LunarLander-v3' needs what is not installed here: Box2D" in str(raised.value)


def test_without_gymnasium_one_message_says_how_to_install_it(load, monkeypatch):
    monkeypatch.setattr("trainkit.component.installed", lambda name: name != "gymnasium")
    with pytest.raises(RecipeError) as raised:
        load()
    assert raised.value.exit_code == Exit.ENVIRONMENT
    assert 'pip install "trainkit[rl]"' in str(raised.value)


def test_data_of_an_environment_are_as_many_of_each_target(plugins):
    data = gym(environment="CartPole-v1", environments=2, steps=21, val=3, test=0)
    assert data.spec.class_counts == (21, 21)
    assert dict(data.spec.sizes) == {"train": 42, "val": 3}
    assert data.spec.input_shape == (4,)
    again = gym(environment="CartPole-v1", environments=2, steps=21, val=3, test=0)
    assert again.spec == data.spec
    assert all(torch.equal(again.splits[name].inputs, split.inputs) for name, split in data.splits.items())
    more = gym(environment="CartPole-v1", environments=2, steps=22, val=3, test=0)
    assert more.spec.fingerprint != data.spec.fingerprint
    assert torch.equal(more.splits["val"].inputs, data.splits["val"].inputs), "what is measured stays the same"
    rows = [tuple(row) for split in data.splits.values() for row in split.inputs.tolist()]
    assert len(set(rows)) == len(rows), "splits share no sample"
