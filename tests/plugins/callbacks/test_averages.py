"""ema, swa and lawa: their means, that evaluation takes them and training does not, and that they continue exactly."""

from __future__ import annotations

import copy
import inspect
import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from trainkit import Batch, RecipeError, checkpoint, exchanged, hookimpl, renew_batch_norm, weights_of
from trainkit.finished import evaluate_run, predict_run
from trainkit_callbacks import ema, lawa, swa, switch_ema

DATA = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
BATCH_NORM = ["model={use='mlp', widths=[8], norm='batch'}", "optimizer.lr=0.3", "run.duration=4ep"]


class Number(nn.Module):
    """One weight in float64."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(value, dtype=torch.float64))


def net(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).to(dtype)


class Feed:
    """Two epochs' worth of batches."""

    batches_per_epoch = 4

    def __init__(self, size: int = 6) -> None:
        self.size = size

    def batches_in(self, epoch: int) -> int:
        return self.batches_per_epoch

    def evaluate(self, split: str):
        assert split == "train"
        index = torch.arange(len(DATA))
        for part in index.split(self.size):
            yield Batch(DATA[part], torch.zeros(len(part)), part)


def run_of(model: nn.Module, feed: Feed | None = None) -> SimpleNamespace:
    precision = SimpleNamespace(context=nullcontext)
    return SimpleNamespace(
        model=model,
        step=0,
        epoch=0,
        batch_in_epoch=0,
        total_updates=100,
        device=torch.device("cpu"),
        feed=feed or Feed(),
        precision=precision,
        recipe={"callback": [{"use": "swa"}]},
    )


def call(hook, **given):
    """Call a hook with the arguments that it asks for, as pluggy does."""
    return hook(*[given[name] for name in inspect.signature(hook).parameters])


def updated(callback, run, updates: int = 1, skipped: int = 0) -> None:
    """Tell a callback of an update."""
    run.step += updates
    run.batch_in_epoch = (run.step - 1) % Feed.batches_per_epoch + 1
    call(callback.trainkit_step_end, run=run, result=SimpleNamespace(updates=updates, skipped=skipped))


def start(callback, run):
    """The callback, in a run that begins."""
    call(callback.trainkit_run_start, run=run)
    return callback


def measured(callback, run) -> dict[str, torch.Tensor]:
    """The weights that an evaluation sees."""
    around = callback.trainkit_evaluate(run)
    next(around)
    seen = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    with pytest.raises(StopIteration) as stopped:
        around.send({"loss": 1.5})
    assert stopped.value.value == {"loss": 1.5}
    return seen


def move(run, step: int) -> None:
    """What stands for an update: other weights, other statistics."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for tensor in run.model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.1)
            else:
                tensor += 1


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


# ---------------------------------------------------------------- numbers


def test_ema_meets_the_reference_values():
    run = run_of(Number(1.0))
    callback = start(ema(decay=0.9, ramp=False, every=1), run)
    for value, expected in zip([2.0, 3.0, 4.0], [1.1, 1.29, 1.561], strict=True):
        run.model.weight.data.fill_(value)
        updated(callback, run)
        assert float(callback.mean["weight"]) == pytest.approx(expected, rel=1e-12)


def test_the_ramp_meets_the_reference_values():
    callback = ema(decay=0.9999, every=1)
    expected = [0.18181818181818182, 0.25, 0.3076923076923077, 0.35714285714285715, 0.4]
    assert [callback.decay_at(n) for n in range(1, 6)] == pytest.approx(expected, rel=1e-12)
    assert ema(decay=0.3, every=1).decay_at(5) == 0.3
    assert ema(decay=0.3, every=1, ramp=False).decay_at(1) == 0.3


def test_swa_meets_the_reference_values():
    run = run_of(Number(1.0))
    callback = start(swa(start=1, every=1), run)
    for value, expected in zip([2.0, 3.0, 5.0], [2.0, 2.5, 10 / 3], strict=True):
        run.model.weight.data.fill_(value)
        updated(callback, run)
        assert float(callback.mean.weights["weight"]) == pytest.approx(expected, rel=1e-12)


def test_lawa_is_the_mean_of_the_latest_ends_of_epochs():
    run = run_of(Number(0.0))
    callback = start(lawa(last=2), run)
    seen = []
    for step in range(1, 17):
        run.model.weight.data.fill_(step * step)
        updated(callback, run)
        seen.append(float(measured(callback, run)["weight"]))
    trained = [1.0, 4.0, 9.0]
    assert seen == trained + [16.0] * 4 + [(16 + 64) / 2] * 4 + [(64 + 144) / 2] * 4 + [(144 + 256) / 2]


def test_ema_agrees_with_torch_on_parameters_and_counts_batches_right_where_torch_does_not():
    run = run_of(net())
    theirs = AveragedModel(run.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    theirs.update_parameters(run.model)  # its first call copies
    callback = start(ema(decay=0.9, ramp=False, every=1), run)
    for step in range(5):
        move(run, step)
        theirs.update_parameters(run.model)
        updated(callback, run)
    for name, tensor in theirs.module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert int(callback.mean[name]) == 5 != int(tensor)
        else:
            assert torch.equal(callback.mean[name], tensor), name


def test_swa_agrees_with_torch_weights_and_with_statistics_of_all_rows_in_one_batch():
    run = run_of(net())
    theirs, callback = AveragedModel(run.model), start(swa(start=1, every=2), run)
    for step in range(6):
        move(run, step)
        updated(callback, run)
        if step % 2 == 0:
            theirs.update_parameters(run.model)
    theirs.module[2].p = 0.0  # torch leaves dropout on
    update_bn([DATA], theirs)  # in one batch, since torch gives batches of any size the same weight
    for name, tensor in measured(callback, run).items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(tensor, theirs.module.state_dict()[name], rtol=1e-6, atol=1e-7)


def test_swa_counts_every_model_once():
    """torch-uncertainty counts the first one twice: 1, 2, 3, 4 come to 2.2 there."""
    run = run_of(Number(0.0))
    callback = start(swa(start=1, every=1), run)
    for value in (1.0, 2.0, 3.0, 4.0):
        run.model.weight.data.fill_(value)
        updated(callback, run)
    assert float(measured(callback, run)["weight"]) == 2.5


def test_lawa_holds_copies_and_no_live_weights():
    """Its published scheduler holds the weights themselves on a CPU, so that all that it holds is the latest."""
    run = run_of(Number(0.0))
    callback = start(lawa(last=4), run)
    for step in range(1, 9):
        run.model.weight.data.fill_(step)
        updated(callback, run)
    assert [float(weights["weight"]) for weights in callback.held] == [4.0, 8.0]
    run.model.weight.data.fill_(100.0)
    assert float(measured(callback, run)["weight"]) == 6.0
    assert all(held["weight"].data_ptr() != run.model.weight.data_ptr() for held in callback.held)


@pytest.mark.parametrize("buffers", ["average", "copy"])
def test_buffers_of_ema_are_averaged_or_copied_as_asked(buffers):
    run = run_of(net())
    callback = start(ema(decay=0.5, ramp=False, every=1, buffers=buffers), run)
    before = run.model[1].running_mean.clone()
    move(run, 1)
    updated(callback, run)
    after = run.model[1].running_mean
    expected = after if buffers == "copy" else (before + after) / 2
    torch.testing.assert_close(callback.mean["1.running_mean"], expected)


def test_statistics_of_ema_are_measured_again_as_asked():
    run = run_of(net())
    callback = start(ema(decay=0.5, ramp=False, every=1, buffers="re-estimate"), run)
    for step in (1, 2):
        move(run, step)
        updated(callback, run)
        measured(callback, run)
    seen = measured(callback, run)
    hidden = DATA @ seen["0.weight"].T + seen["0.bias"]
    torch.testing.assert_close(seen["1.running_mean"], hidden.mean(0))
    torch.testing.assert_close(seen["1.running_var"], hidden.var(0))
    unseen = run_of(net())
    other = start(ema(decay=0.5, ramp=False, every=1, buffers="re-estimate"), unseen)
    for step in (1, 2):
        move(unseen, step)
        updated(other, unseen)
    assert_equal(measured(other, unseen), seen)


def test_what_is_averaged_in_16_bits_is_kept_in_32():
    run = run_of(net(torch.bfloat16))
    run.model[0].weight.data.fill_(1.0)
    callback = start(ema(decay=0.999, ramp=False, every=1), run)
    run.model[0].weight.data.fill_(2.0)
    for _ in range(100):
        updated(callback, run)
    assert float(callback.mean["0.weight"][0, 0]) == pytest.approx(2 - 0.999**100, rel=1e-5)
    assert measured(callback, run)["0.weight"].dtype is torch.bfloat16


def test_a_slow_average_of_16_bits_moves():
    """Held in 16 bits it would not: a move of a ten-thousandth is less than half their last digit."""
    run = run_of(net(torch.bfloat16))
    run.model[0].weight.data.fill_(1.0)
    callback = start(ema(decay=0.9999, ramp=False, every=1), run)
    run.model[0].weight.data.fill_(2.0)
    for _ in range(1000):
        updated(callback, run)
    assert float(callback.mean["0.weight"][0, 0]) == pytest.approx(2 - 0.9999**1000, rel=1e-4)


def test_every_and_start_say_when_an_average_takes_weights():
    run = run_of(Number(0.0))
    each, mean = start(ema(decay=0.9, every=3), run), start(swa(start=4, every=3), run)
    counts = []
    for step in range(1, 11):
        updated(each, run)
        run.step -= 1
        updated(mean, run)
        counts.append((each.count, mean.count))
        assert run.step == step
    assert counts == [(0, 0), (0, 0), (1, 0), (1, 1), (1, 1), (2, 1), (2, 2), (2, 2), (3, 2), (3, 3)]


@pytest.mark.parametrize("callback", [ema(decay=0.9, every=1), swa(start=1, every=1)], ids=["ema", "swa"])
def test_an_update_that_was_left_out_does_not_count(callback):
    run = run_of(Number(0.0))
    start(callback, run)
    updated(callback, run)
    updated(callback, run, updates=0, skipped=1)
    assert callback.count == 1


# ---------------------------------------------------------------- statistics


@pytest.mark.parametrize(
    "callback", [swa(start=1, every=1), ema(decay=0.5, every=1, buffers="re-estimate")], ids=["swa", "ema"]
)
def test_buffers_that_no_checkpoint_holds_are_in_no_mean(callback):
    run = run_of(net())
    run.model.register_buffer("scratch", torch.zeros(1), persistent=False)
    start(callback, run)
    for step in (1, 2, 3):
        move(run, step)
        updated(callback, run)
        measured(callback, run)


def test_statistics_count_each_row_alike_and_leave_all_else_as_it_is():
    run = run_of(net(), Feed(size=23))  # one batch of 23, and a single sample, which alone has no variance
    run.model.train()
    run.model[1].momentum = 0.3
    state = torch.get_rng_state()
    assert renew_batch_norm(run)
    hidden = run.model[0](DATA).detach()
    torch.testing.assert_close(run.model[1].running_mean, hidden.mean(0))
    torch.testing.assert_close(run.model[1].running_var, hidden.var(0))
    assert run.model[1].momentum == 0.3
    assert all(module.training for module in run.model.modules())
    assert torch.equal(state, torch.get_rng_state())
    assert not renew_batch_norm(run_of(Number(1.0)))


def test_weights_come_back_bit_for_bit_after_an_error_too_and_tied_ones_once():
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3), "norm": nn.BatchNorm1d(3)})
    model["b"].weight = model["a"].weight
    before = copy.deepcopy(model.state_dict())
    own = weights_of(model)
    assert "b.weight" not in own
    other = {name: torch.zeros_like(tensor) for name, tensor in own.items()}

    def fail() -> None:
        with exchanged(model, other):
            assert not model["b"].weight.any()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert_equal(model.state_dict(), before)
    assert model["b"].weight is model["a"].weight


# ---------------------------------------------------------------- continuing

MAKERS = {
    "ema": lambda: ema(decay=0.9, every=2),
    "ema re-estimated": lambda: ema(decay=0.9, every=2, buffers="re-estimate"),
    "switch_ema": lambda: switch_ema(decay=0.9, every=2),
    "swa": lambda: swa(start=3, every=2),
    "lawa": lambda: lawa(last=2),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("cut", range(0, 14, 3))
@pytest.mark.parametrize("evaluated", [False, True])
def test_stopped_anywhere_and_continued_is_straight_through(name, cut, evaluated):
    straight, broken = run_of(net()), run_of(net())
    one, other = start(MAKERS[name](), straight), start(MAKERS[name](), broken)
    for step in range(14):
        if step == cut:
            if evaluated:
                measured(one, straight)
                measured(other, broken)
            tensors: dict = {}
            written = json.dumps(checkpoint.split_state(other.trainkit_save(), "plugin", tensors))
            tensors = {key: tensor.clone() for key, tensor in tensors.items()}
            other = start(MAKERS[name](), broken)
            other.trainkit_restore(broken, checkpoint.join_state(json.loads(written), tensors))
        for run in (straight, broken):
            move(run, step)
        updated(one, straight)
        updated(other, broken)
        assert_equal(measured(one, straight), measured(other, broken))


# ---------------------------------------------------------------- whole runs

RECIPES = {
    "ema": 'use = "ema"\ndecay = 0.9\n',
    "swa": 'use = "swa"\nstart = "1ep"\n',
    "lawa": 'use = "lawa"\nlast = 2\n',
}


@pytest.mark.parametrize("name", RECIPES)
def test_evaluation_takes_the_average_and_training_does_not(train, plugins, name):
    class See:
        """Holds that the weights are the same before and after an evaluation."""

        @hookimpl(wrapper=True, tryfirst=True)
        def trainkit_evaluate(self, run, split):
            before = copy.deepcopy(run.model.state_dict())
            result = yield
            assert_equal(run.model.state_dict(), before)
            return result

    changes = [*BATCH_NORM, "model.dropout=0.3"]
    averaged = train(*changes, more=f"[[callback]]\n{RECIPES[name]}", listeners=[See()])
    plain = train(*changes)
    assert averaged.report.weights_sha256 == plain.report.weights_sha256, "training went on with its own weights"
    ours, theirs = ([line["loss"] for line in finished.of("val")] for finished in (averaged, plain))
    assert ours[-1] != theirs[-1]
    assert [line["loss"] for line in averaged.of("train")] == [line["loss"] for line in plain.of("train")]
    assert evaluate_run(averaged.folder, "val", plugins)["loss"] == averaged.report.metrics["val.loss"]
    assert evaluate_run(averaged.folder, "test", plugins)["loss"] == averaged.report.metrics["test.loss"]
    for finished in (averaged, plain):
        predicted = predict_run(finished.folder, "test", plugins)
        loss = nn.functional.cross_entropy(predicted["outputs"], predicted["targets"]).item()
        assert loss == pytest.approx(finished.report.metrics["test.loss"], rel=1e-6), "predict takes what is measured"


@pytest.mark.parametrize("name", RECIPES)
def test_measuring_more_often_changes_no_average(train, name):
    more = f"[[callback]]\n{RECIPES[name]}"
    once = train(*BATCH_NORM, more=more)
    again = train(*BATCH_NORM, "run.evaluate_every=3ba", more=more)
    assert once.report.weights_sha256 == again.report.weights_sha256
    assert once.report.metrics["val.loss"] == again.report.metrics["val.loss"]


def test_lawa_has_the_weights_of_an_epochs_end_when_that_epoch_is_measured(train):
    plain, averaged = train(), train(more='[[callback]]\nuse = "lawa"\nlast = 2\n')
    assert averaged.of("val")[0]["loss"] == plain.of("val")[0]["loss"], "the mean of one"
    assert averaged.of("val")[1]["loss"] != plain.of("val")[1]["loss"]


def test_two_averages_are_a_problem(load):
    with pytest.raises(RecipeError, match="takes over the evaluation"):
        load(more='[[callback]]\nuse = "ema"\n[[callback]]\nuse = "swa"\n')


def test_ema_must_see_every_update(load):
    with pytest.raises(RecipeError, match="must be called at every update"):
        load("run.compile=step", "run.updates_per_call=2", more='[[callback]]\nuse = "ema"\n')


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # the compiler's own modules use it
def test_ema_follows_compiled_steps(train):
    """Where torch cannot compile, the run goes on eagerly and the test holds all the same."""
    changes, more = ["optimizer.lr=0.3", "run.duration=3ep"], f"[[callback]]\n{RECIPES['ema']}"
    torch._dynamo.reset()
    eager, compiled = train(*changes, more=more), train(*changes, "run.compile=step", more=more)
    for ours, theirs in zip(compiled.of("val"), eager.of("val"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_a_mean_that_would_never_begin_is_a_problem_at_its_line(train):
    more = '[[callback]]\nuse = "early_stop"\n[[callback]]\nuse = "swa"\nstart = "3ep"\n'
    with pytest.raises(RecipeError, match="swa: start is update 24, the run ends at 16") as raised:
        train(more=more)
    assert raised.value.problems[0].place.source == 'start = "3ep"'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('use = "ema"\ndecay = 1', "decay"),
        ('use = "ema"\ndecay = -0.1', "decay"),
        ('use = "ema"\nbuffers = "keep"', "buffers"),
        ('use = "ema"\nevery = 3', "every"),
        ('use = "swa"\nstart = "soon"', "start"),
        ('use = "lawa"\nlast = 1', "last"),
    ],
)
def test_what_is_out_of_range_is_a_problem(load, text, said):
    with pytest.raises(RecipeError, match=said):
        load(more=f"[[callback]]\n{text}\n")


def test_no_time_between_two_averagings_is_a_problem(train):
    with pytest.raises(RecipeError, match=r'every = "0.1ba" comes to 0 updates'):
        train(more='[[callback]]\nuse = "ema"\nevery = "0.1ba"\n')
