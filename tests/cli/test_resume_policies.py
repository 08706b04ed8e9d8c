"""``--fresh``, ``--extend`` and ``--accept-drift`` as a user types them."""

from __future__ import annotations

import json

import pytest


def test_fresh_begins_anew_and_keeps_the_old_run(trainkit, recipe, tmp_path):
    old = trainkit(recipe, "--run-dir", "run", "--json").json
    again = trainkit(recipe, "--run-dir", "run", "--fresh", "seed=4", "--json")
    assert again.code == 0
    assert "the run that was here is kept in run/.old-1" in again.err
    assert again.json["weights_sha256"] != old["weights_sha256"]
    kept = json.loads((tmp_path / "run" / ".old-1" / "report.json").read_text(encoding="utf-8"))
    assert kept["weights_sha256"] == old["weights_sha256"]
    assert trainkit("evaluate", "run/.old-1").code == 0, "what is put aside is a run folder"


def test_damaged_checkpoints_end_with_five_and_a_line_each_and_fresh_is_the_way_out(trainkit, recipe, tmp_path):
    trainkit(recipe, "--run-dir", "run", "-q")
    for folder in (tmp_path / "run" / "checkpoints").iterdir():
        (folder / "MANIFEST").write_text("{}\n", encoding="utf-8")
    outcome = trainkit(recipe, "--run-dir", "run", "--resume")
    assert outcome.code == 5
    assert outcome.err.count("MANIFEST") == 2
    assert "--fresh" in outcome.err
    assert trainkit(recipe, "--run-dir", "run", "--fresh").code == 0


def test_extend_makes_a_run_longer(trainkit, recipe, tmp_path):
    trainkit(recipe, "--run-dir", "run", "-q")
    outcome = trainkit("resume", "run", "--extend", "1ep", "--json")
    assert (outcome.code, outcome.json["steps"]) == (0, 12)
    assert 'run.duration = "3ep" (was "2ep")' in outcome.err
    assert 'run.on_length_change = "keep" (was "error")' in outcome.err
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert history[-1]["command"] == "trainkit resume run --extend 1ep --json"
    assert history[-1]["changed"]["run.duration"] == {"was": '"2ep"', "is": '"3ep"', "rule": "checked"}


def test_drift_ends_with_three_and_a_line_each(trainkit, recipe, tmp_path):
    trainkit(recipe, "--run-dir", "run", "-q")
    file = tmp_path / "run" / "environment.json"
    known = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(known | {"torch": "1.0", "numpy": "1.1", "platform": "other"}), encoding="utf-8")
    words = "resume", "run", "--extend", "1ep"
    refused = trainkit(*words)
    assert refused.code == 3
    assert "torch is" in refused.err
    assert "numpy is" in refused.err
    assert "platform" not in refused.err
    accepted = trainkit(*words, "--accept-drift")
    assert accepted.code == 0
    assert "note: the environment has changed: torch is" in accepted.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("small.toml", "--fresh"), "--fresh needs --run-dir DIR"),
        (("small.toml", "--fresh", "--run-dir", "run", "--resume"), "name one of them"),
        (("small.toml", "--fresh", "--run-dir", "run", "--smoke"), "name one of them"),
        (("resume", "run", "--fresh"), "unrecognized arguments: --fresh"),
        (("small.toml", "--run-dir", "run", "--extend", "1ep"), "unrecognized arguments: --extend"),
        (("resume", "run", "--extend", "ten"), "--extend ten: write a number and a unit"),
        (("resume", "run", "model={use='mlp'}"), 'model.use = "mlp", and the run has "linear"'),
        (("verify-resume", "small.toml", "--updates", "-1"), "--updates -1"),
        (("verify-resume", "small.toml", "--updates", "2"), "three are the least"),
        (("verify-resume",), "takes one recipe"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_words_are_told_in_a_line(trainkit, recipe, words, said):
    trainkit(recipe, "--run-dir", "run", "-q")
    outcome = trainkit(*words)
    assert outcome.code == 2, outcome.err
    assert said in outcome.err
    assert "Traceback" not in outcome.err
