"""``trainkit bench``: the table, what is timed, what fails, and what is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainkit.allocator import can_keep_pages
from trainkit.bench import Worker, plan
from trainkit.bench_table import RAW, Bench, Row
from trainkit.bench_trial import Stopwatch
from trainkit.errors import UsageError

# Of all means, one that does something: ten others would be ten processes.
QUIET = ("data.loading=streamed", "run.save_every=1dur", "run.evaluate_every=1dur", "run.log_every=1dur")
MACHINE = {"device": "A processor", "processors": 2, "threads": 1, "torch": "2.0", "python": "3.11", "precision": "f"}


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where temporary folders go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder


def table_of(text: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows[2:]}


# ---------------------------------------------------------------- whole benches


@pytest.mark.skipif(not can_keep_pages(), reason="needs glibc")
def test_a_contender_that_fails_is_a_row_and_nothing_is_left_behind(trainkit, recipe, tmp_path, scratch):
    (tmp_path / "picky.py").write_text(
        "from trainkit import Component, hookimpl\n"
        "class Picky:\n"
        "    stateless = True\n"
        "    @hookimpl\n"
        "    def trainkit_step_end(self, run):\n"
        "        print('not an answer')\n"
        "        if not run.recipe['run']['keep_pages']:\n"
        "            raise KeyError('pages')\n"
        "def picky():\n    '''Wants its pages.'''\n    return Picky()\n"
        "@hookimpl\n"
        "def trainkit_components():\n    return [Component('callback', picky)]\n",
        encoding="utf-8",
    )
    with Path(recipe).open("a", encoding="utf-8") as file:
        file.write('[[callback]]\nuse = "picky"\n')
    before = sorted(path.name for path in tmp_path.iterdir())
    outcome = trainkit("bench", recipe, *QUIET, "-p", "./picky.py", "--rounds", "2", "--updates", "4")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert re.search(r", \d+ processors; torch \S+, Python 3\.\S+; 1 thread$", lines[0])
    table = table_of(outcome.out)
    assert list(table) == [RAW, "trainkit", "trainkit, keep_pages = false"]
    for name in (RAW, "trainkit"):
        cpu, wall, ratio = table[name]
        assert int(cpu) > 0
        assert int(wall) > 0
        middle, low, high = map(float, re.fullmatch(r"(\S+) \[(\S+) to (\S+)\]", ratio).groups())
        assert 0 < low <= middle <= high
    assert table[RAW][2] == "1.00 [1.00 to 1.00]"
    assert "picky.py" in table["trainkit, keep_pages = false"][0]
    assert "KeyError: 'pages'" in table["trainkit, keep_pages = false"][0]
    assert "2 interleaved rounds of 4 updates each" in outcome.out
    assert "no schedule (constant), callback (picky), metric (accuracy)" in outcome.out
    assert "The raw loop is given trainkit's batches: the data does not stay in memory." in outcome.out
    assert not list(scratch.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == before


def test_a_recipe_that_does_not_train_ends_with_its_own_exit_code(trainkit, recipe, scratch):
    outcome = trainkit("bench", recipe, "optimizer.lr=3e38", "data.loading=streamed", "--updates", "10", "--json")
    assert outcome.code == outcome.json["exit_code"] == 4
    assert "does not train as it is" in outcome.json["error"]
    assert "not finite" in outcome.json["error"]
    assert not list(scratch.iterdir())


def test_data_that_is_missing_is_told(trainkit, recipe, scratch):
    outcome = trainkit("bench", recipe, "data={use='csv', file='nowhere.csv', target='y'}")
    assert outcome.code in (2, 3)
    assert "nowhere.csv" in outcome.err
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rounds", "0"), "--rounds 0: write a whole number, at least 1"),
        (("--updates", "-1"), "--updates -1: write a whole number"),
        (("--round", "3"), "--rounds"),
        (("optimizer.use=sdg",), "did you mean 'sgd'?"),
        (("other.toml",), "other.toml"),
    ],
)
def test_what_is_wrong_is_told_before_anything_starts(trainkit, recipe, words, said, scratch):
    outcome = trainkit("bench", recipe, *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert not list(scratch.iterdir())


def test_a_run_that_is_too_short_is_told(trainkit, recipe, scratch):
    outcome = trainkit("bench", recipe, "run.duration=3ba")
    assert outcome.code == 2
    assert "the run has 3 updates; 5 are the least that can be timed" in outcome.err


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_signal_ends_it_and_leaves_nothing(recipe, tmp_path, scratch):
    words = [sys.executable, "-P", "-m", "trainkit", "bench", recipe, *QUIET, "--rounds", "100000"]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    process = subprocess.Popen(
        words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(scratch.glob("trainkit-bench-*/*/said.txt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "stopped by SIGTERM while it measured; nothing was written" in said
    assert not list(scratch.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_contender_ends_with_its_data_workers(recipe, tmp_path):
    changes = ["data.loading=streamed", "data.workers=2"]
    told = {"recipe": str(tmp_path / recipe), "changes": changes, "modules": [], "without": [], "raw": True}
    worker = Worker({**told, "folder": str(tmp_path / "contender")})

    def alive() -> int:
        stats = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
        return sum(stat[2] == str(worker._process.pid) and stat[0] not in "ZX" for stat in stats)

    try:
        worker.ask("round", 1, 2)
        assert alive() == 3  # the workers are kept for the next round
    finally:
        worker.close()
    deadline = time.monotonic() + 4  # torch's own watch for the parent takes 5 s
    while alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive() == 0
    worker.close()


# ---------------------------------------------------------------- the plan


@pytest.mark.parametrize(
    ("total", "epoch", "updates", "expected"),
    [
        (600, 20, 0, (20, 100)),  # 10 ms an update: a second is five epochs
        (600, 20, 20, (20, 20)),
        (600, 20, 50, (20, 60)),  # whole epochs, if it is more than one
        (600, 20, 7, (2, 7)),
        (600, 20, 19, (1, 19)),  # not past the end of the epoch
        (6000, 1000, 0, (2, 100)),
        (6000, 90, 0, (90, 90)),
        (30, 20, 0, (1, 19)),  # no second whole epoch
        (100, 1, 0, (1, 99)),
        (12, 20, 0, (2, 10)),
        (5, 20, 0, (2, 3)),
    ],
)
def test_the_updates_of_a_round(total, epoch, updates, expected):
    facts = {"total": total, "per_epoch": epoch, "warm_epochs": 1}
    asked: list[int] = []

    def trial(count: int) -> dict[str, float]:
        """The first updates take ten times as long."""
        asked.append(count)
        return {"cpu": 0.01 * count * (10 if len(asked) == 1 else 1), "wall": 0.0, "updates": count}

    assert plan(facts, updates, trial) == expected
    assert all(2 + count <= total for count in asked)
    assert bool(asked) == (updates == 0)


def test_a_compiled_step_is_timed_from_the_third_epoch():
    facts = {"total": 600, "per_epoch": 20, "warm_epochs": 2}
    assert plan(facts, 40, lambda count: {}) == (40, 40)
    assert plan({**facts, "total": 60}, 40, lambda count: {}) == (40, 20)
    assert plan({**facts, "total": 50}, 40, lambda count: {}) == (1, 19), "no whole epoch is left"


@pytest.mark.parametrize(("total", "made"), [(60, 50), (100, 60)])
def test_calls_of_ten_updates_are_timed_to_the_end_of_one_and_never_past_the_runs(total, made):
    run = SimpleNamespace(position=0, total_updates=total, stop_reason=None, interrupted=False)
    watch = Stopwatch(2, 58)
    while run.position < total and run.stop_reason is None:
        run.position += 10
        watch.trainkit_step_end(run)
    assert (watch.start, watch.made, len(watch.clock.marks)) == (10, made, 2)


def test_a_run_of_four_updates_cannot_be_timed():
    with pytest.raises(UsageError, match="the run has 4 updates; 5 are the least"):
        plan({"total": 4, "per_epoch": 4, "warm_epochs": 1}, 0, lambda count: {})


# ---------------------------------------------------------------- the table


def rounds_of(*cpu: float) -> list[dict[str, float]]:
    return [{"cpu": seconds, "wall": 2 * seconds, "updates": 10} for seconds in cpu]


def test_ratios_are_taken_round_by_round():
    rows = [Row(RAW, rounds=rounds_of(1.0, 2.0, 4.0)), Row("trainkit", rounds=rounds_of(0.5, 2.0, 1.0))]
    rows.append(Row("trainkit, compile = false", "run.compile", "false", failed="no | way\nmore"))
    made = Bench(MACHINE, "cpu", 2, 10, 25, 50, 3, rows, ["the raw loop has no schedule"])
    table = table_of(made.lines()[0] + "\n" + "\n".join(made.lines()[1:]).replace("\\|", "or"))
    assert table[RAW] == ["200000", "400000", "1.00 [1.00 to 1.00]"]
    assert table["trainkit"] == ["100000", "200000", "2.00 [1.00 to 4.00]"]
    assert table["trainkit, compile = false"][0] == "failed: no or way"
    note = "An epoch has 25 updates: what comes at its end is not in the table; "
    assert f"{note}--updates 25 has it." in made.lines()
    made.total = 49
    assert f"{note}a run of two epochs has it." in made.lines()
    assert made.lines()[-1] == "The raw loop has no schedule."
    plain = made.as_dict()
    assert [row.get("ratio") for row in plain["rows"]] == [1.0, 2.0, None]
    assert plain["rows"][2] == {
        "contender": "trainkit, compile = false",
        "key": "run.compile",
        "off": "false",
        "failed": "no | way\nmore",
    }


def test_where_the_raw_loop_fails_the_recipe_is_the_base():
    rows = [Row(RAW, failed="no"), Row("trainkit", rounds=rounds_of(1.0)), Row("b", rounds=rounds_of(2.0))]
    made = Bench(MACHINE, "wall", 2, 10, 5, 50, 1, rows, [])
    assert "x trainkit" in made.lines()[2]
    assert table_of("\n".join(made.lines()))["b"][2] == "0.50 [0.50 to 0.50]"
