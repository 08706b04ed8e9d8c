"""Continuing a run: which checkpoint, what may have changed, what is refused, what the run folder holds after it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit import CheckpointError, MachineError, RecipeError, Report, Run, checkpoint, hookimpl, snapshot
from trainkit.errors import UsageError
from trainkit.finished import evaluate_run
from trainkit.launch import launch
from trainkit.resuming import recipe_of

ADAM = "optimizer={use='adamw'}"
# Rates of each update: 8 updates an epoch, 16 in the two epochs of the small recipe.
LOGGED = ("run.log_every=1ba", "schedule={use='linear'}")


class Stop:
    """Asks the run to end after an update; keeps the run."""

    run: Run

    def __init__(self, step: int | None) -> None:
        self.step = step

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.run = run

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == self.step:
            run.stop_reason = "the test asked for it"


class Done:
    """What a call of ``go`` did."""

    def __init__(self, folder: Path, report: Report, run: Run) -> None:
        self.folder, self.report, self.run = folder, report, run

    @property
    def lines(self) -> list[dict[str, Any]]:
        """``metrics.jsonl`` without times."""
        found = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        return [{key: value for key, value in line.items() if key != "time"} for line in found]

    @property
    def rates(self) -> list[float]:
        """The learning rate of each update that has a line."""
        return [line["lr/0"] for line in self.lines if line["split"] == "train"]

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text(encoding="utf-8")

    @property
    def state(self) -> dict[str, Any]:
        """The newest checkpoint's plain data."""
        return checkpoint.load_newest(self.folder / "checkpoints")[2]


Go = Callable[..., Done]


@pytest.fixture
def go(load, plugins, tmp_path) -> Go:
    """Train the small recipe with changes in a folder, from wherever that stands, until an update."""

    def go(
        *changes: str, stop: int | None = None, folder: str = "run", listeners: Any = (), more: str = "", **how: Any
    ) -> Done:
        catch, path = Stop(stop), tmp_path / folder
        how = {"resume": True} | how
        report = launch(load(*changes, more=more), plugins, folder=path, listeners=[*listeners, catch], **how)
        return Done(path, report, catch.run)

    return go


def assert_alike(one: Done, other: Done) -> None:
    """Two runs ended alike, with alike checkpoints and lines."""
    assert (one.report.weights_sha256, one.report.metrics) == (other.report.weights_sha256, other.report.metrics)
    assert one.lines == other.lines
    (_, tensors, state), (_, others, same) = (
        checkpoint.load_newest(done.folder / "checkpoints") for done in (one, other)
    )
    for plain in (state, same):
        del plain["seconds"], plain["metrics_bytes"]
    assert state == same
    assert {name: checkpoint.raw_bytes(t) for name, t in tensors.items()} == {
        name: checkpoint.raw_bytes(t) for name, t in others.items()
    }


# ---------------------------------------------------------------- bit for bit


@pytest.mark.parametrize(
    "changes",
    [
        ("data.loading=streamed", "data.workers=1", ADAM),
        ("run.precision=float16", "run.nonfinite=skip"),
        ("run.precision=bfloat16", ADAM),
        ("run.accumulate=3", "run.log_every=100ba", ADAM),
        ("optimizer={use='lbfgs', max_iter=3}",),
        ("model={use='tied'}", ADAM),
        ("run.log_every=7ba", "run.evaluate_every=3ba", "run.save_every=5ba", "run.keep=3"),
    ],
    ids=str,
)
def test_an_interrupted_run_ends_like_one_that_was_not(go, changes):
    straight = go(*changes, folder="straight")
    last = straight.report.steps
    for stop in (1, last // 2, last - 1, None):
        broken = go(*changes, stop=stop)
    assert_alike(straight, broken)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_compiled_step_goes_on_as_it_would_have(go):
    """The first call of a run is eager, which rounds otherwise; that of a continued one must not be."""
    changes = ('run.compile="step"', "run.updates_per_call=3", ADAM, "schedule={use='cosine', warmup='1ep'}")
    straight = go(*changes, folder="straight")
    for stop in (3, 8, 14, None):  # within calls, at the end of an epoch, before its short last batch
        broken = go(*changes, stop=stop)
    assert "is not used" not in broken.log
    assert_alike(straight, broken)


def test_training_figures_of_an_interrupted_interval_are_those_of_the_whole(go):
    changes = ("run.log_every=16ba", "metric=[{use='auroc'}, {use='ece'}, {use='f1'}]")
    straight = go(*changes, folder="straight")
    go(*changes, stop=3)
    assert [line["step"] for line in go(*changes, stop=11).lines if line["split"] == "train"] == [11], "for the report"
    assert_alike(straight, go(*changes))


def test_a_stop_at_an_evaluation_hides_it_from_nobody(go):
    """early_stop counts evaluations; one that it does not see would end the run later."""
    changes, more = ("run.duration=9ep", "optimizer.lr=1e-9"), '[[callback]]\nuse = "early_stop"\npatience = 2\n'
    straight = go(*changes, more=more, folder="straight")
    assert straight.report.reason.startswith("early_stop")
    for stop in (8, 16, straight.report.steps):
        broken = go(*changes, more=more, stop=stop)
    assert broken.report.reason == straight.report.reason, "what the recipe asks for counts before the interruption"
    assert_alike(straight, broken)


def test_a_run_killed_while_its_test_is_measured_measures_it_then(go):
    class Die:
        @hookimpl(tryfirst=True)
        def trainkit_evaluate(self, split):
            if split == "test":
                raise KeyboardInterrupt

    straight = go(folder="straight")
    with pytest.raises(KeyboardInterrupt):
        go(listeners=[Die()])
    assert_alike(straight, go())


def test_numbers_outside_the_optimizer_are_those_of_the_last_update(go):
    """The smoothed loss of the test follows a schedule that has nothing more to set."""

    class Die:
        @hookimpl(tryfirst=True)
        def trainkit_evaluate(self, split):
            if split == "test":
                raise KeyboardInterrupt

    also = "schedule={use='constant', also=[{use='ramp', target='loss.label_smoothing', start=0.0, end=0.5}]}"
    straight = go(also, folder="straight")
    with pytest.raises(KeyboardInterrupt):
        go(also, listeners=[Die()])
    assert_alike(straight, go(also))


def test_plugins_get_ready_before_they_get_their_state_back(go):
    class Counter:
        def __init__(self) -> None:
            self.calls: list[str] = []
            self.epochs = 0

        @hookimpl
        def trainkit_run_start(self, run):
            self.calls.append(f"start {run.step}")

        @hookimpl
        def trainkit_epoch_start(self, run):
            self.calls.append(f"epoch {run.epoch}")
            self.epochs += 1
            torch.rand(3)

        @hookimpl
        def trainkit_save(self):
            return {"epochs": self.epochs}

        @hookimpl
        def trainkit_restore(self, run, state):
            self.calls.append("restore")
            self.epochs = state["epochs"]

    straight, first, second = Counter(), Counter(), Counter()
    whole = go("model.dropout=0.5", listeners=[straight], folder="straight")
    go("model.dropout=0.5", listeners=[first], stop=11)
    done = go("model.dropout=0.5", listeners=[second])
    assert done.report.weights_sha256 == whole.report.weights_sha256, "numbers drawn a second time do not count"
    assert straight.calls == ["start 0", "epoch 0", "epoch 1"]
    assert second.calls == ["start 11", "epoch 1", "restore"], "an epoch that was begun is begun again, and undone"
    assert second.epochs == straight.epochs == 2


# ---------------------------------------------------------------- by name


def test_state_is_found_by_name_whatever_the_order_of_parameters(go, tmp_path):
    """torch's own loading goes by position and would swap the moments of parameters of the same shape."""
    changes = ("model={use='mlp', widths=[6, 6]}", ADAM)

    class Turned:
        @hookimpl
        def trainkit_parameter_groups(self, run, model):
            named = list(model.named_parameters())[::-1]
            half = len(named) // 2
            return [
                {"names": [name for name, _ in part], "params": [p for _, p in part], "lr_scale": 1.0}
                for part in (named[:half], named[half:])
            ]

    go(*changes, "optimizer.weight_decay=0.0", stop=5)
    saved = checkpoint.join_state(
        *((found := checkpoint.load_newest(tmp_path / "run" / "checkpoints"))[2]["optimizer"], found[1])
    )

    class Look:
        @hookimpl
        def trainkit_epoch_start(self, run):
            Look.held = {
                name: {key: torch.as_tensor(value).clone() for key, value in state.items()}
                for name, state in snapshot.optimizer_state(run.optimizer).items()
            }

    go(*changes, "optimizer.weight_decay=0.0", stop=6, listeners=[Turned(), Look()])
    assert Look.held.keys() == saved.keys()
    for name, state in saved.items():
        assert state.keys() == Look.held[name].keys()
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(value), Look.held[name][key]), (name, key)
    straight = go(*changes, "optimizer.weight_decay=0.0", folder="straight")
    assert go(*changes, "optimizer.weight_decay=0.0").report.weights_sha256 == straight.report.weights_sha256


def test_an_exact_fit_is_one_line_of_the_log(go, capsys):
    go(stop=3)
    capsys.readouterr()
    done = go()
    assert "4 weights and the optimizer's state of 4 parameters matched by name" in done.log
    assert capsys.readouterr().err.splitlines() == ["note: the run goes on from update 3"]


FREEZE = '[[callback]]\nuse = "freeze"\nmatch = ["body.*"]\n'


def test_parameters_without_a_counterpart_are_named_unless_there_is_a_rule(go):
    go(ADAM, stop=5)
    with pytest.raises(RecipeError, match=r"the optimizer no longer has body.0.weight, body.0.bias"):
        go(ADAM, more=FREEZE)
    done = go(ADAM, "run.on_conflict=recipe", more=FREEZE, stop=9)
    assert "the optimizer no longer has body.0.weight" in done.log
    with pytest.raises(RecipeError) as raised:
        go(ADAM)
    assert "the checkpoint has no optimizer state for body.0.weight, body.0.bias" in str(raised.value)
    assert 'on_conflict = "recipe" in [run] begins anew' in str(raised.value)
    steps = snapshot.optimizer_state(go(ADAM, "run.on_conflict=recipe").run.optimizer)
    assert {name: state["step"] for name, state in steps.items()} == {
        "head.weight": 16,
        "head.bias": 16,
        "body.0.weight": 7,
        "body.0.bias": 7,
    }


def test_weights_of_another_shape_are_named(go):
    before = go(stop=5)
    kept = (before.folder / "metrics.jsonl").read_bytes()
    with pytest.raises(
        RecipeError, match=r"model.widths = \[9\], and the run has \[8\]: the checkpoint holds the weights"
    ):
        go("model.widths=[9]", "run.on_conflict=recipe")
    known = (before.folder / "recipe.toml").read_text(encoding="utf-8")
    other = known.replace("widths = [8]", "widths = [9]")
    assert other != known
    (before.folder / "recipe.toml").write_text(other, encoding="utf-8")
    with pytest.raises(
        CheckpointError, match=r"body.0.weight is \(8, 6\) torch.float32, the model's \(9, 6\)"
    ) as raised:
        go("model.widths=[9]", "run.on_conflict=recipe")
    assert raised.value.exit_code == 5
    (before.folder / "recipe.toml").write_text(known, encoding="utf-8")
    assert (before.folder / "metrics.jsonl").read_bytes() == kept, "nothing was touched"
    assert go().report.status == "finished"


# ---------------------------------------------------------------- another length


def test_another_length_is_a_problem_that_names_both_and_the_ways_out(go):
    go(*LOGGED, stop=5)
    with pytest.raises(RecipeError) as raised:
        go(*LOGGED, "run.duration=3ep")
    (problem,) = raised.value.problems
    assert problem.message == 'duration = "3ep" is 24 updates; the run was planned with 16'
    assert '"rescale"' in problem.cure
    assert '"keep"' in problem.cure
    assert problem.place.origin.startswith("command line")


def test_rescaled_schedules_go_on_with_the_new_length(go):
    go(*LOGGED, stop=5)
    done = go(*LOGGED, "run.duration=3ep", "run.on_length_change=rescale")
    assert done.rates == [0.1 * (1 - t / 16) for t in range(5)] + [0.1 * (1 - t / 24) for t in range(5, 24)]
    assert (done.state["total_updates"], done.state["schedule_updates"]) == (24, 24)
    assert 'run.duration = "3ep" (was "2ep")' in done.log


def test_kept_schedules_end_where_they_were_to_and_hold(go):
    go(*LOGGED, stop=5)
    for stop in (12, 20, None):  # the length is remembered by each checkpoint, before the old end and after it
        done = go(*LOGGED, "run.duration=3ep", "run.on_length_change=keep", stop=stop)
        assert (done.state["total_updates"], done.state["schedule_updates"]) == (24, 16)
    assert done.rates == [0.1 * (1 - t / 16) for t in range(16)] + [0.0] * 8
    # It also outlasts the word itself, as long as the run's length stays.
    go(*LOGGED, folder="other", stop=5)
    go(*LOGGED, "run.duration=3ep", "run.on_length_change=keep", folder="other", stop=12)
    again = go(*LOGGED, "run.duration=3ep", folder="other")
    assert again.rates == done.rates
    assert again.report.weights_sha256 == done.report.weights_sha256


def test_a_fraction_of_the_run_follows_the_length_of_the_schedules(go):
    step = "schedule={use='step', every='0.25dur', gamma=0.5}"
    done = go("run.log_every=1ba", step, stop=6)
    shutil.copytree(done.folder, done.folder.parent / "b")
    kept = go("run.log_every=1ba", step, "run.duration=4ep", "run.on_length_change=keep")
    rescaled = go("run.log_every=1ba", step, "run.duration=4ep", "run.on_length_change=rescale", folder="b")
    assert kept.rates == [0.1 * 0.5 ** (t // 4) for t in range(32)], "a staircase that no length ends goes on"
    assert rescaled.rates[6:] == [0.1 * 0.5 ** (t // 8) for t in range(6, 32)]


def test_a_run_can_be_cut_short_and_measured_with_the_schedule_it_had(go, plugins):
    warm = "schedule={use='cosine', warmup='12ba'}"
    go(warm, stop=5)
    done = go(warm, "run.duration=1ep", "run.on_length_change=keep")
    assert (done.report.status, done.report.steps) == ("finished", 8)
    assert evaluate_run(done.folder, "test", plugins)["loss"] == done.report.metrics["test.loss"]
    with pytest.raises(RecipeError, match="is 3 updates, and the checkpoint is at update 8"):
        go(warm, "run.duration=3ba", "run.on_length_change=keep")


def test_a_finished_run_says_how_to_go_on_and_then_does(go, plugins):
    done = go(*LOGGED)
    with pytest.raises(UsageError) as raised:
        go(*LOGGED)
    assert "the run is finished, all 16 updates are made" in str(raised.value)
    assert f"trainkit resume {done.folder} run.duration=4ep run.on_length_change=rescale" in str(raised.value)
    assert (done.folder / "report.json").exists()
    longer = recipe_of(done.folder, ["run.duration=4ep", "run.on_length_change=rescale"], plugins)
    report = launch(longer, plugins, folder=done.folder, resume=True)
    assert (report.status, report.steps) == ("finished", 32)
    assert [line["step"] for line in done.lines if line["split"] == "test"] == [32], "the old end is cut off"
    assert recipe_of(done.folder, [], plugins).tables["run"]["duration"] == "4ep"


# ---------------------------------------------------------------- other hyperparameters


def test_other_hyperparameters_are_a_problem_for_each(go):
    go(ADAM, "schedule={use='linear'}", stop=5)
    with pytest.raises(RecipeError) as raised:
        go("optimizer={use='adamw', lr=0.05, betas=[0.8, 0.99]}", "schedule={use='linear'}")
    lr, betas = sorted(raised.value.problems, key=lambda problem: "betas" in problem.message)[-2:]
    assert "lr is 0.05 here and 0.001 in the checkpoint" in str(raised.value)
    assert "betas is [0.8, 0.99] here and [0.9, 0.999] in the checkpoint" in betas.message
    assert "body.0.weight" in str(raised.value)
    assert 'on_conflict = "recipe"' in lr.cure


def test_base_values_are_compared_and_not_what_a_schedule_made_of_them(go):
    go(*LOGGED, stop=8)
    assert go(*LOGGED).rates == [0.1 * (1 - t / 16) for t in range(16)]


@pytest.mark.parametrize(("policy", "base"), [("recipe", 0.4), ("checkpoint", 0.1)])
def test_the_word_decides_whose_base_value_counts(go, policy, base):
    go(*LOGGED, stop=8)
    for stop in (11, None):  # and goes on deciding
        done = go(*LOGGED, "optimizer.lr=0.4", f"run.on_conflict={policy}", stop=stop)
        assert done.run.bases[0]["lr"] == base
    assert done.rates[8:] == [base * (1 - t / 16) for t in range(8, 16)]
    assert "lr is 0.4 here and 0.1 in the checkpoint, for body.0.weight, body.0.bias, head.weight" in done.log
    assert f"the {policy} counts" in done.log


@pytest.mark.parametrize(
    ("before", "here", "policy", "counts"),
    [
        (0.0, 0.9, "recipe", 0.9),
        (0.9, 0.0, "recipe", 0.0),
        (0.0, 0.9, "checkpoint", 0.0),
        (0.9, 0.0, "checkpoint", 0.9),
    ],
)
@pytest.mark.parametrize("compiled", ["false", "'step'"])
def test_a_number_that_was_0_may_need_more_state_than_was_saved(go, before, here, policy, counts, compiled):
    """The optimizer makes it at the next update, as where a schedule makes the number another."""
    go(f"optimizer.momentum={before}", stop=5)
    done = go(f"optimizer.momentum={here}", f"run.compile={compiled}", f"run.on_conflict={policy}")
    assert done.run.bases[0]["momentum"] == counts
    assert all(("momentum_buffer" in state) >= bool(counts) for state in done.run.optimizer.state.values())
    assert "goes on eagerly" not in done.log


def test_a_momentum_that_begins_at_0_is_continued_at_any_update(go):
    """A frozen parameter has no buffer while the others have one."""
    rising = ("optimizer.momentum=0.9", "schedule.also=[{target='momentum', use='linear', warmup='4ba'}]")
    straight = go(*rising, folder="straight", more=FREEZE)
    for stop in (1, 2, 3, 4, 9, None):
        done = go(*rising, stop=stop, more=FREEZE)
    assert done.report.weights_sha256 == straight.report.weights_sha256


def test_groups_are_compared_by_the_parameters_they_hold(go):
    group = "optimizer.group=[{match='head.*', lr_scale=2.0}]"
    go(group, stop=5)
    with pytest.raises(RecipeError, match=r"lr is 0\.1 here and 0\.1, 0\.2 in the checkpoint") as raised:
        go(stop=8)
    assert "for body.0.weight, body.0.bias, head.weight, head.bias" in str(raised.value)
    with pytest.raises(RecipeError, match="one group cannot have several values"):
        go("run.on_conflict=checkpoint", stop=8)
    done = go("run.on_conflict=recipe")
    assert [group["lr"] for group in done.run.optimizer.param_groups] == [0.1]


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ((ADAM,), "the optimizer is 'adamw'; the checkpoint holds the state of 'sgd'"),
        (("seed=6",), "seed = 6, and the run began with 5"),
        (("data.data_seed=3",), "the data is not the data this run was trained on"),
        (
            ("data.batch_size=32", "run.duration=16ba"),
            "an epoch has 4 batches here; the checkpoint lies within one of 8",
        ),
    ],
    ids=str,
)
def test_what_state_cannot_fit_is_refused_and_the_folder_stays_as_it_is(go, changes, message):
    done = go(stop=5)
    before = {path: path.read_bytes() for path in done.folder.rglob("*") if path.is_file()}
    with pytest.raises(RecipeError) as raised:
        go(*changes)
    assert message in str(raised.value)
    assert raised.value.exit_code == 2
    assert {path: path.read_bytes() for path in done.folder.rglob("*") if path.is_file()} == before


AVERAGED = '[[callback]]\nuse = "averaged"\n'
CLIP = '[[callback]]\nuse = "clip_norm"\nmax_norm = 1.0\n'


def test_state_that_nobody_takes_back_is_not_lost_in_silence(go):
    go(more=AVERAGED, stop=5)
    with pytest.raises(RecipeError, match=r"holds state of callback.0.averaged, which nothing here takes back"):
        go()
    assert "callback.0.averaged" in go("run.on_conflict=recipe").log


def test_state_finds_its_callback_in_a_longer_list(go):
    straight = go(more=AVERAGED, folder="straight")
    go(more=AVERAGED, stop=5)
    done = go(more='[[callback]]\nuse = "clip_norm"\nmax_norm = 1e9\n' + AVERAGED)
    assert done.report.metrics["val.loss"] == straight.report.metrics["val.loss"]
    assert 'callback.0.use = "clip_norm" (was "averaged")' in done.log


def test_what_has_changed_is_listed_and_the_recipe_is_the_one_it_runs_with(go, capsys):
    done = go(stop=5)
    capsys.readouterr()
    go("run.log_every=4ba", 'metric=[{use="ece"}]')
    told = capsys.readouterr().err
    assert 'note: the recipe has changed: run.log_every = "4ba" (was "1ep")' in told
    assert 'metric.0.use = "ece" (was "accuracy")' in told
    assert 'log_every = "4ba"' in (done.folder / "recipe.toml").read_text(encoding="utf-8")


def test_what_has_changed_outside_the_recipe_is_listed(go, capsys):
    done = go(stop=5)
    written = done.folder / "environment.json"
    known = json.loads(written.read_text(encoding="utf-8"))
    written.write_text(json.dumps(known | {"torch": "1.0", "command": "other"}), encoding="utf-8")
    with pytest.raises(MachineError, match=f"torch is {re.escape(torch.__version__)}, was 1.0") as raised:
        go()
    assert "--accept-drift" in str(raised.value)
    assert json.loads(written.read_text(encoding="utf-8"))["torch"] == "1.0", "nothing was touched"
    capsys.readouterr()
    go(accept_drift=True)
    told = capsys.readouterr().err
    assert f"the environment has changed: torch is {torch.__version__}, was 1.0" in told
    assert "command" not in told
    assert json.loads(written.read_text(encoding="utf-8"))["torch"] == torch.__version__


def test_the_number_of_threads_is_that_of_the_checkpoint(go):
    torch.set_num_threads(2)
    go(stop=5)
    torch.set_num_threads(1)
    go(stop=8)
    assert torch.get_num_threads() == 2
    go("run.threads=1")
    assert torch.get_num_threads() == 1, "the recipe's own number counts before it"


# ---------------------------------------------------------------- which checkpoint, which folder


def test_an_absent_or_empty_folder_is_a_new_run(go, tmp_path):
    straight = go(folder="absent")
    (tmp_path / "empty").mkdir()
    assert go(folder="empty").report.weights_sha256 == straight.report.weights_sha256


def test_a_run_that_ended_before_its_first_checkpoint_begins_again_and_says_so(go, plugins, tmp_path, capsys):
    class Die:
        @hookimpl
        def trainkit_step_end(self, run):
            if run.step == 4:
                raise KeyboardInterrupt

    straight = go("run.log_every=1ba", folder="straight")
    with pytest.raises(KeyboardInterrupt):
        go("run.log_every=1ba", listeners=[Die()])
    with pytest.raises(CheckpointError, match="the run ended before its first checkpoint") as raised:
        recipe_of(tmp_path / "run", [], plugins)
    assert raised.value.exit_code == 5
    assert_alike(straight, go("run.log_every=1ba"))
    assert "no checkpoint had been saved: the run starts from the beginning" in capsys.readouterr().err


def test_a_folder_with_something_else_is_refused(go, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years", encoding="utf-8")
    with pytest.raises(MachineError, match="there is no run to continue"):
        go()
    assert (tmp_path / "run" / "thesis.tex").read_text(encoding="utf-8") == "years"


def test_without_the_word_a_run_is_not_continued(go, load, plugins):
    done = go(stop=5)
    with pytest.raises(MachineError, match="it holds a run: continue that with --resume, put it aside with --fresh"):
        launch(load(), plugins, folder=done.folder)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "MANIFEST"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(go, name, capsys):
    changes = ("run.save_every=3ba", "run.log_every=1ba", "run.evaluate_every=3ba", ADAM)
    straight = go(*changes, folder="straight")
    done = go(*changes, stop=8)
    flip(done.folder / "checkpoints" / "step-000000000008" / name)
    broken = go(*changes)
    assert_alike(straight, broken)
    assert "a checkpoint is refused, and renamed to refused-step-000000000008" in capsys.readouterr().err
    kept = sorted(path.name for path in (done.folder / "checkpoints").glob("step-*"))
    assert kept == sorted(path.name for path in (straight.folder / "checkpoints").glob("step-*"))
    assert (done.folder / "best.json").read_text() == (straight.folder / "best.json").read_text()


def test_where_every_checkpoint_is_damaged_nothing_starts(go):
    done = go(stop=9)
    for folder in (done.folder / "checkpoints").iterdir():
        flip(folder / "state.json")
    before = sorted(path for path in done.folder.rglob("*"))
    with pytest.raises(CheckpointError, match="no usable checkpoint") as raised:
        go()
    assert raised.value.exit_code == 5
    assert str(raised.value).count("the file is damaged") == 2
    assert sorted(path for path in done.folder.rglob("*")) == before


def test_what_a_killed_save_left_is_swept(go):
    done = go(stop=9)
    parent = done.folder / "checkpoints"
    for name in (".tmp-9-1", ".del-step-000000000003"):
        (parent / name).mkdir()
        (parent / name / "state.json").write_text("{}", encoding="utf-8")
    go()
    assert all(path.name.startswith("step-") for path in parent.iterdir())


def test_a_checkpoint_of_another_version_is_told(go):
    done = go(stop=9)
    folder, tensors, state = checkpoint.load_newest(done.folder / "checkpoints")
    del state["bases"], state["random"]
    checkpoint.save(folder.parent, 9, tensors, state)
    with pytest.raises(CheckpointError, match="it lacks bases, random"):
        go()


# ---------------------------------------------------------------- what the folder holds


def test_the_files_of_the_folder_go_on_as_one_run(go):
    straight = go("run.evaluate_every=2ba", "run.log_every=3ba", folder="straight")
    first = go("run.evaluate_every=2ba", "run.log_every=3ba", stop=7)
    assert json.loads((first.folder / "report.json").read_text(encoding="utf-8"))["status"] == "stopped"

    class Look:
        @hookimpl
        def trainkit_run_start(self, run):
            Look.report = (run.folder / "report.json").exists()
            Look.history = [line["step"] for line in run.history]

    done = go("run.evaluate_every=2ba", "run.log_every=3ba", listeners=[Look()])
    assert not Look.report, "while a run goes on there is no report"
    assert Look.history == [2, 3, 4, 6, 6]
    assert_alike(straight, done)
    assert done.log.count("start: 16 updates") == 2
    assert done.report.seconds > first.report.seconds
    times = [json.loads(line)["time"] for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    assert times == sorted(times)
    assert len(done.run.history) == len(done.lines)


def test_lines_after_the_checkpoint_are_cut_off(go):
    """As after a kill: lines of updates that no checkpoint holds, the last one torn."""
    straight = go("run.log_every=1ba", folder="straight")
    done = go("run.log_every=1ba", stop=9)
    with (done.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 10, "split": "train", "time": 1.0, "loss": 1.0}\n{"step": 11, "spl')
    assert_alike(straight, go("run.log_every=1ba"))


def test_lines_that_a_power_cut_took_are_told_and_do_not_keep_the_run_from_going_on(go):
    done = go("run.log_every=1ba", stop=9)
    lines = done.folder / "metrics.jsonl"
    lines.write_bytes(lines.read_bytes()[: done.state["metrics_bytes"] - 10])
    done = go("run.log_every=1ba")
    assert "lines are missing" in done.log
    assert [line["step"] for line in done.lines if line["split"] == "train"] == [*range(1, 9), *range(10, 17)]
