"""The bridge to pytorch_optimizer: its table against the library, every optimizer by itself, and whole recipes."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

import trainkit_kozistr
from tests.plugins.conftest import closure_of, dense, digits, read, run_text
from trainkit import MachineError, checkpoint
from trainkit.component import Component
from trainkit.errors import RecipeError
from trainkit.manager import Plugins
from trainkit_kozistr import facts
from trainkit_kozistr.entries import entries

pytestmark = pytest.mark.usefixtures("one_thread")
INSTALLED = importlib.util.find_spec("pytorch_optimizer") is not None
needs_library = pytest.mark.skipif(not INSTALLED, reason="pytorch_optimizer is not installed")
COMPONENTS: dict[str, Component] = {
    component.name.removeprefix("kozistr:"): component for component in trainkit_kozistr.trainkit_components()
}
USABLE = sorted(COMPONENTS.keys() - facts.REFUSED.keys())
UPDATES = 12


# ---------------------------------------------------------------- the table


@needs_library
def test_the_table_is_what_the_installed_library_gives():
    spec = importlib.util.spec_from_file_location("make_table", Path(__file__).with_name("make_table.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = module.TABLE.read_text(encoding="utf-8")
    assert written == module.table_text(), "stale: run python tests/plugins/kozistr/make_table.py"


@needs_library
@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_settings_have_the_defaults_of_the_signature(entry):
    import pytorch_optimizer

    parameters = inspect.signature(pytorch_optimizer.load_optimizer(entry.name)).parameters
    for setting in COMPONENTS[entry.name].settings:
        default = parameters[setting.name].default
        assert setting.default == default
        assert isinstance(setting.default, bool) == isinstance(default, bool)


def test_all_128_are_listed_without_torch_or_the_library():
    code = (
        "import sys, trainkit_kozistr as ours\n"
        "assert len(ours.trainkit_components()) == 128\n"
        "assert not {'torch', 'pytorch_optimizer'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_every_fact_is_about_an_optimizer_there_is():
    named = {*facts.REFUSED, *facts.LICENCES, *facts.EXAMPLES, *facts.CONSTANTS, *facts.ATTRIBUTES}
    named |= {*facts.MUON, *facts.MATRICES, *facts.CLOSURE, *facts.SINGLE_GROUP, *facts.OWN_LR, *facts.ONE_LR}
    named |= {*facts.LOOSE, *facts.QUEUES, *facts.NUMBERED, *facts.RELAID}
    assert named <= COMPONENTS.keys()


def test_they_take_no_bare_name_and_are_found_by_their_prefix():
    plugins = Plugins()
    assert plugins.find("optimizer", "soap") == []
    assert [component.plugin for component in plugins.find("optimizer", "adam")] == ["optimizers"]
    for name in ("kozistr:soap", "trainkit_kozistr:kozistr:soap", "trainkit:kozistr:soap"):
        assert [component.name for component in plugins.find("optimizer", name)] == ["kozistr:soap"]


def test_the_page_says_why_each_refused_one_is_refused():
    page = (Path(__file__).parents[3] / "docs" / "bridges.md").read_text(encoding="utf-8")
    for name, (why, cure) in facts.REFUSED.items():
        assert f"| `kozistr:{name}` | it {why}{'; ' + cure if cure else ''} |" in page


@pytest.mark.parametrize("name", ["fromage", "nero"])
def test_a_licence_that_forbids_commercial_use_is_in_the_help(name):
    assert "CC BY-NC-SA 4.0" in COMPONENTS[name].factory.__doc__


# ---------------------------------------------------------------- each optimizer by itself


def model_of(name: str) -> nn.Module:
    return dense(6, 16, 8, 3, bias="min_ndim" not in COMPONENTS[name].capabilities)


def made(name: str, model: nn.Module, **changes: Any) -> Any:
    """The optimizer of a name as a recipe builds it: matrices in one group, biases in another."""
    groups: list[dict[str, Any]] = []
    for wanted in (True, False):
        held = [(key, value) for key, value in model.named_parameters() if (value.dim() > 1) == wanted]
        if held:
            keys, values = zip(*held, strict=True)
            groups.append({"params": list(values), "names": list(keys), "lr_scale": 1.0})
    component = COMPONENTS[name]
    settings = {setting.name: setting.default for setting in component.settings if not setting.required}
    optimizer = component.factory(groups, **settings | dict(component.example) | changes)
    for held, given in zip(optimizer.param_groups, groups, strict=False):
        held["names"] = given["names"]
    if len(optimizer.param_groups) < len(groups):
        optimizer.param_groups[0]["names"] = [key for group in groups for key in group["names"]]
    return optimizer


def train(name: str, model: nn.Module, optimizer: Any, updates: range) -> None:
    for number in updates:
        torch.manual_seed(1000 + number)  # as a checkpoint would restore it
        numpy.random.seed(1000 + number)
        closure = closure_of(model, optimizer, number)
        if COMPONENTS[name].capabilities.get("needs_closure"):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


class Stub:
    device = torch.device("cpu")


@needs_library
def test_a_checkpoint_sets_no_attribute_but_those_that_are_saved():
    optimizer = made("stablespam", model_of("stablespam"))
    optimizer.trainkit_restore(Stub(), {"state": {}, "attributes": {"total_step": 7, "param_groups": [], "step": 3}})
    assert optimizer.total_step == 7
    assert optimizer.param_groups
    assert callable(optimizer.step)


@needs_library
@pytest.mark.parametrize("name", ["soap", "muon", "kron", "madgrad", "adashift", "aggmo"])
def test_it_is_the_librarys_own_update(name):
    import pytorch_optimizer

    ours, theirs = model_of(name), model_of(name)
    groups = [{"params": [p for p in theirs.parameters() if (p.dim() > 1) == wanted]} for wanted in (True, False)]
    groups = [{**group, **({"use_muon": True} if name == "muon" else {})} for group in groups if group["params"]]
    train(name, ours, made(name, ours), range(UPDATES))
    train(name, theirs, pytorch_optimizer.load_optimizer(name)(groups), range(UPDATES))
    for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        if name in facts.RELAID:  # the same products, rounded in another order
            torch.testing.assert_close(parameter, other, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(parameter, other)


@needs_library
@pytest.mark.parametrize("name", sorted(facts.REFUSED))
def test_what_cannot_be_used_is_refused_when_it_is_built(name):
    with pytest.raises(ValueError, match=re.escape(facts.REFUSED[name][0])):
        COMPONENTS[name].factory([{"params": [nn.Parameter(torch.ones(2, 2))], "names": ["weight"]}])


@needs_library
def test_a_setting_of_all_groups_is_refused_in_one_of_them():
    parameter = nn.Parameter(torch.ones(2, 2))
    group = {"params": [parameter], "names": ["weight"], "n_sma_threshold": 4}
    settings = {setting.name: setting.default for setting in COMPONENTS["adabelief"].settings}
    with pytest.raises(ValueError, match="one 'n_sma_threshold' for all groups"):
        COMPONENTS["adabelief"].factory([group], **settings)


@needs_library
def test_what_the_library_refuses_is_said_in_its_words():
    with pytest.raises(ValueError, match="precondition_frequency"):
        made("soap", model_of("soap"), precondition_frequency=0)


@needs_library
def test_spectralsphere_names_what_is_no_matrix():
    with pytest.raises(ValueError, match=r"matrices alone, and '0\.bias' has the shape \(16,\)"):
        made("spectralsphere", model_of("soap"))


@needs_library
def test_another_library_than_the_table_knows_is_a_machine_error(monkeypatch):
    import pytorch_optimizer

    class SOAP(pytorch_optimizer.SOAP):
        def __init__(self, params: Any, lr: float = 0.5, **settings: Any) -> None:
            super().__init__(params, lr=lr, **settings)

    monkeypatch.setattr(pytorch_optimizer, "load_optimizer", lambda name: SOAP)
    with pytest.raises(MachineError, match=r"pytorch_optimizer \S+ is not what .* SOAP has lr = 0\.5"):
        made("soap", model_of("soap"))


# ---------------------------------------------------------------- whole recipes


def text_of(use: str, updates: int = 24) -> str:
    return digits(f'use = "{use}"', run=f'duration = "{updates}ba"\nevaluate_every = "6ba"\nsave_every = "6ba"')


@needs_library
@pytest.mark.parametrize("name", ["soap", "ademamix", "kron", "madgrad", "emonavi", "aggmo"])
def test_a_recipe_trains_with_it_and_its_checkpoints_hold_its_state(tmp_path, name):
    report, _ = run_text(tmp_path, text_of(f"kozistr:{name}"), "optimizer.lr=0.02")
    assert report.metrics["val.accuracy"] > 0.7
    _, _, state = checkpoint.load_newest(tmp_path / "run" / "checkpoints")
    assert set(state["optimizer"]) == {"head.weight", "head.bias"}
    assert ("optimizer" in state["plugins"]) == (name in facts.LOOSE)


@needs_library
def test_a_run_with_two_optimizers_of_it_continues_bit_for_bit(tmp_path):
    shas = []
    for folder, stop, resume in (("straight", None, False), ("run", 5, False), ("run", None, True)):
        changed = "run.save_every=1ba", "model={use='mlp', widths=[16]}"
        rest = 'optimizer.rest={use="kozistr:madgrad", lr=0.01}'
        report, _ = run_text(
            tmp_path, text_of("kozistr:normuon", 14), *changed, rest, name=folder, stop=stop, resume=resume
        )
        shas.append(report.weights_sha256)
    assert shas[2] == shas[0] != shas[1]
    _, _, state = checkpoint.load_newest(tmp_path / "run" / "checkpoints")
    assert "optimizer.rest" in state["plugins"]


@needs_library
@pytest.mark.parametrize(
    ("use", "changes", "message"),
    [
        ("kozistr:lomo", [], "kozistr:lomo must be given the model"),
        ("kozistr:schedulefreesgd", [], 'write use = "schedulefree_sgd"'),
        ("kozistr:sophiah", [], "create_graph"),
        (
            "kozistr:prodigy",
            ['optimizer.group=[{match="*bias", lr_scale=2.0}]'],
            "one learning rate for all parameters",
        ),
        ("kozistr:prodigy", ["schedule.warmup=1ep"], "safeguard_warmup = true"),
        ("kozistr:dadaptadam", ['optimizer.group=[{match="*bias", lr=2.0}]'], "no group can have lr = 2"),
        ("kozistr:lbfgs", ["run.precision=float16"], "the loss scaler"),
        ("kozistr:asgd", ["schedule=cosine"], "sets its own learning rate"),
        ("kozistr:adafactor", ["schedule=cosine"], "the schedule 'cosine' would change nothing"),
        ("kozistr:adafactor", ["schedule.warmup=1ep"], 'warmup = "1ep" would change nothing'),
        ("kozistr:soap", ["optimizer.lr=0"], "lr must be"),
        ("kozistr:soap", ["optimizer.betas=[0.9]"], "betas must be"),
        ("kozistr:soap", ["run.compile=step"], "cannot be part of the compiled program"),
        ("kozistr:ranger21", [], "num_iterations"),
        ("kozistr:saop", [], "did you mean 'kozistr:soap'?"),
    ],
)
def test_impossible_recipes_are_problems(tmp_path, use, changes, message):
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text_of(use), *changes)
    assert message in str(caught.value)


def test_where_the_library_is_missing_the_command_that_installs_it_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr("trainkit.component.installed", lambda library: library != "pytorch_optimizer")
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text_of("kozistr:soap"))
    assert "needs the library 'pytorch_optimizer'" in str(caught.value)
    assert f"pip install 'pytorch_optimizer=={trainkit_kozistr.VERSION}'" in str(caught.value)
    assert caught.value.exit_code == 3
