"""Members of finished runs: the right weights, the right inputs, where they come from, and what keeps a run out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch

from tests.ensemble.of_runs import base_of_run, members_of
from trainkit.branch import begin_from
from trainkit.checkpoint import load
from trainkit.datasets import Datasets
from trainkit.ensemble.aligned import Aligned
from trainkit.ensemble.base import Base
from trainkit.ensemble.members import Source, check_sources, checkpoints_of, member_of_run, put_weights
from trainkit.ensembler import Member
from trainkit.errors import CheckpointError, UsageError
from trainkit.finished import evaluate_run, predict_run
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

RunOf = Callable[[str], Path]


@pytest.fixture(scope="session")
def base(run_of: RunOf, plugins: Plugins) -> Base:
    return base_of_run(run_of("a"), plugins)


@pytest.fixture(scope="session")
def numbers(run_of: RunOf, plugins: Plugins) -> Base:
    return base_of_run(run_of("number"), plugins)


def member(path: Path, base: Base) -> Member:
    return member_of_run(path, base)


# ------------------------------------------------------------ weights and figures


@pytest.mark.parametrize("name", ["a", "wide", "averaged", "bag"])
def test_a_member_gives_what_evaluations_of_its_run_measure(name: str, run_of: RunOf, base: Base, plugins: Plugins):
    made = member(run_of(name), base)
    wanted = evaluate_run(run_of(name), "val", plugins)
    assert base.figures(base.outputs(made.module, "val"), "val") == pytest.approx(wanted, rel=1e-6)
    assert made.figures["val.loss"] == pytest.approx(wanted["loss"], rel=1e-6)


def test_averaged_weights_are_taken_and_not_those_that_were_trained(run_of: RunOf, base: Base):
    made = member(run_of("averaged"), base)
    trained, _ = load(sorted((run_of("averaged") / "checkpoints").glob("step-*"))[-1])
    own = made.module.state_dict()
    assert all(torch.equal(own[name], trained[f"plugin/callback.0.ema/mean/{name}"]) for name in own)
    assert not all(torch.equal(own[name], trained[f"model/{name}"]) for name in own)


def test_statistics_that_an_average_measures_for_itself_come_along(
    train_run: Callable[..., Path], tmp_path: Path, plugins: Plugins
):
    changes = ('data.use="digits"', "data.batch_size=256", 'model={use="resnet", depth=8, width=0.25}')
    run = train_run(tmp_path / "run", *changes, 'run.duration="2ep"', "callback=[{use='swa', start='1ep'}]")
    base = base_of_run(run, plugins)
    made = member(run, base)
    wanted = evaluate_run(run, "val", plugins)
    assert base.figures(base.outputs(made.module, "val"), "val") == pytest.approx(wanted, rel=1e-4)


def test_figures_of_the_test_are_none_that_a_member_could_be_chosen_by(run_of: RunOf, base: Base):
    assert json.loads((run_of("a") / "report.json").read_text())["metrics"]["test.loss"] > 0
    assert {name.split(".")[0] for name in member(run_of("a"), base).figures} == {"train", "val"}


def test_a_member_knows_what_its_training_took(run_of: RunOf, base: Base):
    made = member(run_of("a"), base)
    assert (made.cost.updates, made.cost.epochs, made.step, made.fold) == (24, 3.0, 24, None)
    assert 0 < made.cost.seconds < 60
    assert made.folder == run_of("a")
    assert "search" not in made.recipe
    assert "ensemble" not in made.recipe


def test_checkpoints_are_members_with_the_figures_and_costs_of_their_time(
    train_run: Callable[..., Path], tmp_path: Path, plugins: Plugins
):
    run = train_run(tmp_path / "run", 'run.save_every="1ep"', "run.keep=5")
    base = base_of_run(run, plugins)
    whole = member(run, base)
    made = checkpoints_of(whole, base)
    assert [one.step for one in made] == [8, 16, 24]
    assert [one.cost.updates for one in made] == [8, 16, 24]
    assert made[0].name == f"{run} at update 8"
    assert len({one.figures["val.loss"] for one in made}) == 3
    assert made[2].figures == whole.figures
    assert made[0].cost.seconds < made[2].cost.seconds
    assert torch.equal(base.outputs(made[2].module, "val"), base.outputs(whole.module, "val"))


def test_pinned_checkpoints_count_before_others_and_none_after_the_members_own(
    train_run: Callable[..., Path], tmp_path: Path, plugins: Plugins
):
    run = train_run(tmp_path / "run", 'run.save_every="4ba"', "run.keep=9", "run.save_pause=0")
    base = base_of_run(run, plugins)
    assert [one.step for one in checkpoints_of(member(run, base), base)] == [4, 8, 12, 16, 20, 24]
    older = member_of_run(run / "checkpoints" / "step-000000000012", base)
    assert [one.name for one in checkpoints_of(older, base)] == [f"{run} at update {step}" for step in (4, 8, 12)]
    for step in (8, 16):
        (run / "checkpoints" / f"step-{step:012d}.pin").touch()
    assert [one.step for one in checkpoints_of(member(run, base), base)] == [8, 16]
    assert [one.step for one in checkpoints_of(older, base)] == [8]


def test_opening_a_run_leaves_random_numbers_and_threads_as_they_were(run_of: RunOf, base: Base):
    run = run_of("wide")  # which is trained here where no test before has asked for it
    torch.manual_seed(3)
    numpy.random.seed(3)
    threads, wanted = torch.get_num_threads(), (torch.rand(3).tolist(), numpy.random.rand())
    torch.manual_seed(3)
    numpy.random.seed(3)
    member(run, base)
    assert (torch.rand(3).tolist(), numpy.random.rand()) == wanted
    assert torch.get_num_threads() == threads


# ------------------------------------------------------------ the same inputs for all


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_runs_on_folds_are_given_the_inputs_that_they_know(fold: int, run_of: RunOf, base: Base, plugins: Plugins):
    path = run_of(f"fold-{fold}")
    made = member(path, base)
    assert isinstance(made.module, Aligned)
    assert made.fold == fold
    own = predict_run(path, "val", plugins)["outputs"]
    numbers = base.parts(made.recipe)["val"]
    given = torch.cat([base.outputs(made.module, "train"), base.outputs(made.module, "val")])[numbers]
    torch.testing.assert_close(given, own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_their_regression_is_in_the_units_of_the_base(fold: int, run_of: RunOf, numbers: Base, plugins: Plugins):
    path = run_of(f"number-fold-{fold}")
    made = member(path, numbers)
    own = predict_run(path, "val", plugins)
    spec, part = made.spec, numbers.parts(made.recipe)["val"]
    assert spec.target_mean != numbers.spec.target_mean
    original = own["outputs"].double() * spec.target_std[0] + spec.target_mean[0]
    given = torch.cat([numbers.outputs(made.module, "train"), numbers.outputs(made.module, "val")])[part]
    back = given.double() * numbers.spec.target_std[0] + numbers.spec.target_mean[0]
    torch.testing.assert_close(back, original, rtol=1e-5, atol=1e-3)


def test_a_run_on_inputs_as_they_are_takes_standardised_ones(run_of: RunOf, base: Base, plugins: Plugins):
    made = member(run_of("raw-inputs"), base)
    own = predict_run(run_of("raw-inputs"), "val", plugins)["outputs"]
    torch.testing.assert_close(base.outputs(made.module, "val"), own, rtol=1e-3, atol=1e-3)


def test_nothing_is_put_before_a_model_that_knows_the_inputs(run_of: RunOf, base: Base):
    assert not isinstance(member(run_of("b"), base).module, Aligned)


# ------------------------------------------------------------ ancestors


def test_the_same_seed_gives_the_same_first_weights_and_another_one_others(run_of: RunOf, base: Base):
    first, again, other = (member(run_of(name), base).ancestors for name in ("a", "a-other-rate", "b"))
    assert first & again
    assert not first & other


def test_runs_that_began_from_one_checkpoint_share_it_also_when_it_is_gone(own_run: RunOf, plugins: Plugins):
    parent = own_run("b")
    children = []
    for number in range(2):
        child = parent.parent / f"child-{number}"
        begin_from(parent, child)
        changes = [
            f"optimizer.lr={0.003 * (number + 1)}",
            'run.duration="4ep"',
            'run.on_length_change="keep"',
            'run.on_conflict="recipe"',
        ]
        recipe = load_recipe(child / "recipe.toml", changes, plugins)
        launch(recipe, plugins, folder=child, resume=True, say=lambda text: None)
        children.append(child)
    base = base_of_run(parent, plugins)
    known = [member(path, base).ancestors for path in (parent, *children)]
    assert known[0] & known[1] & known[2]
    shutil.rmtree(parent)
    alone = [member(path, base).ancestors for path in children]
    assert alone[0] & alone[1]


def test_another_run_in_the_place_of_the_one_that_it_began_from_is_no_ancestor(own_run: RunOf, plugins: Plugins):
    place = own_run("a").parent / "pretrained"
    children = []
    for name in ("a", "b"):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(place.parent / "a" if name == "a" else own_run(name), place)
        children.append(place.parent / f"child of {name}")
        begin_from(place, children[-1])
    base = base_of_run(place, plugins)
    first, second = (member(next(path.glob("checkpoints/step-*")), base).ancestors for path in children)
    assert first
    assert len(second) == 2
    assert not first & second


# ------------------------------------------------------------ what keeps a run out


def fails(paths: list[Path], base: Base, kind: type[Exception]) -> str:
    with pytest.raises(kind) as found:
        members_of([Source(str(path), (path,)) for path in paths], base)
    return str(found.value)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ("other-data", "the classes are malignant, benign in one, class_0, class_1, class_2 in the other"),
        ("number", "the task is regression in one, classification in the other"),
        ("cut-otherwise", "they were trained on different data, or it is split in another way"),
    ],
)
def test_other_data_is_refused_by_the_names_of_both_runs(other: str, says: str, run_of: RunOf, base: Base):
    said = fails([run_of("a"), run_of(other)], base, UsageError)
    assert str(run_of("a")) in said
    assert str(run_of(other)) in said
    assert says in said


def test_data_that_has_changed_since_is_refused(own_run: RunOf, base: Base):
    run = own_run("b")
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("split_seed = 0", "split_seed = 1"))
    assert "is not the data that this run was trained on" in fails([run], base, UsageError)


def test_inputs_that_are_prepared_in_another_way_are_refused(run_of: RunOf, plugins: Plugins):
    base = base_of_run(run_of("a"), plugins)
    base.datasets = Datasets()
    inputs = base.dataset.splits["val"].inputs
    assert isinstance(inputs, torch.Tensor)
    inputs += 0.01
    said = fails([run_of("b")], base, UsageError)
    assert "the inputs of the same sample are prepared in different ways" in said
    assert str(run_of("a")) in said
    assert str(run_of("b")) in said


@pytest.mark.parametrize(("status", "is_so"), [("failed", "has failed"), ("interrupted", "was interrupted")])
def test_a_run_that_is_not_finished_is_refused_with_the_way_on(status: str, is_so: str, own_run: RunOf, base: Base):
    run = own_run("a")
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**report, "status": status, "reason": "the lights went out"}))
    said = fails([run], base, UsageError)
    assert f"{run}: this run {is_so} (the lights went out)" in said
    assert f"trainkit resume {run}" in said


def test_a_run_without_a_report_is_not_finished_but_its_checkpoints_count(own_run: RunOf, base: Base):
    run = own_run("a")
    (run / "report.json").unlink()
    assert "this run is not finished (it has no report.json)" in fails([run], base, UsageError)
    made = member(next((run / "checkpoints").glob("step-*24")), base)
    assert made.name == f"{run} at update 24"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"status": 3}', '{"status": "finished"}'])
def test_a_report_that_is_none_is_said_to_be_none(text: str, own_run: RunOf, base: Base):
    run = own_run("a")
    (run / "report.json").write_text(text)
    assert "its report.json cannot be read" in fails([run], base, UsageError)


def test_all_runs_are_looked_at_before_one_is_opened(own_run: RunOf, base: Base, monkeypatch: pytest.MonkeyPatch):
    run = own_run("b")
    (run / "report.json").unlink()
    monkeypatch.setattr("trainkit.ensemble.members.reopen", lambda *given, **named: pytest.fail("opened a run"))
    fails([own_run("a"), run], base, UsageError)


def test_a_damaged_checkpoint_is_not_passed_over_for_an_older_one(
    train_run: Callable[..., Path], tmp_path: Path, plugins: Plugins
):
    run = train_run(tmp_path / "run", 'run.save_every="1ep"', "run.keep=5")
    newest = sorted((run / "checkpoints").glob("step-*"))[-1] / "tensors.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    said = fails([run], base_of_run(run, plugins), CheckpointError)
    assert "its newest checkpoint cannot be used" in said
    assert "the file is damaged" in said
    assert str(run / "checkpoints" / "step-000000000016") in said
    shutil.rmtree(run / "checkpoints")
    assert "no usable checkpoint" in fails([run], base_of_run(run, plugins), CheckpointError)


def test_what_is_no_run_folder_or_no_checkpoint_is_said_to_be_none(run_of: RunOf, base: Base, tmp_path: Path):
    assert "not a run folder" in fails([tmp_path], base, UsageError)
    said = fails([run_of("a") / "checkpoints" / "step-000000000001"], base, UsageError)
    assert "no such checkpoint" in said


def test_a_run_that_is_named_twice_counts_once(run_of: RunOf):
    path = run_of("a")
    with pytest.raises(UsageError, match="named twice"):
        check_sources([Source("one", (path,)), Source("other", (path / "checkpoints" / "..",))])


def test_weights_that_are_no_numbers_keep_a_run_out(own_run: RunOf, base: Base, monkeypatch: pytest.MonkeyPatch):
    from trainkit.ensemble import members

    real = members.measured_weights
    monkeypatch.setattr(
        members, "measured_weights", lambda run: {name: value.fill_(torch.nan) for name, value in real(run).items()}
    )
    assert "numbers that are not finite" in fails([own_run("a")], base, UsageError)


def test_a_model_that_a_plugin_changes_after_it_is_built_keeps_a_run_out(
    own_run: RunOf, base: Base, monkeypatch: pytest.MonkeyPatch
):
    from trainkit.ensemble import members

    real = members.build_model
    monkeypatch.setattr(
        members, "build_model", lambda *given: torch.nn.Sequential(real(*given), torch.nn.Linear(3, 3)).eval()
    )
    assert "a callback or plugin changes the model" in fails([own_run("a")], base, UsageError)


def test_a_run_in_double_precision_is_told_why_it_is_no_member():
    model = torch.nn.Linear(2, 1)
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    with pytest.raises(UsageError, match='"float64" cannot be a member: ensembles compute in single precision'):
        put_weights("it", model, weights)
