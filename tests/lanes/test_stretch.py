"""Updates whose batches are gathered for all lanes at once leave what each run leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lane_jobs import lines_of
from one_by_one import Together
from test_group import RATES, alone, same, together

from trainkit.build import prepare
from trainkit.feed.together import together as of_feeds
from trainkit.lanes.stack import Stack
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import recipe_from_text
from trainkit.run import StepResult
from trainkit.tally import FOLD_EVERY, Tally
from trainkit.work import Job

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"model": "dropout = 0.3"},
    "dues": {"run": 'evaluate_every = "3ba"\nlog_every = "5ba"'},
    "no metrics": {},
    "as stored": {"data": "shuffle = false"},
    "no last batch": {"data": "drop_last = true"},
    "weights of classes": {},
    "many updates": {"epochs": 20, "run": 'log_every = "1dur"'},
}


def recorded(made: list[Together]) -> Callable[[Any], Together]:
    """Makes stacks and keeps them."""

    def make(lanes: Any) -> Together:
        made.append(Together(lanes))
        return made[-1]

    return make


@pytest.mark.parametrize("what", VARIANTS)
@pytest.mark.parametrize("seeds", ["one seed", "many seeds"])
def test_folders_are_those_of_lone_runs(job: Callable[..., Job], plugins: Plugins, what: str, seeds: str) -> None:
    def made_job(number: int, where: str) -> Job:
        seed = 5 if seeds == "one seed" else 5 + number
        one = job(number, where, lr=RATES[number], seed=seed, **VARIANTS[what])
        text = one.recipe
        if what == "no metrics":
            text = "metric = []\n" + text.replace('[[metric]]\nuse = "accuracy"\n', "")
        if what == "weights of classes":
            text = text.replace("[loss]\n", "[loss]\nclass_weights = [1.0, 0.5, 2.0]\n")
        return Job(one.trial, one.part, text, one.folder)

    lanes, made = [made_job(i, "lanes") for i in range(4)], []
    together(lanes, plugins, make=recorded(made))
    assert made[0].updates == {"many updates": 160, "no last batch": 21}.get(what, 24)
    assert made[0].shared == {seeds == "one seed" or what == "as stored"}
    for i in range(4):
        alone(lone := made_job(i, "alone"), plugins)
        same(lanes[i], lone)


def test_lanes_at_other_epochs_have_orders_of_their_own(job: Callable[..., Job], plugins: Plugins) -> None:
    made: list[Together] = []
    epochs = (2, 3, 4, 2, 3)
    jobs = [job(i, epochs=count) for i, count in enumerate(epochs)]
    together(jobs, plugins, make=recorded(made), lanes=2)
    assert made[0].shared == {True, False}
    for i, count in enumerate(epochs):
        alone(lone := job(i, "alone", epochs=count), plugins)
        same(jobs[i], lone)


@pytest.mark.parametrize("values", [{"lr": 1e6}, {"lr": 1e6, "epochs": 20, "run": 'log_every = "1dur"'}])
def test_a_loss_that_is_not_finite_is_found_where_the_lone_run_finds_it(
    job: Callable[..., Job], plugins: Plugins, values: dict[str, Any]
) -> None:
    jobs = [job(0, epochs=values.get("epochs", 3)), job(1, **values)]
    outcomes = together(jobs, plugins, make=recorded([]))
    expected = alone(lone := job(1, "alone", **values), plugins)
    assert [outcomes[0].status, outcomes[1].status] == ["done", "nan"]
    assert (outcomes[1].message, outcomes[1].steps) == (expected.message, expected.steps)
    assert lines_of(jobs[1]) == lines_of(lone)


def test_a_stack_that_fails_later_loses_no_update(job: Callable[..., Job], plugins: Plugins) -> None:
    class Breaks(Together):
        def update_stacked(self, batch: Any, shared: bool) -> Any:
            if self.updates == 11:
                raise RuntimeError("no rule for this")
            return super().update_stacked(batch, shared)

    said: list[str] = []
    jobs = [job(i, lr=rate) for i, rate in enumerate(RATES)]
    together(jobs, plugins, make=Breaks, say=said.append)
    assert len(said) == 1
    assert said[0].endswith("one by one: RuntimeError: no rule for this")
    for i, rate in enumerate(RATES):
        alone(lone := job(i, "alone", lr=rate), plugins)
        same(jobs[i], lone)


def test_whoever_looks_at_each_update_is_told_of_each(job: Callable[..., Job], plugins: Plugins) -> None:
    made: list[Together] = []
    jobs = [job(0), job(1, more='[[callback]]\nuse = "trips"\nupdate = 11')]
    outcomes = together(jobs, plugins, make=recorded(made))
    assert made[0].updates == 0  # of all lanes at once: both are updated batch by batch, and the one that is left alone
    assert made[0].most == 2
    assert (outcomes[0].status, outcomes[1].status, outcomes[1].steps) == ("done", "error", 11)


@pytest.mark.parametrize("make", [Stack, Together])
def test_runs_with_and_without_short_batches_are_trained_apart(
    job: Callable[..., Job], plugins: Plugins, make: Any
) -> None:
    said: list[str] = []
    data = ["drop_last = true", ""] * 2
    jobs = [job(i, lr=RATES[i], data=some) for i, some in enumerate(data)]
    outcomes = together(jobs, plugins, make=make, say=said.append)
    assert not said
    assert [outcomes[i].steps for i in range(4)] == [21, 24, 21, 24]


def runs_of(plugins: Plugins, tmp_path: Path, *texts: str) -> list[Any]:
    return [prepare(recipe_from_text(text, "t", [], plugins), plugins, tmp_path, silent) for text in texts]


def test_batches_are_those_of_each_feed(job: Callable[..., Job], plugins: Plugins, tmp_path: Path) -> None:
    runs = runs_of(plugins, tmp_path, *[job(i, seed=i).recipe for i in range(3)])
    feeds, epochs = [run.feed for run in runs], [0, 0, 4]
    gathered = of_feeds(feeds)
    assert gathered is not None
    for start in (0, 3, 7):
        alone = [list(feed.train(epoch, start)) for feed, epoch in zip(feeds, epochs, strict=True)]
        for number, (batch, shared) in enumerate(gathered.train(epochs, start)):
            assert not shared
            for row, batches in enumerate(alone):
                for name in ("inputs", "targets", "index"):
                    assert torch.equal(getattr(batch, name)[row], getattr(batches[number], name))
        assert number + 1 == len(alone[0]) == 8 - start


def test_feeds_of_other_samples_are_not_gathered_together(
    job: Callable[..., Job], plugins: Plugins, tmp_path: Path
) -> None:
    plain, other = job(0).recipe, job(0, data="data_seed = 1").recipe
    mixed = job(0, data='[[data.augment]]\nuse = "mixup"').recipe
    ordered = job(0, data="shuffle = false").recipe
    for text in (other, mixed, ordered):
        assert of_feeds([run.feed for run in runs_of(plugins, tmp_path, plain, text)]) is None
    runs = runs_of(plugins, tmp_path, plain, plain)
    gathered = of_feeds([run.feed for run in runs])
    assert gathered is not None
    assert not gathered.changed
    runs[1].feed.samples[0].mul_(2)
    assert gathered.changed
    assert of_feeds([run.feed for run in runs]) is None


def test_a_tally_says_when_it_takes_results_in(job: Callable[..., Job], plugins: Plugins, tmp_path: Path) -> None:
    (run,) = runs_of(plugins, tmp_path, job(0).recipe)
    tally = Tally(run)
    assert tally.room(10) == FOLD_EVERY
    tally.add(StepResult(torch.ones(5), torch.ones(5)), 5)
    assert tally.room(10) == FOLD_EVERY - 5
    assert tally.room(1 << 22) == 2
    assert tally.room(1 << 23) == 1


def test_a_stack_gives_the_same_either_way(job: Callable[..., Job], plugins: Plugins) -> None:
    class Apart(Stack):
        def __getattribute__(self, name: str) -> Any:
            if name == "update_stacked":
                raise AttributeError(name)
            return super().__getattribute__(name)

    for seeds in ((5, 5, 5, 5), (0, 1, 2, 3)):
        numbered = [(i, {"lr": rate, "seed": seeds[i]}) for i, rate in enumerate(RATES)]
        one = [job(i, f"one{seeds[0]}", **values) for i, values in numbered]
        two = [job(i, f"two{seeds[0]}", **values) for i, values in numbered]
        together(one, plugins, make=Stack)
        together(two, plugins, make=Apart)
        for mine, other in zip(one, two, strict=True):
            same(mine, other)


@pytest.mark.parametrize("metrics", [("accuracy", "error"), ("accuracy", "f1")], ids=["together", "one by one"])
def test_metrics_of_all_lanes_are_those_of_lone_runs(
    job: Callable[..., Job], plugins: Plugins, metrics: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[bool] = []
    add = Tally.add_together
    monkeypatch.setattr(Tally, "add_together", lambda *given: done.append(add(*given)) or done[-1])
    more = f'[[metric]]\nuse = "{metrics[1]}"'
    jobs = [job(i, lr=rate, seed=i, more=more) for i, rate in enumerate(RATES)]
    together(jobs, plugins, make=recorded([]))
    assert set(done) == {metrics[1] == "error"}
    for i, rate in enumerate(RATES):
        alone(lone := job(i, "alone", lr=rate, seed=i, more=more), plugins)
        same(jobs[i], lone)
