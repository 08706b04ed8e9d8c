"""A planted defect for each contract of every component and plugin."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.testing.mutants import Mutant, held_to, lacking
from trainkit import Component, Positive, Run, Schedule, hookimpl
from trainkit.testing import FactoryContract, PluginContract, SignatureContract

PARTS = Path(__file__).parent / "parts"


@functools.cache
def part(name: str) -> Component:
    """The component of a plugin that stands in a file."""
    spec = importlib.util.spec_from_file_location(name, PARTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    component: Component = module.trainkit_components()[0]
    return component


def steady(*, value: Positive = 1.0, steps: list[int] = [1, 2]) -> Schedule:  # noqa: B006
    """Stay.

    Args:
        value: the factor.
        steps: not used.
    """
    return lambda t, T, events=(): value


HEALTHY = Component("schedule", steady, example={"value": 0.5})


def wordless(*, value: float = 1.0) -> Schedule:
    return lambda t, T, events=(): value


def silent(*, value: float = 1.0) -> Schedule:
    """Stay."""
    return lambda t, T, events=(): value


def negative(*, value: Positive = -1.0) -> Schedule:
    """Stay.

    Args:
        value: the factor.
    """
    return lambda t, T, events=(): value


def nothing(*, value: float = float("nan")) -> Schedule:
    """Stay.

    Args:
        value: the factor.
    """
    return lambda t, T, events=(): value


def required(*, value: float) -> Schedule:
    """Stay.

    Args:
        value: the factor.
    """
    if value > 1:
        raise ValueError("value is above 1\nwrite value = 1.0 or less")
    return lambda t, T, events=(): value


def without_events(*, value: float = 1.0) -> Any:
    """Stay.

    Args:
        value: the factor.
    """
    return lambda t, T: value


def growing(*, steps: list[int] = [1, 2]) -> Schedule:  # noqa: B006
    """Stay.

    Args:
        steps: grows.
    """
    steps.append(len(steps))
    return lambda t, T, events=(): 1.0


class Marked:
    stateless = True

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None: ...


class Unmarked:
    stateless = True

    def trainkit_step_end(self, run: Run) -> None: ...


class Misspelt:
    stateless = True

    @hookimpl
    def trainkit_step_ends(self, run: Run) -> None: ...


class Strange:
    stateless = True

    @hookimpl
    def trainkit_step_end(self, runs: Run) -> None: ...


def callback(made: type) -> Component:
    def watch() -> Any:
        """Watch."""
        return made()

    return Component("callback", watch, made.__name__.lower())


def signature(test: str, defect: Component, because: str) -> Mutant:
    return Mutant(SignatureContract, test, defect, HEALTHY, because)


def factory(test: str, defect: Component, because: str, healthy: Component = HEALTHY) -> Mutant:
    return Mutant(FactoryContract, test, defect, healthy, because)


MUTANTS = [
    Mutant(
        PluginContract,
        "importing_it_does_nothing",
        part("trainkit_loud"),
        part("trainkit_quiet"),
        r"importing it opens .*trainkit_loud.py \(trainkit_loud.py:10\); prints 'a plugin is here': do that in the",
    ),
    signature("says_what_it_is", Component("schedule", wordless), r"schedule 'wordless' has no docstring"),
    signature("says_what_it_is", Component("schedule", steady, "très bien"), "keep to letters"),
    signature("every_setting_is_documented", Component("schedule", silent), "no help for value; add each to the Args"),
    signature(
        "every_default_is_valid",
        Component("schedule", negative),
        "the default of 'value', -1.0, is no number above 0: Input should be greater than 0",
    ),
    signature("its_example_is_valid", Component("schedule", required), r"lacks value.*add Component\(..., example={'v"),
    signature("its_example_is_valid", Component("schedule", steady, example={"valu": 1.0}), "sets valu, which it does"),
    signature(
        "its_example_is_valid",
        Component("schedule", steady, example={"value": "1.0"}),
        "its example's value of 'value', \"1.0\", is no number above 0",
    ),
    signature(
        "is_described", Component("schedule", steady, example={"value": 1 + 2j}), "its example is no TOML: TOMLDecode"
    ),
    signature("is_in_the_schema", Component("schedule", nothing), "has no JSON Schema: ValueError: Out of range"),
    signature(
        "its_exemptions_exist",
        Component("schedule", steady, exempt={"is_blue": "it is red"}),
        "exempt from 'is_blue', which is no contract of a schedule; contracts: importing_it_does_nothing, says_what",
    ),
    signature(
        "its_exemptions_exist",
        Component("schedule", steady, exempt={"is_described": " "}),
        "exempt from 'is_described' without a reason",
    ),
    factory(
        "builds_from_its_example",
        Component("schedule", required, example={"value": 2.0}),
        r"schedule 'required' cannot be built from its example: .*\[schedule\] required: value is above 1",
    ),
    factory(
        "keeps_the_protocol_of_its_kind",
        Component("schedule", without_events),
        r"the factory gave a function of \(t, T\), not a function of \(t, T, events\)",
    ),
    factory("its_hooks_are_hooks", callback(Unmarked), "Unmarked.trainkit_step_end is never called", callback(Marked)),
    factory("its_hooks_are_hooks", callback(Misspelt), "trainkit_step_ends is no hook", callback(Marked)),
    factory("its_hooks_are_hooks", callback(Strange), "has a hook that cannot be called.*runs", callback(Marked)),
    factory("building_changes_no_setting", Component("schedule", growing), "its factory changes a value"),
    factory(
        "the_check_changes_nothing",
        part("trainkit_meddling"),
        r"(?s)the check of a recipe with it goes wrong.*hook trainkit_check_recipe: .*the recipe.*trainkit_meddling",
        part("trainkit_quiet"),
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_contract_catches(mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PARTS)
    mutant.check(tmp_path)


def test_no_contract_lacks_a_planted_defect() -> None:
    assert not lacking([PluginContract, SignatureContract, FactoryContract], MUTANTS)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("import threading; threading.Thread(target=int).start()", "starts a thread"),
        ("import subprocess, sys; subprocess.run([sys.executable, '-c', ''])", "starts a process"),
        ("import socket; socket.getaddrinfo('localhost', 1)", "asks the network for an address"),
        ("open('left.txt', 'w').close()", "writes left.txt"),
        ("import os; os.environ['LEFT'] = '1'", "changes the environment"),
        ("import sys; sys.stderr.write('late')", "prints 'late'"),
        ("import os; os.system('')", "starts a process"),
        ("raise RuntimeError('not today')", "cannot be used: RuntimeError: not today"),
        ("import torch.optim, json, decimal", ""),
    ],
)
def test_what_an_import_does_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str, said: str
) -> None:
    from trainkit.testing.importing import found_at_import

    name = f"trainkit_once_{abs(hash(statement))}"
    lines = [*(PARTS / "trainkit_quiet.py").read_text(encoding="utf-8").splitlines(), statement]
    (tmp_path / f"{name}.py").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = found_at_import((name,))[name]
    assert [said in line for line in found] == [True] * bool(said), found


def test_a_component_that_no_plugin_lists_is_imported_nowhere(tmp_path: Path) -> None:
    outcome = held_to(PluginContract, "importing_it_does_nothing", HEALTHY, tmp_path)
    assert outcome.word == "skipped"
    assert "no module lists it in trainkit_components" in outcome.text
