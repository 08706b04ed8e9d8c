"""What an ensembler may choose by: samples that members were not trained on, and never those of the test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.ensemble.of_runs import base_of_run, members_of
from trainkit.dataset import Batch, Dataset, DataSpec, Split
from trainkit.ensemble.agree import check_data
from trainkit.ensemble.aligned import mean_outputs
from trainkit.ensemble.base import Base
from trainkit.ensemble.held_out import held_by, outputs_of, validation_of
from trainkit.ensemble.members import FoldedMember, Source, folded
from trainkit.ensembler import Member, Validation
from trainkit.errors import UsageError
from trainkit.feed.folds import parts_of
from trainkit.finished import predict_run
from trainkit.manager import Plugins

RunOf = Callable[[str], Path]
FOLDS = ("fold-0", "fold-1", "fold-2")


@pytest.fixture(scope="module")
def base(run_of: RunOf, plugins: Plugins) -> Base:
    return base_of_run(run_of("a"), plugins)


@pytest.fixture
def made(run_of: RunOf, base: Base) -> Callable[..., list[Member]]:
    return lambda *names: members_of([Source(name, (run_of(name),)) for name in names], base)


def test_members_are_judged_by_the_validation_split_in_its_order(made, base: Base, run_of: RunOf, plugins: Plugins):
    found: Validation = validation_of(made("a", "b", "wide"), base)
    assert found.index.tolist() == list(range(27))
    assert bool(found.held_out.all())
    assert found.outputs.dtype == torch.float32
    for number, name in enumerate(("a", "b", "wide")):
        own = predict_run(run_of(name), "val", plugins)
        torch.testing.assert_close(found.outputs[number], own["outputs"], rtol=1e-5, atol=1e-6)
        assert torch.equal(found.targets, own["targets"])


def test_folds_are_judged_by_what_each_was_not_trained_on(made, base: Base, run_of: RunOf, plugins: Plugins):
    found = validation_of(made(*FOLDS), base)
    assert found.index.tolist() == list(range(115 + 27))
    assert found.held_out.sum(0).tolist() == [1] * 142
    for number, name in enumerate(FOLDS):
        own = predict_run(run_of(name), "val", plugins)
        torch.testing.assert_close(found.outputs[number][found.held_out[number]], own["outputs"], rtol=1e-4, atol=1e-5)
        assert torch.equal(found.targets[found.held_out[number]], own["targets"])


@pytest.mark.parametrize(("fold", "first"), [(0, 8), (1, 14)])
def test_a_fold_in_time_is_not_judged_by_targets_that_it_has_seen_a_part_of(fold: int, first: int):
    moments = torch.stack((torch.arange(20), torch.arange(20) + 3), 1)  # each target is of four moments
    splits = {"train": Split(torch.zeros(14, 2), torch.zeros(14)), "val": Split(torch.zeros(6, 2), torch.zeros(6))}
    data = Dataset(DataSpec((2,), "regression", 1), splits, moments={"train": moments[:14], "val": moments[14:]})
    how: dict[str, Any] = {"folds": 2, "fold": fold, "train_on": "train", "seed": 0}
    of_time, of_chance = (parts_of(data, fold_by=by, **how) for by in ("auto", "none"))
    for parts, held in ((of_time, range(first, 20)), (of_chance, sorted(of_chance["val"].tolist()))):
        base: Any = SimpleNamespace(dataset=data, has=splits.__contains__, parts=lambda recipe, parts=parts: parts)
        member: Any = SimpleNamespace(recipe=None, fold=fold)
        assert held_by(member, base).nonzero().squeeze(1).tolist() == list(held)
        assert not set(held) & set(parts["train"].tolist())
    assert moments[of_time["train"], 1].max() < moments[first, 0]


def test_some_of_the_folds_are_judged_by_their_own_samples_alone(made, base: Base):
    found = validation_of(made("fold-2", "fold-0"), base)
    assert found.held_out.sum(0).tolist() == [1] * len(found.index)
    assert 0 < len(found.index) < 142
    assert torch.equal(found.targets, torch.cat([base.targets("train"), base.targets("val")])[found.index])


def test_a_trial_of_folds_is_one_member_that_gives_what_it_did_not_learn(made, base: Base):
    runs = made(*FOLDS)
    each = validation_of(runs, base)
    whole = validation_of([folded("trial 0", runs, base)], base)
    assert bool(whole.held_out.all())
    wanted = each.outputs[each.held_out.int().argmax(0), torch.arange(142)]
    torch.testing.assert_close(whole.outputs[0].softmax(1), wanted.softmax(1), rtol=1e-5, atol=1e-6)


def test_for_new_samples_it_gives_the_mean_of_all_probabilities(made, base: Base):
    runs = made(*FOLDS)
    one = folded("trial 0", runs, base)
    each = torch.stack([base.measure(run.module, "test") for run in runs])
    given = outputs_of(one, "test", base)
    torch.testing.assert_close(given.exp(), each.softmax(-1).mean(0), rtol=1e-5, atol=1e-6)
    assert one.cost.updates == sum(run.cost.updates for run in runs)
    assert one.figures["val.loss"] == pytest.approx(sum(run.figures["val.loss"] for run in runs) / 3)


def test_repeats_without_folds_are_the_mean_everywhere(made, base: Base):
    runs = made("a", "b")
    found = validation_of([folded("trial 0", runs, base)], base)
    each = torch.stack([base.measure(run.module, "val") for run in runs])
    torch.testing.assert_close(found.outputs[0].exp(), each.softmax(-1).mean(0), rtol=1e-5, atol=1e-6)


def test_a_trial_of_folds_and_a_plain_run_meet_on_the_validation_split(made, base: Base):
    found = validation_of([folded("trial 0", made(*FOLDS), base), *made("a")], base)
    assert found.index.tolist() == list(range(27))
    assert bool(found.held_out.all())


def test_a_run_on_one_fold_and_a_plain_run_have_nothing_in_common(made, base: Base):
    with pytest.raises(UsageError, match=r"fold-0 and a do not fit: one was trained on a fold"):
        validation_of(made("a", "fold-0"), base)


def test_a_run_that_was_trained_on_the_validation_samples_is_refused(made, base: Base):
    with pytest.raises(UsageError, match=r"all-samples: it was trained on the validation samples too"):
        validation_of(made("a", "all-samples"), base)


def test_data_without_validation_samples_is_refused(run_of: RunOf, plugins: Plugins):
    path = run_of("no-validation")
    base = base_of_run(path, plugins)
    with pytest.raises(UsageError, match="the data has no validation split"):
        validation_of(members_of([Source("one", (path,))], base), base)


def test_the_mean_of_probabilities_is_exact_for_each_task():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(4, 6, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(mean_outputs(outputs, "classification").exp(), outputs.softmax(-1).mean(0))
    torch.testing.assert_close(mean_outputs(outputs[..., :1], "binary").sigmoid(), outputs[..., :1].sigmoid().mean(0))
    assert torch.equal(mean_outputs(outputs, "regression"), outputs.mean(0))
    far = torch.tensor([[[80.0, -80.0]], [[-80.0, 80.0]]])
    torch.testing.assert_close(mean_outputs(far, "classification").exp(), torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(mean_outputs(far[..., :1], "binary"), torch.tensor([[0.0]]), rtol=0, atol=1e-5)


class Watched:
    """A feed that remembers which splits were asked for."""

    def __init__(self, feed) -> None:
        self.feed = feed
        self.asked: set[str] = set()

    def evaluate(self, split: str) -> Iterator[Batch]:
        self.asked.add(split)
        return self.feed.evaluate(split)

    def __getattr__(self, name: str):
        return getattr(self.feed, name)


@pytest.mark.parametrize("names", [("a", "b"), FOLDS])
def test_choosing_never_touches_the_test_samples(names, run_of: RunOf, plugins: Plugins, monkeypatch):
    base = base_of_run(run_of("a"), plugins)
    watched = Watched(base.feed)
    base.feed = watched
    test = base.dataset.splits["test"]
    assert isinstance(test.inputs, torch.Tensor)
    test.inputs.fill_(torch.nan)  # whoever looks at them finds out
    found = validation_of(members_of([Source(name, (run_of(name),)) for name in names], base), base)
    assert bool(found.outputs.isfinite().all())
    found.measure(members_of([Source("b", (run_of("b"),))], base)[0].module)
    found.renew(torch.nn.BatchNorm1d(13))
    assert "test" not in watched.asked
    assert not any("test" in name for name in vars(found))
    assert all(name in ("train", "val") for name in watched.asked)


def test_what_a_module_gave_is_asked_for_once_unless_its_weights_change(made, base: Base, monkeypatch):
    (member,) = made("b")
    assert not isinstance(member, FoldedMember)
    first = base.outputs(member.module, "val")
    with monkeypatch.context() as patch:
        patch.setattr(base, "measure", lambda *given: pytest.fail("measured again"))
        assert base.outputs(member.module, "val") is first
    with torch.no_grad():
        next(member.module.parameters()).add_(1.0)
    assert not torch.equal(base.outputs(member.module, "val"), first)


def test_measuring_leaves_a_module_in_the_mode_it_was_in(made, base: Base):
    (member,) = made("b")
    member.module.train()
    member.module[0].eval()
    modes = [part.training for part in member.module.modules()]
    base.measure(member.module, "val")
    assert [part.training for part in member.module.modules()] == modes


def test_a_fold_whose_columns_hold_other_words_is_refused() -> None:
    """Its model would look a word up in another's place, or in none."""
    whole = DataSpec((2,), "regression", 1, fingerprint="f", categories=(0, 5))
    fold = SimpleNamespace(feed=SimpleNamespace(spec=dataclasses.replace(whole, categories=(0, 4))))
    base: Any = SimpleNamespace(name="fold-0", spec=whole)
    made: Any = SimpleNamespace(run=fold, state={"data": "f"})
    with pytest.raises(UsageError, match=r"fold-0 and its data without folds do not fit: .* hold 4 and 5 categories"):
        check_data("fold-0", made, base)
