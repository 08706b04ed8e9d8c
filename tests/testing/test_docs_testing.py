"""docs/testing.md: its list of contracts is fresh, its code runs, and what it shows is so."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tests.testing.mutants import held_to
from tests.testing.test_plugin import pytest_in
from trainkit import Component, Schedule
from trainkit.kinds import KINDS
from trainkit.testing import ScheduleContract, contract_names

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "testing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_list_of_contracts_is_fresh() -> None:
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert maker.with_contracts(PAGE) == PAGE, "run: python docs/make_tables.py"
    assert re.findall(r"<!-- contracts: (\w+) -->", PAGE) == ["every", *KINDS]


def test_the_exception_that_is_shown_is_one_that_can_be_made() -> None:
    (block,) = [block for block in BLOCKS if "exempt=" in block]
    names = re.findall(r'exempt=\{"(\w+)"', block)
    assert names
    assert set(names) <= set(contract_names("optimizer"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The plugin of docs/plugins.md, installed, with the tests of the page."""
    (lab,) = [
        block for block in re.findall(r"```python\n(.*?)```", (DOCS / "plugins.md").read_text("utf-8"), re.DOTALL)
    ]
    files = {
        "site/my_lab.py": lab,
        "site/my_lab-0.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: my-lab\nVersion: 0.2\n",
        "site/my_lab-0.2.dist-info/entry_points.txt": "[trainkit]\nmy_lab = my_lab\n",
        "pyproject.toml": '[project]\nname = "my-lab"\n[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n',
    } | {f"tests/test_{n}.py": block for n, block in enumerate(BLOCKS) if "def test_" in block}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_its_code_runs_beside_the_contracts_of_the_plugin_of_the_docs(project: Path) -> None:
    done = pytest_in(project, "-v", "--trainkit-contracts", PYTHONPATH=str(project / "site"))
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("test_reaches_its_peak", "test_it_is_listed", "TestFloor::test_is_pure", "schedule-triangle"):
        assert name in done.stdout
    assert "[callback-average] PASSED" in done.stdout


def test_a_defect_is_shown_as_the_page_has_it(tmp_path: Path) -> None:
    def triangle() -> Schedule:
        """Rise and fall in straight lines."""
        return lambda t, T, events=(): min(t / T, 1.0) if 2 * t != T else float("nan")

    found = held_to(ScheduleContract, "gives_finite_numbers", Component("schedule", triangle), tmp_path)
    (text,) = re.findall(r"```text\n(_.*?)```", PAGE, re.DOTALL)
    title, *shown = text.splitlines()
    assert title.strip("_ ") == "ScheduleContract.test_gives_finite_numbers[schedule-triangle]"
    assert found.failed
    for line in shown:
        assert line.strip("- ") in found.text
    assert len(found.text.splitlines()) == len(shown)  # no more than that: not what was compared
