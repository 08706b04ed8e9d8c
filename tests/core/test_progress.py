"""Long work says how far it has come: evaluations by samples, data within trials, here and in other processes."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainkit import Run, hookimpl
from trainkit.finished import evaluate_run, predict_run
from trainkit.work import Job, Site
from trainkit_executors import worker as workers
from trainkit_executors.here import Serial
from trainkit_executors.pool import Pool, Worker
from trainkit_executors.together import Lanes

TELLING = '''
from trainkit import Component, Dataset, DataSpec, Progress, hookimpl


def telling(progress: Progress, /) -> Dataset:
    """Made-up data that takes long."""
    from trainkit_data.shipped import synthetic

    progress(1, 2, "making it up")
    return synthetic(samples=40)


@hookimpl
def trainkit_components() -> list[Component]:
    return [Component("data", telling)]
'''
RECIPE = """
recipe = 1
logger = []
data = { use = "telling", batch_size = 8 }
model = { use = "mlp", widths = [4] }
loss = { use = "cross_entropy" }
optimizer = { use = "sgd", lr = 0.1 }
run = { duration = "1ep", device = "cpu", threads = 1 }
"""


class Following:
    """Is told of the evaluations of a run."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        run.measuring = lambda done, total: self.told.append((done, total))


def test_evaluations_say_how_many_samples_they_have_measured(train: Any) -> None:
    following = Following()
    done = train("data.eval_batch_size=8", "run.duration=1ep", listeners=[following])
    sizes = done.run.feed.spec.sizes
    expected = [(min(number + 8, size), size) for size in (sizes["val"], sizes["test"]) for number in range(0, size, 8)]
    assert following.told == expected
    assert len(expected) > 3


@pytest.mark.parametrize(("measure", "word"), [(evaluate_run, "evaluating"), (predict_run, "predicting")])
def test_a_finished_run_is_measured_in_sight(train: Any, plugins: Any, measure: Any, word: str) -> None:
    folder = train("data.eval_batch_size=8", "run.duration=1ep").folder
    told: list[tuple[int, int, str]] = []
    measure(folder, "val", plugins, lambda *of: told.append(of))
    *way, end = told
    assert {text for _, _, text in way} == {f"{word} val"}
    assert end[0] == end[1]
    assert end[2] == "", "what is over needs no word more"


@pytest.mark.parametrize(("name", "executor"), [("serial", Serial), ("lanes", lambda: Lanes(2))])
def test_data_that_is_made_within_a_trial_is_seen(tmp_path: Path, name: str, executor: Any) -> None:
    plugin = tmp_path / f"telling_{name}.py"
    plugin.write_text(TELLING)
    told: list[tuple[int, int, str]] = []
    carries_out = executor()
    carries_out.open(Site(tmp_path, modules=[str(plugin)], progress=lambda *of: told.append(of)))
    try:
        carries_out.submit(Job(0, 0, RECIPE, tmp_path / "trial"))
        deadline, ended = time.monotonic() + 60, []
        while not ended and time.monotonic() < deadline:
            ended = list(carries_out.wait(1.0))
    finally:
        carries_out.close()
    ((_, outcome),) = ended
    assert outcome.status == "done", outcome.message
    assert told == [(1, 2, "making it up")]


def test_what_another_process_says_is_handed_on() -> None:
    told: list[Any] = []
    pool = Pool(1, 1, ())
    pool._site = Site(Path(), progress=lambda *of: told.append(of))
    pipe: Any = SimpleNamespace(recv=lambda: (workers.PROGRESS, (3, 9, "decoding images")))
    pool._read(Worker(process=None, pipe=pipe, place=0))
    assert told == [(3, 9, "decoding images")]


def test_another_process_says_it_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    at_work = workers._Worker(SimpleNamespace(send=sent.append), SimpleNamespace())  # type: ignore[arg-type]
    for done in range(1, 1001):
        at_work.progress(done, 1000, "decoding images")
        now[0] += 2**-10
    assert [said for word, said in sent if word == workers.PROGRESS] == [
        *((done, 1000, "decoding images") for done in (1, 514)),
        (1000, 1000, "decoding images"),
    ]
