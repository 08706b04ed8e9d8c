"""Ensemblers that weigh members alike: what they have trained, what they choose, and their honest figures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from scipy.special import softmax
from torch import Tensor

from tests.plugins.ensemblers.made import (
    BINARY,
    NUMBERS,
    Bench,
    Told,
    drawn,
    fitted,
    given_by,
    members_of,
    validation,
    weights_of,
)
from trainkit import UsageError
from trainkit_ensemblers.methods import bagging, convex, folds, greedy, seeds, stacking, topk, vote
from trainkit_ensemblers.of_weights import fge, snapshots

# ---------------------------------------------------------------- where members come from


def test_seeds_differ_in_their_seed_and_not_in_their_data() -> None:
    """A peer copied one model: all its members began with the same weights."""
    bench = Bench(seed=7)
    assert len(seeds(members=3).gather(bench)) == 3
    assert bench.asked == [{"seed": 7 + number, "data.seed": 7} for number in range(3)]
    bench = Bench(seed=7, data_seed=4)
    seeds(members=2).gather(bench)
    assert bench.asked == [{"seed": 7, "data.seed": 4}, {"seed": 8, "data.seed": 4}]


def test_folds_and_draws_are_settings_of_the_data() -> None:
    bench = Bench(seed=7)
    folds(folds=3, fold_by="none").gather(bench)
    cut = {"data.seed": 7, "data.folds": 3, "data.fold_by": "none"}
    assert bench.asked == [{"seed": 7 + fold, "data.fold": fold, **cut} for fold in range(3)]
    bench = Bench(seed=7)
    bagging(members=3).gather(bench)
    assert bench.asked == [{"seed": 7 + number, "data.seed": 7, "data.bag": number} for number in range(3)]


CHOOSERS = [topk(members=2), greedy(0, members=2), convex(members=2), vote(members=2), stacking(0, members=2)]


@pytest.mark.parametrize("chooser", CHOOSERS, ids=lambda made: type(made).__name__)
def test_choosers_take_given_runs_else_trials_else_train_seeds(chooser: Any) -> None:
    some, more = members_of(torch.zeros(3, 1, 3)), members_of(torch.zeros(4, 1, 3))
    assert chooser.gather(Bench(some, more)) == some[:2]  # named runs come before trials
    assert chooser.gather(Bench(None, more)) == more[:2]
    bench = Bench()
    assert len(chooser.gather(bench)) == 2
    assert bench.asked == [{"seed": 7, "data.seed": 7}, {"seed": 8, "data.seed": 7}]


def test_all_trials_are_chosen_from_and_five_seeds_trained_where_nothing_is_said() -> None:
    trials = members_of(torch.zeros(12, 1, 3))
    assert greedy(0).gather(Bench(None, trials)) == trials
    assert len(greedy(0).gather(Bench())) == 5


def test_the_others_take_given_runs_and_pass_over_trials() -> None:
    some, trials = members_of(torch.zeros(3, 1, 3)), members_of(torch.zeros(4, 1, 3))
    assert seeds().gather(Bench(some, trials)) == some
    bench = Bench(None, trials)
    assert len(seeds(members=2).gather(bench)) == 2
    assert len(bench.asked) == 2


def test_given_runs_must_be_folds_or_draws() -> None:
    some = members_of(torch.zeros(2, 1, 3))
    with pytest.raises(UsageError, match=r"m0 was trained on no fold: its recipe has no data\.folds"):
        folds().gather(Bench(some))
    with pytest.raises(UsageError, match=r"m0 was trained on no bootstrap draw: its recipe has no data\.bag"):
        bagging().gather(Bench(some))
    for one in some:
        one.recipe["data"].update(folds=2, bag=0)
    assert folds().gather(Bench(some)) == bagging().gather(Bench(some)) == some


def test_a_figure_that_does_not_fit_is_refused_before_anything_is_measured() -> None:
    some = members_of(torch.zeros(2, 1, 2), NUMBERS)
    with pytest.raises(UsageError, match='metric = "nll" is no figure of a regression task'):
        topk(metric="nll").gather(Bench(some))


# ---------------------------------------------------------------- means


def nll(probabilities: Any, targets: Tensor) -> float:
    return float(-numpy.log(numpy.asarray(probabilities)[range(len(targets)), targets.numpy()]).mean())


def test_seeds_are_the_mean_probability_or_the_mean_logit() -> None:
    outputs, targets = drawn(4, 30)
    made = fitted(seeds(combine="probability"), outputs, targets)
    expected = softmax(outputs.numpy(), axis=2).mean(0)
    numpy.testing.assert_allclose(given_by(made, 30).softmax(1), expected, rtol=2e-6)
    made = fitted(seeds(combine="logit"), outputs, targets)
    numpy.testing.assert_allclose(given_by(made, 30), outputs.mean(0), rtol=2e-6, atol=1e-6)
    assert "nll" not in made.state()


@pytest.mark.parametrize("seed", range(6))
def test_auto_takes_what_is_likelier_on_validation_and_says_both(seed: int) -> None:
    outputs, targets = drawn(4, 30, seed=seed)
    told = Told()
    made = fitted(seeds(), outputs, targets, say=told)
    # A peer computed its loss of probabilities, as if they were logits.
    each = {
        "probability": nll(softmax(outputs.double().numpy(), axis=2).mean(0), targets),
        "logit": nll(softmax(outputs.double().mean(0).numpy(), axis=1), targets),
    }
    assert made.state()["nll"] == pytest.approx(each, rel=1e-9)
    best = min(each, key=lambda space: each[space])
    assert made.state()["combine"] == best
    assert told.lines == [
        f"combine = {best}: negative log likelihood on validation "
        + " against ".join(f"{each[space]:.4f} of {space}" for space in sorted(each, key=lambda space: space != best))
    ]


def test_both_means_are_chosen_at_times() -> None:
    outputs, targets = drawn(4, 30)
    overconfident = outputs.clone()
    overconfident[0] *= 30  # right or wrong, it is sure: in the mean logit it alone decides
    assert fitted(seeds(), outputs, targets).state()["combine"] == "logit"
    assert fitted(seeds(), overconfident, targets).state()["combine"] == "probability"


def test_a_tie_is_probability() -> None:
    outputs, targets = drawn(1, 30)
    made = fitted(seeds(), outputs.repeat(2, 1, 1), targets)
    assert made.state()["nll"]["probability"] == pytest.approx(made.state()["nll"]["logit"], rel=1e-12)
    held = torch.eye(3, dtype=torch.bool).repeat_interleave(10, dim=1)
    outputs, targets = drawn(3, 30)
    assert fitted(seeds(), outputs, targets, held_out=held).state()["combine"] == "probability"


def test_members_that_are_one_model_are_told() -> None:
    outputs, targets = drawn(3, 30)
    outputs[2] = outputs[0]
    told = Told()
    fitted(seeds(), outputs, targets, say=told)
    assert "m2 gives for every sample what m0 gives: they are one model" in told
    assert sum("one model" in line for line in told.lines) == 1


def test_a_regression_has_mean_and_variance() -> None:
    outputs, targets = drawn(4, 20, NUMBERS)
    made = fitted(seeds(), outputs, targets, NUMBERS)
    numpy.testing.assert_allclose(given_by(made, 20), outputs.mean(0), rtol=1e-5, atol=1e-6)
    variance = made.variance(torch.arange(20).float()[:, None]).detach()
    numpy.testing.assert_allclose(variance, outputs.numpy().var(0), rtol=1e-4)


# ---------------------------------------------------------------- topk


def test_the_best_few_are_kept() -> None:
    outputs, targets = drawn(6, 80, seed=3)
    losses = [nll(softmax(table.double().numpy(), axis=1), targets) for table in outputs]
    best = sorted(range(6), key=lambda number: losses[number])[:3]
    made = fitted(topk(k=3), outputs, targets)
    assert weights_of(made) == {f"m{number}": 1 / 3 for number in sorted(best)}
    assert made.state()["figures"] == pytest.approx({f"m{number}": loss for number, loss in enumerate(losses)})
    assert len(fitted(topk(k=9), outputs, targets).members()) == 6


def test_a_higher_accuracy_is_better_and_of_equal_ones_the_first_is_taken() -> None:
    outputs, targets = drawn(1, 40)
    worse, right = outputs.clone(), outputs.clone()
    right[0, torch.arange(40), targets] += 20
    made = fitted(topk(k=2, metric="accuracy"), torch.cat([worse, right, right.clone(), right.clone()]), targets)
    assert weights_of(made) == {"m1": 0.5, "m2": 0.5}


def test_folds_are_ranked_each_by_its_own_samples() -> None:
    outputs, targets = drawn(3, 60)
    held = torch.eye(3, dtype=torch.bool).repeat_interleave(20, dim=1)
    learnt = outputs.clone()
    for number in range(3):
        rows = (~held[number]).nonzero().squeeze(1)
        learnt[number, rows, targets[rows]] += 50 * (3 - number)  # by heart, the first most of all
    made = fitted(topk(k=1), learnt, targets, held_out=held)
    alone = [nll(softmax(outputs[n, held[n]].double().numpy(), axis=1), targets[held[n]]) for n in range(3)]
    assert weights_of(made) == {f"m{alone.index(min(alone))}": 1.0}


# ---------------------------------------------------------------- honest figures


def test_out_of_fold_figures_take_each_sample_from_the_run_that_held_it_out() -> None:
    outputs, targets = drawn(3, 60)
    part = torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(0))
    held = part == torch.arange(3)[:, None]
    told = Told()
    made = fitted(folds(folds=3), outputs, targets, held_out=held, say=told)
    honest = outputs[part, torch.arange(60)].double()
    figures = made.state()["out_of_fold"]
    assert figures["samples"] == 60
    assert figures["nll"] == pytest.approx(nll(softmax(honest.numpy(), axis=1), targets), rel=1e-9)
    assert figures["accuracy"] == pytest.approx(float((honest.argmax(1) == targets).double().mean()))
    assert "this is how good a single run of a fold is, not their mean" in told
    assert weights_of(made) == dict.fromkeys(["m0", "m1", "m2"], 1 / 3)


@pytest.mark.parametrize("space", ["probability", "logit"])
def test_out_of_bag_figures_take_each_sample_from_the_runs_that_did_not_draw_it(space: Any) -> None:
    outputs, targets = drawn(4, 60)
    held = torch.rand(4, 60, generator=torch.Generator().manual_seed(0)) < 0.4
    held[:, 50:] = True  # validation samples
    held[:, :2] = False  # samples that every run has drawn
    learnt = outputs.clone()
    learnt[..., 0] += (~held).float() * 100  # what they give for samples that they were trained on counts nowhere
    told = Told()
    made = fitted(bagging(combine=space), learnt, targets, held_out=held, say=told)
    rows = [n for n in range(50) if held[:, n].any()]
    probabilities = []
    for n in rows:
        free = outputs[held[:, n], n].double().numpy()
        mean = softmax(free, axis=1).mean(0) if space == "probability" else softmax(free.mean(0))
        probabilities.append(mean)
    figures = made.state()["out_of_bag"]
    assert figures["samples"] == len(rows)
    assert figures["drawn_by_all"] == 50 - len(rows) >= 2
    assert figures["nll"] == pytest.approx(nll(numpy.stack(probabilities), targets[rows]), rel=1e-6)
    assert f"out of bag, over {len(rows)} training samples" in told
    assert f"{50 - len(rows)} samples were drawn by every run" in told


def test_bags_measured_on_validation_alone_have_no_out_of_bag_figures() -> None:
    made = fitted(bagging(), *drawn(3, 30))
    assert "out_of_bag" not in made.state()


# ---------------------------------------------------------------- votes


def test_votes_are_shares_and_the_samples_nobody_votes_for_are_told() -> None:
    outputs, targets = drawn(5, 60, seed=2, worst=2.0)
    outputs[:, 7, targets[7]] = -9.0
    told = Told()
    made = fitted(vote(), outputs, targets, say=told)
    votes = outputs.argmax(2)
    shares = torch.stack([(votes == label).double().mean(0) for label in range(3)], dim=1)
    numpy.testing.assert_allclose(given_by(made, 60).softmax(1), shares, atol=5e-6)
    without = int((shares[torch.arange(60), targets] == 0).sum())
    assert without >= 1
    assert made.state()["no_vote_for_truth"] == without
    assert f"for {without} of 60 validation samples no member votes for the truth" in told
    assert "taken for at least 1e-06, so that each of these samples counts 13.8 nats" in told


def test_a_binary_vote_that_is_tied_is_the_lower_class() -> None:
    outputs = torch.tensor([[[2.0], [1.0]], [[-2.0], [3.0]]])
    made = fitted(vote(), outputs, torch.tensor([0.0, 1.0]), BINARY)
    found = given_by(made, 2)
    assert float(found[0]) == 0  # as likely as not, which is the class 0
    assert float(found[1]) == pytest.approx(-math.log(1e-6), rel=1e-4)


def test_a_regression_has_no_votes() -> None:
    with pytest.raises(UsageError, match="vote is for classes, and a regression has none"):
        fitted(vote(), *drawn(2, 20, NUMBERS), NUMBERS)


def test_members_of_any_structure_are_combined() -> None:
    outputs, targets = drawn(2, 20)
    made = seeds(combine="logit")
    one, other = members_of(outputs)
    other.module = torch.nn.Sequential(other.module, torch.nn.Identity())
    for each in (one, other):
        made.add(each)
    made.fit(validation(outputs, targets))
    numpy.testing.assert_allclose(given_by(made, 20), outputs.mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("use", [snapshots(), fge()], ids=lambda made: type(made).__name__)
def test_what_goes_in_cycles_is_of_one_run(use: Any, tmp_path: Path) -> None:
    one, other, third = members_of(torch.zeros(3, 1, 3))
    one.folder, other.folder, third.folder = tmp_path / "a", tmp_path / "a", tmp_path / "b"
    assert list(use.gather(Bench([one, other]))) == [one, other]
    with pytest.raises(UsageError, match=f"{one.name} and {third.name} are of different runs"):
        use.gather(Bench([one, other, third]))
