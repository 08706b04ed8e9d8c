"""How a process of a group ends is known to who is started after it, and each failure is told once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainkit.distributed.notes import Ending, Notes, endings, newest_attempt, plain_problems, problems_of
from trainkit.errors import Place, Problem


def notes(folder: Path, rank: int = 0, attempt: int = 0, size: int = 2) -> Notes:
    """The notes of a process, as torchrun sets them up."""
    place = folder / "run_x" / f"attempt_{attempt}" / str(rank)
    place.mkdir(parents=True, exist_ok=True)
    return Notes(
        {
            "TORCHELASTIC_ERROR_FILE": str(place / "error.json"),
            "TORCHELASTIC_RESTART_COUNT": str(attempt),
            "LOCAL_WORLD_SIZE": str(size),
        }
    )


FAILED = Ending(1, 4, "loss is nan")
STOPPED = Ending(0, 75, "stopped early")
LOST = Ending(0, 4, "process 1 of 2 has ended", lost=True)


@pytest.mark.parametrize(
    ("last", "code"),
    [
        ([FAILED, LOST], 4),
        ([FAILED], 4),  # the other one was ended before it could say anything
        ([STOPPED, Ending(1, 75)], 75),
        ([STOPPED], None),  # the other one was killed, and who started them asked this one to stop
        ([STOPPED, Ending(1, 4, "gone", lost=True)], None),
        ([Ending(0, 75, repeated=True)], 75),
        ([LOST], None),
        ([], None),
    ],
)
def test_what_would_only_come_again_is_not_tried_again(tmp_path, last, code):
    for ending in last:
        notes(tmp_path, ending.rank).write(ending)
    found = notes(tmp_path, attempt=1).settled()
    assert (found.code if found is not None else None) == code


def test_a_first_attempt_knows_nothing(tmp_path):
    notes(tmp_path).write(STOPPED)
    assert notes(tmp_path).settled() is None
    assert Notes({}).settled() is None


def test_torch_finds_the_error_where_it_looks_for_it(tmp_path):
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    notes(tmp_path, 1).write(FAILED)
    failure = ProcessFailure(1, 123, 4, str(tmp_path / "run_x" / "attempt_0" / "1" / "error.json"))
    assert failure.error_file_data["message"]["message"] == "loss is nan"
    assert json.loads(Path(failure.error_file).read_text())["message"]["extraInfo"]["py_callstack"] == "loss is nan"


def test_the_same_words_are_told_once_on_a_machine(tmp_path):
    assert notes(tmp_path, 0).may_tell(Ending(0, 2, "no optimizer named 'sdg'"))
    assert not notes(tmp_path, 1).may_tell(Ending(1, 2, "no optimizer named 'sdg'"))
    assert notes(tmp_path, 1).may_tell(Ending(1, 3, "no such device"))
    assert notes(tmp_path, 0, attempt=1).may_tell(Ending(0, 2, "no optimizer named 'sdg'"))


def test_who_has_only_noticed_that_another_is_gone_lets_it_speak(tmp_path, monkeypatch):
    monkeypatch.setattr("trainkit.distributed.notes._CAUSE_S", 0.2)
    notes(tmp_path, 1).write(FAILED)
    assert not notes(tmp_path, 0).may_tell(LOST)


def test_one_of_those_that_noticed_speaks_for_one_that_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("trainkit.distributed.notes._CAUSE_S", 0.0)
    assert notes(tmp_path, 0, size=3).may_tell(LOST)
    assert not notes(tmp_path, 2, size=3).may_tell(Ending(2, 4, "another wording", lost=True))


def test_without_a_place_for_notes_each_process_tells_its_failure():
    alone = Notes({"TORCHELASTIC_ERROR_FILE": ""})
    alone.write(FAILED)
    assert alone.may_tell(FAILED)
    assert alone.may_tell(LOST)


def test_the_newest_attempt_is_read_in_the_order_of_ranks(tmp_path):
    for attempt in (0, 2, 10):
        notes(tmp_path, 1, attempt).write(Ending(1, attempt))
        notes(tmp_path, 0, attempt).write(Ending(0, attempt))
    newest = newest_attempt(tmp_path)
    assert newest is not None
    assert [(ending.rank, ending.code) for ending in endings(newest)] == [(0, 10), (1, 10)]


def test_problems_of_a_recipe_come_back_as_they_were():
    problem = Problem(Place("a.toml", 3, "lr = 0"), "too small", "enlarge it", environment=True)
    assert problems_of(json.loads(json.dumps(plain_problems([problem])))) == [problem]
