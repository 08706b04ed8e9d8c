"""Planted defects: components that break one contract, and the harness that shows that the contract catches them.

A module ``test_mutants_KIND.py`` has a `Mutant` for each contract of ``trainkit/testing/contracts/KIND.py``::

    MUTANTS = [
        Mutant(ScheduleContract, "is_pure", Component("schedule", counts), HEALTHY, because="what was asked before"),
    ]

    @pytest.mark.parametrize("mutant", MUTANTS, ids=str)
    def test_the_contract_catches(mutant: Mutant, tmp_path: Path) -> None:
        mutant.check(tmp_path)

    def test_no_contract_lacks_a_planted_defect() -> None:
        assert not lacking(ScheduleContract, MUTANTS)

Contracts are run as their users run them, by a pytest inside this one: marks, exemptions and fixtures count.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

import trainkit.testing.plugin
from trainkit import Component
from trainkit.testing import Contract

# They collect all garbage of this process, for every single test, or show what nobody sees.
NOT_NEEDED = ("cacheprovider", "terminal", "unraisableexception", "threadexception")


@dataclass(frozen=True)
class Mutant:
    """A component with one planted defect.

    Args:
        contract: the class whose test catches it.
        test: which of its tests, such as ``is_pure``.
        defect: the component.
        healthy: its twin without the defect, which passes.
        because: what the failure says, as a regular expression: the test fails for this reason and no other.
    """

    contract: type[Contract]
    test: str
    defect: Component
    healthy: Component
    because: str

    def __str__(self) -> str:
        return f"{self.test}-{self.defect.name}"

    def check(self, folder: Path) -> None:
        """See that the contract fails on the defect, for its reason, and passes on the twin."""
        twin = held_to(self.contract, self.test, self.healthy, folder / "healthy")
        assert twin.passed, f"the healthy twin fails:\n{twin}"
        found = held_to(self.contract, self.test, self.defect, folder / "defect")
        assert found.failed, f"contract {self.test} does not catch {self.defect.name}: {found}"
        assert re.search(self.because, found.message), f"it fails, but not because {self.because!r}:\n{found}"


@dataclass(frozen=True)
class Outcome:
    """What came of one contract on one component.

    Args:
        word: ``passed``, ``failed`` (an exemption that is no longer needed, too), ``error`` (a fixture raised),
            ``skipped``, or ``exempt``.
        message: what the failure says, without the code around it.
        text: all that pytest shows of it.
    """

    word: str
    message: str = ""
    text: str = ""

    @property
    def passed(self) -> bool:
        """Whether the component keeps the contract."""
        return self.word == "passed"

    @property
    def failed(self) -> bool:
        """Whether the component breaks it; a fixture that raises on the component counts."""
        return self.word in ("failed", "error")

    def __str__(self) -> str:
        return f"{self.word} {self.text}".strip()


def held_to(contract: type[Contract], test: str, component: Component, folder: Path) -> Outcome:
    """Run one contract on one component, by pytest.

    Args:
        contract: its class.
        test: its name, with or without ``test_``.
        component: the component; no plugin need list it.
        folder: where the test's files go.
    """
    module = ModuleType("test_held")
    held = type(f"Test{contract.__name__}", (contract,), {"component": component, "__module__": module.__name__})
    setattr(module, held.__name__, held)
    heard = _Heard(folder / "test_held.py", module)
    folder.mkdir(parents=True, exist_ok=True)
    heard.file.touch()
    name = f"test_{test.removeprefix('test_')}"
    assert hasattr(contract, name), f"{contract.__name__} has no {name}"
    words = [f"{heard.file}::{held.__name__}::{name}", "-s", "-W", "error", f"--basetemp={folder / 'tmp'}"]
    words += ["-c", os.devnull, f"--rootdir={folder}", f"--confcutdir={folder}"]
    words += [word for plugin in NOT_NEEDED for word in ("-p", f"no:{plugin}")]
    with mock.patch.dict(os.environ, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}):
        code = pytest.main(words, plugins=[trainkit.testing.plugin, heard])
    assert code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), f"pytest says {code!r}: {heard.problems}"
    assert len(heard.outcomes) == 1, f"one contract, one component: {heard.outcomes}"
    return heard.outcomes[0]


def lacking(contracts: type[Contract] | Iterable[type[Contract]], mutants: Iterable[Mutant]) -> list[str]:
    """The contracts that no planted defect stands for."""
    classes = [contracts] if isinstance(contracts, type) else list(contracts)
    known = {(mutant.contract, mutant.test.removeprefix("test_")) for mutant in mutants}
    names = [(found, name.removeprefix("test_")) for found in classes for name in dir(found) if name[:5] == "test_"]
    return [f"{found.__name__}: {name}" for found, name in names if (found, name) not in known]


class _Heard:
    """The inner pytest's only plugin beside ours: it brings the class, and listens."""

    def __init__(self, file: Path, module: ModuleType) -> None:
        self.file = file
        self.module = module
        self.outcomes: list[Outcome] = []
        self.problems: list[str] = []

    def pytest_pycollect_makemodule(self, module_path: Path, parent: pytest.Collector) -> pytest.Module:
        module: pytest.Module = pytest.Module.from_parent(parent, path=module_path)
        module.obj = self.module
        return module

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.problems.append(str(report.longrepr))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
        report: pytest.TestReport = yield
        # What raised, where something did; else what pytest makes of it, such as an exemption that is not needed.
        raised = str(call.excinfo.value) if call.excinfo is not None else report.longreprtext
        if report.when == "call" or report.outcome != "passed":
            word: str = "exempt" if hasattr(report, "wasxfail") and not report.passed else report.outcome
            word = "error" if word == "failed" and report.when != "call" else word
            self.outcomes.append(Outcome(word, raised, report.longreprtext))
        return report
