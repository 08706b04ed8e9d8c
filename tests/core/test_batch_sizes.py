"""Batches whose size a schedule sets: what an update gets, how long the run is, and that it resumes exactly."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit import RecipeError, batch_sizes, hookimpl
from trainkit.batch_sizes import settle
from trainkit.launch import launch

# 116 training samples in batches of 16: 8 updates an epoch while the size is the recipe's.
SAMPLES = 116
ALSO = "[[schedule.also]]\ntarget = 'data.batch_size'\n"
# 16 until update 16, 32 until update 32, then 64: epochs of 8, 8, then four of 4, then of 2 updates.
GROWTH = ALSO + "use = 'growth'\nevery = '2ep'\ngrowth = 2.0\nmaximum = 4.0\n"
RAMP = ALSO + "use = 'ramp'\nstart = 16.0\nend = 48.0\n"
SHRINKING = ALSO + "use = 'ramp'\nstart = 60.0\nend = 2.0\n"


class Seen:
    """Keeps what every update was given, and asks the run to end after one."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.sizes: dict[int, list[int]] = {}
        self.samples: dict[int, list[int]] = {}
        self.evaluated: list[int] = []
        self.ended: list[int] = []

    @hookimpl(tryfirst=True)
    def trainkit_train_step(self, run, batches):
        self.sizes[run.position] = [len(batch) for batch in batches]
        for batch in batches:
            self.samples.setdefault(run.epoch, []).extend(batch.index.tolist())

    @hookimpl
    def trainkit_step_end(self, run):
        if run.step == self.stop:
            run.stop_reason = "the test asked for it"

    @hookimpl(tryfirst=True)
    def trainkit_evaluate(self, run, split):
        if split == "val":
            self.evaluated.append(run.position)

    @hookimpl
    def trainkit_epoch_end(self, run):
        self.ended.append(run.position)


def factor(t: int) -> int:
    return min(4, 2 ** (t // 16))


# ---------------------------------------------------------------- what is trained on


@pytest.mark.parametrize("loading", ["resident", "streamed"])
def test_twenty_epochs_of_growing_batches_by_hand(train, loading):
    """Two epochs of 8 updates, four of 4, fourteen of 2."""
    seen = Seen()
    finished = train("run.duration=20ep", f"data.loading={loading}", more=GROWTH, listeners=[seen])
    assert (finished.report.steps, finished.report.epochs) == (16 + 16 + 28, 20)
    assert finished.run.total_updates == finished.run.schedule_updates == 60
    ends = [8, 16, 20, 24, 28, 32, *range(34, 61, 2)]
    assert seen.ended == seen.evaluated == ends
    assert [(line["step"], line["epoch"]) for line in finished.of("val")] == list(zip(ends, range(1, 21), strict=True))
    assert [line["data.batch_size"] for line in finished.of("train")] == [16 * factor(end - 1) for end in ends]
    for epoch in range(20):
        assert sorted(seen.samples[epoch]) == list(range(SAMPLES))
    for t, (size,) in seen.sizes.items():
        assert size == (16 * factor(t) if t + 1 not in ends else SAMPLES % (16 * factor(t)))


def test_both_ways_of_loading_give_the_same_run(train):
    runs = [train("run.duration=9ep", f"data.loading={loading}", more=GROWTH) for loading in ("resident", "streamed")]
    assert runs[0].report.weights_sha256 == runs[1].report.weights_sha256


def test_the_order_of_samples_is_that_of_batches_of_one_size(train):
    growing, plain = Seen(), Seen()
    train("run.duration=7ep", more=GROWTH, listeners=[growing])
    train("run.duration=7ep", listeners=[plain])
    assert growing.samples == plain.samples


def test_all_batches_of_an_update_have_its_size(train):
    """With accumulation of 2 an epoch of 16s has 4 updates: the size doubles after 8, and after 16."""
    seen = Seen()
    finished = train("run.duration=8ep", "run.accumulate=2", more=GROWTH, listeners=[seen])
    assert finished.run.clock.epoch_starts == (0, 4, 8, 10, 12, 14, 16, 17, 18)
    assert seen.sizes[0] == seen.sizes[7 - 1] == [16, 16]
    assert seen.sizes[7] == [16, 4]
    assert (seen.sizes[8], seen.sizes[9]) == ([32, 32], [32, 20])
    assert seen.sizes[17] == [64, 52]
    assert all(sorted(samples) == list(range(SAMPLES)) for samples in seen.samples.values())


def test_incomplete_last_batches_are_left_out_where_asked(train):
    seen = Seen()
    finished = train("run.duration=8ep", "data.drop_last=true", more=GROWTH, listeners=[seen])
    # 7 batches of 16, then 3 of 32; from update 28 on one of 64, and in the epoch before there is no room for it.
    assert finished.run.clock.epoch_starts == (0, 7, 14, 17, 20, 23, 26, 28, 29)
    assert [len(samples) for samples in seen.samples.values()] == [112, 112, 96, 96, 96, 96, 64, 64]
    assert all(len(set(samples)) == len(samples) for samples in seen.samples.values())


def test_a_schedule_of_one_changes_nothing(train):
    plain = train("run.duration='2.6ep'", "run.log_every=3ba")
    same = train("run.duration='2.6ep'", "run.log_every=3ba", more=ALSO + "use = 'constant'\n")
    assert plain.report.weights_sha256 == same.report.weights_sha256
    assert [{**line, "time": 0} for line in plain.lines] == [
        {name: value for name, value in {**line, "time": 0}.items() if name != "data.batch_size"} for line in same.lines
    ]


def test_updates_that_are_left_out_take_their_batches_with_them(train):
    class Spoil:
        @hookimpl
        def trainkit_loss(self, run, outputs, batch):
            return run.loss(outputs, batch.targets) * (math.nan if run.position in (3, 15, 17) else 1.0)

    seen = Seen()
    more = "run.nonfinite=skip", "run.log_every=1ba", "run.duration=7ep"
    finished = train(*more, more=GROWTH, listeners=[Spoil(), seen])
    assert (finished.report.steps, finished.run.skipped, finished.report.epochs) == (31, 3, 7)
    assert seen.ended == [8, 16, 20, 24, 28, 32, 34]
    assert [line["data.batch_size"] for line in finished.of("train")] == [16 * factor(t) for t in range(34)]


def test_a_compiled_step_gives_way_with_a_note(train):
    compiled = train("run.compile=step", "run.duration=4ep", more=GROWTH)
    assert "data.batch_size is scheduled" in (compiled.folder / "log.txt").read_text(encoding="utf-8")
    assert compiled.report.weights_sha256 == train("run.duration=4ep", more=GROWTH).report.weights_sha256


def test_the_rule_for_rates_looks_at_the_size_of_the_recipe(train):
    finished = train("run.duration=4ep", "run.log_every=1ba", "optimizer.lr_for_batch=32", more=GROWTH)
    assert {line["lr/0"] for line in finished.of("train")} == {0.05}


# ---------------------------------------------------------------- what is due when


def test_whole_epochs_are_those_of_the_data(train):
    seen = Seen()
    finished = train(
        'run.evaluate_every="3ep"', 'run.log_every="2ep"', "run.duration=11ep", more=GROWTH, listeners=[seen]
    )
    assert seen.evaluated == [20, 32, 38, 42]
    assert [line["step"] for line in finished.of("train")] == [16, 24, 32, 36, 40, 42]
    assert [line["epoch"] for line in finished.of("val")] == [3, 6, 9, 11]
    finished = train('run.save_every="4ep"', "run.evaluate_every=100ba", "run.duration=9ep", more=GROWTH)
    assert finished.checkpoints == [36, 38]


def test_other_times_count_as_with_the_size_of_the_recipe(train):
    seen = Seen()
    finished = train(
        'run.evaluate_every="1.5ep"', "run.log_every=160sp", "run.duration=6ep", more=GROWTH, listeners=[seen]
    )
    assert seen.evaluated == [12, 24, 32]
    assert [line["step"] for line in finished.of("train")] == [10, 20, 30, 32]


def test_lawa_takes_the_weights_of_every_real_epoch(train):
    finished = train("run.duration=9ep", "callback=[{use='lawa', last=20}]", more=GROWTH)
    (lawa,) = [i.plugin for i in finished.run.hook.trainkit_step_end.get_hookimpls() if hasattr(i.plugin, "held")]
    assert len(lawa.held) == 9


# ---------------------------------------------------------------- how long the run is


@pytest.mark.parametrize(
    ("duration", "updates"),
    [
        ("45ba", 45),
        ("2ep", 16),
        ("2.5ep", 18),  # half of an epoch of 4
        ("7.5ep", 35),
        ("0.5ep", 4),
        ("256sp", 16),
        ("287sp", 16),
        ("288sp", 17),
        ("768sp", 32),
        ("1000sp", 35),
    ],
)
def test_lengths_promise_data(load, plugins, tmp_path, duration, updates):
    assert built(load, plugins, tmp_path, f'run.duration="{duration}"').total_updates == updates


def built(load, plugins, tmp_path, *changes: str, more: str = GROWTH):
    from trainkit.build import build
    from trainkit.protocols import silent

    return build(load(*changes, more=more), plugins, tmp_path, silent).run


def used(run: Any) -> int:
    """Samples of a run's updates, each with its full size."""
    return sum(run.feed.plan.cuts.sizes[: run.total_updates])


def test_a_size_that_follows_the_length_of_the_run_settles(train):
    seen = Seen()
    finished = train("run.duration=12ep", more=RAMP, listeners=[seen])
    total = finished.run.total_updates
    assert finished.run.schedule_updates == total
    assert finished.report.epochs == 12
    assert seen.ended[-1] == total
    assert all(sorted(seen.samples[epoch]) == list(range(SAMPLES)) for epoch in range(12))
    for t, (size,) in seen.sizes.items():
        assert size == round(16 + 32 * t / total) or t + 1 in seen.ended


@pytest.mark.parametrize("duration", ["5ep", "12ep", "13.5ep", "1000sp", "40ba"])
def test_a_size_that_falls_makes_lengths_that_swing_and_is_settled_all_the_same(load, plugins, tmp_path, duration):
    run = built(load, plugins, tmp_path, f'run.duration="{duration}"', more=SHRINKING)
    assert abs(run.schedule_updates - run.total_updates) <= 5  # the last updates have 2 samples each
    if duration.endswith("ep"):
        wanted = float(duration.removesuffix("ep"))
        assert run.clock.epochs_at(run.total_updates) == pytest.approx(wanted, abs=0.5 if wanted % 1 else 0)
    elif duration.endswith("sp"):
        assert used(run) <= 1000 < sum(run.feed.plan.cuts.sizes[: run.total_updates + 1])


def test_settle_by_hand():
    assert settle(lambda length: 12, 30) == (12, 12)
    assert settle(lambda length: 7 if length == 9 else 9, 9) == (8, 9)  # 7 and 9 swing; 8 is nearer to itself than 9
    assert settle(lambda length: 8 if length == 9 else 9, 9) == (9, 8)  # as near: the longer one
    assert settle(lambda length: 0, 5) == (0, 0)
    assert settle(lambda length: None if length < 20 else 25, 22) == (25, 25)


@settings(deadline=None, max_examples=100)
@given(first=st.integers(1, 60), last=st.integers(1, 60), samples=st.integers(60, 4000))
def test_settled_lengths_are_consistent(first, last, samples):
    """A straight line of sizes over the run: the data is used up at the length found, and nowhere earlier."""
    tried = []

    def updates_of(length: int) -> int:
        tried.append(length)
        left, t = samples, 0
        while left > 0:
            left -= max(1, round(first + (last - first) * min(1.0, t / length)))
            t += 1
        return t

    seen, total = settle(updates_of, -(-samples // first))
    assert len(tried) < 40
    assert updates_of(seen) == total
    if total < seen:
        assert updates_of(seen - 1) > seen - 1
    elif total > seen:
        assert updates_of(seen + 1) < seen + 1


# ---------------------------------------------------------------- resuming


@pytest.mark.parametrize(("more", "stops"), [(GROWTH, (3, 17, 18, 20, 33)), (RAMP, (5, 18)), (SHRINKING, (1, 9, 20))])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_is_interrupted_equals_one_that_is_not(load, plugins, tmp_path, more, stops, accumulate):
    changes = "run.duration=8ep", f"run.accumulate={accumulate}", "run.log_every=3ba", "optimizer={use='adamw'}"
    recipe = load(*changes, more=more)
    straight = launch(recipe, plugins, folder=tmp_path / "straight")
    seen: dict[int, list[int]] = {}
    for stop in (*stops, None):
        listener = Seen(stop)
        report = launch(recipe, plugins, folder=tmp_path / "broken", listeners=[listener], resume=True)
        for epoch, samples in listener.samples.items():
            seen.setdefault(epoch, []).extend(samples)
        if report.status == "finished":
            break
    assert report.weights_sha256 == straight.weights_sha256
    assert (report.steps, report.epochs) == (straight.steps, straight.epochs)
    assert lines_of(tmp_path / "broken") == lines_of(tmp_path / "straight")
    assert all(sorted(samples) == list(range(SAMPLES)) for samples in seen.values())


def lines_of(folder) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


def go_on(load, plugins, tmp_path, *changes: str, more: str, stop: int | None = None, duration: str = "6ep"):
    seen = Seen(stop)
    recipe = load(f"run.duration={duration}", *changes, more=more)
    return launch(recipe, plugins, folder=tmp_path / "run", listeners=[seen], resume=True), seen


@pytest.mark.parametrize("policy", ["keep", "rescale"])
def test_a_plan_that_knows_no_length_goes_on_over_another_one(load, plugins, tmp_path, policy):
    go_on(load, plugins, tmp_path, more=GROWTH, stop=18)
    change = f"run.on_length_change={policy}"
    report, seen = go_on(load, plugins, tmp_path, change, more=GROWTH, duration="10ep")
    assert (report.steps, report.epochs) == (40, 10)
    assert seen.ended == [20, 24, 28, 32, 34, 36, 38, 40]


def test_a_plan_that_follows_the_length_goes_on_where_the_length_is_kept(load, plugins, tmp_path):
    _, before = go_on(load, plugins, tmp_path, more=RAMP, stop=11)
    report, after = go_on(load, plugins, tmp_path, "run.on_length_change=keep", more=RAMP, duration="9ep")
    assert report.epochs == 9
    for epoch in range(9):
        samples = before.samples.get(epoch, []) + after.samples.get(epoch, [])
        assert sorted(samples) == list(range(SAMPLES))
    assert list(after.sizes.values())[-2] == [48], "the end value is held"


def test_a_plan_that_would_not_fit_what_was_trained_is_refused(load, plugins, tmp_path):
    go_on(load, plugins, tmp_path, more=RAMP, stop=11)
    with pytest.raises(RecipeError, match="the batches up to update 11 are not those") as raised:
        go_on(load, plugins, tmp_path, "run.on_length_change=rescale", more=RAMP, duration="12ep")
    assert 'on_length_change = "keep"' in str(raised.value)
    with pytest.raises(RecipeError, match="the batches up to update 11 are not those"):
        go_on(load, plugins, tmp_path, "run.on_length_change=keep", more="", duration="48ba")


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (GROWTH.replace("4.0", "8.0"), "data.batch_size is 128 at update 48; the training split has 116 samples"),
        (RAMP.replace("16.0", "200.0"), "data.batch_size is 200 at update 0; the training split has 116 samples"),
        (ALSO + "use='constant'\nbase=1e300\n", "data.batch_size is too large a number at update 0"),
    ],
)
def test_more_samples_than_there_are_is_a_problem(load, plugins, tmp_path, more, said):
    with pytest.raises(RecipeError, match=said) as raised:
        built(load, plugins, tmp_path, "run.duration=60ba", more=more)
    assert "small.toml" in str(raised.value)


def test_a_size_that_only_the_time_after_the_run_would_have_is_no_problem(load, plugins, tmp_path):
    more = GROWTH.replace("4.0", "8.0")
    assert built(load, plugins, tmp_path, "run.duration=48ba", more=more).total_updates == 48


def test_a_schedule_that_fits_no_length_says_why(load, plugins, tmp_path):
    with pytest.raises(RecipeError, match='warmup = "99ep" is 792 updates, the run has 16'):
        built(load, plugins, tmp_path, more=GROWTH + "warmup = '99ep'\n")


def test_a_schedule_needs_to_fit_the_length_that_is_found_alone(load, plugins, tmp_path):
    """With 4 samples an epoch has 29 updates; with the 16 of the recipe both epochs have no more than 16."""
    more = ALSO + "use = 'constant'\nbase = 4.0\nwarmup = '20ba'\nwarmup_start = 0.5\n"
    run = built(load, plugins, tmp_path, more=more)
    assert run.schedule_updates == run.total_updates > 58
    assert run.clock.epochs_at(run.total_updates) == 2


def test_a_plan_past_counting_is_refused(load, plugins, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_sizes, "MOST_UPDATES", 1000)
    with pytest.raises(RecipeError, match="runs of at most 1,000 updates"):
        built(load, plugins, tmp_path, "run.duration=1001ba", more=ALSO + "use = 'constant'\n")


def test_small_sizes_are_at_least_one(load, plugins, tmp_path):
    run = built(load, plugins, tmp_path, "run.duration=2ep", more=ALSO + "use = 'constant'\nbase = 0.2\n")
    assert run.total_updates == 2 * SAMPLES
    assert run.feed.batch_sizes == (1, 1)
