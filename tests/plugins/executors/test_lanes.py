"""Lanes as an executor, and the choice that auto makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit import Executor, Job, LaneSpeed, Outcome, Site, open_plugins
from trainkit_executors.chosen import choose

RECIPE = """\
recipe = 1
seed = 5
logger = []
model = { use = "mlp", widths = [8] }
loss = { use = "cross_entropy" }
optimizer = { use = "OPTIMIZER", lr = LR }
[run]
duration = "EPOCHSep"
device = "cpu"
threads = 1
[data]
use = "synthetic"
samples = 192
features = [6]
batch_size = 16
"""


def recipe(lr: float = 0.1, optimizer: str = "sgd", epochs: int = 3) -> str:
    return RECIPE.replace("LR", str(lr)).replace("OPTIMIZER", optimizer).replace("EPOCHS", str(epochs))


def carry_out(name: str, jobs: list[Job], site: Site, **settings: Any) -> dict[int, Outcome]:
    executor: Executor = open_plugins().find("executor", name)[0].factory(**settings)
    found: dict[int, Outcome] = {}
    waiting, begun = list(jobs), 0
    executor.open(site)
    try:
        while len(found) < len(jobs):
            while waiting and begun - len(found) < executor.slots:
                executor.submit(waiting.pop(0))
                begun += 1
            found |= {job.trial: outcome for job, outcome in executor.wait(0.5)}
    finally:
        executor.close()
    return found


def figures(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in ("time", "split")} for line in lines]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_lanes_measure_what_serial_trials_measure(tmp_path: Path) -> None:
    rates = [0.01, 0.03, 0.1, 0.2, 0.3]
    told: list[tuple[int, float]] = []
    found = {}
    for name in ("serial", "lanes"):
        jobs = [Job(i, 0, recipe(rate), tmp_path / name / str(i), watched=True) for i, rate in enumerate(rates)]
        site = Site(tmp_path, recipe=recipe(), measured=lambda job, m: told.append((job.trial, m.trained)) or "")
        found[name] = carry_out(name, jobs, site, **({"lanes": 3} if name == "lanes" else {}))
    for i in range(len(rates)):
        assert found["lanes"][i].status == found["serial"][i].status == "done"
        expected = figures(tmp_path / "serial" / str(i))
        for got, line in zip(figures(tmp_path / "lanes" / str(i)), expected, strict=True):
            assert got == pytest.approx(line, rel=2e-5, abs=2e-6)
    assert sorted(told[: len(told) // 2]) == sorted(told[len(told) // 2 :])  # serial, then lanes
    assert len(told) == 2 * 3 * len(rates)


def test_folds_that_differ_by_a_sample_are_lanes_too(tmp_path: Path) -> None:
    said: list[str] = []
    # Of 154 samples, folds leave 102, 103 and 103 to train on: their last batches have 6 or 7.
    cuts = [(rate, fold) for rate in (0.03, 0.1) for fold in range(3)]
    for name in ("serial", "lanes"):
        jobs = []
        for number, (rate, fold) in enumerate(cuts):
            text = recipe(rate).replace("batch_size", f"folds = 3\nfold = {fold}\nbatch_size")
            jobs.append(Job(number, 0, text, tmp_path / name / str(number)))
        site = Site(tmp_path, recipe=recipe(), say=said.append)
        carry_out(name, jobs, site, **({"lanes": 6} if name == "lanes" else {}))
    assert said == []
    for number in range(len(cuts)):
        expected = figures(tmp_path / "serial" / str(number))
        for got, line in zip(figures(tmp_path / "lanes" / str(number)), expected, strict=True):
            assert got == pytest.approx(line, rel=2e-5, abs=2e-6)


def test_what_cannot_be_a_lane_is_trained_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    jobs = [Job(i, 0, recipe(optimizer="lbfgs", epochs=1), tmp_path / str(i)) for i in range(2)]
    found = carry_out("lanes", jobs, Site(tmp_path, recipe=recipe(), say=said.append))
    assert {outcome.status for outcome in found.values()} == {"done"}
    assert len(said) == 1
    assert said[0].startswith("trials are trained one by one, not as lanes: lbfgs")


def test_auto_says_what_it_takes_and_why(tmp_path: Path) -> None:
    said: list[str] = []
    jobs = [Job(i, 0, recipe(), tmp_path / "runs" / str(i)) for i in range(3)]
    found = carry_out("auto", jobs, Site(tmp_path, recipe=recipe(), say=said.append), lanes=8)
    assert [found[i].status for i in range(3)] == ["done"] * 3
    assert len(said) == 1
    assert said[0].startswith('executor = "auto" takes ')
    assert " ms alone, and " in said[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


@pytest.mark.parametrize(
    ("speed", "cores", "name"),
    [
        (LaneSpeed(1000, 1e-3, 1e-4, 32), 1, "lanes"),
        (LaneSpeed(1000, 1e-3, 1e-3, 32, compiled=True), 1, "lanes"),  # one compiler for all
        (LaneSpeed(1000, 1e-3, 1e-3, 32), 1, "serial"),  # lanes must win
        (
            LaneSpeed(1000, 1e-3, 0.95e-3, 32),
            8,
            "serial",
        ),  # by more than measurements differ
        (LaneSpeed(100_000, 1e-3, 1e-4, 32), 4, "lanes"),  # ten times as fast beats four processes
        (LaneSpeed(100_000, 1e-3, 5e-4, 32), 4, "processes"),
        (LaneSpeed(100_000, 1e-3, 0.0, 1, "the update is no rule"), 4, "processes"),
        (LaneSpeed(100_000, 1e-3, 0.0, 1, "the update is no rule"), 1, "serial"),
        (LaneSpeed(100, 1e-3, 0.0, 1, "the update is no rule"), 4, "serial"),
    ],
)
def test_auto_takes_what_is_fastest(speed: LaneSpeed, cores: int, name: str) -> None:
    chosen, why = choose(speed, cores)
    assert chosen == name
    assert speed.obstacle in why
