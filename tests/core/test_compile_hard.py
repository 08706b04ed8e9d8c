"""Models that break under a compiler: found out, said once with the reason, and run the plain way to the same end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from trainkit import hookimpl
from trainkit.compilable import held_by
from trainkit.errors import RecipeError, TrainkitError
from trainkit.manager import Plugins

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
HERE = Path(__file__).parent
NOTE = 'compile = "step" is not used'
SHORT = "run.duration=1ep"


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """The installed ones, and the models of these tests."""
    return Plugins([str(HERE / "trainkit_compile_parts.py")])


@pytest.fixture
def both(train, capfd):
    """Train a model eagerly and compiled; what was said, and the two runs."""

    def both(model: str, *changes: str, updates: int = 1, **options):
        eager = train(f"model={model}", SHORT, *changes, **options)
        capfd.readouterr()
        step = "run.compile=step", f"run.updates_per_call={updates}"
        compiled = train(f"model={model}", SHORT, *step, *changes, **options)
        return capfd.readouterr().err, eager, compiled

    return both


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("branching", "Could not guard o"),
        ("counting", "each pass changes what is no tensor"),
        ("watched", "Unsupported: "),
        ("unwilling", "unwilling says that it cannot be compiled"),
    ],
)
def test_what_cannot_be_one_program_runs_eagerly_with_the_same_weights(both, model, why):
    said, eager, compiled = both(model)
    assert said.count(NOTE) == 1
    assert why in said
    assert compiled.report.weights_sha256 == eager.report.weights_sha256
    assert compiled.of("train")[-1]["loss"] == eager.of("train")[-1]["loss"]


@pytest.mark.compiler
@pytest.mark.slow
def test_what_looks_hard_and_compiles_is_the_eager_run_up_to_rounding(both):
    """A weight at two places, a buffer that the second update of a call reads, a frozen part and one left out."""
    said, eager, compiled = both("knotted", updates=2)
    assert NOTE not in said
    for name, weight in eager.weights.items():
        torch.testing.assert_close(compiled.weights[name], weight, rtol=1e-5, atol=1e-6)


@pytest.mark.compiler
@pytest.mark.slow
def test_a_model_that_changes_its_inputs_goes_on_eagerly_after_the_call_that_shows_it(both):
    said, eager, compiled = both("overwriting")
    assert said.count(NOTE) == 1
    assert "the model changes its inputs in place" in said
    for name, weight in eager.weights.items():
        torch.testing.assert_close(compiled.weights[name], weight, rtol=1e-5, atol=1e-6)


@pytest.mark.compiler
@pytest.mark.slow
def test_a_double_backward_gives_the_same_run_compiled_or_not(both):
    said, eager, compiled = both("penalised")
    assert said.count(NOTE) <= 1
    for name, weight in eager.weights.items():
        torch.testing.assert_close(compiled.weights[name], weight, rtol=1e-4, atol=1e-5)


def test_sparse_gradients_end_a_compiled_run_as_they_end_an_eager_one(train):
    said = []
    for more in ((), ("run.compile=step",)):
        with pytest.raises((TrainkitError, ValueError), match="sparse") as caught:
            train("model=rows", *more)
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("compile", ["step"])
def test_a_wrapper_that_computes_the_loss_again_is_refused_by_the_recipe(load, compile):
    with pytest.raises(RecipeError, match=r"computes the loss again within a step"):
        load(f"run.compile={compile}", more='[[optimizer.wrap]]\nuse = "sam"\n')


def test_a_model_on_two_devices_is_left_to_eager_updates():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    assert {str(part.device) for part in held_by(model)} == {"cpu", "meta"}


@pytest.mark.compiler
@pytest.mark.slow
@pytest.mark.parametrize("often", [False, True])
def test_a_number_that_a_callback_changes_is_seen_by_the_compiled_program(both, often):
    """At the end of an epoch, or after any update: what was traced holds no longer, and torch's guards find it."""

    class Change:
        @hookimpl
        def trainkit_epoch_start(self, run):
            run.model.scale = 1.0 + run.epoch

    class ChangeOften:
        @hookimpl
        def trainkit_step_end(self, run):
            run.model.scale = 2.0 if run.step >= 4 else 1.0

    listener = ChangeOften() if often else Change()
    said, eager, compiled = both("scaled", "run.duration=2ep", listeners=[listener])
    assert NOTE not in said
    for name, weight in eager.weights.items():
        torch.testing.assert_close(compiled.weights[name], weight, rtol=1e-5, atol=1e-6)


class Unfreeze:
    @hookimpl
    def trainkit_epoch_start(self, run):
        run.model.body.requires_grad_(run.epoch >= 1)


class Refreeze:
    @hookimpl
    def trainkit_epoch_start(self, run):
        run.model.body.requires_grad_(run.epoch == 0)


class HookGradient:
    @hookimpl
    def trainkit_run_start(self, run):
        run.model.body.weight.register_hook(lambda gradient: 3 * gradient)


class HookGradientLater:
    @hookimpl
    def trainkit_epoch_start(self, run):
        def forget(parameter):
            parameter.grad.zero_()

        if run.epoch == 1:
            run.model.body.weight.register_post_accumulate_grad_hook(forget)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("listener", "why"),
    [
        (Unfreeze, "parameters take part that were frozen or left out before"),
        (Refreeze, ""),  # in torch's words
        (HookGradient, "a hook is set on the gradient of body.weight"),
        (HookGradientLater, "a hook is set on the gradient of body.weight"),
    ],
)
def test_what_changes_the_way_of_the_gradients_while_the_run_goes_on_ends_the_compiled_program(both, listener, why):
    """The program names the parameters that it trains, and takes their gradients where no hook sees them."""
    said, eager, compiled = both("small", "run.duration=2ep", listeners=[listener()])
    assert said.count(NOTE) == 1
    assert why in said
    for name, weight in eager.weights.items():
        torch.testing.assert_close(compiled.weights[name], weight, rtol=1e-5, atol=1e-6)


@pytest.mark.compiler
@pytest.mark.slow
def test_a_hook_that_a_callback_sets_on_a_module_is_compiled_in_from_there_on(both):
    class Hook:
        @hookimpl
        def trainkit_epoch_start(self, run):
            if run.epoch == 1:
                run.model.body.register_forward_hook(lambda module, inputs, outputs: 3 * outputs)

    said, eager, compiled = both("small", "run.duration=2ep", listeners=[Hook()])
    assert NOTE not in said
    for name, weight in eager.weights.items():
        torch.testing.assert_close(compiled.weights[name], weight, rtol=1e-5, atol=1e-6)
