"""Runs of one, two and four processes agree to rounding; one start of each group serves all of these tests."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest

HERE = Path(__file__).parent
WORKER = HERE / "equality_worker.py"


def beside(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RECIPES = beside("equality_recipes")
CHECKS = {"norms": [2, 4], "too_few": [2, 4], "compiled": [4]}


@pytest.fixture(scope="module")
def of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], dict[str, Any]]:
    """What became of a job in so many processes."""
    folder = tmp_path_factory.mktemp("equality")
    jobs = [{"name": name, "recipe": text, "processes": [1, *sizes]} for name, text, sizes in RECIPES.CASES]
    jobs += [{"name": name, "recipe": text, "processes": sizes} for name, text, sizes in RECIPES.OTHERS]
    jobs += [{"name": name, "check": name, "processes": sizes} for name, sizes in CHECKS.items()]
    plan = folder / "plan.json"
    plan.write_text(json.dumps(jobs), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(WORKER), str(plan), str(folder)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TRAINKIT_RUNS": str(folder)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-5000:]

    def of(name: str, processes: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((folder / f"{name}-{processes}.json").read_text(encoding="utf-8"))
        others = [(folder / f"{name}-{processes}-rank{rank}.json").exists() for rank in range(1, processes)]
        assert others == ["error" in found] * (processes - 1), f"{name}: processes end differently"
        return found

    return of


# Few tests, for which the groups are started once: where several processes run tests, each that takes one starts them.


def test_several_processes_make_the_run_of_one(of: Callable[..., dict[str, Any]]) -> None:
    wrong = {}
    for name, _, sizes in RECIPES.CASES:
        for processes in sizes:
            if found := difference(of(name, 1), of(name, processes)):
                wrong[name, processes] = found
    assert wrong == {}


def difference(one: dict[str, Any], several: dict[str, Any]) -> str:
    """How a run differs from that of one process; empty where it does not."""
    for found in (one, several):
        if "error" in found:
            return str(found["error"])
    if several["differing"]:  # all that a checkpoint holds is the same in all processes, bit for bit
        return f"processes differ in {several['differing']}"
    if several["said"] != one["said"]:  # a norm that evaluations do not fold, or a part that is left out
        return f"it said {several['said']}"
    if (several["status"], several["reason"]) != (one["status"], one["reason"]):
        return f"it ended otherwise: {several['reason']}"
    if len(one["lines"]) != len(several["lines"]) or len(one["lines"]) < 4:
        return f"{len(several['lines'])} lines, not {len(one['lines'])}"
    for own, other in zip(one["lines"], several["lines"], strict=True):
        if own.keys() != other.keys() or own["split"] != other["split"]:
            return f"another line at update {own['step']}"
        for key in own.keys() - {"time", "split"}:
            if abs(own[key] - other[key]) > 1e-9 * max(1, abs(own[key])):
                return f"{own['split']}.{key} at update {own['step']} is {other[key]}, not {own[key]}"
    for name, value in one["weights"].items():
        own, other = numpy.array(value), numpy.array(several["weights"][name])
        if own.shape != other.shape or not (abs(own - other) <= 1e-9 * numpy.maximum(1, abs(own))).all():
            return f"other weights: {name}"
    return ""


def test_local_statistics_are_averaged_and_are_others(of: Callable[..., dict[str, Any]]) -> None:
    whole = of("batch norm", 1)
    for processes in (2, 4):
        local = of("local statistics", processes)
        assert local["differing"] == []
        assert local["weights"].keys() == whole["weights"].keys()
        # Of even shares the mean of their means is that of the batch, and the mean of their variances is another.
        one, several = of("local once", 1)["weights"], of("local once", processes)["weights"]
        assert several["body.1.running_mean"] == pytest.approx(one["body.1.running_mean"], rel=1e-12)
        assert several["body.1.running_var"] != pytest.approx(one["body.1.running_var"], rel=1e-4)
        first, last = local["lines"][0]["loss"], local["lines"][-1]["loss"]
        assert last < first
        assert local["lines"][0]["loss"] != pytest.approx(whole["lines"][0]["loss"], rel=1e-6)


def test_local_statistics_need_two_samples_in_each_process(of: Callable[..., dict[str, Any]]) -> None:
    for processes in (2, 4):
        said = of("too few for local statistics", processes)["error"]
        assert f"a batch of 2 samples leaves less than two to each of {processes} processes" in said
        assert "data.drop_last = true" in said


def test_processes_draw_what_they_like_and_stay_alike(of: Callable[..., dict[str, Any]]) -> None:
    found = of("wandering", 2)
    assert found["differing"] == []
    lines = [line for line in found["lines"] if line["split"] == "train"]
    assert all(line["different"] == line["drawn"] > 0 for line in lines)  # other numbers at every update


def test_who_stops_before_the_first_update_stops_all(of: Callable[..., dict[str, Any]]) -> None:
    found = of("unwilling", 2)
    assert (found["status"], found["reason"], found["differing"]) == ("stopped", "unwilling", [])


def test_a_batch_has_a_sample_for_each_process(of: Callable[..., dict[str, Any]]) -> None:
    assert "[data] batch_size = 3: a batch has fewer samples than the 4 processes" in of("small batch", 4)["error"]


def test_samples_that_are_compared_with_each_other_stay_in_one_process(of: Callable[..., dict[str, Any]]) -> None:
    said = of("compared samples", 2)["error"]
    assert "[loss] comparing compares the samples of a batch with each other, of which each process has some" in said
    assert "train in one process" in said


def test_batch_norm_sees_the_whole_batch(of: Callable[..., dict[str, Any]]) -> None:
    single = {"float32": 1e-6, "far from zero": 1e-3}  # what float32 itself has for such numbers
    for processes in (2, 4):
        for name, found in of("norms", processes).items():
            assert found["apart"] < single.get(name, 1e-13), name
            assert found["same names"], name
            assert found["same bits"], name
    assert of("compiled", 4)["apart"] < 1e-13
    for processes in (2, 4):
        said = of("too_few", processes)["said"]
        assert all("more than 1 value per channel" in text for text in said)
