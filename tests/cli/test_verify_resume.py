"""``trainkit verify-resume``: real kills of real processes, and a plugin that loses its state, found and named."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainkit.verdict import Difference, Verdict
from trainkit.verify_resume import compare, interruptions, suspects

# A callback that says it holds nothing, and whose count changes every update.
LIAR = """\
from trainkit import Component, hookimpl


class Counter:
    stateless = True

    def __init__(self):
        self.count = 0

    @hookimpl
    def trainkit_gradients(self, gradients):
        self.count += 1
        for gradient in gradients:
            gradient.mul_(1 + 0.01 * self.count)


def counter():
    \"\"\"Make every update a little larger than the one before.\"\"\"
    return Counter()


@hookimpl
def trainkit_components():
    return [Component("callback", counter)]
"""


# One process of a trial, in a child that has imported torch already.
FORKED = """\
import io, os, sys
os.chdir(folder)
os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
sys.stdin = io.StringIO(told)
from trainkit.resume_trial import main
main()
"""


@pytest.fixture
def forked(tmp_path, monkeypatch):
    """Processes of trials, forked from one that has torch: for tests of what trials find, not how they start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "trainkit.resume_trial"])
    count = itertools.count()

    def run(command, *, input, **_):
        said = tmp_path / f"said-{next(count)}.txt"
        process = context.Process(target=exec, args=(FORKED, {"folder": Path.cwd(), "said": said, "told": input}))
        process.start()
        process.join()
        return subprocess.CompletedProcess(command, process.exitcode, "", said.read_text(encoding="utf-8"))

    monkeypatch.setattr("trainkit.verify_resume.subprocess", SimpleNamespace(run=run))


def test_a_recipe_that_continues_exactly_is_told_so(trainkit, recipe):
    outcome = trainkit(
        "verify-resume",
        recipe,
        "run.duration=3ep",
        "data.batch_size=32",
        "model={use='mlp', dropout=0.3}",
        "optimizer={use='adamw'}",
        "schedule={use='cosine', warmup='2ba'}",
        "callback=[{use='ema'}, {use='clip_norm', max_norm=1.0}, {use='norms'}]",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    told = outcome.json
    assert told["equal"] is told["reproducible"] is True
    assert set(told["parts"].values()) == {True}
    assert told["updates"] == 5, "past the end of the first epoch, which has 2"
    assert {entry["how"] for entry in told["interruptions"]} == {"kill", "stop"}
    assert {entry["update"] for entry in told["interruptions"]} == {2, 3, 4}, "between epochs and within one"
    assert told["suspects"] == []


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("says", ["stateless = True", "pass"])
def test_a_plugin_that_loses_its_state_is_found_and_named(trainkit, recipe, tmp_path, says):
    name = "loud_liar" if says == "pass" else "quiet_liar"
    (tmp_path / f"{name}.py").write_text(LIAR.replace("stateless = True", says), encoding="utf-8")
    words = "verify-resume", recipe, "-p", f"./{name}.py", "callback=[{use='counter'}]", "--updates", "5"
    outcome = trainkit(*words, "--json") if says == "pass" else trainkit(*words)
    assert outcome.code == 1
    if says == "pass":  # the core's own rule finds it before a number has changed
        assert outcome.json["equal"] is False
        assert "callback.0.counter of plugin 'loud_liar'" in outcome.json["refused"]
        return
    assert "not equal; alike are only: optimizer, plugins, random" in outcome.out
    assert "update 2: weights: head.weight differs" in outcome.out
    assert "callback.0.counter: count is" in outcome.out


def test_a_recipe_that_does_not_train_keeps_its_exit_code(trainkit, recipe):
    outcome = trainkit("verify-resume", recipe, "schedule={use='cosine', warmup='99ep'}")
    assert outcome.code == 2
    assert "the recipe does not train as it is" in outcome.err


@pytest.mark.parametrize(("updates", "epoch"), [(3, 1), (7, 4), (12, 400), (30, 15)])
def test_a_run_is_interrupted_within_and_between_epochs(updates, epoch):
    found = interruptions(updates, epoch)
    at = [update for update, _ in found]
    assert at == sorted(set(at))
    assert all(2 <= update < updates for update in at), "a killed run has a checkpoint to go on from"
    assert found[0][1] == "kill"
    if 1 < epoch < updates:
        assert epoch in at


def test_what_nobody_agrees_upon_is_no_suspect():
    straight = {1: {"a: clock": "1.0", "a: count": "1"}, 2: {"a: clock": "2.0", "a: count": "2"}}
    again = {1: {"a: clock": "1.5", "a: count": "1"}, 2: {"a: clock": "2.5", "a: count": "2"}}
    broken = {1: {"a: clock": "9.0", "a: count": "1"}, 2: {"a: clock": "9.5", "a: count": "1"}}
    assert list(suspects(straight, again, broken)) == [Difference(2, "held", "a: count", "2", "1")]


def test_what_a_plugin_saves_is_named_before_what_follows_from_it(tmp_path):
    import torch

    from trainkit import checkpoint

    for name, value in (("one", 1.0), ("other", 2.0)):
        parent = tmp_path / name / "checkpoints"
        for step in (1, 2):
            tensors = {"model/w": torch.tensor([1.0 if step == 1 else value])}
            checkpoint.save(
                parent, step, tensors, {"plugins": {"callback.0.x": {"n": int(value)}} if step == 2 else {}}
            )
        (tmp_path / name / "metrics.jsonl").write_text(
            json.dumps({"step": 2, "split": "val", "time": value, "loss": value}) + "\n", encoding="utf-8"
        )
    found = compare(tmp_path / "one", tmp_path / "other")
    assert [(d.update, d.part, d.name) for d in found] == [
        (2, "plugins", "callback.0.x"),
        (2, "weights", "w"),
        (2, "metrics", "val.loss"),
    ]
    verdict = Verdict(2, differences=found)
    assert not verdict.equal
    assert verdict.parts["random"]
    assert "update 2: plugins: callback.0.x differs" in "\n".join(verdict.lines())
