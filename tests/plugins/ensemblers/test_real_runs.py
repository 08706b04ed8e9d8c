"""Ensemblers with runs that were trained: what each may be judged by, and what a recipe may say beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.ensemble.of_runs import base_of_run, members_of
from tests.plugins.ensemblers.made import Bench, Told
from trainkit import Member, RecipeError
from trainkit.ensemble.base import Base
from trainkit.ensemble.given import recipe_for
from trainkit.ensemble.held_out import validation_of
from trainkit.ensemble.members import Source
from trainkit.ensemble.ready import check_ensembler
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import recipe_from_text
from trainkit_ensemblers.methods import bagging, folds, greedy, seeds

RECIPE = """\
recipe = 1
seed = 3
logger = []
[run]
duration = "3ep"
device = "cpu"
[data]
use = "wine"
batch_size = 16
[model]
use = "mlp"
widths = [6]
[loss]
use = "cross_entropy"
[optimizer]
use = "adam"
lr = 0.02
"""


class Trained(Bench):
    """A workshop that trains what it is asked for."""

    def __init__(self, home: Path) -> None:
        super().__init__(seed=3)
        self.home = home
        self.plugins = Plugins()
        self.base: Base

    def train(self, changes: Sequence[Mapping[str, Any]], parent: Member | None = None) -> list[Member]:
        """Train it, one run after the other."""
        paths = []
        for number, change in enumerate(changes):
            words = [
                f'{key}="{value}"' if isinstance(value, str) else f"{key}={value}" for key, value in change.items()
            ]
            recipe = recipe_from_text(RECIPE, "the recipe", words, self.plugins)
            paths.append(self.home / f"{number}")
            launch(recipe, self.plugins, folder=paths[-1], say=lambda text: None)
        self.base = base_of_run(paths[0], self.plugins, say=lambda text: None)
        return members_of([Source(path.name, (path,)) for path in paths], self.base)


def outputs_of(members: Sequence[Member], base: Base) -> tuple[Tensor, Tensor]:
    """What members give for all samples of training and validation, and the targets."""
    splits = ("train", "val")
    given = torch.stack([torch.cat([base.measure(one.module, split) for split in splits]) for one in members])
    return given.double(), torch.cat([base.targets(split) for split in splits])


def likelihood(logits: Sequence[Tensor], targets: Tensor, space: str) -> float:
    """The negative log likelihood of means over the members of each sample."""
    total = 0.0
    for each, target in zip(logits, targets.tolist(), strict=True):
        mean = each.softmax(1).mean(0) if space == "probability" else each.mean(0).softmax(0)
        total -= float(mean[target].log())
    return total / len(targets)


def fit(made: Any, members: Sequence[Member], base: Base, told: Told) -> Any:
    for one in members:
        made.add(one)
    made.fit(validation_of(members, base, told))
    return made


def test_bags_are_judged_by_what_they_have_not_drawn(tmp_path: Path) -> None:
    bench, told, made = Trained(tmp_path), Told(), bagging(members=4)
    members = made.gather(bench)
    base = bench.base
    fit(made, members, base, told)
    given, targets = outputs_of(members, base)
    first = len(base.dataset.splits["train"])
    draws = [set(base.parts(one.recipe)["train"].tolist()) for one in members]
    assert all(0.5 < len(drawn) / first < 0.75 for drawn in draws)
    assert len({frozenset(drawn) for drawn in draws}) == 4
    free = [[number for number, drawn in enumerate(draws) if sample not in drawn] for sample in range(first)]
    rows = [sample for sample in range(first) if 0 < len(free[sample]) < 4]
    figures, space = made.state()["out_of_bag"], made.state()["combine"]
    expected = likelihood([given[free[row], row] for row in rows], targets[rows], space)
    assert figures["samples"] == len(rows)
    assert figures["nll"] == pytest.approx(expected, rel=1e-6)
    # The two means were compared on samples that no run was trained on: those of validation, and the few others.
    common = [sample for sample in range(first) if len(free[sample]) == 4] + list(range(first, len(targets)))
    for name, value in made.state()["nll"].items():
        assert value == pytest.approx(likelihood([given[:, row] for row in common], targets[common], name), rel=1e-6)


def test_runs_on_bags_are_chosen_greedily_by_samples_that_none_was_trained_on(tmp_path: Path) -> None:
    bench = Trained(tmp_path)
    members = bagging(members=3).gather(bench)
    made = fit(greedy(0, combine="probability"), members, bench.base, Told())
    given, targets = outputs_of(members, bench.base)
    held = validation_of(members, bench.base, Told())
    rows = held.index[held.held_out.all(0)].tolist()
    chosen = [members.index(one) for one in members if one.name in made.state()["added"]]
    assert chosen
    weights = torch.tensor([made.state()["added"].count(one.name) for one in members], dtype=torch.float64)
    mean = ((weights / weights.sum())[:, None, None] * given.softmax(2)).sum(0)
    expected = -float(mean[rows, targets[rows]].log().mean())
    assert made.state()["figures"][-1] == pytest.approx(expected, rel=1e-6)


def test_folds_are_judged_by_what_they_held_out(tmp_path: Path) -> None:
    bench, told, made = Trained(tmp_path), Told(), folds(folds=3)
    members = made.gather(bench)
    fit(made, members, bench.base, told)
    given, targets = outputs_of(members, bench.base)
    parts = [bench.base.parts(one.recipe)["val"] for one in members]
    assert sorted(torch.cat(parts).tolist()) == list(range(len(targets)))
    logits = torch.cat([given[number, part] for number, part in enumerate(parts)])
    expected = torch.nn.functional.cross_entropy(logits, targets[torch.cat(parts)])
    assert made.state()["out_of_fold"]["nll"] == pytest.approx(float(expected), rel=1e-6)
    assert made.state()["out_of_fold"]["samples"] == len(targets)
    assert made.state()["combine"] == "probability"


def test_seeds_begin_with_other_weights_and_see_the_same_samples(tmp_path: Path) -> None:
    bench = Trained(tmp_path)
    one, other = seeds(members=2).gather(bench)
    assert one.ancestors
    assert not one.ancestors & other.ancestors
    assert one.spec.fingerprint == other.spec.fingerprint
    told = Told()
    fit(seeds(), [one, other], bench.base, told)
    assert "one model" not in told


def test_given_runs_on_folds_or_draws_bring_no_cut_of_their_own(tmp_path: Path) -> None:
    """The cut of the first run is not one that the ensemble's recipe asks for."""
    bench = Trained(tmp_path)
    bench.train([{"data.folds": 3, "data.fold": 2, "data.fold_by": "class", "data.bag": 1}])
    for use in ("folds", "bagging"):
        table = recipe_for(tmp_path / "0", use, [], bench.plugins).tables["data"]
        assert [table[key] for key in ("folds", "fold", "fold_by", "train_on", "bag")] == [
            *(None, 0, "auto", "train", None)
        ]


@pytest.mark.parametrize(
    ("use", "changes", "message"),
    [
        ("folds", ["data.folds=3"], r"folds trains each run on another cut of the samples, and \[data\] folds = 3"),
        ("folds", ["data.bag=3"], r"folds trains each run on another cut of the samples, and \[data\] bag = 3"),
        ("bagging", ["data.bag=0"], r"bagging trains each run on another cut of the samples, and \[data\] bag = 0"),
        ("distil", ["ensemble.of={use='folds'}", "data.folds=3"], r"folds trains each run on another cut"),
        ("distil", ["ensemble.of={use='mc_dropout'}", "model.dropout=0.0"], "the model has none: dropout = 0.0"),
        ("greedy", ["ensemble.bags=2", "ensemble.max_members=2"], "leave bags out, or the limits"),
    ],
)
def test_what_a_recipe_cannot_say_beside_them(use: str, changes: list[str], message: str) -> None:
    plugins, text = Plugins(), f'{RECIPE}[ensemble]\nuse = "{use}"\n'
    recipe_from_text(text, "the recipe", [], plugins)
    with pytest.raises(RecipeError, match=message):
        check_ensembler(recipe_from_text(text, "the recipe", changes, plugins))
