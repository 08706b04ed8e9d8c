"""A small part of the soak, for the promises that rest on checkpoints; `python -m tests.soak` has all of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.soak import clocks, damage, deaths, disk, kills, power_loss, races
from tests.soak.zygote import Zygote

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")


@pytest.fixture(autouse=True, scope="module")
def zygote() -> Iterator[None]:
    """One process that forks all runs: each would import torch for itself."""
    with Zygote():
        yield


def test_runs_that_are_killed_at_random_instants_end_as_if_they_had_not_been():
    assert kills.check(5, 1, duration="4ep") == []


def test_a_process_may_die_at_every_call_of_a_save():
    assert deaths.check(6, 1) == []


def test_acknowledged_checkpoints_survive_the_loss_of_power():
    assert power_loss.check(60, 1) == []


def test_without_fsync_they_do_not_which_shows_that_the_test_would_notice():
    assert len(power_loss.check(20, 1, fsync=False)) > 5


def test_a_disk_that_refuses_costs_no_checkpoint():
    assert disk.check(8, 1) == []


def test_a_run_on_a_small_disk_ends_with_a_checkpoint_and_goes_on_when_there_is_room():
    failures = disk.small_disk(1)
    if failures is None:
        pytest.skip("no file system can be mounted here")
    assert failures == []


def test_any_damage_is_noticed_and_the_checkpoint_before_is_used():
    assert damage.check(150, 1) == []


def test_clocks_that_are_wrong_change_nothing():
    assert clocks.check(2, 1) == []


def test_of_processes_that_begin_at_once_one_runs():
    assert races.check(2, 1) == []
