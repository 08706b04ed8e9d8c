"""The small recipe of the core's tests, for callbacks that take part in whole runs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainkit import Run, hookimpl
from trainkit.launch import launch

_spec = importlib.util.spec_from_file_location("core_conftest", Path(__file__).parents[2] / "core" / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
core = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(core)

one_thread, plugins, load, train = core.one_thread, core.plugins, core.load, core.train


class StopAt:
    """A signal that comes after so many updates."""

    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == self.step:
            run.stop_reason, run.interrupted = "signal SIGTERM", True


@pytest.fixture
def halves(load, plugins, tmp_path) -> Callable[..., core.Finished]:
    """Train the small recipe with a stop after so many updates, and continue it to its end."""
    count = 0

    def halves(step: int, *changes: str, more: str = "") -> core.Finished:
        nonlocal count
        count += 1
        folder, catch = tmp_path / f"halves-{count}", core.Catch()
        stopped = launch(load(*changes, more=more), plugins, folder=folder, listeners=[StopAt(step)])
        assert (stopped.status, stopped.steps) == ("interrupted", step)
        report = launch(load(*changes, more=more), plugins, folder=folder, listeners=[catch], resume=True)
        return core.Finished(folder, report, catch.run)

    return halves


@pytest.fixture
def timeless() -> Callable[[core.Finished], list[dict[str, Any]]]:
    """The lines of a run without their times."""
    return lambda finished: [{k: v for k, v in line.items() if k != "time"} for line in finished.lines]
