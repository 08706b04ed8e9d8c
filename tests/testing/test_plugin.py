"""The pytest plugin: what it costs those who do not use it, what it selects and collects, and its fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

import trainkit.testing
import trainkit.testing.plugin
from tests.testing.mutants import held_to
from trainkit import Component, Schedule
from trainkit.kinds import KINDS
from trainkit.testing import FactoryContract, ScheduleContract, contract_names
from trainkit.testing.contract import contract_classes

LAB = '''"""Schedules of one lab."""

from __future__ import annotations

from trainkit import Component, Fraction, Schedule, hookimpl


def triangle(*, floor: Fraction = 0.0) -> Schedule:
    """Rise and fall in straight lines.

    Args:
        floor: value at both ends.
    """
    return lambda t, T, events=(): floor + (1 - floor) * (1 - abs(2 * min(t / T, 1.0) - 1))


def bent(*, floor: Fraction = 0.0) -> Schedule:
    """Is not a number in the middle.

    Args:
        floor: value at both ends.
    """
    return lambda t, T, events=(): float("nan") if 2 * t == T else floor


@hookimpl
def trainkit_components() -> list[Component]:
    return [Component("schedule", triangle, example={"floor": 0.1}), BENT]
'''


def pytest_in(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as a user does, in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    env = {**os.environ, "PYTEST_ADDOPTS": "", **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=200)


def test_who_does_not_use_it_pays_next_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "class TestOther:\n"
        "    def test_what_is_imported(self, tmp_path):\n"
        "        assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "        print(*sorted(name for name in sys.modules if name.partition('.')[0] == 'trainkit'))\n",
        encoding="utf-8",
    )
    done = pytest_in(tmp_path, "-q", "-s", "-p", "trainkit.testing.plugin", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[0].rstrip(".") == "trainkit trainkit.testing trainkit.testing.plugin"


def distribution(folder: Path, *, bent: bool) -> Path:
    """An installed distribution, and the project of it with settings of pytest that look for other names than ours."""
    site, project = folder / "site", folder / "project"
    info = site / "my_lab-0.2.dist-info"
    for made in (info, project / "tests"):
        made.mkdir(parents=True)
    (site / "my_lab.py").write_text(LAB.replace("BENT", 'Component("schedule", bent)' if bent else ""), "utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_lab\nVersion: 0.2\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[trainkit]\nlab = my_lab\n", encoding="utf-8")
    (project / "pyproject.toml").write_text(
        '[project]\nname = "My.Lab"\n[tool.pytest.ini_options]\nfilterwarnings = ["error"]\ntestpaths = ["tests"]\n'
        'python_files = "check_*.py"\npython_classes = "Check*"\npython_functions = "check_*"\n',
        encoding="utf-8",
    )
    (project / "tests" / "check_own.py").write_text("def check_nothing():\n    pass\n", encoding="utf-8")
    return project


@pytest.mark.parametrize(
    ("bent", "words"),
    [(False, ["--import-mode=importlib", "-n", "0"]), (True, ["--import-mode=prepend", "-n", "2"])],
    ids=["importlib", "prepend and two processes"],
)
def test_a_project_is_held_to_the_contracts_of_what_it_installs(
    tmp_path: Path, bent: bool, words: Sequence[str]
) -> None:
    project = distribution(tmp_path, bent=bent)
    done = pytest_in(project, "--trainkit-contracts", "-v", *words, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == int(bent), done.stdout + done.stderr
    names = contract_names("schedule")
    if not bent:
        ran = {line.split("[")[0].split("::")[2] for line in done.stdout.splitlines() if line.startswith("contracts/")}
        assert ran == {f"test_{name}" for name in names}
        assert "ERROR" not in done.stdout
        assert "tests/check_own.py::check_nothing PASSED" in done.stdout
        assert "contracts/schedule.py::ScheduleContract::test_is_pure[schedule-triangle] PASSED" in done.stdout
        assert "contracts/every.py::PluginContract::test_importing_it_does_nothing[lab] PASSED" in done.stdout
        return
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert failed, done.stdout
    assert all("[schedule-bent]" in line for line in failed)
    assert "\nschedule 'bent': update " in done.stdout
    assert "- contract gives_finite_numbers -" in done.stdout
    assert "isfinite(value)," not in done.stdout  # the code of the contract


class Heard:
    """Remembers what an inner pytest has run."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self.outcomes[report.nodeid.split("::", 1)[1]] = report.outcome


def run_here(folder: Path, *words: str) -> tuple[int, dict[str, str]]:
    """Run pytest in a folder, inside this process."""
    heard = Heard()
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n", encoding="utf-8")
    settings = ["-p", "no:cacheprovider", "-s", f"--rootdir={folder}", "-c", str(folder / "pytest.ini")]
    # It looks for garbage five times when it ends, through all that the outer pytest has collected too: seconds.
    settings += ["-p", "no:unraisableexception"]
    with mock.patch.dict(os.environ, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}):
        code = pytest.main([str(folder), *settings, *words], plugins=[trainkit.testing.plugin, heard])
    return int(code), heard.outcomes


BROKEN = SimpleNamespace(distribution="my-lab", error="plugin 'lab' (my-lab 0.2) cannot be used: SyntaxError: ...")
EMPTY = mock.MagicMock(distribution="my-lab", error="", components=[], __str__=lambda self: "plugin 'lab'")


@pytest.mark.parametrize(
    ("project", "words", "plugin", "said"),
    [
        (None, ["--trainkit-contracts"], None, "does not say it, as there is no such file; add --trainkit-dist NAME"),
        ("[project", ["--trainkit-contracts"], None, "does not say it, as it is no TOML; add --trainkit-dist NAME"),
        ("[tool.x]", ["--trainkit-contracts"], None, "does not say it, as it has no project.name; add"),
        ("project = 1", ["--trainkit-contracts"], None, "does not say it, as it has no project.name; add"),
        (
            '[project]\nname = "no-lab"',
            ["--trainkit-contracts"],
            None,
            "the distribution 'no-lab' is not inst",
        ),
        (None, ["--trainkit-dist", "no-lab"], None, "--trainkit-dist no-lab: no installed distribution of that name"),
        (None, ["--trainkit-dist", "my_lab"], BROKEN, "plugin 'lab' (my-lab 0.2) cannot be used: SyntaxError: ..."),
        (None, ["--trainkit-dist", "My.lab"], EMPTY, "plugin 'lab' lists no component: trainkit_components gives none"),
    ],
)
def test_a_selection_of_nothing_is_one_line(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    project: str | None,
    words: list[str],
    plugin: Any,
    said: str,
) -> None:
    if project is not None:
        (tmp_path / "pyproject.toml").write_text(project, encoding="utf-8")
    if plugin is not None:
        monkeypatch.setattr("trainkit.testing.select.installed", lambda: SimpleNamespace(plugins=[plugin]))
    code, outcomes = run_here(tmp_path, *words)
    assert (code, outcomes) == (pytest.ExitCode.USAGE_ERROR, {})
    lines = [line for line in capfd.readouterr().err.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("ERROR: ")
    assert said in lines[0]


def test_a_module_takes_a_contract_by_hand(tmp_path: Path) -> None:
    (tmp_path / "test_by_hand.py").write_text(
        "import pytest\n"
        "from trainkit import Component, Schedule\n"
        "from trainkit.testing import ScheduleContract, ScheduleContract as TestImported\n"
        "def steady(*, value: float = 1.0) -> Schedule:\n"
        "    '''Stay.'''\n"
        "    return lambda t, T, events=(): value\n"
        "class TestSteady(ScheduleContract):\n"
        "    component = Component('schedule', steady)\n"
        "    def test_is_one(self, schedule):\n"
        "        assert schedule(3, 9) == 1\n"
        "class TestMade(ScheduleContract):\n"
        "    @pytest.fixture\n"
        "    def component(self, tmp_path):\n"
        "        return Component('schedule', steady, 'made', example={'value': len(tmp_path.parts)})\n"
        "class NotATest(ScheduleContract):\n"
        "    pass\n",
        encoding="utf-8",
    )
    code, outcomes = run_here(tmp_path)
    assert code == 0
    names = [name for name in vars(ScheduleContract) if name.startswith("test_")]
    own = {f"TestSteady::{name}[schedule-steady]" for name in [*names, "test_is_one"]}
    assert set(outcomes) == {*own, *(f"TestMade::{name}" for name in names)}
    assert outcomes["TestSteady::test_is_one[schedule-steady]"] == "passed"
    assert outcomes["TestMade::test_is_pure"] == "passed"


STEADY = (
    "from trainkit import Component, Schedule\n"
    "from trainkit.testing import OptimizerContract, ScheduleContract\n"
    "def steady() -> Schedule:\n"
    "    '''Stay.'''\n"
    "    return lambda t, T, events=(): 1.0\n"
)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("class TestIt(ScheduleContract):\n    pass\n", "TestIt has no component; write component = Component(...) in"),
        (
            "class TestIt(ScheduleContract):\n    component = steady\n",
            "TestIt.component is an object of function; write component = Component('schedule', FACTORY), or a fixture",
        ),
        (
            "class TestIt(OptimizerContract):\n    component = Component('schedule', steady)\n",
            "TestIt is a contract of kind optimizer, and its component is schedule 'steady'; derive it from the",
        ),
    ],
    ids=["none", "a function", "of another kind"],
)
def test_a_contract_by_hand_that_holds_nothing_says_so_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], held: str, said: str
) -> None:
    name = f"test_by_hand_{len(said)}.py"  # of its own: modules are kept by name
    (tmp_path / name).write_text(STEADY + held, encoding="utf-8")
    code, outcomes = run_here(tmp_path)
    assert (code, outcomes) == (pytest.ExitCode.INTERRUPTED, {})
    shown = capfd.readouterr().out
    assert said in shown
    assert "plugin.py" not in shown  # no traceback


def test_a_missing_library_is_named_with_what_installs_it(tmp_path: Path) -> None:
    def steady() -> Schedule:
        """Stay."""
        return lambda t, T, events=(): 1.0

    lacking = Component("schedule", steady, libraries={"no_such_library": "pip install no-such"})
    outcome = held_to(ScheduleContract, "is_pure", lacking, tmp_path)
    assert outcome.word == "skipped"
    assert "needs no_such_library: pip install no-such" in outcome.text


def test_what_a_component_raises_is_shown_with_its_line(tmp_path: Path) -> None:
    def impossible() -> Schedule:
        """Stay."""
        raise RuntimeError("not today")

    outcome = held_to(FactoryContract, "builds_from_its_example", Component("schedule", impossible), tmp_path)
    assert outcome.failed
    assert "raise RuntimeError" in outcome.text
    assert "_pytest" not in outcome.text
    assert "def test_builds_from_its_example" not in outcome.text


def test_fixtures_train_in_a_moment(run_tiny: Any, tiny_recipe: Any, plugin_manager: Any) -> None:
    run = run_tiny(schedule={"use": "constant"}, metric=None)
    assert (run.report.status, run.report.steps) == ("finished", 6)
    assert (run.folder / "report.json").is_file()
    assert [line["split"] for line in run.lines if line["split"] == "val"]
    assert run_tiny(schedule={"use": "constant"}, metric=None).report.weights_sha256 == run.report.weights_sha256
    text = tiny_recipe(optimizer={"use": "lion", "lr": 0.001}, metric=None).read_text(encoding="utf-8")
    assert 'use = "lion"' in text
    assert "metric" not in text
    assert "lion" in plugin_manager.components("optimizer")


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_contracts_of_a_kind_have_one_name(kind: str) -> None:
    """An exemption names a contract, and nothing else does."""
    found = [name for one in contract_classes() if one.kind in ("", kind) for name in dir(one) if name[:5] == "test_"]
    assert sorted(found) == sorted(set(found))
    assert {f"test_{name}" for name in contract_names(kind)} == set(found)


def test_contracts_stand_in_the_module_of_their_kind() -> None:
    for one in contract_classes():
        assert one.__module__.rpartition(".")[2] == (one.kind or "every")


def test_every_contract_says_in_one_line_what_it_demands() -> None:
    for kind in KINDS:
        for name, demand in contract_names(kind).items():
            assert demand.endswith("."), f"{kind}: {name}: {demand!r}"


def test_every_contract_is_a_public_name() -> None:
    assert {one.__name__ for one in contract_classes()} <= set(trainkit.testing.__all__)
    for name in trainkit.testing.__all__:
        assert getattr(trainkit.testing, name).__doc__, name
    assert sorted(trainkit.testing.__all__) == trainkit.testing.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        trainkit.testing.nothing  # noqa: B018
