"""The number of data workers changes nothing of a run (G14), and none of them outlives it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from trainkit import Run, RunError, hookimpl
from trainkit.finished import evaluate_run, predict_run
from trainkit.launch import launch
from trainkit.manager import Plugins

if sys.platform != "linux":
    pytest.skip("processes as Linux has them", allow_module_level=True)


# torch warns of more workers than the machine has cores.
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_recipe_has_one_hash_for_0_1_and_4_workers_and_without_streaming(train: Callable[..., Any]) -> None:
    changes = [
        'data.augment=[{use="mixup"}]',
        "model.dropout=0.2",
        "run.accumulate=2",
        "run.duration=1ep",
        "run.threads=1",
    ]
    ended = [train(*changes, 'data.loading="streamed"', f"data.workers={workers}") for workers in (0, 1, 4)]
    ended.append(train(*changes, 'data.loading="resident"'))
    assert len({finished.report.weights_sha256 for finished in ended}) == 1
    assert len({str([{**line, "time": 0} for line in finished.lines]) for finished in ended}) == 1
    other = train(*changes, "seed=6")
    assert other.report.weights_sha256 != ended[0].report.weights_sha256


STREAMED = ("run.duration=1ep", "data.loading=streamed", "data.workers=2")


class Seen:
    """Counts the workers after an update, and there ends the run in one of several ways."""

    def __init__(self, then: str = "") -> None:
        self.then = then
        self.workers = 0

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == 2:
            self.workers = len(multiprocessing.active_children())
            if self.then == "fail":
                raise RunError("no more")
            if self.then == "interrupt":
                os.kill(os.getpid(), signal.SIGTERM)


def left() -> int:
    return len(multiprocessing.active_children())


@pytest.mark.parametrize(("then", "status"), [("", "finished"), ("interrupt", "interrupted")])
def test_a_run_that_is_over_has_no_workers(train: Callable[..., Any], then: str, status: str) -> None:
    seen = Seen(then)
    finished = train(*STREAMED, listeners=[seen])
    assert (finished.report.status, seen.workers, left()) == (status, 2, 0)


def test_a_run_that_fails_has_no_workers_while_its_error_is_held(train: Callable[..., Any]) -> None:
    seen = Seen("fail")
    with pytest.raises(RunError, match="no more") as held:
        train(*STREAMED, listeners=[seen])
    assert (seen.workers, left()) == (2, 0)
    assert held.value.__traceback__ is not None


def test_a_smoke_run_and_a_profile_leave_no_workers(load: Callable[..., Any], train: Any, plugins: Plugins) -> None:
    seen = Seen()
    launch(load(*STREAMED), plugins, listeners=[seen], smoke=True)
    assert (seen.workers, left()) == (2, 0)
    train(*STREAMED, listeners=[seen], profile=True)
    assert (seen.workers, left()) == (2, 0)


def test_measuring_a_finished_run_leaves_no_workers(
    train: Callable[..., Any], plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainkit.feed.streamed import StreamedFeed

    finished, begun = train(*STREAMED), list[int]()
    close = StreamedFeed.close
    monkeypatch.setattr(StreamedFeed, "close", lambda feed: (begun.append(left()), close(feed))[1])
    evaluate_run(finished.folder, "val", plugins)
    assert (begun, left()) == ([2], 0)
    predict_run(finished.folder, "test", plugins)
    assert (begun, left()) == ([2, 2], 0)
