"""norms and update_ratio: their figures against a recomputation, what counts for them, and that they change nothing."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from trainkit import RecipeError, hookimpl
from trainkit_callbacks import norms, update_ratio

EXACT = "model={use='exact'}"
DECAY = "optimizer.weight_decay=0.1"  # biases are a group of their own then
NORMS = '[[callback]]\nuse = "norms"\n'
CLIP = '[[callback]]\nuse = "clip_norm"\nmax_norm = 0.05\n'
RATIO = '[[callback]]\nuse = "update_ratio"\n'


def length(tensors) -> float:
    """Their common norm, with exactly rounded sums."""
    return math.sqrt(math.fsum(x * x for tensor in tensors for x in tensor.double().flatten().tolist()))


class Watch:
    """Keeps gradients, and weights before and after each update, by group."""

    def __init__(self) -> None:
        self.gradients: list[list[list[torch.Tensor]]] = []
        self.weights: list[list[list[torch.Tensor]]] = []

    def weights_of(self, run):
        return [[p.detach().clone() for p in group["params"]] for group in run.optimizer.param_groups]

    @hookimpl
    def trainkit_run_start(self, run) -> None:
        self.weights.append(self.weights_of(run))

    @hookimpl(tryfirst=True)
    def trainkit_gradients(self, run, gradients) -> None:
        groups = run.optimizer.param_groups
        self.gradients.append([[p.grad.clone() for p in group["params"] if p.grad is not None] for group in groups])

    @hookimpl
    def trainkit_step_end(self, run) -> None:
        self.weights.append(self.weights_of(run))


def joined(groups):
    return [tensor for group in groups for tensor in group]


@pytest.mark.parametrize(("log", "marks"), [("1ep", [8, 16]), ("3ba", [3, 6, 9, 12, 15, 16]), ("1ba", range(1, 17))])
def test_gradient_norms_are_means_since_the_last_line_and_weight_norms_those_at_it(train, log, marks):
    watch = Watch()
    lines = train(EXACT, DECAY, f'run.log_every="{log}"', more=NORMS, listeners=[watch]).of("train")
    assert [line["step"] for line in lines] == list(marks)
    for first, end, line in zip([0, *marks], marks, lines, strict=False):
        every = watch.gradients[first:end]
        expected = math.fsum(length(joined(groups)) for groups in every) / len(every)
        assert line["gradient_norm"] == pytest.approx(expected, rel=1e-12)
        assert line["weight_norm"] == pytest.approx(length(joined(watch.weights[end])), rel=1e-12)
        for number in (0, 1):
            expected = math.fsum(length(groups[number]) for groups in every) / len(every)
            assert line[f"gradient_norm/{number}"] == pytest.approx(expected, rel=1e-12)
            assert line[f"weight_norm/{number}"] == pytest.approx(length(watch.weights[end][number]), rel=1e-12)
        # The listener is a callback that takes part in the gradients, and leaves them as they are.
        assert line["gradient_norm_used"] == line["gradient_norm"]
        assert list(line)[4:6] == ["loss", "accuracy"]
        assert list(line)[-2:] == ["lr/0", "lr/1"]


@pytest.mark.parametrize("more", [NORMS + CLIP, CLIP + NORMS], ids=["first", "last"])
def test_norms_are_those_before_any_clipping_and_after_all_of_it(train, more):
    clipped, plain = train(EXACT, 'run.log_every="1ba"', more=more), train(EXACT, 'run.log_every="1ba"', more=NORMS)
    assert "gradient_norm_used" not in plain.of("train")[0], "where nobody changes gradients it would say the same"
    first = clipped.of("train")[0]
    assert first["gradient_norm"] == plain.of("train")[0]["gradient_norm"] > 0.05
    for line in clipped.of("train"):
        assert line["gradient_norm_used"] == pytest.approx(0.05, rel=1e-4)
        parts = line["gradient_norm_used/0"]
        assert parts == pytest.approx(line["gradient_norm_used"], rel=1e-12), "there is one group"


def test_one_can_leave_out_what_one_does_not_want(train):
    def names(more: str) -> set[str]:
        return {name for name in train(DECAY, more=NORMS + more).of("train")[0] if "norm" in name}

    assert names("groups = false\n") == {"gradient_norm", "weight_norm"}
    assert names("gradients = false\n") == {"weight_norm", "weight_norm/0", "weight_norm/1"}
    assert names("weights = false\ngroups = false\n") == {"gradient_norm"}


@pytest.mark.parametrize("callback", [NORMS + CLIP, RATIO])
def test_watching_changes_nothing_and_stands_in_the_training_lines_alone(train, callback):
    plain = train(EXACT, more=CLIP if CLIP in callback else "")
    watched = train(EXACT, more=callback)
    assert watched.report.weights_sha256 == plain.report.weights_sha256
    for line in watched.lines:
        mine = [name for name in line if name.startswith(("gradient_norm", "weight_norm", "update_ratio"))]
        assert bool(mine) == (line["split"] == "train")
    assert not [name for name in watched.report.metrics if "norm" in name or "ratio" in name]


def test_accumulated_batches_have_the_norms_of_one_large_batch(train):
    changes = EXACT, DECAY, 'run.log_every="2ba"'
    runs = [train(*changes, f"data.batch_size={64 // n}", f"run.accumulate={n}", more=NORMS + RATIO) for n in (1, 2, 4)]
    for run in runs[1:]:
        for mine, first in zip(run.of("train"), runs[0].of("train"), strict=True):
            for name in ("gradient_norm", "gradient_norm/0", "weight_norm", "weight_norm/1"):
                assert mine[name] == pytest.approx(first[name], rel=1e-12)
            assert mine.get("update_ratio/1") == pytest.approx(first.get("update_ratio/1"), rel=1e-12)


@pytest.mark.parametrize("cut", [1, 4, 5, 7, 8, 11])
@pytest.mark.parametrize("more", [NORMS + CLIP, RATIO + 'every = "3ba"\n'], ids=["norms", "update_ratio"])
def test_stopped_anywhere_and_continued_is_straight_through(train, halves, timeless, cut, more):
    changes = "run.log_every=5ba", DECAY
    assert timeless(halves(cut, *changes, more=more)) == timeless(train(*changes, more=more))


def test_an_update_that_was_left_out_does_not_count():
    weights = torch.nn.Parameter(torch.zeros(2))
    run = SimpleNamespace(
        sharded=None,
        optimizer=SimpleNamespace(param_groups=[{"params": [weights]}]),
        hook=SimpleNamespace(trainkit_gradients=SimpleNamespace(get_hookimpls=lambda: [0])),
    )
    callback = norms(weights=False, groups=False)
    callback.trainkit_run_start(run)
    for gradient, updates in (([3.0, 4.0], 1), ([math.inf, math.nan], 0), ([6.0, 8.0], 1)):
        weights.grad = torch.tensor(gradient)
        assert next(callback.trainkit_gradients(run, [weights.grad])) is None
        callback.trainkit_step_end(SimpleNamespace(updates=updates))
    assert callback.trainkit_figures(run) == {"gradient_norm": 7.5}
    assert callback.trainkit_figures(run) == {}, "nothing since the last line"


def test_of_several_gradients_of_one_update_the_first_are_measured(train):
    class First(Watch):
        @hookimpl(tryfirst=True)
        def trainkit_gradients(self, run, gradients) -> None:
            self.seen.append((run.step, length(gradients)))

        seen: list[tuple[int, float]] = []

    first = First()
    lines = train(EXACT, "optimizer={use='lbfgs', lr=0.5}", "run.log_every=1ba", more=NORMS, listeners=[first])
    for step, line in enumerate(lines.of("train")):
        norm = next(value for at, value in first.seen if at == step)
        assert line["gradient_norm"] == pytest.approx(norm, rel=1e-12)


def test_norms_of_16_bits_are_not_rounded_to_16_bits():
    weights = [torch.full((1000,), 1.01, dtype=torch.bfloat16)]
    group = {"params": weights}
    run = SimpleNamespace(sharded=None, optimizer=SimpleNamespace(param_groups=[group]))
    value = float(weights[0][0])
    figures = norms(gradients=False).trainkit_figures(run)
    assert figures["weight_norm"] == pytest.approx(value * math.sqrt(1000), rel=1e-6)


# ---------------------------------------------------------------- update_ratio


@pytest.mark.parametrize(("every", "marks"), [("1ep", [8, 16]), ("3ba", [3, 6, 9, 12, 15]), ("1ba", range(1, 17))])
@pytest.mark.parametrize("optimizer", ["{use='sgd', lr=0.1, weight_decay=0.1}", "{use='adamw', lr=0.01}"])
def test_the_ratio_is_that_of_the_last_update_of_each_period(train, every, marks, optimizer):
    watch = Watch()
    changes = EXACT, f"optimizer={optimizer}", "run.log_every=1ba"
    lines = train(*changes, more=f'{RATIO}every = "{every}"\n', listeners=[watch]).of("train")
    assert [line["step"] for line in lines if "update_ratio/0" in line] == list(marks)
    for step in marks:
        for number in (0, 1):
            before, after = watch.weights[step - 1][number], watch.weights[step][number]
            moved = length([b - a for a, b in zip(before, after, strict=True)])
            expected = moved / length(before)
            assert lines[step - 1][f"update_ratio/{number}"] == pytest.approx(expected, rel=1e-10)


def test_the_newest_ratio_waits_for_the_next_line(train):
    watch = Watch()
    lines = train(EXACT, "run.log_every=5ba", more=RATIO + 'every = "2ba"\n', listeners=[watch]).of("train")
    for line, step in zip(lines, (4, 10, 14, 16), strict=True):
        before, after = watch.weights[step - 1][0], watch.weights[step][0]
        expected = length([b - a for a, b in zip(before, after, strict=True)]) / length(before)
        assert line["update_ratio/0"] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("lr", "said"), [("1e-7", "below 1e-05"), ("1e-2", None), ("30.0", "above 0.1")], ids=["low", "right", "high"]
)
def test_a_group_outside_the_limits_is_told_once(train, capfd, lr, said):
    changes = EXACT, f"optimizer={{use='sgd', lr={lr}, weight_decay=1e-6}}", "run.duration=4ep"
    finished = train(*changes, more=RATIO)
    told = [line for line in capfd.readouterr().err.splitlines() if "update_ratio/" in line]
    ratios = [finished.of("train")[0][f"update_ratio/{number}"] for number in (0, 1)]
    outside = [number for number, ratio in enumerate(ratios) if not 1e-5 <= ratio <= 1e-1]
    assert len(told) == (2 if said else 0) >= len(outside)
    for number, line in enumerate(sorted(told)):
        assert line.startswith(f"note: update_ratio/{number} (layers.0.{('weight', 'bias')[number]}, ")
        assert f", {said}: about 1e-3 is usual" in line
        if number in outside:
            assert f"is {ratios[number]:.3g} at update 8, " in line


def test_small_updates_at_the_end_of_a_schedule_are_no_news(train, capfd):
    more = RATIO + 'every = "1ba"\nhigh = 1.0\nlow = 1e-4\n'
    changes = "run.log_every=1ba", "optimizer={use='sgd', lr=0.02}", "run.duration=12ep"
    finished = train(*changes, more=more + '[schedule]\nuse = "polynomial"\npower = 2.0\n')
    ratios = [line["update_ratio/0"] for line in finished.of("train")]
    rates = [line["lr/0"] for line in finished.of("train")]
    assert min(ratios) < 1e-4 < min(r for r, lr in zip(ratios, rates, strict=True) if lr > 0.002)
    assert "update_ratio" not in capfd.readouterr().err


def test_the_limits_are_settings_and_continuing_tells_nothing_twice(halves, capfd):
    more = RATIO + 'every = "2ba"\nhigh = 1e-4\nlow = 0\n'
    halves(8, "run.log_every=2ba", more=more)
    said = capfd.readouterr().err
    assert said.count("update_ratio/0") == 1
    assert "above 0.0001" in said


def test_frozen_parameters_and_weights_of_zero_have_no_ratio(train):
    frozen = '[[callback]]\nuse = "freeze"\nmatch = ["body.*"]\nunfreeze = { "body.*" = "1ep" }\n'
    watch = Watch()
    lines = train("run.log_every=1ba", more=RATIO + 'every = "1ba"\n' + frozen, listeners=[watch]).of("train")
    names = ["body.0.weight", "body.0.bias", "head.weight", "head.bias"]
    for step in (8, 9):  # the last update without the body, the first with it
        chosen = [i for i, name in enumerate(names) if step == 9 or name.startswith("head")]
        before, after = ([weights[0][i] for i in chosen] for weights in watch.weights[step - 1 : step + 1])
        expected = length([b.double() - a.double() for a, b in zip(before, after, strict=True)]) / length(before)
        assert lines[step - 1]["update_ratio/0"] == pytest.approx(expected, rel=1e-5)
    weights = torch.nn.Parameter(torch.zeros(3))
    run = SimpleNamespace(
        step=0,
        sharded=None,
        optimizer=SimpleNamespace(param_groups=[{"params": [weights], "names": ["w"], "lr": 1}]),
    )
    callback = update_ratio(every=1)
    callback.trainkit_run_start(run)
    callback.trainkit_epoch_start(run)
    weights.data.fill_(1.0)
    run.step = 1
    callback.trainkit_step_end(run)
    assert callback.trainkit_figures(run) == {}


def test_an_update_that_was_left_out_is_not_the_one_that_is_measured():
    weights = torch.nn.Parameter(torch.ones(4))
    said: list[str] = []
    group = {"params": [weights], "names": ["w"], "lr": 0.1}
    run = SimpleNamespace(step=0, sharded=None, optimizer=SimpleNamespace(param_groups=[group]), say=said.append)
    callback = update_ratio(every=2)
    callback.trainkit_run_start(run)
    callback.trainkit_epoch_start(run)
    for made, value in ((1, 2.0), (0, 2.0), (0, 2.0), (1, 2.5)):
        run.step += made
        weights.data.fill_(value)
        callback.trainkit_step_end(run)
    assert callback.trainkit_figures(run) == {"update_ratio/0": pytest.approx(0.25)}


def test_the_lookahead_of_an_update_counts_as_part_of_it(train):
    more = RATIO + 'every = "2ba"\n[[callback]]\nuse = "lookahead"\nevery = "1ba"\nalpha = 0.5\n'
    watch = Watch()
    lines = train(EXACT, "run.log_every=2ba", more=more, listeners=[watch]).of("train")
    before, after = watch.weights[1][0], watch.weights[2][0]
    expected = length([b - a for a, b in zip(before, after, strict=True)]) / length(before)
    assert lines[0]["update_ratio/0"] == pytest.approx(expected, rel=1e-10)


# ---------------------------------------------------------------- what does not go


def test_norms_go_on_eagerly_where_a_compiled_step_is_asked_for_and_ratios_are_not_in_its_way(train, capfd):
    eager = train(more=NORMS)
    compiled = train("run.compile=step", more=NORMS)
    assert 'compile = "step" is not used: norms takes part in the gradients' in capfd.readouterr().err
    assert compiled.report.weights_sha256 == eager.report.weights_sha256
    assert compiled.of("train")[0]["gradient_norm"] == eager.of("train")[0]["gradient_norm"]
    with pytest.raises(RecipeError, match="must be called at every update"):
        train("run.compile=step", "run.updates_per_call=2", more=RATIO)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('use = "norms"\ngradients = false\nweights = false', "leave nothing to write"),
        ('use = "norms"\n[[callback]]\nuse = "norms"', "cannot be in one recipe with"),
        ('use = "update_ratio"\n[[callback]]\nuse = "update_ratio"', "cannot be in one recipe with"),
        ('use = "update_ratio"\nlow = 0.2', "low = 0.2 must be below high = 0.1"),
        ('use = "update_ratio"\nlow = -1.0', "low"),
        ('use = "update_ratio"\nevery = "0ba"', "every must be longer than nothing"),
    ],
)
def test_what_makes_no_sense_is_a_problem(train, text, said):
    with pytest.raises(RecipeError, match=said):
        train(more=f"[[callback]]\n{text}\n")
