"""lookahead and gradient_centralization: their numbers, their place among other callbacks, and that they continue."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from trainkit import RecipeError, hookimpl
from trainkit.finished import evaluate_run, predict_run
from trainkit_callbacks import gradient_centralization

EXACT = "model={use='exact'}"
LOOK = '[[callback]]\nuse = "lookahead"\nevery = "3ba"\nalpha = 0.3\n'
CENTRE = '[[callback]]\nuse = "gradient_centralization"\n'


class Batches:
    """Keeps the batches of each update, the weights before the first and the model itself."""

    def __init__(self) -> None:
        self.updates: list[list[tuple[torch.Tensor, torch.Tensor]]] = []
        self.at = -1

    @hookimpl
    def trainkit_run_start(self, run) -> None:
        self.model = copy.deepcopy(run.model)

    @hookimpl
    def trainkit_loss(self, run, batch) -> None:
        if run.step != self.at:
            self.at = run.step
            self.updates.append([])
        self.updates[-1].append((batch.inputs.clone(), batch.targets.clone()))


def by_hand(batches: Batches, every: int, alpha: float, make) -> tuple[dict, dict]:
    """The weights and slow weights that the paper's algorithm 1 gives on the same batches."""
    model = batches.model
    optimizer = make(model.parameters())
    slow = {name: p.detach().clone() for name, p in model.named_parameters()}
    for count, parts in enumerate(batches.updates, 1):
        inputs, targets = (torch.cat(column) for column in zip(*parts, strict=True))
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        if count % every == 0:
            for name, p in model.named_parameters():
                slow[name] = slow[name] + alpha * (p.detach() - slow[name])
                p.data.copy_(slow[name])
    return dict(model.named_parameters()), slow


def assert_close(one, other) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor.detach(), other[name].detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize(
    ("optimizer", "make"),
    [
        ("{use='sgd', lr=0.1, momentum=0.9}", lambda p: torch.optim.SGD(p, 0.1, 0.9)),
        ("{use='adamw', lr=0.01, weight_decay=0.0}", lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.0)),
    ],
)
def test_lookahead_is_the_papers_algorithm_whatever_the_accumulation(train, accumulate, optimizer, make):
    batches = Batches()
    sizes = f"data.batch_size={16 // accumulate}", f"run.accumulate={accumulate}"
    finished = train(EXACT, *sizes, f"optimizer={optimizer}", more=LOOK, listeners=[batches])
    weights, slow = by_hand(batches, 3, 0.3, make)
    assert_close(finished.weights, weights)
    (callback,) = [impl.plugin for impl in finished.run.hook.trainkit_save.get_hookimpls()]
    assert_close(callback.slow, slow)


SLOWER = LOOK + 'start = "4ba"\nrise = 2.0\nbuffers = "slow"\nepoch_end = "slow"\n'
WITH_NORM = "model={use='mlp', widths=[8], norm='batch'}"


class Weights:
    """Keeps all weights and buffers as they are before and after the callback has seen each update."""

    stateless = True

    def __init__(self) -> None:
        self.before: list[dict[str, torch.Tensor]] = []
        self.after: list[dict[str, torch.Tensor]] = []

    @hookimpl(wrapper=True)
    def trainkit_step_end(self, run):
        self.before.append(copy.deepcopy(run.model.state_dict()))
        result = yield
        self.after.append(copy.deepcopy(run.model.state_dict()))
        return result


def test_slow_weights_begin_late_and_become_slower_with_the_buffers(train):
    """Of 16 updates in two epochs every third: begun at 6, drawn back at 9, 12 and 15, and put back at 8 and 16."""
    weights = Weights()
    finished = train(WITH_NORM, more=SLOWER, listeners=[weights])
    (callback,) = [impl.plugin for impl in finished.run.hook.trainkit_save.get_hookimpls()]
    slow: dict[str, torch.Tensor] = {}
    for step, (before, after) in enumerate(zip(weights.before, weights.after, strict=True), 1):
        expected = dict(before)
        floating = {name: tensor for name, tensor in before.items() if tensor.is_floating_point()}
        if step == 6:
            slow = copy.deepcopy(floating)
        elif slow and step % 3 == 0:
            alpha = 1 - 0.7 * (step / 16) ** 2
            expected |= (slow := {name: torch.lerp(slow[name], tensor, alpha) for name, tensor in floating.items()})
        if step in (8, 16):
            expected |= slow
        for name, tensor in after.items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-7)
    assert callback.slow.keys() == slow.keys()
    assert any("running_mean" in name for name in slow)
    assert not torch.equal(weights.before[7]["head.weight"], weights.after[7]["head.weight"])


def test_before_the_slow_weights_begin_the_trained_ones_are_measured(train):
    plain = train(WITH_NORM)
    late = train(WITH_NORM, more=LOOK + 'start = "17ba"\nevaluate = "slow"\n')
    assert late.report.weights_sha256 == plain.report.weights_sha256
    assert late.report.metrics == plain.report.metrics


@pytest.mark.parametrize("step", [5, 7, 13])
def test_late_and_slower_weights_go_on_bit_for_bit(train, halves, step):
    assert (
        halves(step, WITH_NORM, more=SLOWER).report.weights_sha256
        == train(WITH_NORM, more=SLOWER).report.weights_sha256
    )


def test_an_alpha_of_one_draws_nothing_back(train):
    assert train(more=LOOK.replace("0.3", "1.0")).report.weights_sha256 == train().report.weights_sha256


@pytest.mark.parametrize("evaluate", ["fast", "slow"])
def test_what_is_measured_is_what_was_asked_for(train, plugins, evaluate):
    class See:
        """The weights that evaluations see, and those that come back after them."""

        @hookimpl(tryfirst=True)
        def trainkit_evaluate(self, run):
            self.seen = copy.deepcopy(run.model.state_dict())

    see = See()
    finished = train("model.norm=batch", more=f'{LOOK}evaluate = "{evaluate}"\n', listeners=[see])
    (callback,) = [impl.plugin for impl in finished.run.hook.trainkit_save.get_hookimpls()]
    for name, tensor in finished.weights.items():  # 16 updates: one after the last drawing back
        expected = callback.slow.get(name, tensor) if evaluate == "slow" else tensor
        assert torch.equal(see.seen[name], expected), name
        if name in callback.slow:
            assert not torch.equal(callback.slow[name], tensor)
    found = evaluate_run(finished.folder, "test", plugins)
    assert found["loss"] == finished.report.metrics["test.loss"]
    predicted = predict_run(finished.folder, "test", plugins)
    loss = functional.cross_entropy(predicted["outputs"], predicted["targets"]).item()
    assert loss == pytest.approx(found["loss"], rel=1e-6)


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 6, 8, 13])
def test_stopped_anywhere_and_continued_is_straight_through(train, halves, timeless, cut):
    more = f'{LOOK}evaluate = "slow"\n{CENTRE}'
    changes = "optimizer={use='adamw', lr=0.05}", "run.evaluate_every=4ba"
    straight, broken = train(*changes, more=more), halves(cut, *changes, more=more)
    assert broken.report.weights_sha256 == straight.report.weights_sha256
    assert timeless(broken) == timeless(straight)


def test_an_average_takes_the_weights_that_training_goes_on_with(train):
    averages = '[[callback]]\nuse = "ema"\ndecay = 0.5\n'
    one, other = train(more=averages + LOOK), train(more=LOOK + averages)
    assert one.report.metrics == other.report.metrics


@pytest.mark.parametrize("average", ["ema", "swa", "lawa"])
def test_slow_weights_and_an_average_cannot_both_be_measured(load, average):
    load(more=f'{LOOK}[[callback]]\nuse = "{average}"\n')
    with pytest.raises(RecipeError) as raised:
        load(more=f'[[callback]]\nuse = "{average}"\n{LOOK}evaluate = "slow"\n')
    (problem,) = raised.value.problems
    assert problem.message.endswith(f'evaluate = "slow" takes over the evaluation, as {average} does')
    assert problem.place.source == 'evaluate = "slow"'


def test_slow_weights_of_16_bits_are_kept_in_32(train):
    class Half:
        @hookimpl
        def trainkit_prepare_model(self, model):
            model.bfloat16()
            model.register_forward_pre_hook(lambda module, inputs: (inputs[0].bfloat16(),))

    finished = train("run.save_every=9ep", more=LOOK, listeners=[Half()])
    (callback,) = [impl.plugin for impl in finished.run.hook.trainkit_save.get_hookimpls()]
    assert {tensor.dtype for tensor in callback.slow.values()} == {torch.float32}
    assert {tensor.dtype for tensor in finished.weights.values()} == {torch.bfloat16}


# ---------------------------------------------------------------- gradient_centralization


@pytest.mark.parametrize("conv_only", [False, True])
def test_the_mean_over_all_but_the_first_dimension_is_taken_away(conv_only):
    torch.manual_seed(1)
    shapes = (5,), (), (4, 6), (3, 2, 5), (4, 3, 2, 2)
    gradients = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    expected = copy.deepcopy(gradients)
    for values in expected[3 if conv_only else 2 :]:
        for unit in values:  # in place: a view
            unit -= sum(unit.flatten().tolist()) / unit.numel()
    gradient_centralization(conv_only=conv_only).trainkit_gradients(gradients)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    for ours in gradients[3 if conv_only else 2 :]:
        assert float(ours.flatten(1).mean(1).abs().max()) < 1e-15


def test_it_agrees_with_another_library():
    library = pytest.importorskip("pytorch_optimizer.optimizer.gradient_centralization")
    for shape in ((5,), (4, 6), (4, 3, 2, 2)):
        ours = torch.randn(shape, dtype=torch.float64)
        theirs = ours.clone()
        library.centralize_gradient(theirs, gc_conv_only=False)
        gradient_centralization().trainkit_gradients([ours])
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_gradients_are_centred_once_they_are_summed(train, accumulate):
    whole = train(EXACT, more=CENTRE)
    parts = train(EXACT, f"data.batch_size={16 // accumulate}", f"run.accumulate={accumulate}", more=CENTRE)
    assert_close(parts.weights, whole.weights)
    first = whole.run.model.get_parameter("layers.0.weight")
    assert not torch.allclose(first, train(EXACT).weights["layers.0.weight"])


def test_the_mean_goes_before_noise_and_clipping_wherever_it_stands(train):
    order: list[str] = []

    class See:
        @hookimpl
        def trainkit_run_start(self, run):
            impls = reversed(run.hook.trainkit_gradients.get_hookimpls())
            order.extend(impl.plugin_name.rpartition(".")[2] for impl in impls)

    others = (
        'use = "clip_norm"\nmax_norm = 1',
        'use = "clip_value"\nmax_value = 1',
        'use = "agc"',
        'use = "gradient_noise"',
    )
    more = "".join(f"[[callback]]\n{text}\n" for text in others) + CENTRE
    train("run.duration=1ba", more=more, listeners=[See()])
    assert order == ["gradient_centralization", "clip_value", "agc", "clip_norm", "gradient_noise"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # the compiler's own modules use it
def test_compiled_it_is_the_eager_run_up_to_rounding(train, capfd):
    """Where torch cannot compile, the run goes on eagerly and the test holds all the same."""
    torch._dynamo.reset()
    more = CENTRE + '[[callback]]\nuse = "clip_norm"\nmax_norm = 0.5\n'
    eager, compiled = train(more=more), train("run.compile=step", "run.updates_per_call=1", more=more)
    assert "does not say that it can be compiled" not in capfd.readouterr().err
    for name, weights in compiled.weights.items():
        torch.testing.assert_close(weights, eager.weights[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('use = "lookahead"\nalpha = 0', "alpha"),
        ('use = "lookahead"\nalpha = 1.5', "alpha"),
        ('use = "lookahead"\nevery = "0ba"', "every must be longer than nothing"),
        ('use = "lookahead"\nevaluate = "both"', "evaluate"),
        ('use = "lookahead"\n[[callback]]\nuse = "lookahead"', "cannot be in one recipe with"),
        ('use = "gradient_centralization"\nconv_only = 1', "conv_only"),
    ],
)
def test_what_makes_no_sense_is_a_problem(train, text, said):
    with pytest.raises(RecipeError, match=said):
        train(more=f"[[callback]]\n{text}\n")


@pytest.mark.parametrize("wrapper", ["lookahead", "trainkit_optimizers:lookahead"])
def test_one_lookahead_is_enough(train, wrapper):
    with pytest.raises(RecipeError) as caught:
        train(more=f'[[optimizer.wrap]]\nuse = "sam"\n[[optimizer.wrap]]\nuse = "{wrapper}"\n{LOOK}')
    (problem,) = caught.value.problems
    said = "[[callback]] lookahead draws the weights back to slow ones, as [[optimizer.wrap]] lookahead does"
    assert (problem.message, problem.cure) == (said, "leave one of them out")
    assert problem.place.source == 'use = "lookahead"'


def test_a_lookahead_goes_with_another_wrapper(train):
    assert train(more=f'[[optimizer.wrap]]\nuse = "sam"\n{LOOK}').report.status == "finished"
