"""The loop: the order of everything, what is due when, and where a run ends."""

from __future__ import annotations

from typing import Any

import pytest

from trainkit import hookimpl
from trainkit.hooking import hook_names

NOT_IN_A_RUN = {
    "trainkit_components",
    "trainkit_check_recipe",
    "trainkit_trial_end",
    "trainkit_study_end",
    "trainkit_ensemble_end",
    "trainkit_restore",
}


def log_of_everything(log: list[str]) -> Any:
    """A listener that implements every hook, writes down each call, and leaves everything to others."""

    class Log:
        @hookimpl(tryfirst=True)
        def trainkit_prepare_model(self, run, model):
            log.append("prepare_model")

        @hookimpl(tryfirst=True)
        def trainkit_parameter_groups(self, run, model):
            log.append("parameter_groups")

        @hookimpl(tryfirst=True)
        def trainkit_run_start(self, run):
            log.append(f"run_start {run.step}")

        @hookimpl(tryfirst=True)
        def trainkit_restore(self, run, state):
            log.append("restore")

        @hookimpl(tryfirst=True)
        def trainkit_epoch_start(self, run):
            log.append(f"epoch_start {run.epoch}")

        @hookimpl(tryfirst=True)
        def trainkit_train_step(self, run, batches):
            log.append(f"train_step {run.step} of {len(batches)}")

        @hookimpl(tryfirst=True)
        def trainkit_loss(self, run, outputs, batch):
            log.append(f"loss of {len(batch)}")

        @hookimpl(tryfirst=True)
        def trainkit_gradients(self, run, gradients):
            log.append(f"gradients of {len(gradients)}")

        @hookimpl(tryfirst=True)
        def trainkit_step_end(self, run, result):
            log.append(f"step_end {run.step}")

        @hookimpl(tryfirst=True)
        def trainkit_figures(self, run):
            log.append(f"figures {run.step}")

        @hookimpl(tryfirst=True)
        def trainkit_evaluate(self, run, split):
            log.append(f"evaluate {split}")

        @hookimpl(tryfirst=True)
        def trainkit_epoch_end(self, run, metrics):
            log.append(f"epoch_end {run.epoch} {sorted(metrics)}")

        @hookimpl(tryfirst=True)
        def trainkit_stop_reason(self, run, metrics):
            log.append(f"stop_reason {sorted(metrics)}")

        @hookimpl(tryfirst=True)
        def trainkit_save(self, run):
            log.append(f"save {run.step}")

        @hookimpl(tryfirst=True)
        def trainkit_run_end(self, run, report):
            log.append(f"run_end {report.status}")

    return Log()


def test_the_hooks_of_a_whole_run_are_called_in_order(train):
    log: list[str] = []
    listener = log_of_everything(log)
    implemented = {name for name in dir(type(listener)) if name.startswith("trainkit_")}
    assert implemented == set(hook_names()) - NOT_IN_A_RUN | {"trainkit_restore"}, "this test knows every hook"
    changes = "run.duration=2ep", "run.accumulate=2", "data.batch_size=32", "run.evaluate_every=1ep", "metric=[]"
    train(*changes, listeners=[listener])
    figures = "['train.loss', 'val.loss']"
    update = ["loss of 32", "loss of 32", "gradients of 4"]
    last = ["loss of 32", "loss of 20", "gradients of 4"]
    assert log == [
        "prepare_model",
        "parameter_groups",
        "run_start 0",
        "epoch_start 0",
        "train_step 0 of 2",
        *update,
        "step_end 1",
        "train_step 1 of 2",
        *last,
        "step_end 2",
        "figures 2",
        "evaluate val",
        f"epoch_end 0 {figures}",
        f"stop_reason {figures}",
        "save 2",
        "epoch_start 1",
        "train_step 2 of 2",
        *update,
        "step_end 3",
        "train_step 3 of 2",
        *last,
        "step_end 4",
        "figures 4",
        "evaluate val",
        f"epoch_end 1 {figures}",
        f"stop_reason {figures}",
        "save 4",
        "evaluate test",
        "run_end finished",
    ]


class Times:
    """Notes the steps at which things happen."""

    def __init__(self) -> None:
        self.evaluated: list[tuple[str, int]] = []
        self.saved: list[int] = []
        self.asked: list[int] = []
        self.epochs: list[tuple[str, int, int]] = []
        self.rates: list[float] = []

    @hookimpl(tryfirst=True)
    def trainkit_evaluate(self, run, split):
        self.evaluated.append((split, run.step))

    @hookimpl
    def trainkit_save(self, run):
        self.saved.append(run.step)

    @hookimpl(tryfirst=True)
    def trainkit_stop_reason(self, run):
        self.asked.append(run.step)

    @hookimpl
    def trainkit_epoch_start(self, run):
        self.epochs.append(("start", run.epoch, run.step))

    @hookimpl
    def trainkit_epoch_end(self, run):
        self.epochs.append(("end", run.epoch, run.step))

    @hookimpl
    def trainkit_step_end(self, run):
        self.rates.append(run.optimizer.param_groups[0]["lr"])


def due(every: int, total: int) -> list[int]:
    return [*range(every, total, every), total]


@pytest.mark.parametrize("duration", [16, 19, 24])
@pytest.mark.parametrize(
    ("written", "every"),
    [
        ("1ep", 8),
        ("2ep", 16),
        ("0.5ep", 4),
        ("0.4ep", 3),
        ("1ba", 1),
        ("3ba", 3),
        ("5ba", 5),
        ("11ba", 11),
        ("100ba", 100),
    ],
)
def test_evaluations_come_at_multiples_of_their_interval_and_at_the_end(train, written, every, duration):
    times = Times()
    train(f'run.evaluate_every="{written}"', f'run.duration="{duration}ba"', listeners=[times])
    assert times.evaluated == [*(("val", step) for step in due(every, duration)), ("test", duration)]


@pytest.mark.parametrize(("written", "every"), [("1ep", 8), ("3ba", 3), ("0.4ep", 3), ("7ba", 7), ("100ba", 100)])
def test_saves_come_at_multiples_of_their_interval_and_at_the_end(train, written, every):
    times = Times()
    train(f'run.save_every="{written}"', 'run.duration="19ba"', "run.evaluate_every=100ba", listeners=[times])
    assert times.saved == due(every, 19)


def test_the_best_evaluation_is_saved_even_where_no_save_is_due(train):
    times = Times()
    finished = train("run.save_every=100ba", "run.evaluate_every=5ba", "run.duration=17ba", listeners=[times])
    assert finished.report.best["step"] in times.saved
    assert set(times.saved) <= {5, 10, 15, 17}


def test_samples_and_fractions_of_the_run_are_intervals_too(train):
    times = Times()
    train('run.evaluate_every="80sp"', 'run.save_every="0.25dur"', "run.duration=20ba", listeners=[times])
    assert [step for split, step in times.evaluated if split == "val"] == [5, 10, 15, 20]
    assert times.saved == [5, 10, 15, 20]


@pytest.mark.parametrize("total", [1, 7, 8, 9, 13, 16])
def test_the_run_ends_exactly_at_its_last_update(train, total):
    times = Times()
    finished = train(f'run.duration="{total}ba"', 'schedule={use="cosine"}', listeners=[times])
    assert finished.report.steps == len(times.rates) == total
    assert finished.report.epochs == round(total / 8, 6)
    assert (finished.run.epoch, finished.run.batch_in_epoch) == divmod(total, 8)
    assert finished.checkpoints[-1] == total
    assert [e for e in times.epochs if e[0] == "end"] == [("end", i, 8 * (i + 1)) for i in range(total // 8)]
    schedule = finished.run.schedules[0].schedule
    assert times.rates == [0.1 * schedule(t, total) for t in range(total)]


@pytest.mark.parametrize("every", [1, 3, 8])
def test_the_test_split_is_touched_once_after_everything_else(train, every):
    times = Times()
    train(f'run.evaluate_every="{every}ba"', "run.duration=17ba", listeners=[times])
    assert [split for split, _ in times.evaluated].count("test") == 1
    assert times.evaluated[-1] == ("test", 17)
    assert times.saved[-1] == 17


def test_without_a_test_split_none_is_touched(train):
    times = Times()
    finished = train("data.test=0.0", listeners=[times])
    assert {split for split, _ in times.evaluated} == {"val"}
    assert not [name for name in finished.report.metrics if name.startswith("test")]


def test_without_a_validation_split_the_run_asks_at_each_epoch(train):
    times = Times()
    finished = train("data.val=0.0", "run.monitor=train.loss", listeners=[times])
    assert {split for split, _ in times.evaluated} == {"test"}
    assert times.asked == [finished.run.feed.batches_per_epoch * n for n in (1, 2)]


def test_reasons_are_asked_for_after_each_evaluation_and_each_epoch(train):
    times = Times()
    train("run.evaluate_every=3ba", "run.duration=16ba", listeners=[times])
    assert times.asked == [3, 6, 8, 9, 12, 15, 16]


def test_a_reason_ends_the_run_in_the_middle_of_an_epoch_once_it_is_saved(train):
    class Enough(Times):
        @hookimpl
        def trainkit_stop_reason(self, run):
            return "enough" if run.step >= 5 else None

    enough = Enough()
    finished = train("run.evaluate_every=5ba", listeners=[enough])
    assert (finished.report.status, finished.report.reason, finished.report.steps) == ("stopped", "enough", 5)
    assert enough.saved == [5]
    assert [line["step"] for line in finished.of("train")] == [5], "what was measured so far is not lost"


def test_whoever_sets_the_reason_ends_the_run_at_the_next_update(train):
    class Now(Times):
        @hookimpl
        def trainkit_step_end(self, run):
            if run.step == 3:
                run.stop_reason = "now"

    now = Now()
    finished = train(listeners=[now])
    assert (finished.report.steps, finished.report.status) == (3, "stopped")
    assert finished.of("train")[-1]["step"] == 3, "what was measured so far is not lost"
    assert now.saved == [3]


def test_the_model_is_in_training_mode_in_every_update(train):
    seen = set()

    class Modes:
        @hookimpl
        def trainkit_step_end(self, run):
            seen.add(run.model.training)

    train("run.evaluate_every=1ba", "model.dropout=0.5", listeners=[Modes()])
    assert seen == {True}


def test_hooks_that_nobody_implements_are_not_called(train):
    """The program looks once, before the loop; a hook that joins later would not be heard."""
    finished = train()
    for name in ("trainkit_loss", "trainkit_gradients", "trainkit_step_end", "trainkit_train_step"):
        assert not getattr(finished.run.hook, name).get_hookimpls()


def test_listeners_are_called_in_their_order(train):
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        @hookimpl
        def trainkit_epoch_end(self):
            order.append(self.name)

    train("run.duration=1ep", listeners=[Named("first"), Named("second"), Named("third")])
    assert order == ["first", "second", "third"]
