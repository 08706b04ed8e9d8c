"""Studies whose driver is killed at any instant: nothing is lost, nothing is told twice, and the end is the same."""

from __future__ import annotations

import os
import random
import signal
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.search.study_parts import Formula, Random, loss, plan, search, story
from tests.soak.zygote import Zygote
from trainkit.search.ledger import read_ledger, read_study
from trainkit.search.log import NAME, read_events
from trainkit.work import Job, Measured, Outcome

KILLS = int(os.environ.get("TRAINKIT_KILLS", "4"))  # of each kind; a soak asks for more


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """One process that forks all studies: each would import torch for itself."""
    with Zygote() as zygote:
        yield zygote


@pytest.mark.parametrize("batch", [0, 3])
def test_a_study_that_is_killed_again_and_again_is_the_undisturbed_one(
    tmp_path: Path, zygote: Zygote, batch: int
) -> None:
    whole, stopped = search(
        tmp_path / "whole", plan(24, batch=batch), Random(rungs=True, judge=not batch), Formula(slots=max(1, batch))
    )
    assert not stopped
    chance = random.Random(batch)
    folder = tmp_path / "killed"
    words, log = [str(folder), str(batch)], str(tmp_path / "log.txt")
    killed = 0
    while killed < KILLS:
        before = _size(folder / NAME)
        process = zygote.start(words, module="tests.search.study_parts", log=log)
        deadline = time.monotonic() + 60
        while _size(folder / NAME) <= before and time.monotonic() < deadline:
            time.sleep(0.001)
        code = zygote.wait_within(process, chance.random() * 0.08)
        if code is None:
            os.kill(process, signal.SIGKILL)
            assert zygote.wait(process) in (0, -signal.SIGKILL)
        elif code == 0:
            break
        else:
            raise AssertionError(Path(log).read_text())
        killed += 1
    assert killed >= 3
    assert zygote.run(words, module="tests.search.study_parts", log=log) == 0, Path(log).read_text()
    ends = [event for event in read_events(folder / NAME)]
    assert story(read_study(folder)) == story(whole)
    assert not read_ledger(folder).going
    rests = [(e["trial"], e["event"]) for e in ends if e["event"] in ("done", "prune", "fail")]
    assert len(rests) == len(set(rests)), "a trial came to rest twice"


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def test_every_prefix_of_a_log_leads_to_the_same_end(tmp_path: Path) -> None:
    """A kill leaves some first bytes of the log: go on from each of many."""
    what, made = plan(12), {}
    for batch in (0, 4):
        searcher = Random(rungs=True)
        whole, _ = search(tmp_path / f"whole{batch}", plan(12, batch=batch), searcher, Formula(slots=1))
        data = (tmp_path / f"whole{batch}" / NAME).read_bytes()
        head = data.index(b"\n") + 1
        for number, length in enumerate(range(head, len(data), len(data) // 40)):
            folder = tmp_path / f"cut{batch}-{number}"
            folder.mkdir()
            (folder / NAME).write_bytes(data[:length])
            again = Random(rungs=True)
            study, _ = search(folder, plan(12, batch=batch), again, Formula(slots=1))
            assert story(study) == story(whole), length
            assert again.calls == searcher.calls, length
        made[batch] = story(whole)
    assert made[0] != made[4]
    assert what.trials == 12


def test_an_evaluation_that_nobody_lived_to_write_down_is_found_in_the_run(tmp_path: Path) -> None:
    whole, _ = search(tmp_path / "whole", plan(6, take="best"))
    folder = tmp_path / "killed"
    folder.mkdir()
    lines = (tmp_path / "whole" / NAME).read_text().splitlines(keepends=True)
    second = next(number for number, line in enumerate(lines) if '"trial": 3' in line and "0.25" in line) + 1
    (folder / NAME).write_text("".join(lines[:second]))  # the worker has trained on to the end of trial 3

    def ended(job: Job) -> Outcome | None:
        if job.trial != 3 or len(executor.made) > 0:
            return None
        return Outcome("done", {**figures(job, 1.0), "parameters": 10.0, "seconds": 1.0}, 1.0, 8, 2.0, 1.0)

    def figures(job: Job, share: float) -> dict[str, float]:
        value = loss(tomllib.loads(job.recipe), share)
        return {"val.loss": value, "val.accuracy": 1 - value / 10}

    def evaluations(place: Path, outcome: Outcome) -> list[Measured]:
        recipe = whole.records[int(place.name)].trial.point
        point = {"optimizer": {key.partition(".")[2]: value for key, value in recipe.items()}}
        return [Measured(share, {"val.loss": loss(point, share)}) for share in (0.25, 0.5, 0.75, 1.0)]

    executor = Formula(ended)
    study, _ = search(folder, plan(6, take="best", evaluations=evaluations), None, executor)
    assert story(study) == story(whole)
    assert story(read_study(folder)) == story(whole)
