"""gradual_unfreeze: one more layer from the head down, at times that follow from the recipe alone."""

from __future__ import annotations

import copy

import pytest
import torch

from trainkit import RecipeError, hookimpl

GRADUAL = '[[callback]]\nuse = "gradual_unfreeze"\nevery = "3ba"\n'
BODY = "model.widths=[8, 8, 8]"


class Watch:
    """Keeps the weights before the first update and after each."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []

    @hookimpl
    def trainkit_run_start(self, run) -> None:
        self.states.append(copy.deepcopy(run.model.state_dict()))

    @hookimpl
    def trainkit_step_end(self, run) -> None:
        self.states.append(copy.deepcopy(run.model.state_dict()))


def moved_at(states, name: str) -> int:
    """The first update that changed a parameter."""
    return next(t for t in range(len(states) - 1) if not torch.equal(states[t][name], states[t + 1][name]))


@pytest.mark.parametrize(("layers", "times"), [(1, [9, 6, 3, 0]), (2, [6, 3, 3, 0])])
def test_layers_join_from_the_head_down(train, layers, times):
    watch = Watch()
    finished = train(BODY, "run.duration=12ba", more=f"{GRADUAL}layers = {layers}\n", listeners=[watch])
    assert finished.report.steps == 12
    names = [name for name in watch.states[0] if name.endswith("weight")]
    assert [moved_at(watch.states, name) for name in names] == times


@pytest.mark.parametrize(
    ("overrides", "message", "cure"),
    [
        (
            ["run.duration=9ba"],
            "every: the lowest of 3 layers below the head would join at update 9",
            "the run has 9: shorten every",
        ),
        (["run.duration=12ba", "run.compile=step"], 'compile = "step" cannot follow', 'compile = "model"'),
        (["model={use='linear'}"], "the model has one layer, which is its head", "leave the callback out"),
    ],
)
def test_what_can_never_be_trained_is_a_problem(train, overrides, message, cure):
    with pytest.raises(RecipeError) as caught:
        train(*([] if "linear" in str(overrides) else [BODY]), *overrides, more=GRADUAL)
    (problem,) = caught.value.problems
    assert problem.message.removeprefix("[[callback]] gradual_unfreeze: ").startswith(message)
    assert cure in problem.cure


def test_it_goes_on_bit_for_bit_where_it_was_stopped(train, halves):
    settings = BODY, "run.duration=12ba"
    whole = train(*settings, more=GRADUAL)
    assert halves(5, *settings, more=GRADUAL).report.weights_sha256 == whole.report.weights_sha256
