"""One job of a search: it pauses and goes on bit for bit, begins from another run, and every failure is an outcome."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit import Datasets, Job, MachineError, Measured, Outcome, Stopper, checkpoint, open_plugins, run_job
from trainkit.feed import checks
from trainkit.manager import Plugins
from trainkit.run import Report
from trainkit.trial_run import _outcome

PARTS = Path(__file__).parent / "trainkit_trial_parts.py"
# 192 samples: 116 train, 38 val, 38 test: 8 updates an epoch, 48 in all.
RECIPE = """\
recipe = 1
seed = 5
logger = []
model = {{ use = "mlp", widths = [8], dropout = 0.1 }}
loss = {{ use = "cross_entropy" }}
optimizer = {{ use = "sgd", lr = {lr}, momentum = 0.9 }}
schedule = {{ use = "cosine" }}
metric = [{{ use = "accuracy" }}]
{top}
[run]
duration = "6ep"
device = "cpu"
threads = 1
{run}
[data]
use = "synthetic"
samples = 192
features = [6]
batch_size = 16
"""


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return open_plugins([str(PARTS)])


def text(lr: float = 0.1, top: str = "", run: str = "") -> str:
    return RECIPE.format(lr=lr, top=top, run=run)


def acting(what: str, **more: Any) -> str:
    settings = "".join(f", {name} = {json.dumps(value)}" for name, value in more.items())
    return f'callback = [{{ use = "act", what = "{what}"{settings} }}]'


def go_on(job: Job, measured: Measured) -> str:
    return ""


class Reports(list[tuple[float, dict[str, float]]]):
    """Keeps what is measured, and prunes from a share on."""

    def __init__(self, prune_at: float = 2.0) -> None:
        self.prune_at = prune_at

    def __call__(self, job: Job, measured: Measured) -> str:
        self.append((measured.trained, dict(measured.metrics)))
        return "too slow" if measured.trained >= self.prune_at else ""


def train(plugins: Plugins, folder: Path, recipe: str, **more: Any) -> Outcome:
    measured = more.pop("measured", go_on)
    given = {name: more.pop(name) for name in ("stopper", "datasets") if name in more}
    return run_job(Job(3, 0, recipe, folder, **more), plugins, measured, **given)


def finish(*given: Any, **more: Any) -> Outcome:
    outcome = train(*given, **more)
    assert outcome.status == "done", outcome.message
    return outcome


def weights(folder: Path) -> dict[str, torch.Tensor]:
    _, tensors, _ = checkpoint.load_newest(folder / "checkpoints")
    return {name: tensor for name, tensor in tensors.items() if name.startswith(("model/", "optimizer/"))}


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def lines(folder: Path) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in read]


# ---------------------------------------------------------------- to the end, and in pieces


def test_a_job_is_trained_to_its_end_and_the_test_is_not_measured(plugins, tmp_path):
    reports = Reports()
    outcome = train(plugins, tmp_path / "run", text(), measured=reports)
    assert (outcome.status, outcome.trained, outcome.steps, outcome.epochs) == ("done", 1.0, 48, 6.0)
    assert [trained for trained, _ in reports] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0])
    assert outcome.metrics["parameters"] == 6 * 8 + 8 + 8 * 3 + 3
    assert outcome.metrics["val.loss"] == reports[-1][1]["val.loss"]
    assert 0 < outcome.metrics["seconds"] <= outcome.seconds
    assert not [name for name in outcome.metrics if name.startswith("test")]
    assert {line["split"] for line in lines(tmp_path / "run")} == {"train", "val"}


@pytest.mark.parametrize("run", ["", 'save_every = "1dur"\nsave_best = false', 'evaluate_every = "7ba"'])
def test_a_job_that_pauses_and_goes_on_is_the_straight_one_bit_for_bit(plugins, tmp_path, run):
    straight = train(plugins, tmp_path / "straight", text(run=run))
    parts = [train(plugins, tmp_path / "parts", text(run=run), until=until) for until in (0.2, 0.5, 1.0)]
    assert [part.status for part in parts] == ["paused", "paused", "done"]
    assert parts[0].trained >= 0.2
    assert parts[1].trained >= 0.5 > parts[1].trained - 1 / 6
    assert same_weights(tmp_path / "straight", tmp_path / "parts")
    assert lines(tmp_path / "straight") == lines(tmp_path / "parts")
    assert parts[2].metrics["val.loss"] == straight.metrics["val.loss"]


def test_a_share_at_the_end_is_no_pause(plugins, tmp_path):
    assert train(plugins, tmp_path / "run", text(), until=0.95).status == "done"


def test_what_has_come_to_rest_is_told_again_without_training(plugins, tmp_path):
    reports = Reports()
    for until, status in ((0.4, "paused"), (1.0, "done")):
        first = train(plugins, tmp_path / "run", text(), until=until)
        before = lines(tmp_path / "run")
        again = train(plugins, tmp_path / "run", text(), until=until, measured=reports)
        assert (first.status, again.status) == (status, status)
        assert {**again.metrics} == {**first.metrics}
        assert (again.trained, again.steps, again.epochs) == (first.trained, first.steps, first.epochs)
        assert lines(tmp_path / "run") == before
    assert reports == []


def test_a_pause_whose_report_was_never_written_is_one(plugins, tmp_path):
    first = train(plugins, tmp_path / "run", text(), until=0.4)
    (tmp_path / "run" / "report.json").unlink()
    again = train(plugins, tmp_path / "run", text(), until=0.4)
    assert (again.status, again.trained, again.steps, again.epochs) == ("paused", 0.5, 24, 3.0)
    assert again.metrics["val.loss"] == first.metrics["val.loss"]


def test_a_folder_without_a_checkpoint_begins_again(plugins, tmp_path):
    train(plugins, tmp_path / "straight", text())
    train(plugins, tmp_path / "run", text(), until=0.4)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    for name in ("report.json", "best.json"):
        (tmp_path / "run" / name).unlink()
    assert train(plugins, tmp_path / "run", text()).status == "done"
    assert same_weights(tmp_path / "straight", tmp_path / "run")


def test_a_reason_prunes_where_the_job_is_watched(plugins, tmp_path):
    outcome = train(plugins, tmp_path / "run", text(), measured=Reports(0.5), watched=True)
    assert (outcome.status, outcome.message, outcome.trained) == ("pruned", "pruned: too slow", 0.5)
    assert checkpoint.newest_first(tmp_path / "run" / "checkpoints")[0].name.endswith("24")
    again = train(plugins, tmp_path / "run", text(), watched=True)
    assert (again.status, again.steps) == ("pruned", 24)
    assert train(plugins, tmp_path / "last", text(), measured=Reports(1.0), watched=True).status == "done"
    assert train(plugins, tmp_path / "other", text(), measured=Reports(0.5)).status == "done"


def test_what_the_recipe_stops_is_done_and_every_evaluation_is_told(plugins, tmp_path):
    reports = Reports()
    top = 'callback = [{ use = "early_stop", monitor = "val.loss", patience = 0, min_delta = 10.0 }]'
    outcome = train(plugins, tmp_path / "run", text(top=top), measured=reports)
    assert outcome.status == "done"
    assert outcome.trained == reports[-1][0] < 1
    assert "early_stop" in outcome.message or "val.loss" in outcome.message
    assert train(plugins, tmp_path / "run", text(top=top)).trained == outcome.trained


# ---------------------------------------------------------------- from another run's checkpoint


def test_a_run_begins_from_another_ones_checkpoint_with_settings_of_its_own(plugins, tmp_path):
    counting = 'callback = [{{ use = "count", weight = {} }}]'
    train(plugins, tmp_path / "parent", text(top=counting.format(1.0)), until=0.5)
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "parent").rglob("*"))
    recipe = text(lr=0.03, top=counting.format(2.0)).replace("momentum = 0.9", "momentum = 0.5, weight_decay = 0.01")
    reports = Reports()
    outcome = train(plugins, tmp_path / "child", recipe, parent=tmp_path / "parent", measured=reports)
    assert (outcome.status, outcome.steps) == ("done", 48)
    assert [trained for trained, _ in reports] == pytest.approx([4 / 6, 5 / 6, 1.0])
    parent, child = lines(tmp_path / "parent"), lines(tmp_path / "child")
    # The line for the report of the pause is the parent's own.
    assert child[:6] == [line for line in parent if line["step"] <= 24][:6]
    assert [line["seen"] for line in child if line["split"] == "train"] == [8, 16, 24, 64, 80, 96]
    rates = [line["lr/0"] for line in child if line["split"] == "train"]
    assert rates[3] < 0.03 < rates[2]
    state = checkpoint.load_newest(tmp_path / "child" / "checkpoints")[2]
    group = checkpoint.join_state(state["groups"], {})[0]
    assert (group["momentum"], group["weight_decay"]) == (0.5, 0.01)
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "parent").rglob("*")) == before
    # It is a run like others: the same once more, and it goes on without its parent.
    half = train(plugins, tmp_path / "half", recipe, parent=tmp_path / "parent", until=0.8)
    shutil.rmtree(tmp_path / "parent")
    rest = train(plugins, tmp_path / "half", recipe, parent=tmp_path / "parent")
    assert (half.status, rest.status) == ("paused", "done")
    assert same_weights(tmp_path / "half", tmp_path / "child")


def test_with_the_settings_of_its_parent_a_run_is_its_continuation(plugins, tmp_path):
    train(plugins, tmp_path / "straight", text())
    train(plugins, tmp_path / "parent", text(), until=0.5)
    train(plugins, tmp_path / "child", text(), parent=tmp_path / "parent")
    assert same_weights(tmp_path / "straight", tmp_path / "child")
    assert lines(tmp_path / "straight") == lines(tmp_path / "child")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("widths = [8]", "widths = [9]", "widths"), ("seed = 5", "seed = 6", "seed"), ('"sgd"', '"adamw"', "optimizer")],
)
def test_what_cannot_change_between_parent_and_child_is_an_error(plugins, tmp_path, old, new, said):
    train(plugins, tmp_path / "parent", text(), until=0.5)
    recipe = text().replace(old, new).replace(", momentum = 0.9", "" if new == '"adamw"' else ", momentum = 0.9")
    outcome = train(plugins, tmp_path / "child", recipe, parent=tmp_path / "parent")
    assert outcome.status == "error"
    assert said in outcome.message
    assert not outcome.defect


def test_a_parent_without_a_checkpoint_is_an_error(plugins, tmp_path):
    outcome = train(plugins, tmp_path / "child", text(), parent=tmp_path / "nobody")
    assert (outcome.status, outcome.defect) == ("error", False)
    assert "no run to begin from" in outcome.message


def test_a_child_that_was_killed_while_its_folder_was_made_is_made_anew(plugins, tmp_path):
    train(plugins, tmp_path / "parent", text(), until=0.5)
    train(plugins, tmp_path / "child", text(), parent=tmp_path / "parent")
    shutil.copytree(tmp_path / "parent" / "checkpoints", tmp_path / "late" / "checkpoints")
    (tmp_path / "late" / "metrics.jsonl").write_text('{"half', encoding="utf-8")
    assert train(plugins, tmp_path / "late", text(), parent=tmp_path / "parent").status == "done"
    assert same_weights(tmp_path / "late", tmp_path / "child")


# ---------------------------------------------------------------- stopped


def test_a_job_that_is_stopped_goes_on_bit_for_bit(plugins, tmp_path):
    train(plugins, tmp_path / "straight", text())
    stopper = Stopper()

    def stopping(job: Job, measured: Measured) -> str:
        if measured.trained >= 0.3:
            stopper.ask("the search stops")
        return ""

    first = train(plugins, tmp_path / "run", text(), measured=stopping, stopper=stopper)
    assert (first.status, first.message) == ("interrupted", "the search stops")
    assert first.trained < 0.5
    assert train(plugins, tmp_path / "run", text()).status == "done"
    assert same_weights(tmp_path / "straight", tmp_path / "run")


def test_a_job_that_is_stopped_before_it_begins_leaves_nothing(plugins, tmp_path):
    stopper = Stopper()
    stopper.ask("the search stops")
    outcome = train(plugins, tmp_path / "run", text(), stopper=stopper)
    assert (outcome.status, outcome.steps) == ("interrupted", 0)
    assert not (tmp_path / "run").exists()


def test_a_job_whose_time_is_over_is_saved(plugins, tmp_path, monkeypatch):
    timers: list[Any] = []

    class Timer:
        """Rings when the test says so."""

        def __init__(self, interval: float, ring: Any, arguments: Any) -> None:
            self.interval, self.said = interval, []
            self.ring = lambda: ring(*arguments)
            timers.append(self)

        def start(self) -> None:
            self.said.append("started")

        def cancel(self) -> None:
            self.said.append("cancelled")

    def ringing(job: Job, measured: Measured) -> str:
        timers[0].ring()
        return ""

    monkeypatch.setattr(threading, "Timer", Timer)
    outcome = train(plugins, tmp_path / "run", text(), timeout=0.3, measured=ringing)
    assert outcome.status == "timeout"
    assert outcome.message == "timeout: 0.3 s are over"
    assert 0 < outcome.steps <= 9  # rung at the end of the first epoch of 8 updates, it makes one more at most
    assert checkpoint.newest_first(tmp_path / "run" / "checkpoints")
    assert [(timer.interval, timer.said) for timer in timers] == [(0.3, ["started", "cancelled"])]


def test_the_timer_of_a_job_rings_by_itself_and_does_not_outlive_it(plugins, tmp_path):
    # Slow enough to last for minutes, were it not stopped; a crowded machine may be stopped before its first update.
    outcome = train(plugins, tmp_path / "run", text(top=acting("slow")).replace("6ep", "600ep"), timeout=0.3)
    assert outcome.status == "timeout"
    assert outcome.steps < 4800
    train(plugins, tmp_path / "other", text(), timeout=3600)
    # A timer that was cancelled may need a moment to leave.
    assert all(timer.finished.is_set() for timer in threading.enumerate() if isinstance(timer, threading.Timer))


# ---------------------------------------------------------------- failures


def test_figures_that_are_not_finite_are_a_status(plugins, tmp_path):
    outcome = train(plugins, tmp_path / "run", text(lr=1e30))
    assert outcome.status == "nan"
    assert "not finite" in outcome.message
    assert (outcome.origin, outcome.defect) == ("", False)


@pytest.mark.parametrize("top", [acting("cuda memory"), acting("memory")])
def test_memory_that_runs_out_is_a_status(plugins, tmp_path, top):
    outcome = train(plugins, tmp_path / "run", text(top=top))
    assert (outcome.status, outcome.steps) == ("oom", 10)
    assert "out of memory at update 10" in outcome.message
    assert outcome.metrics["val.loss"] > 0


def test_memory_that_runs_out_while_the_run_is_built_is_the_same_status(plugins, tmp_path):
    recipe = text().replace('use = "mlp", widths = [8], dropout = 0.1', 'use = "greedy"')
    outcome = train(plugins, tmp_path / "run", recipe)
    assert outcome.status == "oom"
    assert not (tmp_path / "run").exists()


def test_errors_are_told_apart_by_where_they_began(plugins, tmp_path):
    one, same = (train(plugins, tmp_path / f"{at}", text(top=acting("defect", at=at))) for at in (3, 12))
    assert (one.status, one.defect, one.steps) == ("error", True, 3)
    assert "KeyError" in one.message
    assert one.message != same.message
    assert one.origin == same.origin
    assert one.origin.startswith("KeyError at trainkit_trial_parts:")
    other = train(plugins, tmp_path / "other", text(top=acting("run error")))
    assert (other.status, other.defect) == ("error", False)
    assert other.origin != one.origin


def test_a_point_that_a_component_or_the_recipe_refuses_is_an_error_and_no_defect(plugins, tmp_path):
    recipe = text().replace('use = "mlp", widths = [8], dropout = 0.1', 'use = "picky", heads = HEADS')
    two, four = (train(plugins, tmp_path / n, recipe.replace("HEADS", n)) for n in ("2", "4"))
    assert (two.status, two.defect) == ("error", False)
    assert "2 heads do not fit" in two.message
    assert two.origin == four.origin
    rate, kind = (train(plugins, tmp_path / "x", text().replace(*pair)) for pair in (("0.1,", "-1.0,"), ("16", '"16"')))
    assert rate.status == kind.status == "error"
    assert "trial 3" in rate.message
    assert rate.origin != kind.origin
    assert not (tmp_path / "x").exists()


def test_a_full_disk_ends_the_search(plugins, tmp_path):
    with pytest.raises(MachineError, match="No space left"):
        train(plugins, tmp_path / "run", text(top=acting("full")))


def test_an_objective_that_is_not_finite_at_the_end_is_a_failure(tmp_path):
    report = Report("finished", "all planned updates made", 8, 1.0, 0.1, {"val.accuracy": 0.5}, None, "")
    job = Job(0, 0, "", tmp_path)
    outcome = _outcome(job, report, 1.0, 10, {"val.accuracy": 0.5, "val.loss": float("inf")})
    assert (outcome.status, outcome.message) == ("nan", "val.loss is inf")
    assert _outcome(job, report, 1.0, 10, {"val.accuracy": 0.5}).status == "done"


# ---------------------------------------------------------------- data that is kept


def drawing(seed: int = 5, batch: int = 8, samples: int = 64) -> str:
    recipe = text().replace("seed = 5", f"seed = {seed}")
    data = f'[data]\nuse = "drawn"\nsamples = {samples}\nbatch_size = {batch}\naugment = [{{ use = "jittered" }}]\n'
    return recipe[: recipe.index("[data]")] + data


def test_data_is_made_once_and_runs_are_as_if_it_were_made_for_each(plugins, tmp_path):
    made = sys.modules["trainkit_trial_parts"].MADE
    made.clear()
    kept = Datasets()
    for number, batch in enumerate((8, 4, 8)):
        finish(plugins, tmp_path / f"kept-{number}", drawing(batch=batch), datasets=kept)
    assert made == [5]
    for number, batch in enumerate((8, 4)):
        finish(plugins, tmp_path / f"own-{number}", drawing(batch=batch))
        assert same_weights(tmp_path / f"own-{number}", tmp_path / f"kept-{number}")
    assert same_weights(tmp_path / "kept-2", tmp_path / "own-0")
    made.clear()
    for seed, samples in ((6, 64), (5, 32), (7, 64), (8, 64), (9, 64), (6, 64)):
        finish(plugins, tmp_path / f"other-{seed}-{samples}-{len(made)}", drawing(seed, samples=samples), datasets=kept)
    assert made == [6, 5, 7, 8, 9, 6]  # four are kept


def test_data_that_somebody_has_changed_is_made_anew(plugins, tmp_path):
    made = sys.modules["trainkit_trial_parts"].MADE
    made.clear()
    kept = Datasets()
    finish(plugins, tmp_path / "one", drawing(), datasets=kept)
    dataset = next(iter(kept._kept.values())).dataset
    dataset.splits["train"].inputs[0] += 1
    finish(plugins, tmp_path / "two", drawing(), datasets=kept)
    assert made == [5, 5]
    assert same_weights(tmp_path / "one", tmp_path / "two")


def test_threads_are_those_of_before(plugins, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        finish(plugins, tmp_path / "run", text())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_data_that_are_unfit_are_so_for_every_trial_and_fit_ones_are_looked_at_once(tmp_path, plugins, monkeypatch):
    looked = []
    whole = checks.check_finite
    monkeypatch.setattr(checks, "check_finite", lambda *given: (looked.append(given[1]), whole(*given)))
    kept = Datasets()
    few = text().replace("batch_size = 16", "batch_size = 500")
    for trial in range(2):
        outcome = run_job(Job(trial, 0, few, tmp_path / f"few-{trial}"), plugins, go_on, datasets=kept)
        assert outcome.status == "error"
        assert "fewer than batch_size" in outcome.message
    assert run_job(Job(2, 0, text(), tmp_path / "2"), plugins, go_on, datasets=kept).status == "done"
    assert looked
    looked.clear()
    assert run_job(Job(3, 0, text(0.2), tmp_path / "3"), plugins, go_on, datasets=kept).status == "done"
    assert not looked
    outcome = run_job(Job(4, 0, few, tmp_path / "few-4"), plugins, go_on, datasets=kept)
    assert "fewer than batch_size" in outcome.message


def test_a_report_that_a_power_cut_took_is_written_again(tmp_path, plugins):
    job = Job(1, 0, text(), tmp_path / "1")
    before = run_job(job, plugins, go_on)
    (job.folder / "report.json").write_bytes(b"")
    after = run_job(job, plugins, go_on)
    assert after.status == before.status == "done"
    assert after.metrics["val.loss"] == before.metrics["val.loss"]
    assert json.loads((job.folder / "report.json").read_text(encoding="utf-8"))["status"] == "finished"


def test_a_run_that_a_power_cut_took_before_its_first_checkpoint_begins_again(tmp_path, plugins):
    whole = run_job(Job(1, 0, text(), tmp_path / "1"), plugins, go_on)
    job = Job(2, 0, text(), tmp_path / "2")
    job.folder.mkdir()
    for name in ("recipe.toml", "environment.json", "history.jsonl", "log.txt", "metrics.jsonl", "report.json"):
        (job.folder / name).write_bytes(b"")  # names became durable, contents did not
    again = run_job(job, plugins, go_on)
    assert again.status == "done"
    assert again.metrics["val.loss"] == whole.metrics["val.loss"]
    assert "val.loss" in Report(**json.loads((job.folder / "report.json").read_text(encoding="utf-8"))).metrics
