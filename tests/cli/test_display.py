"""The display by itself: what it writes where, and that it stays out of the way."""

from __future__ import annotations

import io
import re
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from trainkit import run_text
from trainkit.clock import Clock
from trainkit.console import aligned, is_terminal
from trainkit.display import Display
from trainkit.hooking import hook_names, new_hook_manager
from trainkit.run import Report, Spent


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


def drawing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "trainkit-display"]


def make_run(tmp_path, **splits: int) -> Any:
    """What a display looks at of a run."""
    import torch

    model = torch.nn.Linear(2, 3)
    optimizer = torch.optim.SGD([{"params": list(model.parameters()), "names": ["weight", "bias"]}], lr=0.1)
    return SimpleNamespace(
        recipe={
            "data": {"use": "synthetic"},
            "model": {"use": "linear"},
            "optimizer": {"use": "sgd", "lr_for_batch": None},
            "run": {"monitor": "val.loss"},
        },
        feed=SimpleNamespace(
            spec=SimpleNamespace(sizes={"train": 100, **splits}, input_shape=(2,), outputs=3, task="classification"),
            batch_sizes=(10, 10),
        ),
        clock=Clock(10, 10),
        model=model,
        optimizer=optimizer,
        schedules=(),
        device=torch.device("cpu"),
        precision=SimpleNamespace(name="float32"),
        sharded=None,
        folder=tmp_path,
        seed=0,
        epoch=0,
        position=0,
        step=0,
        total_updates=20,
        history=[],
        profile={},
        higher_is_better=lambda figure: False,
    )


def hooks_of(display: Display) -> Any:
    manager = new_hook_manager()
    manager.register(display)
    manager.check_pending()

    return manager


def evaluate(display: Display, run: Any, **figures: float) -> None:
    step = display.trainkit_evaluate(run, "val")
    next(step)
    with pytest.raises(StopIteration):
        step.send(figures)


def test_no_hook_of_it_is_called_for_an_update():
    hooks = {name for name in hook_names() if hasattr(Display, name)}
    assert not hooks & {"trainkit_train_step", "trainkit_loss", "trainkit_gradients", "trainkit_step_end"}
    assert hooks_of(Display()).get_plugins()


def test_the_newest_training_loss_and_the_best_so_far_are_in_the_line(tmp_path, capsys):
    run, display = make_run(tmp_path, val=20), Display(terminal=False)
    display.trainkit_run_start(run)
    for position, loss in ((10, 0.5), (20, 0.7)):
        run.position = position
        run.history.append({"split": "train", "loss": loss + 1})
        evaluate(display, run, loss=loss, accuracy=0.25)
    first, second = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert first.startswith("epoch 1/2  step 10/20  train.loss 1.500  val.loss 0.500  val.accuracy 0.250  best 0.500")
    assert second.startswith("epoch 2/2  step 20/20  train.loss 1.700  val.loss 0.700  val.accuracy 0.250  best 0.500")
    assert re.search(r"  \S+ samples/s  0:00$", second)


def test_data_without_validation_gives_a_line_an_epoch(tmp_path, capsys):
    run, display = make_run(tmp_path), Display(terminal=False)
    display.trainkit_run_start(run)
    run.position = 10
    run.history.append({"split": "train", "loss": 1.5})
    display.trainkit_epoch_end(run, {"train.loss": 1.5})
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert line.startswith("epoch 1/2  step 10/20  train.loss 1.500  ")


def test_a_loss_that_is_not_finite_is_never_the_best(tmp_path, capsys):
    run, display = make_run(tmp_path, val=20), Display(terminal=False)
    display.trainkit_run_start(run)
    evaluate(display, run, loss=float("nan"))
    assert "best" not in capsys.readouterr().err


def test_a_terminal_gets_a_bar_that_goes_away(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    run, display = make_run(tmp_path, val=20), Display()
    assert display.terminal
    display.trainkit_run_start(run)
    run.position = 7
    deadline = time.monotonic() + 10
    while "7/20" not in terminal.getvalue() and time.monotonic() < deadline:
        time.sleep(0.05)
    display.close()
    display.close()
    assert "7/20" in terminal.getvalue()
    assert not drawing()


def test_an_evaluation_that_takes_long_is_seen_on_the_bar(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    run, display = make_run(tmp_path, val=20), Display(terminal=True)
    display.trainkit_run_start(run)
    step = display.trainkit_evaluate(run, "val")
    next(step)
    run.measuring(5, 20)
    deadline = time.monotonic() + 10
    while "evaluating val 25%" not in terminal.getvalue() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(StopIteration):
        step.send({"loss": 1.0})
    display.close()
    assert "evaluating val 25%" in terminal.getvalue()


def test_the_summary_names_what_to_look_at_the_figures_and_the_weights(tmp_path, capsys):
    run, display = make_run(tmp_path, val=20), Display(terminal=False)
    display.trainkit_run_start(run)
    capsys.readouterr()
    report = Report("finished", "", 20, 2.0, 1.0, {}, None, "")
    for name in ("report.json", "curves.png"):
        (tmp_path / name).touch()
    for step in (10, 20):
        (tmp_path / "checkpoints" / f"step-{step:012}").mkdir(parents=True)
    paths = f"  see {tmp_path}/{{}}  figures {tmp_path}/report.json  weights {tmp_path}/checkpoints/step-0000000000{{}}"
    display.summarise(report)
    assert capsys.readouterr().err.splitlines()[1] == paths.format("curves.png", 20)
    (tmp_path / "report.html").touch()
    (tmp_path / "best.json").write_text('{"checkpoint": "step-000000000010"}')
    display.summarise(report)
    assert capsys.readouterr().err.splitlines()[1] == paths.format("report.html", 10)
    (tmp_path / "best.json").write_text('{"checkpoint": "../checkpoints"}')
    display.summarise(report)
    assert capsys.readouterr().err.splitlines()[1] == paths.format("report.html", 20)


@pytest.mark.parametrize(
    ("splits", "more"), [({"val": 20, "test": 9}, ""), ({"val": 20, "test": 0}, " --split val"), ({}, " --split train")]
)
def test_what_is_told_to_do_next_can_be_done(tmp_path, capsys, splits, more):
    run, display = make_run(tmp_path, **splits), Display(terminal=False)
    display.trainkit_run_start(run)
    display.summarise(Report("finished", "", 20, 2.0, 1.0, {}, None, ""))
    assert capsys.readouterr().err.splitlines()[-1] == f"  next: trainkit evaluate {tmp_path}{more}"


def test_the_bar_ends_with_the_run_also_when_it_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    run, display = make_run(tmp_path), Display(terminal=True)
    display.trainkit_run_start(run)
    assert drawing()
    display.trainkit_run_end(run, Report("failed", "", 0, 0.0, 0.0, {}, None, ""))
    assert not drawing()


def test_quiet_shows_nothing_and_still_knows_the_folder(tmp_path, capsys):
    run, display = make_run(tmp_path, val=20), Display(level=-1, terminal=False)
    display.progress(1, 1, "decoding images")
    display.trainkit_run_start(run)
    evaluate(display, run, loss=1.0)
    display.summarise(Report("finished", "", 20, 2.0, 1.0, {}, None, ""))
    assert capsys.readouterr().err == ""
    assert display.folder == tmp_path


def test_the_profile_puts_hooks_of_the_step_below_it():
    profile = {
        "data": Spent(0.2, 1000),
        "step": Spent(0.4, 1000),
        "callback.0 'clip_norm': gradients": Spent(0.3, 1000),
        "trainkit: evaluate": Spent(0.05, 2),
        "logger.0 'curves': run_end": Spent(0.5, 1),
        "listener.0 Display: epoch_start": Spent(4e-7, 2),
        "callback.1 'freeze': epoch_start": Spent(0.0, 0),
    }
    lines = run_text.profile_lines(profile, updates=1000, seconds=1.0)
    where = [re.split(r"  +", line.strip()) for line in lines[: lines.index("")]]
    assert where == [
        ["where", "calls", "seconds", "share", "us/update"],
        ["step", "1000", "0.700", "70.0%", "700.0"],
        ["callback.0 'clip_norm': gradients", "1000", "0.300", "30.0%", "300.0"],
        ["data", "1000", "0.200", "20.0%", "200.0"],
        ["trainkit: evaluate", "2", "0.050", "5.0%", "50.0"],
        ["everything else", "-", "0.050", "5.0%", "50.0"],
        ["the whole run", "-", "1.000", "100.0%", "1000.0"],
        ["logger.0 'curves': run_end", "1", "0.500", "after", "-"],
    ]
    assert lines[2].startswith("  callback")
    objects = [re.split(r"  +", line) for line in lines[lines.index("") + 1 :]]
    assert objects == [
        ["object", "calls", "seconds", "share", "us/call"],
        ["logger.0 'curves'", "1", "0.500", "after", "500000.0"],
        ["callback.0 'clip_norm'", "1000", "0.300", "30.0%", "300.0"],
        ["trainkit", "2", "0.050", "5.0%", "25000.0"],
        ["listener.0 Display", "2", "0.000", "0.0%", "0.2"],
        ["callback.1 'freeze'", "0", "0.000", "0.0%", "-"],
    ]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (4.9, "0:04"), (61, "1:01"), (3723, "1:02:03")])
def test_clock(seconds, text):
    assert run_text.clock_text(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(12, "12"), (3123, "3.12k"), (2.5e6, "2.5M"), (4e9, "4G")])
def test_short_numbers(number, text):
    assert run_text.short(number) == text


def test_a_dumb_terminal_gets_plain_text(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert not is_terminal(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert is_terminal(Terminal())
    assert not is_terminal(io.StringIO())
    assert not is_terminal(None)


def test_columns_are_aligned_and_cells_are_harmless():
    assert aligned([("a", "bb", "c"), ("aaa", "b", "\x1b[2J\n")]) == ["a    bb  c", "aaa  b   \\x1b[2J"]


def test_tables_are_drawn_on_a_terminal(monkeypatch):
    from trainkit.console import emit_table

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    emit_table(("kind", "name"), [("optimizer", "[bold]sgd[/bold]")])
    assert "─" in terminal.getvalue()
    assert "[bold]sgd[/bold]" in terminal.getvalue()
    assert not re.search(r"\x1b\[3\d", terminal.getvalue())
