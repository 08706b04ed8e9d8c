"""freeze: what is unfrozen and when, as a function of the update's number, and BatchNorm of frozen parts."""

from __future__ import annotations

import copy
import fnmatch
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trainkit import RecipeError, hookimpl
from trainkit_callbacks import freeze

BODY = "model.widths=[8, 8]"
NORMS = "model={use='mlp', widths=[8, 8], norm='batch'}"
TIMED = """\
[[callback]]
use = "freeze"
match = ["body.*"]
unfreeze = { "body.2.*" = "3ba", "body.*" = "1ep" }
"""
FIXED = '[[callback]]\nuse = "freeze"\nmatch = ["body.*"]\nbatch_norm = "fix"\n'


class Watch:
    """Keeps the model's state before the first update and after each."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []

    @hookimpl
    def trainkit_run_start(self, run) -> None:
        self.states.append(copy.deepcopy(run.model.state_dict()))

    @hookimpl
    def trainkit_step_end(self, run) -> None:
        self.states.append(copy.deepcopy(run.model.state_dict()))

    def first_move(self, name: str) -> int:
        """The first update that changed a tensor."""
        return next(t for t in range(len(self.states) - 1) if not torch.equal(self.at(t, name), self.at(t + 1, name)))

    def at(self, step: int, name: str) -> torch.Tensor:
        return self.states[step][name]


class Without:
    """What timed freezing is for plain SGD: gradients that are zero until their time."""

    @hookimpl
    def trainkit_gradients(self, run, gradients) -> None:
        names = [name for group in run.optimizer.param_groups for name in group["names"]]
        for name, gradient in zip(names, gradients, strict=True):
            start = 3 if fnmatch.fnmatchcase(name, "body.2.*") else 8 if name.startswith("body") else 0
            if run.step < start:
                gradient.zero_()


@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("optimizer", ["{use='sgd', lr=0.1, momentum=0.9, weight_decay=0.1}", "{use='adamw', lr=0.1}"])
def test_each_part_joins_at_its_update_and_not_a_decay_earlier(train, accumulate, optimizer):
    watch = Watch()
    batch = f"data.batch_size={16 // accumulate}", f"run.accumulate={accumulate}"
    finished = train(BODY, *batch, f"optimizer={optimizer}", more=TIMED, listeners=[watch])
    assert finished.report.steps == 16
    moves = {name: watch.first_move(name) for name in watch.states[0]}
    assert moves == {
        "body.0.weight": 8,
        "body.0.bias": 8,
        "body.2.weight": 3,
        "body.2.bias": 3,
        "head.weight": 0,
        "head.bias": 0,
    }
    grouped = sorted(name for group in finished.run.optimizer.param_groups for name in group["names"])
    assert grouped == sorted(moves), "what joins later is in its group from the start"


def test_it_is_the_run_in_which_their_gradients_are_zero_until_then(train):
    timed = train(BODY, more=TIMED)
    assert timed.report.weights_sha256 == train(BODY, listeners=[Without()]).report.weights_sha256
    assert timed.report.weights_sha256 != train(BODY).report.weights_sha256


def test_what_is_never_unfrozen_is_in_no_group(train):
    more = '[[callback]]\nuse = "freeze"\nmatch = ["body.*"]\nunfreeze = { "body.2.*" = "3ba" }\n'
    watch = Watch()
    finished = train(BODY, more=more, listeners=[watch])
    names = [name for group in finished.run.optimizer.param_groups for name in group["names"]]
    assert sorted(names) == ["body.2.bias", "body.2.weight", "head.bias", "head.weight"]
    assert torch.equal(watch.at(0, "body.0.weight"), watch.at(16, "body.0.weight"))


def test_a_parameter_that_joins_late_begins_its_own_count(train):
    finished = train(BODY, "optimizer={use='adamw', lr=0.01}", more=TIMED)
    named = {
        name: int(finished.run.optimizer.state[p]["step"])
        for group in finished.run.optimizer.param_groups
        for name, p in zip(group["names"], group["params"], strict=True)
    }
    assert named == {n: {"b.0": 8, "b.2": 13}.get(n[0] + n[4:6], 16) for n in named}


def test_where_several_patterns_match_the_earliest_time_counts():
    callback = freeze(match=("*",), unfreeze={"body.*": 9, "body.3.*": 4, "*.bias": 2})
    assert [callback.thaws_at(name) for name in ("body.0.w", "body.3.w", "body.3.bias", "head.w")] == [9, 4, 2, None]


PATTERNS = ["*", "0.*", "3.*", "*.bias", "1.weight"]


@settings(max_examples=60, deadline=None)
@given(
    match=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3),
    unfreeze=st.dictionaries(st.sampled_from(PATTERNS), st.integers(1, 9), max_size=3),
    steps=st.lists(st.integers(0, 9), min_size=1, max_size=5),
)
def test_what_is_trained_is_a_function_of_the_updates_number_in_whatever_order_it_is_asked(match, unfreeze, steps):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = SimpleNamespace(param_groups=[])
    recipe = {"callback": [{"use": "freeze"}]}
    run = SimpleNamespace(model=model, optimizer=optimizer, step=0, total_updates=10, recipe=recipe)
    callback = freeze(match=tuple(match), unfreeze=unfreeze, batch_norm="fix")
    try:
        callback.trainkit_prepare_model(run, model)
    except RecipeError:
        return  # a pattern that unfreezes nothing, or nothing to train at first
    callback.trainkit_run_start(run)
    model.train()

    def trained(name: str, step: int) -> bool:
        frozen = any(fnmatch.fnmatchcase(name, pattern) for pattern in match)
        return not frozen or any(fnmatch.fnmatchcase(name, p) and step >= when for p, when in unfreeze.items())

    for run.step in steps:
        callback.trainkit_epoch_start(run)
        model.train()
        assert {name: p.requires_grad for name, p in model.named_parameters()} == {
            name: trained(name, run.step) for name, _ in model.named_parameters()
        }
        for layer in ("1", "4"):
            follows = trained(f"{layer}.weight", run.step) or trained(f"{layer}.bias", run.step)
            assert model.get_submodule(layer).training == follows


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 7, 8, 9, 15])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_stopped_anywhere_and_continued_is_straight_through(train, halves, timeless, cut, optimizer):
    changes = BODY, f"optimizer={{use='{optimizer}', lr=0.05, weight_decay=0.1}}"
    straight, broken = train(*changes, more=TIMED), halves(cut, *changes, more=TIMED)
    assert broken.report.weights_sha256 == straight.report.weights_sha256
    assert timeless(broken) == timeless(straight)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # the compiler's own modules use it
def test_a_compiled_model_follows(train):
    torch._dynamo.reset()
    eager, watch = train(BODY, more=TIMED), Watch()
    compiled = train(BODY, "run.compile=model", more=TIMED, listeners=[watch])
    for name, weights in compiled.weights.items():
        torch.testing.assert_close(weights, eager.weights[name], rtol=1e-4, atol=1e-6)
    assert watch.first_move("body.2.weight") == 3


# ---------------------------------------------------------------- BatchNorm


def test_statistics_of_a_frozen_part_follow_the_data_unless_they_are_fixed(train):
    followed, fixed = Watch(), Watch()
    train(NORMS, more=FIXED.replace('"fix"', '"follow"'), listeners=[followed])
    train(NORMS, "run.evaluate_every=3ba", more=FIXED, listeners=[fixed])
    for name in ("body.1.running_mean", "body.4.running_var", "body.1.num_batches_tracked"):
        assert not torch.equal(followed.at(16, name), followed.at(0, name))
        assert torch.equal(fixed.at(16, name), fixed.at(0, name)), "evaluations in between change nothing"


def test_a_fixed_layer_normalises_by_what_it_holds_in_training_too(train):
    finished = train(NORMS, "run.duration=1ba", more=FIXED)
    layer = finished.run.model.get_submodule("body.1")
    assert finished.run.model.training
    assert not layer.training
    values = 5 * torch.randn(7, 8)
    expected = (values - layer.running_mean) / (layer.running_var + layer.eps).sqrt() * layer.weight + layer.bias
    torch.testing.assert_close(layer(values), expected)


def test_a_layer_with_a_free_parameter_follows(train):
    watch = Watch()
    train(NORMS, more=FIXED.replace('["body.*"]', '["body.0.*", "body.4.*", "body.1.bias"]'), listeners=[watch])
    assert not torch.equal(watch.at(16, "body.1.running_mean"), watch.at(0, "body.1.running_mean"))
    assert torch.equal(watch.at(16, "body.4.running_mean"), watch.at(0, "body.4.running_mean"))


@pytest.mark.parametrize("cut", [2, 3, 5, 8])
def test_an_unfrozen_layer_follows_from_its_update_on_also_when_continued(train, halves, cut):
    more = FIXED + 'unfreeze = { "body.4.*" = "3ba" }\n'
    watch = Watch()
    straight = train(NORMS, more=more, listeners=[watch])
    assert watch.first_move("body.4.running_mean") == watch.first_move("body.4.weight") == 3
    assert torch.equal(watch.at(16, "body.1.running_mean"), watch.at(0, "body.1.running_mean"))
    assert halves(cut, NORMS, more=more).report.weights_sha256 == straight.report.weights_sha256


def test_an_average_leaves_fixed_statistics_as_they_are(train, plugins):
    finished = train(NORMS, more=FIXED + '[[callback]]\nuse = "swa"\nstart = "1ep"\n')
    (mean,) = [impl.plugin.mean.weights for impl in finished.run.hook.trainkit_save.get_hookimpls()]
    assert torch.equal(mean["body.1.running_mean"], torch.zeros(8))
    assert torch.equal(mean["body.1.running_var"], torch.ones(8))


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("text", "said", "source"),
    [
        ('"haed.*" = "1ep"', 'unfreeze: "haed.*" matches no parameter that is frozen', '"haed.*" = "1ep"'),
        ('"head.*" = "1ep"', 'unfreeze: "head.*" matches no parameter that is frozen', '"head.*" = "1ep"'),
        ('"body.*" = "2ep"', 'unfreeze: "body.*" is for update 16, the run ends at 16', '"body.*" = "2ep"'),
    ],
)
def test_a_pattern_or_a_time_that_comes_to_nothing_is_a_problem_at_its_line(train, text, said, source):
    more = f'[[callback]]\nuse = "freeze"\nmatch = ["body.*"]\n[callback.unfreeze]\n{text}\n'
    with pytest.raises(RecipeError) as raised:
        train(BODY, more=more)
    (problem,) = raised.value.problems
    assert problem.message == f"[[callback]] freeze: {said}"
    assert problem.place.source == source


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('match = ["*"]\nunfreeze = { "*" = "1ep" }', "every parameter is frozen until update 8"),
        ('match = ["body.*"]\nunfreeze = { "body.*" = "0.01ba" }', r'= "0.01ba" comes to 0 updates'),
        ('match = ["body.*"]\nunfreeze = { "body.*" = 3 }', "a bare number has no unit"),
        ('match = ["body.*"]\nunfreeze = { "body.*" = "soon" }', "duration"),
        ('match = ["body.*"]\nunfreeze = ["body.*"]', "unfreeze must be a table of duration"),
        ('match = ["body.*"]\nbatch_norm = "off"', "batch_norm"),
    ],
)
def test_what_makes_no_sense_is_a_problem(train, text, said):
    with pytest.raises(RecipeError, match=said):
        train(more=f'[[callback]]\nuse = "freeze"\n{text}\n')


def test_a_compiled_step_cannot_unfreeze_which_is_a_problem_before_the_run(load):
    load("run.compile=step", more='[[callback]]\nuse = "freeze"\nmatch = ["body.*"]\n')
    with pytest.raises(RecipeError, match=r'freeze: compile = "step" cannot follow parameters that are unfrozen'):
        load("run.compile=step", more=TIMED)
