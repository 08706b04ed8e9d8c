"""How an update is made: accumulation, precision, non-finite values, and hooks that take part."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy
import pytest
import torch
from torch.nn import functional

from trainkit import RecipeError, RunError, StepResult, checkpoint, hookimpl
from trainkit.errors import Exit

EXACT = "model={use='exact'}"


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], rtol: float = 1e-12) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=rtol, atol=1e-14, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(
    ("samples", "what"),
    [(320, "192 train: whole updates"), (192, "116 train: an uneven last one"), (200, "120 train: another")],
)
@pytest.mark.parametrize("loss", ["{use='cross_entropy'}", "{use='cross_entropy', class_weights=[1.0, 5.0, 0.2]}"])
@pytest.mark.parametrize("optimizer", ["{use='sgd', lr=0.1, momentum=0.9}", "{use='adamw', lr=0.01}"])
def test_accumulated_batches_are_one_large_batch(train, samples, what, loss, optimizer):
    changes = EXACT, f"data.samples={samples}", f"loss={loss}", f"optimizer={optimizer}", "run.duration=3ep"
    runs = [train(*changes, f"data.batch_size={64 // n}", f"run.accumulate={n}") for n in (1, 2, 4)]
    for run in runs[1:]:
        assert run.report.steps == runs[0].report.steps
        assert_close(run.weights, runs[0].weights)
        for mine, first in zip(run.lines, runs[0].lines, strict=True):
            assert (mine["step"], mine["split"], mine["accuracy"]) == (first["step"], first["split"], first["accuracy"])
            assert mine["loss"] == pytest.approx(first["loss"], rel=1e-12)


def test_accumulated_batches_take_the_samples_in_the_same_order(train):
    class Order:
        def __init__(self) -> None:
            self.seen: list[int] = []

        @hookimpl
        def trainkit_loss(self, batch):
            self.seen += batch.index.tolist()

    one, four = Order(), Order()
    train("data.batch_size=64", listeners=[one])
    train("data.batch_size=16", "run.accumulate=4", listeners=[four])
    assert one.seen == four.seen
    assert sorted(one.seen[:116]) == list(range(116))


@pytest.mark.parametrize("loading", ["resident", "streamed"])
def test_resident_and_streamed_runs_are_the_same_run(train, loading):
    reference = train("model.dropout=0.3")
    assert (
        train("model.dropout=0.3", f"data.loading={loading}").report.weights_sha256 == reference.report.weights_sha256
    )


def test_a_run_is_a_loop_written_by_hand(train):
    """What the framework does to the weights, without the framework."""
    finished = train("run.duration=11ba", "optimizer.momentum=0.9", "model={use='exact'}")
    start = train("run.duration=1ba", "optimizer.lr=1e-300", EXACT)
    feed, model = start.run.feed, start.run.model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = [*feed.train(0), *feed.train(1)][:11]
    for batch in batches:
        optimizer.zero_grad()
        functional.cross_entropy(model(batch.inputs), batch.targets).backward()
        optimizer.step()
    assert_close(finished.weights, dict(model.state_dict()))


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("model", ["model={use='mlp', widths=[16]}", "model={use='mlp', norm='batch'}"])
def test_lower_precision_trains_on_the_cpu(train, precision, model):
    full = train("run.duration=6ep", model, "run.precision=float32")
    lower = train("run.duration=6ep", model, f"run.precision={precision}")
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in lower.weights.values())
    assert lower.report.metrics["train.loss"] == pytest.approx(full.report.metrics["train.loss"], rel=0.1)
    assert lower.report.weights_sha256 != full.report.weights_sha256, "it was of lower precision at all"


def test_outputs_are_of_the_asked_precision_and_the_loss_is_not(train):
    seen: set[Any] = set()

    class Types:
        @hookimpl
        def trainkit_loss(self, outputs):
            seen.add(outputs.dtype)

        @hookimpl
        def trainkit_step_end(self, result):
            seen.add(("loss", result.losses.dtype))

        @hookimpl
        def trainkit_gradients(self, gradients):
            seen.update(("gradient", gradient.dtype) for gradient in gradients)

    train("run.precision=bfloat16", listeners=[Types()])
    assert seen == {torch.bfloat16, ("loss", torch.float32), ("gradient", torch.float32)}


def test_float16_hands_hooks_gradients_without_the_scale(train):
    class Norms:
        def __init__(self) -> None:
            self.norms: list[float] = []

        @hookimpl
        def trainkit_gradients(self, gradients):
            self.norms.append(float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))))

    full, half = Norms(), Norms()
    train("run.duration=1ba", listeners=[full])
    train("run.duration=1ba", "run.precision=float16", listeners=[half])
    assert half.norms == pytest.approx(full.norms, rel=0.02)


def test_float16_leaves_updates_out_that_overflow_and_goes_on(train):
    """A loss of about a million times a scale of 4096 is beyond float16 until the scale has come down."""

    class Loud:
        @hookimpl
        def trainkit_loss(self, run, outputs, batch):
            return functional.cross_entropy(outputs, batch.targets) * 1e6

    finished = train("run.precision=float16", "optimizer.lr=1e-7", "run.duration=4ep", listeners=[Loud()])
    assert finished.run.skipped > 0
    assert finished.report.steps + finished.run.skipped == 32
    assert finished.report.status == "finished"
    assert all(tensor.isfinite().all() for tensor in finished.weights.values())


# ---------------------------------------------------------------- values that are not finite


class Spoil:
    """Makes the loss NaN or infinite at given calls, counted from 0."""

    def __init__(self, *calls: int, value: float = math.nan) -> None:
        self.calls, self.value, self.count = calls, value, 0

    @hookimpl
    def trainkit_loss(self, run, outputs, batch):
        self.count += 1
        loss = run.loss(outputs, batch.targets)
        return loss * self.value if self.count - 1 in self.calls else loss


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("call", [0, 3, 11, 15])
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_update(train, tmp_path, call, value):
    with pytest.raises(RunError, match=rf"the loss is not finite at update {call} \(epoch {call // 8}\)") as raised:
        train(listeners=[Spoil(call, value=value)])
    assert raised.value.exit_code == Exit.FAILED == 4
    for cure in ("optimizer.lr", "clip_norm", 'nonfinite = "skip"'):
        assert cure in str(raised.value)


def test_a_failed_run_says_so_and_its_earlier_checkpoint_is_whole(train, tmp_path):
    reference = train("run.duration=16ba", "run.save_every=4ba")
    with pytest.raises(RunError):
        train("run.duration=16ba", "run.save_every=4ba", listeners=[Spoil(9)])
    folder = tmp_path / "run-2"
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["status"] == "failed"
    assert "update 9" in report["reason"]
    assert "failed: the loss is not finite" in (folder / "log.txt").read_text(encoding="utf-8")
    newest, tensors, state = checkpoint.load_newest(folder / "checkpoints")
    assert (newest.name, state["step"]) == ("step-000000000008", 8)
    assert all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point())
    assert reference.checkpoints[-1] == 16


def test_not_finite_weights_never_reach_a_checkpoint(train, tmp_path):
    class Poison:
        @hookimpl
        def trainkit_step_end(self, run):
            if run.step == 12:
                with torch.no_grad():
                    run.model.head.weight[0, 0] = math.inf

    with pytest.raises(RunError, match=r"'head.weight' is not finite after update 12"):
        train("run.save_every=4ba", "run.evaluate_every=100ba", listeners=[Poison()])
    newest, tensors, _ = checkpoint.load_newest(tmp_path / "run-1" / "checkpoints")
    assert newest.name == "step-000000000008"
    assert all(t.isfinite().all() for name, t in tensors.items() if name.startswith("model/"))


def test_skip_leaves_such_updates_out_and_does_not_count_them(train):
    class Steps:
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []
            self.rates: list[float] = []

        @hookimpl
        def trainkit_step_end(self, run, result):
            self.seen.append((result.updates, result.skipped))
            self.rates.append(run.optimizer.param_groups[0]["lr"])

    steps = Steps()
    finished = train(
        "run.nonfinite=skip", "optimizer.momentum=0.9", 'schedule={use="linear"}', listeners=[Spoil(2, 3, 9), steps]
    )
    assert (finished.report.steps, finished.run.skipped, finished.run.position) == (13, 3, 16)
    assert [number for number, (updates, _) in enumerate(steps.seen) if not updates] == [2, 3, 9]
    assert all(updates + skipped == 1 for updates, skipped in steps.seen)
    # t counts updates made: the value of an update that was left out is used again.
    expected = [0, 1, 2, 2, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10, 11, 12]
    assert steps.rates == pytest.approx([0.1 * (1 - t / 16) for t in expected])
    assert finished.report.status == "finished"
    assert all(line["loss"] is not None for line in finished.of("train")), "means are over what was finite"
    assert next(iter(finished.run.optimizer.state.values()))["step"] == 13


def test_what_was_left_out_is_not_measured_either(train):
    class Broken:
        @hookimpl
        def trainkit_prepare_model(self, model):
            calls = iter(range(10**6))
            model.register_forward_hook(lambda m, _, out: out * math.nan if m.training and next(calls) < 3 else out)

    class Watch:
        right, seen, loss = 0, 0, 0.0

        @hookimpl
        def trainkit_step_end(self, result):
            if result.updates:
                (outputs,), (targets,) = result.outputs, result.targets
                Watch.loss += float(result.losses) * len(targets)
                Watch.right += int((outputs.argmax(1) == targets).sum())
                Watch.seen += len(targets)

    finished = train("run.nonfinite=skip", "run.duration=1ep", listeners=[Broken(), Watch()])
    assert (finished.run.skipped, Watch.seen) == (3, 116 - 48)
    assert finished.of("train")[0]["accuracy"] == pytest.approx(Watch.right / Watch.seen)
    assert finished.of("train")[0]["loss"] == pytest.approx(Watch.loss / Watch.seen, rel=1e-6)


def test_a_finite_loss_with_gradients_that_are_not_is_left_out_whole(train):
    class Steep:
        @hookimpl
        def trainkit_loss(self, run, outputs, batch):
            loss = run.loss(outputs, batch.targets)
            # The root of zero: its value is finite and its slope is not.
            return loss + 1000 + (outputs * 0).sum().sqrt() if run.position == 2 else loss

    finished = train("run.nonfinite=skip", "run.duration=1ep", listeners=[Steep()])
    assert finished.run.skipped == 1
    assert finished.of("train")[0]["loss"] < 10


def test_an_interval_of_which_nothing_is_left_has_no_figures(train):
    class Spoil:
        @hookimpl
        def trainkit_loss(self, run, outputs, batch):
            return run.loss(outputs, batch.targets) * (math.nan if run.position < 8 else 1.0)

    first, second = train("run.nonfinite=skip", listeners=[Spoil()]).of("train")
    assert (first["step"], first["epoch"], first["loss"]) == (0, 1, None)
    assert "accuracy" not in first
    assert second["accuracy"] > 0


def test_skip_and_an_optimizer_that_makes_its_own_steps_exclude_each_other(load):
    with pytest.raises(RecipeError, match='no single update that nonfinite = "skip" could leave out'):
        load("run.nonfinite=skip", "optimizer={use='lbfgs'}")


def test_skip_without_anything_to_skip_is_the_same_run(train):
    assert train("run.nonfinite=skip").report.weights_sha256 == train().report.weights_sha256


def test_a_hundred_in_a_row_end_the_run(train):
    with pytest.raises(RunError, match="100 updates in a row had gradients that are not finite") as raised:
        train("run.nonfinite=skip", "run.duration=20ep", listeners=[Spoil(*range(5, 200))])
    assert raised.value.exit_code == 4
    fine = train("run.nonfinite=skip", "run.duration=20ep", listeners=[Spoil(*range(5, 104))])
    assert (fine.run.skipped, fine.report.status) == (99, "finished")


# ---------------------------------------------------------------- who takes part


def test_an_owner_of_the_step_makes_all_updates(train):
    class Signs:
        """Signs of the gradients, without the optimizer."""

        @hookimpl
        def trainkit_train_step(self, run, batches):
            (batch,) = batches
            loss = run.loss(run.forward(batch.inputs), batch.targets)
            gradients = torch.autograd.grad(loss, list(run.model.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(run.model.parameters(), gradients, strict=True):
                    parameter -= run.optimizer.param_groups[0]["lr"] * gradient.sign()
            return StepResult(loss.detach(), len(batch))

    finished = train(
        "optimizer.lr=0.125", 'schedule={use="step", every="8ba", gamma=0.5}', "metric=[]", listeners=[Signs()]
    )
    start = train("optimizer.lr=1e-300", "run.duration=1ba", "metric=[]")
    for name, tensor in finished.weights.items():
        # Steps of 1/8 in the first epoch and 1/16 in the second, up or down.
        moved = (tensor.double() - start.weights[name].double()) * 16
        assert torch.allclose(moved, moved.round(), atol=1e-4)
    assert finished.report.steps == 16
    assert "accuracy" not in finished.of("train")[0]


def test_an_owner_of_the_step_that_keeps_its_outputs_leaves_the_metrics_out(train):
    class Silent:
        @hookimpl
        def trainkit_train_step(self, run, batches):
            return StepResult(torch.tensor(0.5), len(batches[0]))

    finished = train(listeners=[Silent()])
    assert [line["loss"] for line in finished.of("train")] == [0.5, 0.5]
    assert all("accuracy" not in line for line in finished.of("train"))
    assert "val.accuracy" in finished.report.metrics


def test_an_owner_of_the_step_may_leave_some_to_the_core(train):
    class Sometimes:
        made = 0

        @hookimpl
        def trainkit_train_step(self, run, batches):
            if run.step % 2:
                return None
            Sometimes.made += 1
            return StepResult(torch.zeros(()), len(batches[0]))

    finished = train("metric=[]", listeners=[Sometimes()])
    assert (Sometimes.made, finished.report.steps) == (8, 16)
    assert finished.of("train")[0]["loss"] > 0.1, "the mean of the core's own eight losses and eight zeros"


def test_an_owner_of_the_loss_changes_training_alone(train):
    class Doubled:
        @hookimpl
        def trainkit_loss(self, run, outputs, batch):
            return 2 * run.loss(outputs, batch.targets)

    doubled = train("optimizer.lr=0.05", EXACT, listeners=[Doubled()])
    plain = train("optimizer.lr=0.1", EXACT)
    assert_close(doubled.weights, plain.weights)
    assert doubled.of("train")[0]["loss"] == pytest.approx(2 * plain.of("train")[0]["loss"], rel=1e-12)
    assert doubled.of("val")[0]["loss"] == pytest.approx(plain.of("val")[0]["loss"], rel=1e-12)


def test_gradient_hooks_see_the_sum_of_all_accumulated_batches(train):
    class Keep:
        def __init__(self) -> None:
            self.gradients: list[list[torch.Tensor]] = []

        @hookimpl
        def trainkit_gradients(self, run, gradients):
            self.gradients.append([gradient.clone() for gradient in gradients])
            held = [parameter.grad for group in run.optimizer.param_groups for parameter in group["params"]]
            assert all(a is b for a, b in zip(gradients, held, strict=True))

    one, four = Keep(), Keep()
    train(EXACT, "data.batch_size=64", "optimizer.weight_decay=0.1", listeners=[one])
    train(EXACT, "data.batch_size=16", "run.accumulate=4", "optimizer.weight_decay=0.1", listeners=[four])
    assert len(one.gradients) == len(four.gradients) == 4
    for a, b in zip(one.gradients, four.gradients, strict=True):
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-15)


def test_clip_norm_bounds_every_update(train):
    finished = train("optimizer.lr=1.0", "run.duration=1ba", more='[[callback]]\nuse = "clip_norm"\nmax_norm = 0.01\n')
    start = train("optimizer.lr=1e-300", "run.duration=1ba")
    moved = torch.cat([(finished.weights[name] - start.weights[name]).flatten() for name in start.weights])
    assert float(torch.linalg.vector_norm(moved)) == pytest.approx(0.01, rel=1e-4)


def test_a_wrapper_may_exchange_the_weights_around_an_evaluation(train):
    averaged = train("optimizer.lr=0.5", "run.duration=3ep", more='[[callback]]\nuse = "averaged"\n')
    plain = train("optimizer.lr=0.5", "run.duration=3ep")
    assert averaged.report.weights_sha256 == plain.report.weights_sha256, "training went on with its own weights"
    assert averaged.of("val")[0]["loss"] != plain.of("val")[0]["loss"]
    assert averaged.of("train")[0]["loss"] == plain.of("train")[0]["loss"]


@pytest.mark.parametrize("number", [torch.tensor(0.5), numpy.float32(0.5), 1])
def test_figures_of_an_evaluation_hook_may_be_any_kind_of_number(train, number):
    class Own:
        @hookimpl
        def trainkit_evaluate(self):
            return {"loss": number}

    assert train(listeners=[Own()]).of("val")[0]["loss"] == float(number)


def test_an_evaluation_hook_puts_its_figures_in_place_of_the_cores(train):
    class Own:
        @hookimpl
        def trainkit_evaluate(self, run, split):
            return {"loss": 1.0 / run.step, "size": float(run.feed.spec.sizes[split])}

    finished = train("run.monitor=val.loss", listeners=[Own()])
    assert finished.report.metrics["val.size"] == 38.0
    assert finished.report.best == {"step": 16, "metric": "val.loss", "value": 1 / 16}
    assert "val.accuracy" not in finished.report.metrics
