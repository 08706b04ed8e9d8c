"""The lines of ``metrics.jsonl`` as ``run.history`` gives them: the same as a list's, in memory that does not grow."""

from __future__ import annotations

import gc
import json
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit import hookimpl, lines
from trainkit.errors import MachineError
from trainkit.lines import Lines
from trainkit.rundir import RunFolder


def line_of(number: int) -> dict[str, Any]:
    return {"step": number, "epoch": number / 3, "split": "train", "time": 0.1 * number, "loss": 1 / (number + 1)}


def written(path: Any, count: int) -> tuple[Lines, list[dict[str, Any]]]:
    held, all_of_them = Lines(path), [line_of(number) for number in range(count)]
    with path.open("a", encoding="utf-8", buffering=1) as file:
        for line in all_of_them:
            text = json.dumps(line) + "\n"
            file.write(text)
            held.add(line, len(text))
    return held, all_of_them


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(lines, "KEPT", 4)
    monkeypatch.setattr(lines, "MARKS", 3)


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(0, 60),
    start=st.none() | st.integers(-70, 70),
    stop=st.none() | st.integers(-70, 70),
    step=st.sampled_from([None, 1, 2, 7, -1, -3]),
)
def test_it_is_the_sequence_that_a_list_would_be(tmp_path_factory, count, start, stop, step):
    held, expected = written(tmp_path_factory.mktemp("run") / "metrics.jsonl", count)
    assert len(held) == count
    assert list(held) == expected
    assert list(reversed(held)) == expected[::-1]
    assert held[start:stop:step] == expected[start:stop:step]
    for number in (start, stop):
        if number is not None and -count <= number < count:
            assert held[number] == expected[number]
        elif number is not None:
            with pytest.raises(IndexError, match=f"of {count}"):
                held[number]


@settings(deadline=None, max_examples=30)
@given(count=st.integers(0, 40), missing=st.integers(0, 30), more=st.integers(0, 30))
def test_a_continued_run_has_the_lines_before_it_and_its_own(tmp_path_factory, count, missing, more):
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    before, expected = written(path, count)
    length = max(0, before.bytes - missing)
    held = Lines(path)
    held.take_in(length)
    kept = path.read_bytes()[:length].count(b"\n") if path.exists() else 0
    assert list(held) == expected[:kept]
    assert held.bytes == sum(len(json.dumps(line)) + 1 for line in expected[:kept])
    with path.open("r+b") as file:
        file.truncate(held.bytes)
        file.seek(0, 2)
        for number in range(more):
            text = json.dumps(line_of(number)) + "\n"
            file.write(text.encode())
            file.flush()
            held.add(line_of(number), len(text))
    assert list(held) == expected[:kept] + [line_of(number) for number in range(more)]


@pytest.mark.parametrize("bad", ["{", "[1]", '{"step": 1}', '{"step": 1, "epoch": 1, "split": "x", "time": 1}'])
def test_a_line_that_no_run_has_written_is_named(tmp_path, bad):
    path = tmp_path / "metrics.jsonl"
    written(path, 2)
    with path.open("a", encoding="utf-8") as file:
        file.write(bad + "\n")
    with pytest.raises(MachineError, match=r"metrics\.jsonl:3: .*\n  put the line right, or remove it"):
        Lines(path).take_in(path.stat().st_size)


def test_reading_while_lines_are_added_sees_those_that_were_there(tmp_path):
    path = tmp_path / "metrics.jsonl"
    held, expected = written(path, 30)
    reading = iter(held)
    first = next(reading)
    with path.open("a", encoding="utf-8", buffering=1) as file:
        for number in range(30, 60):
            text = json.dumps(line_of(number)) + "\n"
            file.write(text)
            held.add(line_of(number), len(text))
    assert [first, *reading] == expected


def test_the_file_is_read_through_no_link(tmp_path):
    held, _ = written(tmp_path / "metrics.jsonl", 30)
    (tmp_path / "metrics.jsonl").rename(tmp_path / "elsewhere")
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "elsewhere")
    assert held[-1]["step"] == 29
    with pytest.raises(OSError, match="symbolic links"):
        list(held)


# ---------------------------------------------------------------- growth


def test_memory_does_not_grow_with_the_lines(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        sizes = []
        tracemalloc.start()
        for number in range(4000):
            folder.metrics({**line_of(number), **{f"figure{i}": number + i / 7 for i in range(20)}})
            if number in (500, 3999):
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert sizes[1] - sizes[0] < 4096, "3500 lines of 25 values"
        assert len(folder.lines) == 4000


class Memory:
    """Traced bytes and objects at the end of epochs."""

    def __init__(self, *epochs: int) -> None:
        self.at = epochs
        self.traced: list[int] = []
        self.objects: list[int] = []

    @hookimpl
    def trainkit_epoch_start(self, run: Any) -> None:
        if run.epoch in self.at:
            gc.collect()
            self.objects.append(len(gc.get_objects()))
            self.traced.append(tracemalloc.get_traced_memory()[0])


class Figures:
    @hookimpl
    def trainkit_figures(self, run: Any) -> dict[str, float]:
        return {f"figure{number}": run.step + number / 7 for number in range(20)}


@pytest.mark.parametrize(
    "more",
    [
        '[[callback]]\nuse = "clip_norm"\nmax_norm = 1.0\n[[callback]]\nuse = "ema"\n[[callback]]\nuse = "norms"\n',
        '[schedule]\nuse = "cosine"\nwarmup = "2ep"\n[[schedule.react]]\nuse = "plateau"\npatience = 400\n',
    ],
)
def test_memory_is_flat_over_the_epochs(train, more):
    """Everything on: two updates an epoch, each logged, each epoch evaluated and saved.

    What a run keeps for each update grows in every stretch; a module that is imported meanwhile, by a thread that an
    earlier test has left, in one.
    """
    memory = Memory(30, 50, 90, 120, 150)
    small = ("data.samples=48", "run.log_every=1ba", "run.duration=151ep", "run.save_every=20ep")
    tracemalloc.start()
    done = train(*small, more=more, listeners=[memory, Figures()])
    tracemalloc.stop()
    assert done.run.epoch == 151
    assert len(done.run.history) == len(done.lines) > 450
    early, *late = (after - before for before, after in pairwise(memory.traced))
    # Torch keeps a few things for good at their first use; a line kept for each update would be 90 times 2 kB.
    assert min(late) < 20_000, f"{late} bytes more in stretches of 30 or 40 epochs ({early} in the 20 before)"
    assert min(after - before for before, after in pairwise(memory.objects[1:])) < 60
