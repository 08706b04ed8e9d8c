"""Runs trained together leave what each leaves alone, whatever happens to the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lane_jobs import lines_of, names_of, report_of
from one_by_one import OneByOne

from trainkit import LaneGroup, lane_speed
from trainkit.errors import MachineError
from trainkit.lanes.group import Group
from trainkit.manager import Plugins
from trainkit.trial_run import run_job
from trainkit.work import Job, Outcome

RATES = (0.02, 0.1, 0.3, 0.05)


def together(jobs: Sequence[Job], plugins: Plugins, make: Any = OneByOne, **options: Any) -> dict[int, Outcome]:
    """Train jobs as lanes; outcomes by trial."""
    group = LaneGroup(plugins, make=make, **options)
    for job in jobs:
        group.add(job)
    return rest(group)


def rest(group: LaneGroup) -> dict[int, Outcome]:
    """Work until nothing is left."""
    found: dict[int, Outcome] = {}
    while len(group):
        found |= {job.trial: outcome for job, outcome in group.work(10.0)}
    group.close()
    return found


def alone(job: Job, plugins: Plugins) -> Outcome:
    """Train one job by itself."""
    return run_job(job, plugins, lambda job, measured: "")


def same(job: Job, other: Job) -> None:
    """Two run folders hold the same, bit for bit, times apart."""
    assert lines_of(job) == lines_of(other)
    assert report_of(job) == report_of(other)
    assert names_of(job) == names_of(other)


def as_alone(lane: Job, outcome: Outcome, lone: Job, expected: Outcome) -> None:
    """A lane has come to its end as the same run by itself."""
    same(lane, lone)
    assert outcome.status == expected.status == "done"
    assert outcome.steps == expected.steps == 24
    assert {k: v for k, v in outcome.metrics.items() if k != "seconds"} == {
        k: v for k, v in expected.metrics.items() if k != "seconds"
    }


VARIANTS: list[dict[str, Any]] = [
    {},
    {"model": "dropout = 0.3"},
    {"run": 'evaluate_every = "3ba"\nlog_every = "5ba"'},
    {"more": '[schedule]\nuse = "cosine"\nwarmup = "1ep"'},
    {"data": '[[data.augment]]\nuse = "mixup"'},
]


@pytest.mark.parametrize("values", VARIANTS, ids=["plain", "dropout", "dues", "cosine", "augmented"])
def test_folders_are_those_of_lone_runs(job: Callable[..., Job], plugins: Plugins, values: dict[str, Any]) -> None:
    expected: dict[tuple[float, int], tuple[Job, Outcome]] = {}
    for where, seeds in (("one seed", (5, 5, 5)), ("many seeds", (5, 6, 7))):
        given = list(zip(RATES[:3], seeds, strict=True))
        lanes = [job(i, where, lr=rate, seed=seed, **values) for i, (rate, seed) in enumerate(given)]
        outcomes = together(lanes, plugins)
        for i, (rate, seed) in enumerate(given):
            if (rate, seed) not in expected:
                lone = job(i, f"alone, {where}", lr=rate, seed=seed, **values)
                expected[rate, seed] = lone, alone(lone, plugins)
            as_alone(lanes[i], outcomes[i], *expected[rate, seed])


def test_vectorised_figures_are_those_of_lone_runs_up_to_rounding(job: Callable[..., Job], plugins: Plugins) -> None:
    from trainkit.lanes.stack import Stack

    lanes = [job(i, lr=rate) for i, rate in enumerate(RATES)]
    together(lanes, plugins, make=Stack)
    for i, rate in enumerate(RATES):
        alone(lone := job(i, "alone", lr=rate), plugins)
        for got, expected in zip(lines_of(lanes[i]), lines_of(lone), strict=True):
            assert got.pop("split") == expected.pop("split")
            assert got == pytest.approx(expected, rel=2e-5, abs=2e-6)
        assert names_of(lanes[i]) == names_of(lone)


def test_lanes_are_refilled(job: Callable[..., Job], plugins: Plugins) -> None:
    made: list[OneByOne] = []

    def make(lanes: Any) -> OneByOne:
        made.append(OneByOne(lanes))
        return made[-1]

    epochs = (2, 3, 4, 2, 3)
    jobs = [job(i, lr=0.1, epochs=count, seed=i) for i, count in enumerate(epochs)]
    outcomes = together(jobs, plugins, make=make, lanes=2)
    assert [stack.most for stack in made] == [2]
    for i, count in enumerate(epochs):
        alone(lone := job(i, "alone", lr=0.1, epochs=count, seed=i), plugins)
        same(jobs[i], lone)
        assert outcomes[i].steps == 8 * count


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"lr": 1e6, "run": 'log_every = "3ba"'}, "nan"),
        ({"more": '[[callback]]\nuse = "trips"\nepoch = 1'}, "error"),
        ({"more": '[[callback]]\nuse = "trips"\nupdate = 11'}, "error"),
    ],
    ids=["nan", "epoch end", "step end"],
)
def test_one_lane_that_fails_ends_alone(
    job: Callable[..., Job], plugins: Plugins, values: dict[str, Any], status: str
) -> None:
    jobs = [job(0), job(1, **values), job(2, lr=0.3)]
    outcomes = together(jobs, plugins)
    assert [outcomes[i].status for i in range(3)] == ["done", status, "done"]
    for i, given in enumerate(({}, values, {"lr": 0.3})):
        expected = alone(lone := job(i, "alone", **given), plugins)
        assert lines_of(jobs[i]) == lines_of(lone)
        assert outcomes[i].message.replace(str(jobs[i].folder), str(lone.folder)) == expected.message
        assert (outcomes[i].origin, outcomes[i].steps) == (expected.origin, expected.steps)


def test_paused_lanes_go_on_as_lone_runs_and_the_other_way_round(job: Callable[..., Job], plugins: Plugins) -> None:
    whole = [job(i, "whole", lr=rate) for i, rate in enumerate(RATES)]
    for one in whole:
        alone(one, plugins)
    first = [job(i, "a", lr=rate, until=1 / 3) for i, rate in enumerate(RATES)]
    outcomes = together(first, plugins)
    assert {outcome.status for outcome in outcomes.values()} == {"paused"}
    assert {outcome.steps for outcome in outcomes.values()} == {8}
    for i, rate in enumerate(RATES):  # a lane, then alone
        alone(later := job(i, "a", lr=rate), plugins)
        assert lines_of(later) == lines_of(whole[i])
    for i, rate in enumerate(RATES):  # alone, then a lane beside a fresh one
        alone(job(i, "b", lr=rate, until=1 / 3), plugins)
    later = [job(i, "b", lr=rate) for i, rate in enumerate(RATES)]
    together([*later, job(9, "b")], plugins)
    for one, other in zip(later, whole, strict=True):
        assert lines_of(one) == lines_of(other)
        assert report_of(one)["weights_sha256"] == report_of(other)["weights_sha256"]


def test_all_lanes_stop_at_the_next_step_boundary_and_go_on(job: Callable[..., Job], plugins: Plugins) -> None:
    seen: list[int] = []
    jobs = [job(i, lr=rate) for i, rate in enumerate(RATES)]

    def measured(one: Job, figures: Any) -> str:
        seen.append(one.trial)
        if len(seen) == 6:
            group.stop()
        return ""

    group = LaneGroup(plugins, measured, make=OneByOne)  # type: ignore[arg-type]
    for one in jobs:
        group.add(one)
    outcomes = rest(group)
    assert {outcome.status for outcome in outcomes.values()} == {"interrupted"}
    assert {outcome.steps for outcome in outcomes.values()} <= {16, 17}
    together(jobs, plugins)
    for i, rate in enumerate(RATES):
        alone(lone := job(i, "alone", lr=rate), plugins)
        assert lines_of(jobs[i]) == lines_of(lone)


def test_a_pruned_lane_leaves_the_others_as_they_are(job: Callable[..., Job], plugins: Plugins) -> None:
    jobs = [job(i, lr=rate, watched=True) for i, rate in enumerate(RATES)]
    group = LaneGroup(plugins, lambda one, m: "worse" if one.trial == 1 and m.trained > 0.5 else "", make=OneByOne)  # type: ignore[arg-type]
    for one in jobs:
        group.add(one)
    outcomes = rest(group)
    assert [outcomes[i].status for i in range(4)] == ["done", "pruned", "done", "done"]
    assert outcomes[1].steps == 16
    for i in (0, 2, 3):
        alone(lone := job(i, "alone", lr=RATES[i]), plugins)
        same(jobs[i], lone)


def test_other_structures_have_groups_of_their_own_and_obstacles_are_said(
    job: Callable[..., Job], plugins: Plugins
) -> None:
    said: list[str] = []
    made: list[OneByOne] = []

    def make(lanes: Any) -> OneByOne:
        made.append(OneByOne(lanes))
        return made[-1]

    values: list[dict[str, Any]] = [
        {},
        {"width": 4},
        {"lr": 0.3},
        {"width": 4, "lr": 0.2},
        {"more": '[[callback]]\nuse = "own_step"'},
        {"lr": 0.3, "more": '[[callback]]\nuse = "own_step"'},
    ]
    jobs = [job(i, **given) for i, given in enumerate(values)]
    together(jobs, plugins, make=make, say=said.append)
    assert [stack.most for stack in made] == [2, 2]
    assert said == ["trials are trained one by one, not as lanes: a plugin makes the updates itself"]
    for i, given in enumerate(values):
        alone(lone := job(i, "alone", **given), plugins)
        same(jobs[i], lone)


def test_a_stack_that_fails_gives_way_to_single_runs(job: Callable[..., Job], plugins: Plugins) -> None:
    class Breaks(OneByOne):
        def update(self, batches: Any) -> Any:
            raise RuntimeError("vmap: no rule for this")

    said: list[str] = []
    jobs = [job(i, lr=rate) for i, rate in enumerate(RATES)]
    outcomes = together(jobs, plugins, make=Breaks, say=said.append)
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    assert len(said) == 1
    assert said[0].endswith("one by one: RuntimeError: vmap: no rule for this")
    for i, rate in enumerate(RATES):
        alone(lone := job(i, "alone", lr=rate), plugins)
        same(jobs[i], lone)


def test_memory_bounds_how_many_are_trained_at_once(
    job: Callable[..., Job], plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainkit.lane_group.lanes_that_fit", lambda run: 2)
    said: list[str] = []
    stacks: list[OneByOne] = []

    def make(lanes: Any) -> OneByOne:
        stacks.append(OneByOne(lanes))
        return stacks[-1]

    together([job(i, lr=rate) for i, rate in enumerate(RATES)], plugins, make=make, say=said.append)
    assert [stack.most for stack in stacks] == [2]
    assert said == ["2 trials at once are trained as lanes, not 32: memory has no room for more"]


def test_a_machine_that_refuses_ends_all_after_they_are_saved(
    job: Callable[..., Job], plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [job(i, lr=rate) for i, rate in enumerate(RATES)]

    def measured(one: Job, figures: Any) -> str:
        if one.trial == 2:
            raise MachineError("the disk is full")
        return ""

    group = LaneGroup(plugins, measured, make=OneByOne)  # type: ignore[arg-type]
    for one in jobs:
        group.add(one)
    found: dict[int, str] = {}
    while len(group):
        found |= {one.trial: outcome.status for one, outcome in group.work(1.0)}
    with pytest.raises(MachineError, match="the disk is full"):
        group.work(1.0)
    assert found == {0: "interrupted", 1: "interrupted", 3: "interrupted"}
    group.close()


def test_measuring_leaves_nothing_behind(job: Callable[..., Job], plugins: Plugins, tmp_path: Path) -> None:
    before = os.listdir(tmp_path)
    speed = lane_speed(job(0).recipe, plugins, 4)
    assert (speed.updates, speed.lanes, speed.obstacle) == (24, 4, "")
    assert min(speed.alone, speed.together) > 0
    alone = lane_speed(job(0, more='[[callback]]\nuse = "own_step"').recipe, plugins, 1)
    assert (alone.obstacle, alone.together, alone.lanes, alone.alone > 0) == ("", 0.0, 1, True)
    blocked = lane_speed(job(0, more='[[callback]]\nuse = "own_step"').recipe, plugins, 4)
    assert (blocked.obstacle, blocked.together) == ("a plugin makes the updates itself", 0)
    assert blocked.alone > 0
    assert os.listdir(tmp_path) == before


KILLED = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from trainkit import LaneGroup
from trainkit.trial_run import open_plugins
from trainkit.work import Job
from one_by_one import OneByOne
group = LaneGroup(open_plugins([{parts!r}]), make=OneByOne)
for number, text in enumerate({texts!r}):
    group.add(Job(number, 0, text, Path({folder!r}) / f"{{number:04d}}"))
while len(group):
    group.work(5.0)
"""


def test_killed_lanes_go_on_from_their_checkpoints(job: Callable[..., Job], plugins: Plugins, tmp_path: Path) -> None:
    values = {"epochs": 400, "run": 'log_every = "8ba"\nsave_pause = 0.0'}
    few = [job(i, "killed", lr=rate, **values) for i, rate in enumerate(RATES)]
    texts = [one.recipe.replace('save_every = "1dur"', 'save_every = "10ba"') for one in few]
    here = Path(__file__).parent
    code = KILLED.format(
        paths=[str(here)], parts=str(here / "trainkit_lane_job_parts.py"), texts=texts, folder=str(tmp_path / "killed")
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    end = time.monotonic() + 60
    while time.monotonic() < end and not all((one.folder / "checkpoints").glob("step-*0") for one in few):
        time.sleep(0.05)
    while time.monotonic() < end and len(list((few[-1].folder / "checkpoints").glob("step-*"))) < 2:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    jobs = [Job(i, 0, text, one.folder, watched=True) for i, (text, one) in enumerate(zip(texts, few, strict=True))]
    stood = [list((one.folder / "checkpoints").glob("step-*")) for one in jobs]
    assert all(stood)
    group = LaneGroup(plugins, lambda one, m: "enough", make=OneByOne)  # type: ignore[arg-type]
    for one in jobs:
        group.add(one)
    outcomes = rest(group)
    assert {outcome.status for outcome in outcomes.values()} == {"pruned"}
    for i, one in enumerate(jobs):
        steps = outcomes[i].steps
        lone = Job(i, 0, texts[i], tmp_path / "alone" / str(i), watched=True)
        run_job(lone, plugins, lambda one, m, steps=steps: "enough" if m.trained * 3200 >= steps else "")  # type: ignore[misc]
        assert lines_of(one) == lines_of(lone)


def test_a_late_run_waits_until_the_others_stand_where_it_does() -> None:
    class Fake:
        rests = False

        def __init__(self, place: int) -> None:
            self.lane: Any = self
            self.run: Any = type("Run", (), {"batch_in_epoch": place})()

    group = Group(3, print, OneByOne)  # type: ignore[arg-type]
    group.waiting = [Fake(0), Fake(3), Fake(3), Fake(3), Fake(3)]  # type: ignore[list-item]
    group._fill()
    assert [member.run.batch_in_epoch for member in group.members] == [3, 3, 3]
    assert [member.run.batch_in_epoch for member in group.waiting] == [0, 3]


def test_global_random_numbers_stay_as_they_were(job: Callable[..., Job], plugins: Plugins) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    together([job(i, lr=rate, model="dropout = 0.3") for i, rate in enumerate(RATES)], plugins)
    assert torch.equal(torch.get_rng_state(), before)


def test_jobs_that_are_not_begun_stop_before_anything_is_written(job: Callable[..., Job], plugins: Plugins) -> None:
    jobs = [job(i) for i in range(3)]
    group = LaneGroup(plugins, make=OneByOne)  # type: ignore[arg-type]
    for one in jobs:
        group.add(one)
    group.stop()
    assert {outcome.status for outcome in rest(group).values()} == {"interrupted"}
    assert not any(one.folder.exists() for one in jobs)
