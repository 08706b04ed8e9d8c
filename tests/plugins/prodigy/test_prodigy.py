"""prodigyopt's Prodigy: the library's own values, resuming, and what is refused."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("prodigyopt", reason="prodigyopt is not installed")

import prodigyopt

import trainkit_prodigy as ours
from tests.plugins.conftest import dense, digits, read, run_text
from trainkit import MachineError
from trainkit.errors import RecipeError

RECIPE = digits('use = "prodigy"\nweight_decay = 0.01', run='duration = "3ep"\nsave_every = "1ba"', batch_size=64)


def test_defaults_are_those_of_the_library():
    theirs = inspect.signature(prodigyopt.Prodigy).parameters
    own = inspect.signature(ours.prodigy).parameters
    for key, parameter in own.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            assert parameter.default == theirs[key].default
    assert theirs.keys() - own.keys() == {"fsdp_in_use"}


@pytest.mark.parametrize(
    "settings", [{}, {"weight_decay": 0.1}, {"safeguard_warmup": True, "slice_p": 3, "beta3": 0.9}]
)
def test_updates_are_the_librarys_and_nothing_is_printed(settings, capsys):
    mine, reference = dense(4, 8, 2), dense(4, 8, 2)
    optimizer = ours.prodigy([{"params": list(mine.parameters())}], **settings)
    assert capsys.readouterr().out == ""
    other = prodigyopt.Prodigy(list(reference.parameters()), **settings)
    for number in range(12):
        for one, by in ((mine, optimizer), (reference, other)):
            by.zero_grad()
            one(torch.randn(6, 4, generator=torch.Generator().manual_seed(number))).square().mean().backward()
            by.step()
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), reference.parameters(), strict=True))
    assert optimizer.param_groups[0]["d"] == other.param_groups[0]["d"] > 1e-6


def test_it_learns_and_an_interrupted_run_continues_bit_for_bit(tmp_path):
    straight, run = run_text(tmp_path, RECIPE, name="straight")
    assert straight.metrics["val.accuracy"] > 0.8
    run_text(tmp_path, RECIPE, stop=11)
    resumed, other = run_text(tmp_path, RECIPE, resume=True)
    assert resumed.weights_sha256 == straight.weights_sha256
    assert resumed.metrics == straight.metrics
    for key in ("d", "d_max", "d_numerator", "d_denom", "k"):
        assert run.optimizer.param_groups[0][key] == other.optimizer.param_groups[0][key]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (['optimizer.group=[{match="*bias", lr_scale=2.0}]'], "no group can have lr_scale = 2.0"),
        (['optimizer.group=[{match="*bias", lr=0.5}]'], "no group can have lr = 0.5"),
        (["optimizer.layer_decay=0.5"], "which layer_decay = 0.5 would change from layer to layer"),
        (["optimizer.discriminative=2.6"], "which discriminative = 2.6 would change from layer to layer"),
        (["schedule.warmup=1ep"], "safeguard_warmup = true"),
        (['optimizer.group=[{match="*bias", d_coef=2.0}]'], "one 'd_coef' for all groups"),
        (["optimizer.growth_rate=1.0"], "growth_rate must be"),
        (["run.compile=step"], "cannot be part of the compiled program"),
    ],
)
def test_impossible_pairs_are_problems(tmp_path, changes, message):
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, RECIPE, *changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        ["schedule.warmup=2ba", "optimizer.safeguard_warmup=true"],
        ["schedule=cosine"],
        ['optimizer.group=[{match="*bias", weight_decay=0.0, lr_scale=1.0}]'],
    ],
)
def test_possible_pairs_are_none(tmp_path, changes):
    run_text(tmp_path, RECIPE, *changes, "run.duration=3ba")


def test_another_version_of_the_library_is_a_machine_error(monkeypatch):
    class Prodigy(prodigyopt.Prodigy):
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data.fill_(float("nan"))

    monkeypatch.setattr(prodigyopt, "Prodigy", Prodigy)
    with pytest.raises(MachineError, match=r"prodigyopt \S+ is not what .* Prodigy: an update was not finite"):
        ours.prodigy([{"params": [nn.Parameter(torch.ones(2))]}])


def test_where_the_library_is_missing_it_stays_listed(monkeypatch):
    monkeypatch.setattr("trainkit.component.installed", lambda library: False)
    (component,) = ours.trainkit_components()
    assert component.missing_libraries == {"prodigyopt": f"pip install 'prodigyopt=={ours.VERSION}'"}
