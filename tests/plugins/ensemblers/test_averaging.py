"""Means of weights against what they are by definition, and what may not be averaged at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.plugins.ensemblers.made import CLASSES, NUMBERS, Bench, Told, given_by, stored
from tests.plugins.ensemblers.made import member as looked_up
from trainkit import Cost, DataSpec, Member, UsageError, Validation, renew_statistics, scores
from trainkit_ensemblers.averaging import blended, moving_shares
from trainkit_ensemblers.of_weights import average

INPUTS = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) * 2 + 1
TARGETS = torch.randint(0, 3, (40,), generator=torch.Generator().manual_seed(1))
SPEC = replace(CLASSES, input_shape=(3,))


def net(seed: int, norm: bool = True, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    body = [nn.Linear(3, width), *([nn.BatchNorm1d(width)] if norm else []), nn.ReLU(), nn.Linear(width, 3)]
    model = nn.Sequential(*body)
    if norm:
        model[1].running_mean.normal_()
        model[1].running_var.uniform_(0.5, 2)
        model[1].num_batches_tracked.fill_(seed)
    return model.eval()


def made(module: nn.Module, name: str, **more: Any) -> Member:
    given = {"ancestors": frozenset({"start"}), "cost": Cost(10, 1.0, 2.0), **more}
    return Member(name, module, {"seed": 0, "data": {}}, SPEC, **given)


def fitted(ensembler: Any, members: Sequence[Member], say: Any = None, held: Tensor | None = None) -> Any:
    """The ensembler with these members, which validation samples measure, and training samples' statistics."""
    mask = torch.ones(len(members), len(INPUTS), dtype=torch.bool) if held is None else held

    def measure(module: nn.Module) -> Tensor:
        with torch.no_grad():
            return module(INPUTS).float()

    outputs = torch.stack([measure(member.module) for member in members])
    for member in members:
        ensembler.add(member)
    renew = lambda module: renew_statistics(module, INPUTS.split([30, 10]))  # noqa: E731
    ensembler.fit(
        Validation(outputs, TARGETS, mask, torch.arange(40), SPEC, nn.CrossEntropyLoss(), measure, renew, say or Told())
    )
    return ensembler


def nll(module: nn.Module) -> float:
    with torch.no_grad():
        return scores(module(INPUTS), TARGETS, SPEC)["nll"]


def mean_by_hand(modules: Sequence[nn.Module], shares: Sequence[float]) -> nn.Module:
    """In double precision, with statistics over all rows in one batch."""
    model = net(99, norm=len(modules[0]) == 4, width=modules[0][0].out_features).double()
    for name, tensor in model.state_dict().items():
        each = [module.state_dict()[name] for module in modules]
        if tensor.is_floating_point():
            tensor.copy_(sum(share * own.double() for share, own in zip(shares, each, strict=True)))
    for part in model:
        if isinstance(part, nn.BatchNorm1d):
            with torch.no_grad():
                hidden = model[0](INPUTS.double())
            part.running_mean.copy_(hidden.mean(0))
            part.running_var.copy_(hidden.var(0))
    return model.float().eval()


def assert_is(ensembler: Any, expected: nn.Module) -> None:
    (kept,) = ensembler.members()
    for name, tensor in expected.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(kept.module.state_dict()[name], tensor, rtol=1e-6, atol=1e-7)
    with torch.no_grad():
        torch.testing.assert_close(ensembler.predict(INPUTS), expected(INPUTS), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------ definitions


@pytest.mark.parametrize("norm", [True, False])
def test_uniform_is_the_mean_with_statistics_over_all_rows(norm):
    members = [made(net(seed, norm), f"m{seed}") for seed in range(3)]
    ensembler = fitted(average(), members)
    assert_is(ensembler, mean_by_hand([member.module for member in members], [1 / 3] * 3))


def test_members_are_left_as_they_are():
    members = [made(net(seed), f"m{seed}") for seed in range(3)]
    before = [{name: tensor.clone() for name, tensor in member.module.state_dict().items()} for member in members]
    fitted(average(method="greedy"), members)
    for member, own in zip(members, before, strict=True):
        assert all(torch.equal(tensor, own[name]) for name, tensor in member.module.state_dict().items())


def test_what_is_no_floating_point_number_is_that_of_the_last():
    """torch averages them with use_buffers, which fails or cuts them off."""
    each = [{"count": torch.tensor(number), "on": torch.tensor(bool(number))} for number in (4, 0, 7)]
    assert blended(each, [1 / 3] * 3) == {"count": torch.tensor(7), "on": torch.tensor(True)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_sums_are_float64_whatever_the_weights_are(dtype):
    """Added up one after the other in their own format, 1 and 4096 steps of its last digit would stay 1."""
    step = torch.finfo(dtype).eps
    each = [{"w": torch.tensor([1.0], dtype=dtype)}] + [{"w": torch.tensor([1.0 + step], dtype=dtype)}] * 4095
    found = blended(each, [1 / 4096] * 4096)["w"]
    assert found.dtype is dtype
    assert float(found) == pytest.approx(1 + step, rel=step / 8)


def test_ema_is_its_recurrence():
    values = [1.0, 2.0, 3.0, 4.0]
    for ramp in (False, True):
        mean = values[0]
        for t, value in enumerate(values[1:], 1):
            decay = min(0.3, (1 + t) / (10 + t)) if ramp else 0.3
            mean = decay * mean + (1 - decay) * value
        shares = moving_shares(4, 0.3, ramp)
        assert sum(share * value for share, value in zip(shares, values, strict=True)) == pytest.approx(mean, rel=1e-12)
        assert sum(shares) == pytest.approx(1, rel=1e-12)
    slow = moving_shares(1000, 0.9999, False)
    assert 1 - slow[0] == pytest.approx(1 - 0.9999**999, rel=1e-9), "it moves, though slowly"


def checkpoints(count: int) -> list[Member]:
    return [made(net(n), f"run at update {10 * n}", folder=Path("run"), step=10 * n) for n in range(1, count + 1)]


@pytest.mark.parametrize(
    ("settings", "counted"),
    [
        ({"method": "swa", "start": 0.5}, [2, 3, 4]),
        ({"method": "swa", "start": 0.0}, [1, 2, 3, 4]),
        ({"method": "swa", "start": 1.0}, [4]),
        ({"method": "lawa", "last": 2}, [3, 4]),
        ({"method": "lawa", "last": 9}, [1, 2, 3, 4]),
        ({"method": "ema"}, [1, 2, 3, 4]),
        ({"method": "interpolate"}, [1, 4]),
        ({"method": "uniform"}, [1, 2, 3, 4]),
    ],
)
def test_which_checkpoints_of_one_run_count(settings, counted):
    every = checkpoints(4)

    class Kept(Bench):
        def checkpoints(self, member: Member) -> list[Member]:
            return every

    found = average(**settings).gather(Kept(given=[every[-1]]))
    assert [member.step // 10 for member in found] == counted
    if settings["method"] in ("swa", "ema", "lawa"):  # named one by one, in any order
        again = average(**settings).gather(Bench(given=[every[2], every[0], every[3], every[1]]))
        assert [member.step // 10 for member in again] == counted


def test_swa_counts_each_model_once():
    """torch-uncertainty counts the first one twice: 1, 2, 3, 4 come to 2.2 there."""
    members = []
    for number, member in enumerate(checkpoints(4), 1):
        model = nn.Sequential(nn.Linear(3, 3))
        nn.init.constant_(model[0].weight, number)
        members.append(replace(member, module=model.eval()))
    ensembler = fitted(average(method="swa", start=0.0), members)
    assert bool((ensembler.members()[0].module[0].weight == 2.5).all())


def test_greedy_adds_what_does_not_make_it_worse_the_best_first():
    good = net(3)
    others = [net(seed) for seed in (4, 5, 6)]
    near = []
    for scale in (0.02, 0.05):
        torch.manual_seed(7)
        twin = net(3)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.add_(scale * torch.randn_like(parameter))
        near.append(twin)
    models = [others[0], near[0], good, others[1], near[1], others[2]]
    members = [made(model, f"m{number}") for number, model in enumerate(models)]
    told = Told()
    ensembler = fitted(average(method="greedy"), members, told)
    # By hand: sort, then add one after the other.
    order = sorted(range(6), key=lambda number: nll(models[number]))
    chosen, best = [order[0]], nll(models[order[0]])
    for number in order[1:]:
        value = nll(mean_by_hand([models[i] for i in [*chosen, number]], [1 / (len(chosen) + 1)] * (len(chosen) + 1)))
        if value <= best:
            chosen, best = [*chosen, number], value
    assert ensembler.state()["added"] == [f"m{number}" for number in chosen]
    assert ensembler.state()["shares"] == pytest.approx({f"m{number}": 1 / len(chosen) for number in chosen})
    assert 1 < len(chosen) < 6
    assert nll(ensembler.members()[0].module) == pytest.approx(best, rel=1e-5)
    assert f"{len(chosen)} of 6 sets of weights" in told


def test_greedy_adds_a_twin_which_changes_nothing():
    members = [made(net(3), "one"), made(net(3), "two")]
    assert fitted(average(method="greedy"), members).state()["added"] == ["one", "two"]


def test_interpolate_tries_eleven_places_and_takes_the_best():
    members = [made(net(1), "zero"), made(net(2), "one")]
    ensembler = fitted(average(method="interpolate"), members)
    models = [member.module for member in members]
    places = [number / 10 for number in range(11)]
    figures = [nll(models[0])]
    figures += [nll(mean_by_hand(models, [1 - place, place])) for place in places[1:-1]]
    figures += [nll(models[1])]
    state = ensembler.state()
    assert state["figures"] == pytest.approx(figures, rel=1e-5)
    assert state["alpha"] == places[figures.index(min(figures))]


def test_one_set_of_weights_is_left_as_it_is_statistics_included():
    alone = made(net(5), "alone")
    for method in ("uniform", "greedy", "interpolate", "ema", "swa", "lawa"):
        ensembler = fitted(average(method=method), [alone])
        assert ensembler.members() == [alone]
        assert torch.equal(ensembler.predict(INPUTS), alone.module(INPUTS))
    best = fitted(average(method="greedy"), [made(net(5), "a"), made(net(99), "b")])
    (name,) = best.state()["added"]
    assert best.members()[0].name == name


def test_statistics_that_were_fixed_while_members_were_trained_stay():
    members = []
    for seed in range(2):
        model = net(seed)
        model[1].running_mean.fill_(3.0)
        model[1].running_var.fill_(4.0)
        members.append(made(model, f"m{seed}"))
    module = fitted(average(), members).members()[0].module
    assert bool((module[1].running_mean == 3).all())
    assert bool((module[1].running_var == 4).all())


def test_it_is_stored_as_one_model_and_opened_again():
    members = [made(net(seed), f"m{seed}", cost=Cost(10, 1.0, 2.0)) for seed in range(3)]
    ensembler = fitted(average(method="ema"), members)
    (kept,) = ensembler.members()
    assert kept.name == "the average of 3 sets of weights"
    assert (kept.folder, kept.cost, kept.ancestors) == (None, Cost(30, 3.0, 6.0), frozenset({"start"}))
    opened = stored(ensembler, lambda: average(method="ema"))
    assert torch.equal(opened.predict(INPUTS), ensembler.predict(INPUTS))
    assert opened.state() == ensembler.state()


def test_checkpoints_of_one_run_cost_what_the_run_did():
    members = [replace(member, cost=Cost(10 * n, n, n)) for n, member in enumerate(checkpoints(3), 1)]
    assert fitted(average(), members).members()[0].cost == Cost(30, 3, 3)


# ------------------------------------------------------------ what is refused, and when


class Busy(Bench):
    """A workshop that does nothing."""

    def train(self, changes, parent=None):
        raise AssertionError("nothing may be trained")


def pair(**more: Any) -> list[Member]:
    return [made(net(0), "runs/a"), replace(made(net(1), "runs/b"), **more)]


def test_runs_without_a_common_ancestor_are_refused_before_any_work():
    strange = pair(ancestors=frozenset({"other"}), recipe={"seed": 3})
    for method in ("uniform", "greedy", "interpolate"):
        for given in ({"given": strange}, {"trials": strange}):
            with pytest.raises(UsageError, match=r"runs/b and runs/a have no common ancestor \(seeds 3 and 0\)"):
                average(method=method).gather(Busy(**given))
    assert average(force=True).gather(Busy(given=strange)) == strange


def test_the_two_that_are_strangers_are_named():
    chain = [("a", {"1"}), ("b", {"1", "2"}), ("c", {"2"})]
    members = [made(net(0), name, ancestors=frozenset(known)) for name, known in chain]
    with pytest.raises(UsageError, match="c and a have no common ancestor"):
        average().gather(Busy(given=members))
    assert average().gather(Busy(given=members[:2])) == members[:2]


def test_checkpoints_of_one_run_have_the_run_in_common():
    same = [replace(member, ancestors=frozenset()) for member in checkpoints(2)]
    assert average().gather(Busy(given=same)) == same
    unknown = [replace(member, folder=None) for member in same]
    with pytest.raises(UsageError, match="no common ancestor"):
        average().gather(Busy(given=unknown))


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (net(1, width=5), r"'0.weight' is \(5, 3\) float32 in one, \(4, 3\) float32 in the other"),
        (net(1, norm=False), "'1.weight' is in runs/a alone"),
        (nn.Sequential(*net(1)[:2], nn.Tanh(), net(1)[3]), "layer '2' is Tanh in one, ReLU in the other"),
        (nn.Sequential(*net(1), nn.Linear(3, 3)), "'4.weight' is in runs/b alone"),
        (net(1).double(), r"'0.weight' is \(4, 3\) float64 in one"),
    ],
)
def test_different_structures_are_refused_with_the_first_that_differs_also_by_force(other, why):
    for force in (False, True):
        with pytest.raises(UsageError, match=why) as raised:
            average(force=force).gather(Busy(given=pair(module=other)))
        assert "runs/b" in str(raised.value)
        assert "runs/a" in str(raised.value)


def test_dropout_may_differ_since_it_does_nothing_where_a_model_is_used():
    with_dropout = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    without = nn.Sequential(nn.Linear(3, 3), nn.Identity())
    members = [replace(one, module=module) for one, module in zip(pair(), (with_dropout, without), strict=True)]
    assert average().gather(Busy(given=members)) == members


def test_inputs_in_other_units_are_refused():
    other = DataSpec((3,), "classification", 3, ("a", "b", "c"), input_mean=(1.0,), input_std=(2.0,))
    with pytest.raises(UsageError, match="their inputs were standardised by different numbers"):
        average().gather(Busy(given=pair(spec=other)))


def test_checkpoints_of_two_runs_are_no_course_of_one():
    members = [replace(one, folder=Path(name)) for one, name in zip(pair(), "ab", strict=True)]
    for method in ("ema", "swa", "lawa"):
        with pytest.raises(
            UsageError, match="averages checkpoints of one run, and runs/b is of another run than runs/a"
        ):
            average(method=method).gather(Busy(given=members))


def test_interpolate_is_between_two():
    with pytest.raises(UsageError, match="there are 3"):
        average(method="interpolate").gather(Busy(given=[*pair(), made(net(2), "runs/c")]))
    trials = [*pair(), made(net(2), "trial 3")]
    assert len(average(method="interpolate").gather(Busy(trials=trials))) == 2


def test_a_figure_that_the_task_does_not_have_is_refused_before_any_work():
    with pytest.raises(UsageError, match="mse"):
        average(metric="mse").gather(Busy(given=pair()))


def test_force_shows_the_loss_on_the_way_and_how_high_it_rises():
    strange, told = pair(ancestors=frozenset({"other"})), Told()
    ensembler = fitted(average(force=True), strange, told)
    models = [member.module for member in strange]
    places = [number / 10 for number in range(11)]
    losses = [nll(models[0]), *(nll(mean_by_hand(models, [1 - a, a])) for a in places[1:-1]), nll(models[1])]
    barrier = ensembler.state()["barrier"]
    assert barrier["losses"] == pytest.approx(losses, rel=1e-5)
    above = [loss - (1 - a) * losses[0] - a * losses[-1] for a, loss in zip(places, losses, strict=True)]
    assert barrier["height"] == pytest.approx(max(above), rel=1e-4)
    assert barrier["between"] == ["runs/a", "runs/b"]
    assert "runs/a and runs/b have no common ancestor: from one to the other nll on validation is" in told
    assert "barrier" not in fitted(average(force=True), pair()).state(), "those that have one need no look"


def test_an_average_that_is_worse_than_its_best_member_is_told():
    members, told = pair(), Told()
    ensembler = fitted(average(), members, told)
    compared = ensembler.state()["average"]
    assert compared["value"] == pytest.approx(nll(ensembler.members()[0].module), rel=1e-9)
    assert compared["best_member"] == pytest.approx(min(nll(member.module) for member in members), rel=1e-9)
    assert ("the average is worse than" in told) == (compared["value"] > compared["best_member"])


def test_an_average_that_is_not_finite_is_refused():
    """Each has a zero in its one layer where the other one's numbers are too large for it."""
    members = pair()
    for member, (bias, weight) in zip(members, ((3e38, 0.0), (0.0, 3e38)), strict=True):
        member.module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).eval()
        with torch.no_grad():
            for parameter in member.module.parameters():
                parameter.zero_()
            member.module[0].bias[0] = bias
            member.module[1].weight[0, 0] = weight
    with pytest.raises(UsageError, match="the average of these weights gives numbers that are not finite"):
        fitted(average(), members)


def test_choosing_needs_samples_that_no_member_was_trained_on():
    held = torch.zeros(2, 40, dtype=torch.bool)
    held[0, :20] = held[1, 20:] = True
    for method in ("greedy", "interpolate"):
        with pytest.raises(UsageError, match="none of them was trained on"):
            fitted(average(method=method), pair(), held=held)
    fitted(average(), pair(), held=held)


def test_regression_chooses_by_squared_errors():
    rows = torch.randn(6, 2)
    members = [looked_up(rows + shift, f"m{shift}", NUMBERS, ancestors=frozenset("x")) for shift in (1.0, -0.8)]
    ensembler = average(method="interpolate")
    for member in members:
        ensembler.add(member)

    def measure(module: nn.Module) -> Tensor:
        with torch.no_grad():
            return module(torch.arange(6.0)[:, None])

    outputs = torch.stack([measure(member.module) for member in members])
    held = torch.ones(2, 6, dtype=torch.bool)
    ensembler.fit(
        Validation(outputs, rows, held, torch.arange(6), NUMBERS, nn.MSELoss(), measure, lambda module: False, Told())
    )
    assert ensembler.state()["alpha"] == 0.6, "where 1 and -0.8 cancel best: 0.4 - 0.48 = -0.08"
    assert math.isclose(ensembler.state()["figures"][6], 0.08**2, rel_tol=1e-4)
    torch.testing.assert_close(given_by(ensembler, 6), rows - 0.08)
