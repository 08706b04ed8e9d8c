"""schedulefree's optimizers: the library's own values, the point that is measured, resuming, and what is refused."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("schedulefree", reason="schedulefree is not installed")

import schedulefree

import trainkit_schedulefree as ours
from tests.plugins.conftest import dense, digits, read, run_text
from trainkit import MachineError, Report, Run, checkpoint, renew_batch_norm
from trainkit.errors import RecipeError
from trainkit.finished import evaluate_run, open_run, predict_run
from trainkit.manager import Plugins

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = {
    "schedulefree_adamw": schedulefree.AdamWScheduleFree,
    "schedulefree_radam": schedulefree.RAdamScheduleFree,
    "schedulefree_sgd": schedulefree.SGDScheduleFree,
}
RATES = {"schedulefree_adamw": 0.01, "schedulefree_radam": 0.1, "schedulefree_sgd": 2.0}


def text_of(use: str) -> str:
    """The recipe of an optimizer, with a model whose BatchNorm statistics are those of its weights."""
    lines = f'use = "{use}"\nlr = {RATES.get(use, 0.01)}\nweight_decay = 0.01'
    return digits(lines, batch_size=256, model='use = "mlp"\nwidths = [16]\nnorm = "batch"')


def trained(folder: Path, use: str, *changes: str, **options: Any) -> tuple[Report, Run]:
    return run_text(folder, text_of(use), *changes, **options)


def model() -> nn.Module:
    return dense(4, 8, 2)


def descend(net: nn.Module, optimizer: Any, updates: int = 10) -> None:
    for number in range(updates):
        inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        net(inputs).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", CLASSES)
def test_defaults_are_those_of_the_library(name):
    theirs = inspect.signature(CLASSES[name]).parameters
    own = inspect.signature(getattr(ours, name)).parameters
    for key, parameter in own.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            assert parameter.default == theirs[key].default
    assert theirs.keys() - own.keys() == {"foreach"}


@pytest.mark.parametrize("name", CLASSES)
def test_updates_and_averages_are_the_librarys(name):
    mine, reference = model(), model()
    optimizer = getattr(ours, name)([{"params": list(mine.parameters())}], weight_decay=0.1)
    other = CLASSES[name](list(reference.parameters()), weight_decay=0.1)
    other.train()
    descend(mine, optimizer)
    descend(reference, other)
    for one, two in zip(mine.parameters(), reference.parameters(), strict=True):
        assert torch.equal(one, two)
    averages = optimizer.averages()
    other.eval()
    for one, two in zip(mine.parameters(), reference.parameters(), strict=True):
        assert torch.equal(averages[one], two)
        assert not torch.equal(one, two), "x is another point than y"


@pytest.mark.parametrize("name", CLASSES)
def test_evaluating_more_often_changes_no_bit_of_the_training(tmp_path, name):
    seldom, run = trained(tmp_path, name, "run.evaluate_every=3ep")
    often, other = trained(tmp_path, name, "run.evaluate_every=1ba", "run.save_every=2ba", name="often")
    assert seldom.weights_sha256 == often.weights_sha256
    for state, twin in zip(run.optimizer.state.values(), other.optimizer.state.values(), strict=True):
        assert torch.equal(state["z"], twin["z"])
    assert seldom.metrics["test.loss"] == often.metrics["test.loss"]


@pytest.mark.parametrize("name", CLASSES)
def test_it_learns_and_a_finished_run_is_measured_at_the_average(tmp_path, name):
    report, run = trained(tmp_path, name, "run.duration=12ep")
    assert report.metrics["val.accuracy"] > 0.9
    plugins = Plugins()
    figures = evaluate_run(tmp_path / "run", "test", plugins)
    assert figures["loss"] == report.metrics["test.loss"]
    predicted = predict_run(tmp_path / "run", "test", plugins)
    accuracy = (predicted["predicted"] == predicted["targets"]).double().mean()
    assert float(accuracy) == pytest.approx(report.metrics["test.accuracy"], abs=1e-12)
    opened = open_run(tmp_path / "run", plugins)
    averages = run.optimizer.averages()
    for parameter, own in zip(opened.model.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(parameter, averages[own])
        assert not torch.equal(parameter, own)


def test_batch_norm_statistics_are_measured_at_the_average(tmp_path):
    _, run = trained(tmp_path, "schedulefree_adamw")
    opened = open_run(tmp_path / "run", Plugins())
    kept = {name: buffer.clone() for name, buffer in opened.model.named_buffers()}
    trained_ones = dict(run.model.named_buffers())
    assert any(name.endswith("running_mean") for name in kept)
    assert renew_batch_norm(opened)
    for name, buffer in opened.model.named_buffers():
        assert torch.equal(buffer, kept[name]), name
        assert not torch.equal(buffer, trained_ones[name]), name


def test_a_checkpoint_holds_y_as_weights_and_x_beside_them(tmp_path):
    _, run = trained(tmp_path, "schedulefree_sgd")
    _, tensors, state = checkpoint.load_newest(tmp_path / "run" / "checkpoints")
    averages = run.optimizer.averages()
    for name, parameter in run.model.named_parameters():
        assert torch.equal(tensors[f"model/{name}"], parameter)
        assert torch.equal(tensors[f"plugin/optimizer/weights/{name}"], averages[parameter])
    assert state["groups"][0]["k"] == run.step
    assert json.dumps(state["plugins"]["optimizer"])


def test_a_frozen_part_has_no_average_and_keeps_its_weights(tmp_path):
    _, run = trained(tmp_path, "schedulefree_adamw", 'callback=[{use="freeze", match=["body.*"]}]')
    opened = open_run(tmp_path / "run", Plugins())
    for (name, own), parameter in zip(run.model.named_parameters(), opened.model.parameters(), strict=True):
        assert torch.equal(own, parameter) == name.startswith("body"), name


@pytest.mark.parametrize(
    ("use", "changes", "message"),
    [
        ("schedulefree_adamw", ["schedule=cosine"], "takes the place of a schedule, so that it goes with none"),
        (
            "schedulefree_sgd",
            ['schedule.multiply=[{use="step", every="1ep"}]'],
            "[[schedule.multiply]] would bring back",
        ),
        ("schedulefree_adamw", ['callback=[{use="ema"}]'], "evaluation, as [optimizer] schedulefree_adamw does"),
        ("schedulefree_adamw", ['callback=[{use="swa"}]'], "evaluation, as [optimizer] schedulefree_adamw does"),
        ("schedulefree_adamw", ["optimizer.warmup_steps=5", "schedule.warmup=1ep"], "both warm up"),
        ("schedulefree_adamw", ['optimizer.group=[{match="*bias", r=1.0}]'], "one 'r' for all groups"),
        ("schedulefree_adamw", ['optimizer.wrap=[{use="lookahead"}]'], "which no other optimizer may move"),
        ("schedulefree_adamw", ['callback=[{use="lookahead"}]'], "which lookahead would move"),
        ("schedulefree_sgd", ["optimizer.momentum=0"], "momentum must be"),
        ("schedulefree_adamw", ["run.compile=step"], "cannot be part of the compiled program"),
        ("muon", ['optimizer.rest={use="schedulefree_adamw"}'], "it cannot be a part of another optimizer"),
    ],
)
def test_impossible_pairs_are_problems(tmp_path, use, changes, message):
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text_of(use), *changes)
    assert message in str(caught.value)


def test_a_schedule_of_what_the_average_is_made_with_is_a_problem(tmp_path):
    change = 'schedule.also=[{use="linear", target="betas.0", end=0.5}]'
    with pytest.raises(RecipeError, match=r"works out its average with 'betas\.0'"):
        read(tmp_path, text_of("schedulefree_adamw"), change)


def test_a_warm_up_of_the_schedule_is_the_librarys_own(tmp_path):
    _, one = trained(tmp_path, "schedulefree_adamw", "schedule.warmup=4ba", name="one")
    assert one.optimizer.param_groups[0]["lr"] == 0.01
    assert one.optimizer.param_groups[0]["lr_max"] == 0.01


def test_another_version_of_the_library_is_a_machine_error(monkeypatch):
    class Renamed(schedulefree.AdamWScheduleFree):
        def __init__(self, params: Any, lr: float = 0.0025, betas: Any = (0.9, 0.99), **more: Any) -> None:
            super().__init__(params, lr=lr, betas=betas, **more)

    monkeypatch.setattr(schedulefree, "AdamWScheduleFree", Renamed)
    with pytest.raises(MachineError, match=r"schedulefree \S+ is not what .* has betas = \(0\.9, 0\.99\)"):
        ours.schedulefree_adamw([{"params": list(model().parameters())}])


def test_where_the_library_is_missing_it_stays_listed(monkeypatch):
    monkeypatch.setattr("trainkit.component.installed", lambda library: False)
    for component in ours.trainkit_components():
        assert component.missing_libraries == {"schedulefree": f"pip install 'schedulefree=={ours.VERSION}'"}
