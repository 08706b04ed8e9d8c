"""Checkpoints of short epochs: which are left out, and that none is that anyone could miss."""

from __future__ import annotations

import json

import pytest

from trainkit import hookimpl, store
from trainkit.recorder import UNPAUSED_SAVES

EPOCHS = UNPAUSED_SAVES + 10
SETTINGS = (f"run.duration={EPOCHS}ep", "run.evaluate_every=1dur")
HOUR = "run.save_pause=3600"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The updates at which checkpoints were written."""
    steps: list[int] = []
    write = store.write

    def noted(parent: str, step: int, contents: object) -> object:
        steps.append(step)
        return write(parent, step, contents)

    monkeypatch.setattr(store, "write", noted)
    return steps


class Stop:
    """Asks the run to stop at the end of an epoch, as early stopping does."""

    stateless = True

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    @hookimpl
    def trainkit_stop_reason(self, run: object) -> str | None:
        return "enough" if run.epoch == self.epoch else None


def test_within_the_pause_only_the_first_and_the_last_are_saved(train, written):
    finished = train(*SETTINGS, HOUR)
    epoch = finished.report.steps // EPOCHS
    assert written == [epoch * n for n in range(1, UNPAUSED_SAVES + 1)] + [epoch * EPOCHS]


def test_without_a_pause_each_is_saved(train, written):
    finished = train(*SETTINGS, "run.save_pause=0")
    assert len(written) == EPOCHS
    assert written[-1] == finished.report.steps


def test_the_best_is_saved_whenever_it_comes(train, written):
    finished = train(f"run.duration={EPOCHS}ep", HOUR, "run.monitor=val.loss")
    best = json.loads((finished.folder / "best.json").read_text())
    assert best["step"] in written
    assert (finished.folder / "checkpoints" / best["checkpoint"] / "MANIFEST").is_file()
    lines = map(json.loads, (finished.folder / "metrics.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if line["split"] == "val"]
    epoch = finished.report.steps // EPOCHS
    improved = [epoch * (n + 1) for n, loss in enumerate(losses) if loss < min(losses[:n], default=float("inf"))]
    assert set(improved) <= set(written)
    assert any(step > epoch * UNPAUSED_SAVES for step in improved), "the test needs a best within the pause"


def test_a_run_that_stops_within_the_pause_saves_where_it_stopped(train, written):
    finished = train(*SETTINGS, HOUR, listeners=[Stop(UNPAUSED_SAVES + 5)])
    assert finished.report.status == "stopped"
    assert written[-1] == finished.report.steps


def test_what_is_left_out_changes_nothing_else(train):
    paused, each = train(*SETTINGS, HOUR), train(*SETTINGS, "run.save_pause=0")
    assert paused.report.weights_sha256 == each.report.weights_sha256
    assert paused.report.metrics == each.report.metrics
