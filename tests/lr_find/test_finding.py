"""Range tests of whole recipes: what is set at each update, where they end, what they say."""

from __future__ import annotations

import math
import random
from itertools import accumulate

import numpy
import pytest
import torch

from trainkit.checkpoint import weights_sha256
from trainkit.errors import RecipeError, UsageError
from trainkit.hookspecs import hookimpl
from trainkit.launch import launch
from trainkit.lr_find.traces import PARTS
from trainkit.recipe import load_recipe


@pytest.fixture
def seen(parts):
    """What one group had at each update."""
    return lambda key, group=0: [update[key][group] for update in parts.SEEN]


def test_the_rate_rises_as_planned_whatever_the_schedule(find, seen):
    found = find(low=1e-4, high=1e-1)
    planned = [1e-4 * 1000 ** (update / 39) for update in range(40)]
    assert seen("lr") == pytest.approx(planned, rel=1e-12)
    assert found.curve.values == seen("lr")
    assert len(found.curve.losses) == 40
    assert not found.curve.diverged


def test_other_schedules_are_switched_off_too_and_a_base_of_their_own_stays(find, file, seen, parts):
    also = '[[schedule.also]]\ntarget = "{}"\nuse = "linear"\n{}'
    text = file.read_text(encoding="utf-8").replace("lr = 0.1", "lr = 0.1\nmomentum = 0.9\nweight_decay = 1e-3")
    text += also.format("momentum", "") + also.format("weight_decay", "base = 0.25\n")
    find(text=text, low=1e-4, high=1e-2)
    assert set(seen("momentum")) == {0.9}
    assert {update["weight_decay"][0] for update in parts.SEEN} == {0.25}


def test_groups_keep_their_ratio(find, file, parts):
    groups = '[[optimizer.group]]\nmatch = "head.*"\nlr_scale = 10.0\n[[optimizer.group]]\nmatch = "*.bias"\nlr = 0.3\n'
    text = file.read_text(encoding="utf-8").replace("[schedule]", groups + "[schedule]")
    find(text=text, low=1e-4, high=1e-2)
    rates = parts.SEEN[7]["lr"]
    one = 1e-4 * 100 ** (7 / 39)
    ratios = {names[0]: rate / one for names, rate in zip(parts.SEEN[7]["names"], rates, strict=True)}
    assert sorted(ratios.values()) == pytest.approx([1.0, 3.0, 10.0], rel=1e-12)


TWO = """use = "muon"
lr = 0.02
[optimizer.rest]
use = "adamw"
lr = 4e-3
weight_decay = 0.1
"""


def test_both_of_two_optimizers_rise_unless_one_is_named(find, file, seen):
    text = file.read_text(encoding="utf-8").replace('use = "sgd"\nlr = 0.1  # found on paper\n', TWO)
    find(text=text, low=1e-3, high=1e-1)
    assert seen("lr", 0) == pytest.approx([1e-3 * 100 ** (n / 39) for n in range(40)], rel=1e-12)
    assert seen("lr", -1) == pytest.approx([0.2 * rate for rate in seen("lr", 0)], rel=1e-12)
    found = find(name="optimizer.rest.lr", low=1e-3, high=1e-1)
    assert seen("lr", -1) == found.curve.values
    assert set(seen("lr", 0)) == {0.02}
    assert found.setting.now == 4e-3


@pytest.mark.parametrize(
    "optimizer",
    [
        'use = "lbfgs"\nlr = 1.0\nmax_iter = 3',
        'use = "sgd"\nlr = 0.1\n[[optimizer.wrap]]\nuse = "sam"',
        'use = "adam_hd"\nlr = 1e-3',
    ],
)
def test_any_optimizer_is_tested_and_leaves_no_trace(find, file, optimizer):
    text = file.read_text(encoding="utf-8").replace('use = "sgd"\nlr = 0.1  # found on paper\n', optimizer + "\n")
    if "adam_hd" in optimizer:
        text = text[: text.index("[schedule]")] + text[text.index("[[callback]]") :]
    found = find(text=text, updates=12)
    assert found.traces.left == []
    assert len(found.curve.values) >= 10
    assert ("'adam_hd' changes its rate itself" in " ".join(found.notes)) is ("adam_hd" in optimizer)


def test_a_test_ends_where_the_loss_diverges(find):
    found = find(low=1e-2, high=1e6, updates=100)
    assert found.curve.diverged
    assert len(found.curve.values) < 100
    *before, last = found.curve.smoothed
    least = list(accumulate(before, min))
    assert all(loss <= 4 * so_far for loss, so_far in zip(before, least, strict=True))
    assert not last <= 4 * least[-1]
    steep, valley = found.suggestions["steepest"], found.suggestions["valley"]
    assert found.sweep.low < valley < found.curve.values[-1]
    assert found.sweep.low < steep < found.curve.values[-1]


def test_a_range_in_which_nothing_happens_gives_no_suggestion(find):
    found = find(low=1e-12, high=1e-9)
    assert found.suggestions == {"steepest": None, "valley": None}
    assert any("does not fall" in note for note in found.notes)


def test_a_callback_that_ends_the_run_ends_the_test(find, file):
    text = file.read_text(encoding="utf-8").replace("witness", "brief")
    found = find(text=text)
    assert (len(found.curve.values), found.end()) == (3, "at update 3 of 40: three are enough")


# ------------------------------------------------------------ other numbers


def test_weight_decay_of_zero_rises_for_the_groups_that_would_have_it(find, parts):
    found = find(name="optimizer.weight_decay", low=1e-3, high=1e-1)
    held, swept = parts.SEEN[:40], parts.SEEN[40:]
    assert {decay for update in held for decay in update["weight_decay"]} == {0.0}
    assert [update["weight_decay"][0] for update in swept] == pytest.approx(found.curve.values, rel=1e-12)
    assert {update["weight_decay"][1] for update in swept} == {0.0}  # biases
    assert all(name.endswith("bias") for name in swept[0]["names"][1])
    assert {update["lr"][0] for update in parts.SEEN} == {0.1}
    assert found.setting.now == 0.0


def test_numbers_in_tuples_callbacks_and_between_limits(find, parts):
    found = find("optimizer.use=adam", "optimizer.lr=0.01", name="betas.0", updates=10)
    assert found.sweep.linear
    assert (found.sweep.low, found.sweep.high) == (0.0, 0.99)
    assert [update["betas"][0][0] for update in parts.SEEN[10:]] == pytest.approx(found.curve.values, rel=1e-12)
    assert {update["betas"][0][0] for update in parts.SEEN[:10]} == {0.9}
    found = find("optimizer.use=schedulefree_sgd", "schedule.use=constant", name="momentum", updates=10)
    assert (found.sweep.low, found.sweep.high) == pytest.approx((0.01, 0.99), rel=1e-12)  # neither 0 nor 1 is possible
    found = find("optimizer.use=adafactor", "optimizer.lr=0.01", name="optimizer.d", updates=10)
    assert (found.sweep.low, found.sweep.high) == (1.0, 100.0)  # a hundredth of 1 is not
    parts.SEEN.clear()
    found = find(name="callback.witness.strength", updates=10)
    assert [update["strength"] for update in parts.SEEN] == pytest.approx([0.5] * 10 + found.curve.values, rel=1e-12)
    assert found.curve.smoothed == found.held.smoothed  # it changes nothing
    assert found.suggestions == {"harmless": 1.0, "lowest": None}


@pytest.mark.parametrize("run", ["run.microbatch=4", "run.accumulate=2", "optimizer.use=lbfgs"])
def test_a_loss_that_changes_is_measured_as_the_recipe_has_it(find, run):
    found = find(
        run,
        "optimizer.lr=0.1",
        "loss.label_smoothing=0.1",
        name="loss.label_smoothing",
        low=0.5,
        high=0.9,
        linear=True,
        updates=10,
    )
    assert found.curve.losses[0] == found.held.losses[0]  # the same weights, the same batch
    assert found.curve.losses[5] != found.held.losses[5]
    assert any("the loss depends on loss.label_smoothing" in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "data.batch_size"}, "batches are cut before a run begins"),
        ({"name": "momentumm"}, "did you mean 'momentum'"),
        ({"name": "optimizer.rest.lr"}, "has no learning rate there"),
        ({"name": "callback.nobody.x"}, "there is no callback 'nobody'"),
        ({"low": 1.0, "high": 0.1}, "write the smaller value first"),
        ({"low": 0.0, "name": "momentum"}, "begin above 0, or add --linear"),
        ({"low": -1.0}, "must be above 0"),
        ({"high": math.inf}, "write a number"),
        ({"updates": 9}, "from 10 to 100000"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_built(find, options, said):
    if options.get("name") == "momentum":
        options = {**options, "high": 0.5}
    with pytest.raises((UsageError, RecipeError)) as caught:
        find(**options)
    assert said in str(caught.value)


# ------------------------------------------------------------ no trace


class _Weights:
    stateless = True

    @hookimpl
    def trainkit_run_end(self, run):
        self.sha256 = weights_sha256(run.model)


def test_every_part_has_the_same_hash_before_and_after_and_later_runs_are_those_without(
    find, file, plugins, tmp_path, parts
):
    def train(name):
        last = _Weights()
        launch(
            load_recipe(file, ["logger=[]", "run.compile=false"], plugins),
            plugins,
            folder=tmp_path / name,
            listeners=[last],
        )
        return last.sha256

    without = train("without")
    random.seed(1), numpy.random.seed(2), torch.manual_seed(3)
    drawn = [random.random(), numpy.random.rand(), torch.rand(1).item()]
    random.seed(1), numpy.random.seed(2), torch.manual_seed(3)
    threads = torch.get_num_threads()
    found = find(f"run.threads={threads + 1}")
    assert [random.random(), numpy.random.rand(), torch.rand(1).item()] == drawn
    assert torch.get_num_threads() == threads
    assert set(found.traces.before) == set(PARTS)
    assert all(len(value) == 64 for value in found.traces.before.values())
    assert found.traces.before == found.traces.after
    assert not parts.SEEN[0]["folder"].exists()
    assert train("after") == without
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after", "mine.toml", "without"]


def test_the_hashes_tell_runs_apart_part_by_part(find):
    before = {name: find(*changes, updates=10).traces.before for name, changes in _CHANGES.items()}
    same = before.pop("nothing")
    for part, hashes in before.items():
        assert hashes[part] != same[part], part
    assert before["callbacks"] == same | {"callbacks": before["callbacks"]["callbacks"]}


_CHANGES = {
    "nothing": [],
    "model": ["model.widths=[9]"],
    "optimizer": ["optimizer.lr=0.2"],
    "data": ["data.samples=193"],
    "random": ["seed=6"],
    "callbacks": ["callback.0.strength=0.25"],
}


@pytest.mark.parametrize(("callback", "part"), [("forgetful", "callbacks"), ("switch", "process")])
def test_a_trace_is_found_and_named(find, file, monkeypatch, parts, callback, part):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(parts, "KEPT", [])
    found = find(text=file.read_text(encoding="utf-8").replace("witness", callback), updates=10)
    assert found.traces.left == [part]
    assert found.lines()[-1].startswith(f"TRACES LEFT in {part}:")
    assert found.as_dict()["traceless"] is False


def test_what_holds_itself_and_what_has_no_bytes_is_looked_at_once(find, parts, monkeypatch):
    monkeypatch.setattr(parts, "KEPT", [])
    found = find("callback=[{use='tangled'}]", updates=10)
    assert found.traces.left == []
    parts.KEPT.append(1)  # among objects, too
    assert find("callback=[{use='tangled'}]", updates=10).traces.before["callbacks"] != found.traces.before["callbacks"]


def test_a_limit_of_time_is_no_trace(find):
    assert find("callback=[{use='time_limit',minutes=60}]", updates=10).traces.left == []
