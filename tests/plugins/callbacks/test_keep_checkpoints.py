"""keep_checkpoints: when it saves, that what it saved stays, and that it changes nothing else."""

from __future__ import annotations

import pytest

from trainkit import RecipeError, checkpoint
from trainkit.store import step_of
from trainkit_callbacks import keep_checkpoints


def kept(folder) -> list[int]:
    """The updates of the checkpoints that are there, the oldest first."""
    return [step_of(path.name) for path in checkpoint.newest_first(folder / "checkpoints")][::-1]


def pinned(folder) -> list[int]:
    """The updates of those that are pinned."""
    return sorted(step_of(path.name.removesuffix(".pin")) for path in (folder / "checkpoints").glob("*.pin"))


@pytest.mark.parametrize(
    ("total", "settings", "expected"),
    [
        (10, {"at": [3, 7]}, [3, 7]),
        (16, {"cycles": 3}, [6, 12, 16]),  # ceil(16 / 3) = 6: the last cycle is the shorter one
        (15, {"cycles": 5}, [3, 6, 9, 12, 15]),
        (10, {"cycles": 4, "warmup": 2}, [4, 6, 8, 10]),
        (3, {"cycles": 7}, [1, 2, 3]),
        (16, {"every": 4}, [4, 8, 12, 16]),
        (16, {"every": 4, "start": 6, "phase": 0.5}, [8, 12, 16]),
        (16, {"every": 4, "start": 4, "phase": 0.5, "warmup": 3}, [9, 13]),
        (16, {"every": 5, "at": [1], "cycles": 2}, [1, 5, 8, 10, 15, 16]),
    ],
)
def test_the_updates_follow_from_the_settings(total, settings, expected):
    usual = {"at": (), "every": None, "cycles": None, "start": 0, "phase": 1.0, "warmup": 0}
    assert keep_checkpoints(**usual | settings).updates(total) == expected


def test_what_is_kept_stays_beside_what_run_keep_keeps_and_nothing_else_changes(train):
    plain = train("run.save_best=false")
    assert plain.report.steps == 16
    kept_too = train(
        "run.save_best=false", "run.save_pause=0", more='[[callback]]\nuse = "keep_checkpoints"\ncycles = 5\n'
    )
    assert pinned(kept_too.folder) == [4, 8, 12, 16]
    assert kept(kept_too.folder) == [4, 8, 12, 16]
    assert kept_too.report.weights_sha256 == plain.report.weights_sha256
    assert kept_too.report.metrics == plain.report.metrics


@pytest.mark.parametrize("more", ["", "run.compile=step", "run.save_in_background=false"])
def test_times_between_everything_else_that_is_due_are_met(train, more):
    changes = [more] if more else []
    made = train(*changes, more='[[callback]]\nuse = "keep_checkpoints"\nat = ["3ba", "0.7dur"]\n')
    assert pinned(made.folder) == [3, 11]
    assert {3, 11} <= set(kept(made.folder))
    for step in (3, 11):
        checkpoint.load(made.folder / "checkpoints" / checkpoint.folder_name(step))


def test_a_run_that_is_stopped_anywhere_keeps_the_same(halves, train):
    more = '[[callback]]\nuse = "keep_checkpoints"\nat = ["3ba", "11ba"]\n'
    straight = train(more=more)
    for step in (2, 3, 4, 11):
        made = halves(step, more=more)
        assert pinned(made.folder) == [3, 11]
        assert {3, 11} <= set(kept(made.folder))
        assert made.report.weights_sha256 == straight.report.weights_sha256


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs to be told when"),
        ('at = ["40ba"]', "at: update 40 comes after the end of the run, which has 16"),
        ('at = ["0ba"]', "comes to 0 updates"),
        ('every = "20ba"', "no checkpoint would be kept"),
        ('cycles = 2\nwarmup = "16ba"', "no checkpoint would be kept"),
        ("cycles = 0", "cycles"),
    ],
)
def test_times_that_never_come_are_a_problem(train, text, said):
    with pytest.raises(RecipeError, match=said):
        train(more=f'[[callback]]\nuse = "keep_checkpoints"\n{text}\n')
