"""The compiled step: the same run as the eager one up to rounding, and the eager one where it cannot be compiled."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trainkit import hookimpl
from trainkit.compilable import choose_updates_per_call

# The compiler's own modules use what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
NOTE = 'compile = "step" is not used'


def assert_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], rtol: float, atol: float) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(
            value, second[name], rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.slow
@pytest.mark.compiler
def test_the_whole_step_compiled_is_the_eager_run_up_to_rounding(train, capfd, monkeypatch) -> None:
    """Two groups, cosine, clipping, accumulation, dropout off; short batches and the epoch's end go the eager way."""
    changes = ["run.duration=3ep", "run.accumulate=2", "optimizer.use=adamw", "optimizer.lr=0.01", "schedule=cosine"]
    more = '[[callback]]\nuse = "clip_norm"\nmax_norm = 0.5\n'
    eager = train(*changes, more=more)
    made = []
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *a, **k: made.append(k) or compile_(*a, **k))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = train(*changes, "run.compile=step", "run.updates_per_call=2", more=more)
    assert NOTE not in capfd.readouterr().err
    assert len(made) == 1
    # One graph for all calls: neither the rate nor evaluation in between compiles again.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert compiled.report.steps == eager.report.steps
    assert_close(compiled.weights, eager.weights, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(compiled.of("train"), eager.of("train"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["accuracy"] == theirs["accuracy"]
        assert ours["lr/0"] == theirs["lr/0"]


@pytest.mark.slow
@pytest.mark.compiler
def test_batch_statistics_momentum_and_class_weights_are_compiled_right(train, capfd) -> None:
    changes = [
        "data.features=[1,6,6]",
        "data.classes=3",
        "model={use='convnet', widths=[4]}",
        "loss={use='cross_entropy', class_weights=[1.0, 2.0, 0.5]}",
        "optimizer.momentum=0.9",
        "optimizer.nesterov=true",
        "optimizer.weight_decay=0.01",
        "optimizer.lr=0.02",
    ]
    eager = train(*changes)
    compiled = train(*changes, "run.compile=step", "run.updates_per_call=1")
    assert NOTE not in capfd.readouterr().err
    # Rounding differs between the two programs, and batch statistics amplify it; 16 updates keep it small.
    assert_close(compiled.weights, eager.weights, rtol=1e-3, atol=1e-5)
    assert compiled.of("train")[-1]["loss"] == pytest.approx(eager.of("train")[-1]["loss"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.compiler
def test_dropout_leaves_out_the_same_units_compiled_or_not(train, capfd) -> None:
    changes = "run.duration=1ep", "model={use='mlp', widths=[8], dropout=0.4}"
    eager = train(*changes)
    compiled = train(*changes, "run.compile=step", "run.updates_per_call=2")
    assert NOTE not in capfd.readouterr().err
    assert_close(compiled.weights, eager.weights, rtol=1e-5, atol=1e-6)
    losses = [[line["loss"] for line in run.of("train")] for run in (compiled, eager)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_loss_in_a_hook_runs_eagerly_with_the_same_result_and_says_so_once(train, capfd) -> None:
    class Doubled:
        @hookimpl
        def trainkit_loss(self, run, outputs, batch):
            return 2 * run.loss(outputs, batch.targets)

    eager = train(listeners=[Doubled()])
    compiled = train("run.compile=step", listeners=[Doubled()])
    assert capfd.readouterr().err.count(NOTE) == 1
    assert compiled.report.weights_sha256 == eager.report.weights_sha256
    assert NOTE in (compiled.folder / "log.txt").read_text()


@pytest.mark.parametrize("wrapper", [False, True])
def test_gradients_that_a_hook_changes_run_eagerly_unless_its_component_says_that_it_compiles(train, capfd, wrapper):
    class Plain:
        @hookimpl
        def trainkit_gradients(self, gradients):
            for gradient in gradients:
                gradient.mul_(0.5)

    class Around:
        @hookimpl(wrapper=True)
        def trainkit_gradients(self, gradients):
            for gradient in gradients:
                gradient.mul_(0.5)
            return (yield)

    listener = Around() if wrapper else Plain()
    eager = train(listeners=[listener])
    compiled = train("run.compile=step", listeners=[listener])
    said = capfd.readouterr().err
    assert said.count(NOTE) == 1
    assert "0 takes part in the gradients of each update and does not say that it can be compiled" in said
    assert compiled.report.weights_sha256 == eager.report.weights_sha256


def test_what_fails_to_compile_runs_eagerly_and_names_the_reason(train, capfd, monkeypatch) -> None:
    eager = train()

    def broken(*args, **kwargs):
        def fail(*inputs):
            raise RuntimeError("no compiler here\nsecond line")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    compiled = train("run.compile=step", "run.updates_per_call=2")
    said = capfd.readouterr().err
    assert said.count(NOTE) == 1
    assert "RuntimeError: no compiler here;" in said
    assert compiled.report.weights_sha256 == eager.report.weights_sha256


def test_calls_end_where_something_is_due(train, monkeypatch) -> None:
    """Four updates a call, but an evaluation every three: no update is made past it."""

    class Positions:
        def __init__(self) -> None:
            self.evaluated: list[int] = []

        @hookimpl(tryfirst=True)
        def trainkit_evaluate(self, run, split):
            if split == "val":
                self.evaluated.append(run.step)

    positions = Positions()
    monkeypatch.setattr(torch, "compile", lambda function, **options: pytest.fail("no call has four updates"))
    train("run.compile=step", "run.updates_per_call=4", "run.evaluate_every=3ba", listeners=[positions])
    assert positions.evaluated == [3, 6, 9, 12, 15, 16]


@pytest.mark.parametrize(
    ("interval", "expected"), [(22, 11), (500, 10), (23, 11), (7, 7), (5, 5), (1, 1), (12, 12), (100, 10)]
)
def test_updates_per_call_leave_few_over(interval: int, expected: int) -> None:
    run = SimpleNamespace(model=nn.Linear(4, 4))
    chosen = choose_updates_per_call(run, [interval, 1000])
    assert interval % chosen == min(interval % count for count in range(min(6, interval), min(12, interval) + 1))
    assert chosen == expected


def test_a_large_model_makes_one_update_a_call() -> None:
    assert choose_updates_per_call(SimpleNamespace(model=nn.Linear(1001, 1000)), [500]) == 1
