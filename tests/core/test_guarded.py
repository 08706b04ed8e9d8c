"""A logger that fails is named once, and the run goes on as without it."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit import Component, Metrics, Run, hookimpl
from trainkit.launch import launch
from trainkit.recipe import load_recipe
from trainkit.testing.listed import plugins_of
from trainkit.testing.tiny import TinyRun, run_tiny, write_tiny

CALLS: list[str] = []
GIVEN: dict[str, Any] = {"save, a set": {1, 2}, "save, not finite": torch.tensor(float("nan"))}


class Failing:
    """Raises where it is told."""

    def __init__(self, hook: str) -> None:
        self.hook = hook

    def _call(self, hook: str) -> None:
        CALLS.append(hook)
        if hook == self.hook:
            raise OSError("the service is gone")
        if f"{hook}, and leaves" == self.hook:
            raise SystemExit(1)

    @hookimpl
    def trainkit_run_start(self) -> None:
        self._call("run_start")

    @hookimpl
    def trainkit_step_end(self) -> None:
        self._call("step_end")

    @hookimpl
    def trainkit_figures(self) -> Metrics | None:
        self._call("figures")
        return {"seen": "much" if self.hook == "figures, with a word" else 1.0}  # type: ignore[dict-item]

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self) -> Generator[None, Metrics, Metrics]:
        self._call("evaluate, before")
        metrics = yield
        self._call("evaluate, after")
        return metrics

    @hookimpl
    def trainkit_save(self) -> dict[str, Any]:
        self._call("save")
        return {"seen": GIVEN.get(self.hook, 3)}

    @hookimpl
    def trainkit_restore(self, state: dict[str, Any]) -> None:
        self._call("restore")

    @hookimpl
    def trainkit_run_end(self) -> None:
        self._call("run_end")


def failing(*, hook: str) -> Failing:
    """Raise in one of its hooks.

    Args:
        hook: which.
    """
    return Failing(hook)


LOGGER = Component("logger", failing, example={"hook": "none"})
HOOKS = ("run_start", "step_end", "step_end, and leaves", "figures", "evaluate, before", "evaluate, after", "save")
HOOKS += ("figures, with a word", *GIVEN)


LOST = {"logger": [{"use": "failing", "hook": "step_end"}]}


class Stop:
    """Ends the run after three updates."""

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == 3:
            run.stop_reason = "the test asked for it"


def train(folder: Path, hook: str) -> TinyRun:
    CALLS.clear()
    return run_tiny(folder, {"logger": [{"use": "failing", "hook": hook}]}, plugins_of(LOGGER))


def without_figure(run: TinyRun) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seen"} for line in run.lines]


@pytest.mark.parametrize("hook", HOOKS)
def test_the_run_goes_on_as_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], hook: str) -> None:
    plain = train(tmp_path / "plain", "none")
    assert "failed" not in capsys.readouterr().err
    run = train(tmp_path / "run", hook)
    told = capsys.readouterr().err
    assert (run.report.status, run.report.reason) == ("finished", "all planned updates made")
    assert run.report.weights_sha256 == plain.report.weights_sha256
    assert without_figure(run) == without_figure(plain)
    place = f"failed in trainkit_{hook.partition(',')[0]}, and the run goes on without it"
    assert told.count(f"the logger 'failing' {place}") == 1
    assert "the logger 'failing' failed" in (run.folder / "log.txt").read_text(encoding="utf-8")


def test_it_is_left_alone_from_then_on_but_may_close(tmp_path: Path) -> None:
    train(tmp_path, "step_end")
    assert CALLS == ["run_start", "step_end", "run_end"]


def test_one_that_cannot_close_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path, "run_end")
    assert json.loads((run.folder / "report.json").read_text(encoding="utf-8"))["status"] == "finished"
    assert "the logger 'failing' failed" in capsys.readouterr().err


def test_a_failing_evaluation_still_ends_the_run_through_a_logger_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> None:
        raise MemoryError("no room for outputs")

    monkeypatch.setattr("trainkit.evaluate.measure", broken)
    with pytest.raises(Exception, match="no room for outputs"):
        train(tmp_path, "none")


def test_a_run_that_lost_its_logger_can_be_continued(tmp_path: Path) -> None:
    CALLS.clear()
    recipe = load_recipe(write_tiny(tmp_path / "tiny.toml", LOST), [], plugins_of(LOGGER))
    stopped = launch(recipe, recipe.plugins, folder=tmp_path / "run", listeners=[Stop()])
    assert stopped.status == "stopped"
    report = launch(recipe, recipe.plugins, folder=tmp_path / "run", resume=True)
    assert (report.status, report.steps) == ("finished", 6)
    assert CALLS.count("run_start") == 2  # it has another try
    assert "restore" not in CALLS
