"""The harness itself, and that every module of contracts has planted defects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.testing.mutants import Mutant, held_to, lacking
from trainkit import Component
from trainkit.testing import Contract
from trainkit.testing.contract import contract_classes


class Colours(Contract):
    """A stand-in for contracts: of names."""

    @pytest.fixture
    def first(self, component: Component) -> str:
        if component.name == "raises":
            raise RuntimeError("cannot be made")
        return component.name[0]

    def test_is_blue(self, component: Component, first: str) -> None:
        """It is blue."""
        assert component.name == "blue", f"{component.name} is not blue"


def _named(name: str, **more: Any) -> Component:
    def constant(*, value: float = 1.0) -> Any:
        """Stay."""
        return lambda t, T, events=(): value

    return Component("schedule", constant, name, **more)


@pytest.mark.parametrize(
    ("name", "exempt", "word", "message"),
    [
        ("blue", {}, "passed", ""),
        ("red", {}, "failed", "red is not blue"),
        ("raises", {}, "error", "cannot be made"),
        ("red", {"is_blue": "it is red"}, "exempt", "red is not blue"),
        ("blue", {"is_blue": "it was red"}, "failed", "XPASS(strict)] it was red\nit keeps the contract now: take"),
        ("red", {"builds_from_its_example": "it is heavy"}, "skipped", "it is heavy"),
    ],
)
def test_an_outcome_is_what_pytest_makes_of_it(
    tmp_path: Path, name: str, exempt: dict[str, str], word: str, message: str
) -> None:
    found = held_to(Colours, "is_blue", _named(name, exempt=exempt), tmp_path)
    assert found.word == word
    assert message in found.message


def test_a_defect_counts_only_for_its_own_reason(tmp_path: Path) -> None:
    Mutant(Colours, "is_blue", _named("red"), _named("blue"), because="is not blue").check(tmp_path / "1")
    with pytest.raises(AssertionError, match="not because 'is green'"):
        Mutant(Colours, "is_blue", _named("red"), _named("blue"), because="is green").check(tmp_path / "2")
    with pytest.raises(AssertionError, match="does not catch blue"):
        Mutant(Colours, "is_blue", _named("blue"), _named("blue"), because="").check(tmp_path / "3")
    with pytest.raises(AssertionError, match="the healthy twin fails"):
        Mutant(Colours, "is_blue", _named("red"), _named("red"), because="").check(tmp_path / "4")


def test_a_contract_without_a_defect_is_named() -> None:
    assert lacking(Colours, []) == ["Colours: is_blue"]
    assert not lacking(Colours, [Mutant(Colours, "is_blue", _named("red"), _named("blue"), "")])


def test_every_class_of_contracts_is_asked_for_its_defects() -> None:
    asked = [
        name
        for file in Path(__file__).parent.glob("test_mutants_*.py")
        for names in re.findall(r"assert not lacking\(\[?([\w, ]+?)\]?, MUTANTS\)", file.read_text(encoding="utf-8"))
        for name in names.split(", ")
    ]
    assert sorted(asked) == sorted(one.__name__ for one in contract_classes())
