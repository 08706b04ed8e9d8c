"""Verbs, options, help, and command lines that are wrong."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

import pytest

from trainkit.menu import OPTIONS, VERBS


def test_help_names_every_verb_and_option(trainkit):
    outcome = trainkit("--help")
    assert outcome.code == 0
    assert all(f"  {verb}" in outcome.out for verb in VERBS)
    assert all(option in outcome.out for option in OPTIONS)
    assert outcome.err == ""


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_of_its_own(trainkit, verb):
    outcome = trainkit(verb, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"usage: trainkit {verb}")
    assert "--traceback" in outcome.out


def test_version(trainkit):
    import trainkit as package

    assert trainkit("--version").out == f"trainkit {package.__version__}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "name a recipe or a verb"),
        (["--smoke"], "name a recipe or a verb beside --smoke"),
        (["valdate"], "no verb named 'valdate'; did you mean 'validate'?"),
        (["run"], "run takes one recipe"),
        (["run", "a.toml", "b.toml"], "got recipes: a.toml, b.toml"),
        (["run", "a.toml", "--smok"], "did you mean '--smoke'?"),
        (["run", "a.toml", "--run-dir"], "--run-dir: expected one argument"),
        (["validate"], "validate takes one recipe or more"),
        (["describe", "sgd"], "such as: trainkit describe optimizer sgd"),
        (["describe", "optimizer", "sdg"], "did you mean 'sgd'?"),
        (["list", "optimiser"], "did you mean 'optimizer'?"),
        (["list", "--without", "nothing"], "--without nothing: no such plugin"),
        (["evaluate", "nowhere"], "nowhere: no such run folder"),
        (["evaluate", ".", "--split", "tets"], "invalid choice: 'tets'"),
        (["evaluate"], "required: RUN"),
    ],
)
def test_a_wrong_command_line_is_one_message_and_exit_code_2(trainkit, words, expected):
    outcome = trainkit(*words)
    assert outcome.code == 2
    assert expected in outcome.err
    assert outcome.err.startswith("trainkit: ")
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def test_a_missing_recipe_names_the_nearest_file(trainkit, recipe):
    outcome = trainkit("smal.toml")
    assert outcome.code == 2
    assert "did you mean 'small.toml'?" in outcome.err


def test_a_missing_run_folder_names_the_nearest_one(trainkit, tmp_path):
    (tmp_path / "first-run").mkdir()
    assert "did you mean 'first-run'?" in trainkit("evaluate", "frst-run").err


def test_options_may_stand_anywhere(trainkit, recipe):
    for words in (["-q", recipe, "run.duration=1ep"], ["run", "optimizer.lr=0.2", "-q", recipe], [recipe, "-q"]):
        outcome = trainkit(*words, "--smoke")
        assert (outcome.code, outcome.err) == (0, ""), words


def test_a_traceback_is_shown_where_it_is_asked_for_alone(trainkit):
    assert "Traceback" not in trainkit("evaluate", "nowhere").err
    assert "Traceback" in trainkit("evaluate", "nowhere", "--traceback").err


def test_json_of_an_error_is_one_object(trainkit):
    outcome = trainkit("evaluate", "nowhere", "--json")
    assert outcome.json == {"error": "nowhere: no such run folder", "exit_code": 2, "folder": None}
    assert "nowhere" in outcome.err


def test_escapes_in_a_word_do_not_reach_the_terminal(trainkit):
    outcome = trainkit("\x1b[31mred")
    assert "\x1b" not in outcome.err
    assert "\\x1b[31mred" in outcome.err


def test_a_reader_that_has_gone_is_no_error(trainkit, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with io.TextIOWrapper(os.fdopen(writing, "wb"), encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert trainkit("--help").code == 0
        monkeypatch.undo()


def test_a_full_disk_behind_standard_output_is_the_machines_fault(trainkit, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    stream = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115 - closing it raises again
    monkeypatch.setattr(sys, "stdout", stream)
    outcome = trainkit("--help")
    monkeypatch.undo()
    assert outcome.code == 3
    assert "No space left" in outcome.err
    with contextlib.suppress(OSError):  # what is left of it in memory
        stream.close()


def test_an_interrupt_outside_a_run(trainkit, monkeypatch):
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trainkit.listing.show_list", interrupted)
    outcome = trainkit("list")
    assert (outcome.code, outcome.err) == (130, "trainkit: interrupted\n")


def test_a_defect_of_trainkit_says_so_with_file_and_line(trainkit, monkeypatch):
    def defective(*args: object) -> None:
        raise AssertionError("this cannot be")

    monkeypatch.setattr("trainkit.listing.show_list", defective)
    outcome = trainkit("list")
    assert outcome.code == 1
    assert "trainkit defect: AssertionError: this cannot be at " in outcome.err
    assert "verbs.py:" in outcome.err
    assert "--traceback" in outcome.err
    assert "Traceback" not in outcome.err


def test_out_of_memory_outside_the_loop(trainkit, monkeypatch):
    def hungry(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr("trainkit.listing.show_list", hungry)
    outcome = trainkit("list")
    assert outcome.code == 4
    assert "out of memory" in outcome.err


def test_a_full_disk_names_the_file(trainkit, monkeypatch, tmp_path):
    import errno

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "log.txt"))

    monkeypatch.setattr("trainkit.listing.show_list", full)
    outcome = trainkit("list")
    assert outcome.code == 3
    assert f"{tmp_path / 'log.txt'}: No space left on device" in outcome.err
