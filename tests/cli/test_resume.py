"""``trainkit resume`` and ``run --resume`` as a user types them: kill, go on, and what is said where that cannot be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LONG = "run.duration=4000ba", "run.save_every=20ba", "run.log_every=50ba", "run.evaluate_every=400ba"


def lines_of(folder: Path) -> list[dict]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in found]


def start(recipe: str, folder: Path, where: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "trainkit", recipe, *LONG, "--run-dir", str(folder), "--resume", "-q"]
    return subprocess.Popen(words, cwd=where, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], folder: Path, count: int) -> None:
    """Until so many checkpoints were made since the start, seen by the newest one's number."""
    deadline = time.monotonic() + 120
    begun: str | None = None
    while time.monotonic() < deadline and process.poll() is None:
        names = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
        begun = begun if begun is not None or not names else names[-1]
        if names and begun is not None and int(names[-1][5:]) >= int(begun[5:]) + 20 * count:
            return
        time.sleep(0.002)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_was_ended_from_outside_goes_on_to_the_same_end(trainkit, recipe, tmp_path, number):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    whole = trainkit(recipe, *LONG, "--run-dir", str(straight), "--json").json
    process = start(recipe, broken, tmp_path)
    wait_for(process, broken, 2)
    os.kill(process.pid, number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == (75 if number == signal.SIGTERM else -number), told
    assert (broken / "report.json").exists() == (number == signal.SIGTERM)
    outcome = trainkit("resume", str(broken), "--json")
    assert outcome.code == 0, outcome.err
    report = outcome.json
    assert report["weights_sha256"] == whole["weights_sha256"]
    assert (report["status"], report["steps"], report["metrics"]) == ("finished", 4000, whole["metrics"])
    assert lines_of(broken) == lines_of(straight)
    assert "note: the run goes on from update" in outcome.err


def test_a_finished_run_says_how_to_lengthen_it_and_the_command_does(trainkit, recipe, tmp_path):
    assert trainkit(recipe, "--run-dir", "run", "-q").code == 0
    refused = trainkit("resume", "run")
    assert refused.code == 2
    assert "the run is finished, all 8 updates are made" in refused.err
    command = next(line.split()[1:] for line in refused.err.splitlines() if line.startswith("  trainkit resume"))
    outcome = trainkit(*command, "--json")
    assert (outcome.code, outcome.json["steps"]) == (0, 16)
    assert outcome.json["folder"] == "run"
    assert 'the recipe has changed: run.duration = "4ep" (was "2ep")' in outcome.err


def test_one_command_begins_a_run_and_goes_on_with_it(trainkit, recipe, tmp_path):
    words = recipe, "--run-dir", "run", "--resume"
    assert trainkit(*words).code == 0
    again = trainkit(*words, "run.duration=3ep", "run.on_length_change=keep", "--json")
    assert (again.code, again.json["steps"]) == (0, 12)
    assert trainkit("evaluate", "run").code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("resume",), 2, "resume takes one run folder and any number of key=value, got folders: none"),
        (("resume", "nowhere"), 2, "nowhere: no such run folder"),
        (("resume", "."), 2, "not a run folder"),
        (("resume", "run/checkpoints/step-000000000008"), 2, "resume takes the run folder: run"),
        (("resume", "run", "--resume"), 2, "unrecognized arguments: --resume"),
        (
            ("resume", "run", "optimizer.lr=0.5", "run.on_length_change=rescale", "run.duration=3ep"),
            2,
            "lr is 0.5 here",
        ),
        (("resume", "run", "run.duration=3ep"), 2, 'duration = "3ep" is 12 updates; the run was planned with 8'),
        (("resume", "run", "optimizer.lrr=0.5"), 2, "did you mean 'lr'"),
        (("small.toml", "--resume"), 2, "--resume needs --run-dir DIR"),
        (("small.toml", "--resume", "--run-dir", "run", "--smoke"), 2, "name one of them"),
        (("small.toml", "--run-dir", "run"), 3, "it holds a run: continue that with --resume"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_continued_is_told_in_a_line(trainkit, recipe, words, code, said):
    trainkit(recipe, "--run-dir", "run", "-q")
    outcome = trainkit(*words)
    assert outcome.code == code, outcome.err
    assert said in outcome.err
    assert "Traceback" not in outcome.err


def test_where_nothing_can_be_used_the_exit_code_is_five(trainkit, recipe, tmp_path):
    trainkit(recipe, "--run-dir", "run", "-q")
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        (folder / "MANIFEST").write_text("{}\n", encoding="utf-8")
    for words in (("resume", "run"), (recipe, "--run-dir", "run", "--resume")):
        outcome = trainkit(*words)
        assert outcome.code == 5
        assert "run/checkpoints: no usable checkpoint" in outcome.err
        assert outcome.err.count("step-") >= 2, "each that was refused"


def test_the_help_of_both_verbs_names_it(trainkit):
    assert "continue a run from its newest checkpoint" in trainkit("--help").out
    assert "--resume" in trainkit("run", "--help").out
    assert "run folder, and values to change" in trainkit("resume", "--help").out
