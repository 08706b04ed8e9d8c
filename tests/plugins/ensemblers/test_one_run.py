"""Ensembles of one run's weights, from the recipe to the folder: when weights are kept, and what becomes of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ensemble.of_runs import base_of_run
from trainkit import RecipeError, renew_statistics, weights_of
from trainkit.checkpoint import join_state
from trainkit.cli import main
from trainkit.ensemble import costs
from trainkit.ensemble.members import member_of_run
from trainkit.ensemble.opened import load_ensemble
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit_ensemblers.averaging import blended
from trainkit_ensemblers.stacked import Stacking

RECIPE = """\
recipe = 1
seed = 5
[run]
duration = "5ep"
device = "cpu"
[data]
use = "synthetic"
samples = 128
features = [6]
batch_size = 16
[model]
use = "mlp"
widths = [8]
norm = "batch"
dropout = 0.1
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.1
[schedule]
use = "cosine"
warmup = "3ba"
[[schedule.also]]
target = "weight_decay"
use = "constant"
"""
EPOCH = 6  # updates
QUICK = ("bootstrap=5", "executor=serial", "test=false")


class Work:
    """Commands in a folder of their own, with the recipe above."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.capsys = capsys
        self.plugins = Plugins([], ["reports"])
        self.plugins.load()
        self.recipe = home / "recipe.toml"
        self.recipe.write_text(RECIPE, encoding="utf-8")

    def __call__(self, *words: object, code: int = 0) -> str:
        given = main([*map(str, words), "--without", "reports"])
        said = self.capsys.readouterr()
        assert given == code, said.err
        return said.err + said.out

    def train(self, name: str, *changes: str) -> Path:
        self("run", self.recipe, "--run-dir", self.home / name, *changes)
        return self.home / name

    def make(self, name: str, *changes: str, code: int = 0) -> str:
        made = [*changes, *(f"ensemble.{word}" for word in QUICK)]
        return self("run", self.recipe, "--run-dir", self.home / name, *made, code=code)

    def of(self, name: str, *words: object, code: int = 0) -> str:
        return self("ensemble", *words, *QUICK, "--out", self.home / name, code=code)

    def manifest(self, name: str) -> Any:
        return join_state(json.loads((self.home / name / "ensemble.json").read_text()), {})

    def steps(self, name: str) -> list[int]:
        """Updates that the members' weights have seen."""
        return [member["step"] for member in self.manifest(name)["members"]]

    def rates(self, run: Path) -> dict[int, float]:
        """The rate of the last update before each log line, by update."""
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return {line["step"]: line["lr/0"] for line in lines if line["split"] == "train"}

    def module(self, path: Path) -> torch.nn.Module:
        return member_of_run(path, base_of_run(path, self.plugins, say=lambda text: None)).module


@pytest.fixture
def work(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(costs, "latency_ms", lambda *given: 1.0)  # to measure it takes longer than all the rest
    monkeypatch.setattr(costs, "multiplications", lambda *given: 1)
    return Work(tmp_path, capsys)


def pinned(run: Path) -> list[int]:
    return sorted(int(path.name[5:-4]) for path in (run / "checkpoints").glob("*.pin"))


# ------------------------------------------------------------ snapshots


def test_snapshots_are_the_ends_of_the_papers_cycles(work: Work):
    work.make("it", "ensemble.use=snapshots", "ensemble.cycles=4", "run.log_every=1ba")
    run = work.home / "it" / "members" / "0000"
    total = work.rates(run)
    length = math.ceil(max(total) / 4)
    expected = [min(length * number, max(total)) for number in (1, 2, 3, 4)]
    assert pinned(run) == work.steps("it") == expected
    for step, rate in total.items():  # the update numbered step counts from 1, the paper's formula from t = 0
        paper = 0.1 / 2 * (math.cos(math.pi * ((step - 1) % length) / length) + 1)
        assert rate == pytest.approx(paper, rel=1e-9, abs=1e-12)
    assert load_recipe(run / "recipe.toml", [], work.plugins).tables["schedule"]["also"][0]["target"] == "weight_decay"


def test_the_newest_snapshots_alone_count_where_that_is_asked_for(work: Work):
    work.make("it", "ensemble.use=snapshots", "ensemble.cycles=4", "ensemble.use_last=2")
    assert work.steps("it") == pinned(work.home / "it" / "members" / "0000")[-2:]


def test_the_checkpoints_of_a_finished_run_are_its_snapshots(work: Work):
    keeping = "callback=[{use='keep_checkpoints', at=['4ba', '9ba', '20ba']}]"
    work.of("it", work.train("run", keeping), "--use", "snapshots")
    assert work.steps("it") == [4, 9, 20]
    work.of(
        "plain", work.train("plain-run", "run.keep=3", "run.save_best=false", "run.save_pause=0"), "--use", "snapshots"
    )
    assert len(work.steps("plain")) == 3, "where none is pinned, all that are kept"
    names = [member["name"] for member in work.manifest("it")["members"]]
    assert names[0] == f"{work.home / 'run'} at update 4"
    assert len({member["weights"] for member in work.manifest("it")["members"]}) == 3


# ------------------------------------------------------------ fge


def test_fge_keeps_the_weights_where_the_rate_is_lowest(work: Work):
    settings = ["ensemble.use=fge", "ensemble.members=2", 'ensemble.start="0.4dur"', "ensemble.cycle=6ba"]
    work.make("it", *settings, "ensemble.high=0.5", "ensemble.low=0.01", "run.log_every=1ba")
    run = work.home / "it" / "members" / "0000"
    rates = work.rates(run)
    begin = 3 + int(0.4 * max(rates))  # the warm-up, and then the body
    expected = list(range(begin + 3, max(rates) + 1, 6))
    assert pinned(run) == expected
    assert work.steps("it") == expected[-2:]
    for step in expected:
        assert rates[step] == pytest.approx(0.001), "the last update before is made at the lowest rate"
    tail = {step: rate for step, rate in rates.items() if step > begin}
    assert min(tail.values()) == pytest.approx(0.001)
    for step, rate in tail.items():
        share = ((step - 1 - begin) % 6 + 1) / 6
        paper = (
            (1 - 2 * share) * 0.05 + 2 * share * 0.001
            if share <= 0.5
            else (2 - 2 * share) * 0.001 + (2 * share - 1) * 0.05
        )
        assert rate == pytest.approx(paper, rel=1e-9)
    plain = work.rates(work.train("plain", "run.log_every=1ba"))
    assert all(rates[step] == plain[step] for step in range(1, begin + 1)), "until then the recipe's own schedule"


def test_fge_goes_on_from_a_finished_run(work: Work):
    run = work.train("run")
    last = max(work.rates(run))
    said = work.of("it", run, "--use", "fge", "members=3", "cycle=4ba")
    assert "goes on for 10 updates, in cycles of 4" in said
    assert work.steps("it") == [last + 2, last + 6, last + 10]
    again = work.of("again", work.home / "it" / "members" / "0000", "--use", "fge")
    assert "goes on" not in again
    assert work.steps("again") == work.steps("it"), "what it has pinned are the members"
    assert "cannot be told in updates" in work.of("wrong", run, "--use", "fge", "cycle=0.1dur", code=2)


def test_a_run_with_time_for_fewer_members_says_so(work: Work):
    said = work.make("it", "ensemble.use=fge", "ensemble.members=9", "ensemble.cycle=6ba")
    assert "of 9 members; for more lengthen it" in said


def test_a_run_with_fewer_updates_than_cycles_says_so(work: Work):
    said = work.make("it", "ensemble.use=snapshots", "ensemble.cycles=7", "run.duration=9ba")
    assert "the run has time for 5 of 7 cycles" in said
    assert len(work.manifest("it")["members"]) == 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["ensemble.use=fge", "ensemble.cycle=3ba"], "two equal halves"),
        (["ensemble.use=fge", "ensemble.cycle=50ba"], r"\[ensemble\] fge, member 0: .*the middle of the first cycle"),
        (
            ["ensemble.use=fge", "ensemble.cycle=1ep", "data.batch_size=32"],
            r"\[ensemble\] fge, member 0: .*cycle comes to 3 updates",
        ),
        (["ensemble.use=fge", "ensemble.high=0.1", "ensemble.low=0.2"], "must be below high"),
        (["ensemble.use=fge", "ensemble.start=1dur"], "leaves no time for a cycle"),
        (["ensemble.use=mc_dropout", "model.dropout=0.0"], "the model has none: dropout = 0.0"),
        (["ensemble.use=mc_dropout", "model={use='linear'}"], "linear has none"),
        (["ensemble.use=stacking", "ensemble.members=3"], "stacking fits [0-9]+ columns to 26 validation samples"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_trained(work: Work, changes: list[str], said: str):
    import re

    assert re.search(said, work.make("it", *changes, code=2))
    assert not list((work.home / "it").glob("members/*/metrics.jsonl"))


def test_stacking_is_cross_validated_once_for_choice_temperature_and_report(
    work: Work, monkeypatch: pytest.MonkeyPatch
):
    whole, calls = Stacking._cross_validated, []

    def counted(self: Stacking, *given: Any) -> list[float]:
        calls.append(self)
        return whole(self, *given)

    monkeypatch.setattr(Stacking, "_cross_validated", counted)
    work.make("it", "ensemble.use=stacking", "ensemble.members=3", "ensemble.force=true")
    assert len(calls) == 1
    report = json.loads((work.home / "it" / "report.json").read_text())
    assert [point["sets"] for point in report["curve"]["points"]] == [3, 3, 1]
    assert report["reselection"]["folds"] == 5


# ------------------------------------------------------------ averages


def averaged_by_hand(work: Work, paths: list[Path], shares: list[float]) -> torch.nn.Module:
    modules = [work.module(path) for path in paths]
    base = base_of_run(paths[-1], work.plugins, say=lambda text: None)
    with torch.no_grad():
        for name, tensor in blended([weights_of(module) for module in modules], shares).items():
            weights_of(modules[-1])[name].copy_(tensor)
    rows = torch.cat([batch.inputs for batch in base.batches("train")])
    assert renew_statistics(modules[-1], [rows])
    return modules[-1]


def assert_ensemble_is(work: Work, name: str, module: torch.nn.Module, run: Path) -> None:
    base, opened = base_of_run(run, work.plugins, say=lambda text: None), load_ensemble(work.home / name, work.plugins)
    given = base.measure(opened, "val") * opened.temperature
    torch.testing.assert_close(given.log_softmax(1), base.measure(module, "val").log_softmax(1), rtol=1e-4, atol=1e-5)


def test_an_average_of_runs_that_began_alike_is_one_model(work: Work):
    runs = [work.train("a"), work.train("b", "optimizer.lr=0.3"), work.train("c", "optimizer.weight_decay=0.1")]
    work.of("it", *runs, "--use", "average")
    (member,) = work.manifest("it")["members"]
    assert member["name"] == "the average of 3 sets of weights"
    assert_ensemble_is(work, "it", averaged_by_hand(work, runs, [1 / 3] * 3), runs[0])


def test_runs_that_began_otherwise_are_refused_and_forced(work: Work):
    runs = [work.train("a"), work.train("b", "seed=6", "data.seed=5")]
    said = work.of("it", *runs, "--use", "average", code=2)
    assert "have no common ancestor (seeds 6 and 5)" in said
    assert "force = true" in said
    assert not (work.home / "it" / "ensemble.json").exists()
    forced = work.of("forced", *runs, "--use", "average", "force=true")
    assert "rises" in forced
    barrier = work.manifest("forced")["state"]["barrier"]
    assert len(barrier["losses"]) == 11
    other = work.train("wide", "model.widths=[9]")
    said = work.of("never", runs[0], other, "--use", "average", "force=true", code=2)
    assert "'body.0.weight' is (9, 6) float32 in one, (8, 6) float32 in the other" in said


def test_runs_that_went_on_from_one_have_it_in_common(work: Work):
    run = work.train("run")
    for name in ("one", "two"):
        work.of(name, run, "--use", "fge", "members=1", "cycle=4ba", f"high={0.5 if name == 'one' else 0.3}")
    ends = [work.home / name / "members" / "0000" for name in ("one", "two")]
    work.of("it", *ends, "--use", "average", "method=greedy")
    work.of("and-the-first", run, ends[0], "--use", "average", "method=interpolate")
    assert len(work.manifest("and-the-first")["state"]["figures"]) == 11


def test_the_checkpoints_of_a_run_that_is_trained_are_averaged(work: Work):
    work.make("it", "ensemble.use=average", "ensemble.method=lawa", "ensemble.last=3")
    run = work.home / "it" / "members" / "0000"
    paths = [run / "checkpoints" / f"step-{step:012d}" for step in pinned(run)]
    assert len(paths) == 5, "one an epoch"
    assert list(work.manifest("it")["state"]["shares"].values()) == pytest.approx([1 / 3] * 3)
    assert_ensemble_is(work, "it", averaged_by_hand(work, paths[-3:], [1 / 3] * 3), run)


SEARCH = """
[search]
use = "random"
trials = 4
executor = "serial"
[search.space]
"optimizer.lr" = { low = 0.05, high = 0.5, scale = "log" }
"model.dropout" = { choices = [0.05, 0.1] }
"""


def test_trials_of_a_search_that_began_alike_make_a_soup(work: Work):
    work.recipe.write_text(RECIPE + SEARCH, encoding="utf-8")
    work.make("it", "ensemble.use=average", "ensemble.method=greedy")
    state = work.manifest("it/ensemble")["state"]
    assert 1 <= len(state["added"]) <= 4
    assert sum(state["shares"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["search.space.seed={choices=[1, 2]}"], "trials that differ in their seed begin with different weights"),
        (["search.space={'model.widths'={choices=[[4], [8]]}}"], "trials that differ in model.widths have weights"),
        (["search.repeats=2"], "a trial is several runs"),
        (["search.folds=3"], "a trial is several runs"),
    ],
)
def test_trials_that_cannot_be_averaged_are_a_problem_of_the_recipe(work: Work, changes: list[str], said: str):
    work.recipe.write_text(RECIPE + SEARCH, encoding="utf-8")
    with pytest.raises(RecipeError, match=said):
        load_recipe(work.recipe, ["ensemble.use=average", *changes], work.plugins)
    load_recipe(work.recipe, ["ensemble.use=greedy", *changes], work.plugins)


def test_passes_with_dropout_from_the_recipe_to_the_folder(work: Work):
    said = work.make("it", "ensemble.use=mc_dropout", "ensemble.passes=4")
    assert "4 passes with dropout" in said
    run = work.home / "it" / "members" / "0000"
    base, opened = base_of_run(run, work.plugins), load_ensemble(work.home / "it", work.plugins)
    assert torch.equal(base.measure(opened, "val"), base.measure(load_ensemble(work.home / "it", work.plugins), "val"))
