"""Edges of schedules: where libraries go wrong, every length of warm-up and cool-down, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import trainkit_schedules as schedules
from trainkit import Phase, RecipeError, Schedule, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit.run import ScheduledValue
from trainkit.scheduled import product, rising, set_values, warmed_up

RECIPE = """\
recipe = 1
logger = []
[run]
duration = "2ep"
device = "cpu"
[data]
use = "synthetic"
samples = 192
features = [6]
batch_size = 16
[model]
use = "linear"
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
[schedule]
"""


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins()


@pytest.fixture
def write(tmp_path: Path) -> Path:
    """A recipe whose [schedule], at line 18, is empty yet."""
    file = tmp_path / "small.toml"
    file.write_text(RECIPE, encoding="utf-8")
    return file


REFUSED = {
    "multistep without milestones": ('use="multistep"\nmilestones=[]', 20, "at least one milestone"),
    "milestone without unit": ('use="multistep"\nmilestones=["5"]', 20, "duration"),
    "milestones out of order": ('use="multistep"\nmilestones=["1e1ep","5ep"]', 20, '"5ep" comes after "1e1ep"'),
    "a milestone twice": ('use="multistep"\nmilestones=["2ba","5ba",\n"5.0ba"]', 21, '"5.0ba" comes after "5ba"'),
    "points out of order": ('use="piecewise"\nfactors=[1.0,0.5]\nat=["0.5dur","0.25dur"]', 21, "at must rise"),
    "points without factors": ('use="piecewise"\nfactors=[1.0]\nat=["0ba","1ep"]', 21, "2 in 'at', 1 in 'factors'"),
    "no points": ('use="piecewise"\nfactors=[]\nat=[]', 21, "a factor for each time"),
    "noam with a warm-up": ('use="noam"\nd_model=64\nwarmup="1ep"', 21, "warms up by itself"),
    "three phases too long": ('use="onecycle"\nthree_phase=true\npct=0.6', 21, "pct = 0.6 is above 0.5"),
    "a tanh that rises": ('use="tanh"\nlower=3\nupper=3', 20, "lower = 3, upper = 3"),
    "heating": ('use="temperature"\nfinal=2.0', 20, "final = 2 is above start = 1"),
    "exponential of neither": ('use="exponential"', 18, "needs 'rate' or 'k'"),
    "exponential of both": ('use="exponential"\nrate=0.9\nk=0.1', 21, "not both"),
    "exp from zero": ('use="cosine"\nwarmup="2ba"\nwarmup_shape="exp"\nwarmup_start=0.0', 21, "above 0, it is 0.0"),
    "exp from nowhere": ('use="cosine"\nwarmup="2ba"\nwarmup_shape="exp"', 21, "above 0, it is unset"),
    "unknown shape": ('use="wsd"\nshape="sqrt"', 20, "1-sqrt"),
    "rex of one": ('use="rex"\nd=1.0', 20, "below 1"),
    "a cycle of nothing": ('use="cosine_restarts"\nfirst="0ep"', 20, "longer than nothing"),
    "half a multiple": ('use="cosine_restarts"\nmult=1.5', 20, "integer"),
    "momentum upside down": ('use="onecycle_momentum"\nlow=0.9\nhigh=0.8', 20, "low = 0.9, high = 0.8"),
    "momentum of three long phases": (
        'use="onecycle_momentum"\nthree_phase=true\npct=0.6',
        21,
        "onecycle_momentum with three_phase",
    ),
    "a ramp by ratios from zero": ('use="ramp"\nstart=0\nend=1.0\nshape="exp"', 22, "both must be above 0"),
    "no phases": ('use="phases"\nphases=[]', 20, "at least one"),
    "two open phases": (
        'use="phases"\n[[schedule.phases]]\nuse="cosine"\n[[schedule.phases]]\nuse="linear"',
        22,
        "phases.0 and phases.1 have no length",
    ),
    "a phase that does not exist": ('use="phases"\nphases=[{use="cosin"}]', 20, "did you mean 'cosine'"),
    "a fault inside a phase": (
        'use="phases"\n[[schedule.phases]]\nuse="constant"\nlength="2ba"\n[[schedule.phases]]\nuse="exponential"',
        23,
        "needs 'rate' or 'k'",
    ),
    "a phase with a warm-up": ('use="phases"\nphases=[{use="cosine", warmup="1ba"}]', 20, "warmup"),
    "a fault inside a body": ('use="swa_tail"\nbody={use="tanh", lower=4}', 20, "lower = 4, upper = 3"),
    "a body without a name": ('use="swa_tail"\nbody={end=0.1}', 20, "needs 'use'"),
    "a fault inside a product": ('use="cosine"\n[[schedule.multiply]]\nuse="temperature"\nfinal=2.0', 22, "final = 2"),
    "noam in a product": ('use="cosine"\nwarmup="1ep"\n[[schedule.multiply]]\nuse="noam"', 21, "d_model"),
    "a fault inside another target": (
        'use="cosine"\n[[schedule.also]]\nuse="ramp"\ntarget="weight_decay"\nstart=0.0\nend=0.1\nshape="exp"',
        25,
        "start = 0, end = 0.1",
    ),
    "a fault inside a product of another target": (
        'use="cosine"\n[[schedule.also]]\nuse="linear"\ntarget="momentum"\n'
        '[[schedule.also.multiply]]\nuse="multistep"\nmilestones=[]',
        25,
        "at least one milestone",
    ),
    "growth to less": ('use="growth"\nevery="1ep"\nmaximum=0.5', 21, "maximum"),
    "growth without a limit": ('use="growth"\nevery="1ep"', 18, "maximum"),
    "a freeze of nothing": ('use="cosine"\n[[schedule.react]]\nuse="freeze"', 20, "needs 'at' or 'patience'"),
    "a freeze without length": ('use="cosine"\n[[schedule.react]]\nuse="freeze"\nat=["1ep"]', 22, "needs a 'length'"),
    "a plateau that rises": ('use="cosine"\n[[schedule.react]]\nuse="plateau"\nfactor=1.0', 22, "below 1"),
    "a window of nothing": ('use="cosine"\n[[schedule.react]]\nuse="stagnation_restart"\nwindow=0', 22, "at least 1"),
    "a misspelt reaction": ('use="cosine"\n[[schedule.react]]\nuse="plateu"', 21, "did you mean 'plateau'"),
    "a misspelt start": ('use="cosine"\nwarmup_strat=0.1', 20, "warmup_start: number from 0 to 1, or unset"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_do_not_fit_are_one_problem_with_its_line(write, plugins, name):
    text, line, message = REFUSED[name]
    write.write_text(RECIPE + text + "\n", encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(write, [], plugins)
    assert len(caught.value.problems) == 1
    problem = caught.value.problems[0]
    assert f"small.toml:{line}:" in str(caught.value).splitlines()[0], str(caught.value)
    assert message in f"{problem.message}\n{problem.cure}"


def test_a_fall_that_comes_to_no_update_is_refused_when_the_data_are_known(write, plugins, tmp_path):
    write.write_text(RECIPE + 'use = "cyclic"\ndown = "0.01ep"\n', encoding="utf-8")
    with pytest.raises(RecipeError, match="comes to 0 updates"):
        launch(load_recipe(write, [], plugins), plugins, folder=tmp_path / "run")


TOO_LONG = {
    "milestones of several units": (
        'use="multistep"\nmilestones=["13ba", "1ep"]',
        "milestones must rise: 12 updates come after 13",
    ),
    "milestones": ('use="multistep"\nmilestones=["2ba", "3ep"]', "milestones.1 is at 36 updates, the schedule has 24"),
    "milestones after a warm-up": (
        'use="multistep"\nwarmup="1ep"\nmilestones=["2ba", "13ba"]',
        "milestones.1 is at 13 updates, the schedule has 12",
    ),
    "points": ('use="piecewise"\nat=["0ba", "25ba"]\nfactors=[1.0, 0.1]', "at.1 is at 25 updates"),
    "phases": (
        'use="phases"\nphases=[{use="linear", length="2ep"}, {use="cosine", length="1ba"}]',
        "the phases take 25 updates, the schedule has 24",
    ),
    "phases that leave nothing": (
        'use="phases"\nphases=[{use="linear", length="2ep"}, {use="cosine"}]',
        "phases.1 is left no update",
    ),
    "phases that are over before the run": (
        'use="phases"\nphases=[{use="linear", length="1ep"}, {use="cosine", length="11ba"}]',
        "the phases take 23 updates, the schedule has 24",
    ),
    "a phase of nothing": (
        'use="phases"\nphases=[{use="linear", length="0.01ep"}, {use="cosine"}]',
        "phases.0 comes to no update",
    ),
    "milestones inside a phase": (
        'use="phases"\nphases=[{use="cosine"}, {use="multistep", milestones=["7ba"], length="6ba"}]',
        "phases.1: milestones.0 is at 7 updates, the schedule has 6",
    ),
    "a cycle without a middle": (
        'use="fge_tail"\nstart="1ep"\ncycle="3ba"\nbody={use="cosine"}',
        "cycle comes to 3 updates, and a cycle has two equal halves",
    ),
    "no cycle": (
        'use="fge_tail"\nstart="20ba"\ncycle="10ba"\nbody={use="cosine"}',
        "the middle of the first cycle is update 25, the schedule has 24",
    ),
    "no way down": ('use="fge_tail"\ncycle="2ba"\nhigh=0.1\nlow=0.2\nbody={use="cosine"}', "must be below high"),
    "a tail": ('use="swa_tail"\nstart="2ep"\nbody={use="cosine"}', "start is 24 updates, the schedule has 24"),
    "milestones inside a tail": (
        'use="swa_tail"\nstart="1ep"\nbody={use="multistep", milestones=["25ba"]}',
        "body: milestones.0 is at 25 updates",
    ),
    "milestones in a product": (
        'use="cosine"\n[[schedule.multiply]]\nuse="multistep"\nmilestones=["25ba"]',
        "milestones.0 is at 25 updates",
    ),
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_what_does_not_fit_the_length_of_the_run_is_one_problem_before_it(write, plugins, tmp_path, name):
    text, message = TOO_LONG[name]
    write.write_text(RECIPE.replace("samples = 192", "samples = 320") + text + "\n", encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        launch(load_recipe(write, [], plugins), plugins, folder=tmp_path / "run")
    assert len(caught.value.problems) == 1
    problem = caught.value.problems[0]
    assert message in problem.message
    assert problem.place.line
    assert problem.cure


def test_what_just_fits_the_length_of_the_run_is_no_problem():
    schedules.multistep(milestones=[5, 24]).check(24)
    schedules.piecewise(at=[0, 24], factors=[1.0, 0.0]).check(24)
    schedules.phases(phases=[Phase(schedules.linear(), 24)]).check(24)
    schedules.phases(phases=[Phase(schedules.linear(), 23), Phase(schedules.cosine(), None)]).check(24)
    schedules.swa_tail(body=schedules.cosine(), start=23, anneal=1).check(24)


def test_components_of_others_are_not_judged_by_their_name():
    from trainkit_schedules.checks import schedule_faults

    foreign = {"use": "my_lab:exponential", "multiply": [{"use": "trainkit_schedules:multistep", "milestones": []}]}
    (fault,) = schedule_faults(foreign, "trainkit_schedules")
    assert fault[0] == "schedule.multiply.0.milestones"


def test_a_run_gets_warmup_body_and_cooldown_as_its_recipe_says(write, plugins, tmp_path):
    seen: list[float] = []

    class Rates:
        @hookimpl
        def trainkit_step_end(self, run):
            seen.append(run.optimizer.param_groups[0]["lr"])

    settings = 'use="multistep"\nmilestones=["2ba", "0.25dur"]\nwarmup="2ba"\nwarmup_start=0.25\nwarmup_shape="exp"\n'
    write.write_text(RECIPE + settings + 'cooldown="4ba"\n', encoding="utf-8")
    launch(load_recipe(write, [], plugins), plugins, folder=tmp_path / "run", listeners=[Rates()])
    falling = [0.025, 0.05, 0.1, 0.1, 0.01, 0.01, *[0.001] * 10]
    assert seen == pytest.approx(falling, rel=1e-12)


def test_restarts_are_found_by_whole_numbers_where_a_logarithm_is_one_cycle_back():
    for mult in (2, 3, 5, 10):
        schedule, start = schedules.cosine_restarts(first=10, mult=mult), 0
        for cycle in range(12):
            assert schedule(start, 1) == 1.0, (mult, cycle)
            start += 10 * mult**cycle
            assert schedule(start - 1, 1) < 0.03
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 10, 3)
    theirs.step(1210)
    assert optimizer.param_groups[0]["lr"] == 0.0, "torch has put it right: say so in the schedule"


def test_a_rise_of_no_length_begins_at_the_peak_where_torch_divides_by_zero():
    schedule = schedules.onecycle(pct=0.1)
    assert schedule(0, 10) == 1.0
    assert schedule(9, 10) == pytest.approx(1 / 25 / 1e4)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    with pytest.raises(ZeroDivisionError):
        torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, 10, pct_start=0.1)


def test_a_cut_is_exact_and_the_last_update_is_not_below_the_lowest():
    schedule = schedules.slanted_triangular(cut_frac=0.29, ratio=10.0)
    assert schedule(29, 100) == 1.0 > schedule(28, 100)
    for total in range(1, 51):
        assert min(schedule(t, total) for t in range(total + 5)) >= 0.1


def test_a_peak_never_falls_below_the_end():
    schedule = schedules.cosine_restarts(first=2, decay=0.5, end=0.2)
    assert [schedule(2 * n, 1) for n in range(5)] == [1.0, 0.5, 0.25, 0.2, 0.2]


def test_aliases_are_what_they_stand_for():
    for t in range(60):
        assert schedules.budget()(t, 50) == schedules.linear(end=0.0)(t, 50)
        assert schedules.trapezoid(decay=9, end=0.1)(t, 50) == schedules.wsd(decay=9, shape="linear", end=0.1)(t, 50)


def test_every_fall_of_wsd_is_level_before_and_ends_where_it_says():
    for shape in ("1-sqrt", "linear", "cosine", "1-square", "exp"):
        schedule = schedules.wsd(decay=20, shape=shape, end=0.05)
        assert [schedule(t, 100) for t in (0, 50, 80)] == pytest.approx([1.0] * 3, rel=1e-15), shape
        assert schedule(100, 100) == schedule(500, 100) == 0.05
        falling = [schedule(t, 100) for t in range(80, 101)]
        assert falling == sorted(falling, reverse=True)
    assert schedules.wsd(decay=20)(0, 10) == 1.0, "a fall longer than the run takes all of it"


SETTINGS = {
    "cosine": st.builds(schedules.cosine, end=st.floats(0, 1), k=st.floats(0.1, 9)),
    "polynomial": st.builds(schedules.polynomial, power=st.floats(0.01, 9), end=st.floats(0, 1)),
    "rex": st.builds(schedules.rex, d=st.floats(0, 1, exclude_max=True)),
    "wsd": st.builds(
        schedules.wsd,
        decay=st.integers(0, 60),
        shape=st.sampled_from(["1-sqrt", "linear", "cosine", "1-square", "exp"]),
        stable=st.sampled_from(["constant", "rsqrt"]),
        timescale=st.integers(1, 60),
        end=st.floats(0, 1),
    ),
    "cosine_restarts": st.builds(
        schedules.cosine_restarts,
        first=st.integers(1, 60),
        mult=st.integers(1, 5),
        decay=st.floats(0.01, 1),
        end=st.floats(0, 1),
    ),
    "cosine_cycles": st.builds(schedules.cosine_cycles, cycles=st.integers(1, 60), end=st.floats(0, 1)),
    "cyclic": st.builds(
        schedules.cyclic,
        low=st.floats(0, 1),
        up=st.integers(1, 60),
        down=st.integers(1, 60),
        mode=st.sampled_from(["triangular", "triangular2", "exp_range"]),
        gamma=st.floats(0.01, 1),
    ),
    "onecycle": st.builds(
        schedules.onecycle,
        pct=st.floats(0, 0.5),
        div=st.floats(1, 1e6),
        final_div=st.floats(1, 1e6),
        shape=st.sampled_from(["cos", "linear"]),
        three_phase=st.booleans(),
    ),
    "slanted_triangular": st.builds(schedules.slanted_triangular, cut_frac=st.floats(0, 1), ratio=st.floats(1, 1e6)),
    "tanh": st.builds(schedules.tanh, lower=st.floats(-300, 0), upper=st.floats(0, 300), end=st.floats(0, 1)),
    "temperature": st.builds(
        schedules.temperature,
        start=st.floats(1, 10),
        final=st.floats(1e-6, 1),
        law=st.sampled_from(["geometric", "linear", "boltzmann"]),
    ),
    "ramp": st.builds(
        schedules.ramp,
        start=st.floats(1e-300, 1),
        end=st.floats(1e-300, 1),
        shape=st.sampled_from(["linear", "cosine", "exp"]),
    ),
    "onecycle_momentum": st.builds(
        schedules.onecycle_momentum,
        high=st.floats(0.5, 1),
        low=st.floats(0, 0.5),
        pct=st.floats(0, 0.5),
        shape=st.sampled_from(["cos", "linear"]),
        three_phase=st.booleans(),
    ),
}
BODIES = st.one_of(*SETTINGS.values())
SETTINGS |= {
    "snapshot_cycles": st.builds(schedules.snapshot_cycles, cycles=st.integers(1, 60)),
    "fge_tail": st.builds(
        schedules.fge_tail,
        body=BODIES,
        start=st.integers(0, 60),
        cycle=st.integers(1, 30).map(lambda half: 2 * half),
        high=st.floats(1e-3, 1),
        low=st.floats(1e-9, 9e-4),
    ),
    "swa_tail": st.builds(
        schedules.swa_tail,
        body=BODIES,
        start=st.integers(0, 60),
        anneal=st.integers(0, 60),
        swa=st.floats(1e-6, 1),
        shape=st.sampled_from(["cos", "linear"]),
    ),
    # Of any length, also of one that does not fit: only a run would be refused.
    "phases": st.builds(
        schedules.phases, phases=st.lists(st.builds(Phase, BODIES, st.none() | st.integers(1, 30)), min_size=1)
    ),
    "product": st.lists(BODIES, min_size=1, max_size=3).map(product),
}


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_settings_give_a_pure_factor_from_0_to_1(name, data):
    body: Schedule = data.draw(SETTINGS[name])
    total = data.draw(st.integers(1, 50))
    warmup = data.draw(st.integers(0, total))
    cooldown = data.draw(st.integers(0, total - warmup))
    shape = data.draw(st.sampled_from(["linear", "cosine", "exp"]))
    rise = rising(warmup, data.draw(st.none() | st.floats(1e-6, 1)), shape)
    schedule = warmed_up(body, warmup, rise, data.draw(st.booleans()), cooldown)
    forwards = [schedule(t, total) for t in range(total + 20)]
    assert forwards == [schedule(t, total) for t in reversed(range(total + 20))][::-1]
    assert all(math.isfinite(value) and 0 <= value <= 1 + 1e-12 for value in forwards), forwards


@settings(max_examples=60, deadline=None)
@given(every=st.integers(1, 60), growth=st.floats(1, 1e6), maximum=st.floats(1, 1e6), t=st.integers(0, 10**6))
def test_growth_never_shrinks_and_never_passes_its_maximum(every, growth, maximum, t):
    schedule = schedules.growth(every=every, growth=growth, maximum=maximum)
    assert 1 <= schedule(t, 1) <= schedule(t + 1, 1) <= maximum


LONG = 100_000


@pytest.mark.parametrize(
    "body",
    [
        schedules.cosine(end=0.01),
        schedules.exponential(rate=0.999, every=100),
        schedules.inverse_sqrt(timescale=100),
        schedules.phases(phases=[Phase(schedules.linear(end=0.5), 10), Phase(schedules.rex(), None)]),
    ],
    ids=["cosine", "exponential", "inverse_sqrt", "phases"],
)
def test_a_float32_rate_does_not_drift_and_groups_keep_their_ratio(body):
    bases = (0.1, 0.03, 1e-5)
    groups = [{"lr": torch.tensor(base, dtype=torch.float32)} for base in bases]
    tensors = [group["lr"] for group in groups]
    values = tuple(ScheduledValue(f"lr/{i}", base, body, i, "lr") for i, base in enumerate(bases))
    run = SimpleNamespace(schedule_updates=LONG + 1, events=[], schedules=values)
    for t in (*range(0, LONG, 997), LONG):
        set_values(run, groups, t)
        for group, base in zip(groups, bases, strict=True):
            assert group["lr"].item() == pytest.approx(base * body(t, LONG + 1), rel=1e-6)
    assert all(group["lr"] is tensor for group, tensor in zip(groups, tensors, strict=True)), "filled in place"
