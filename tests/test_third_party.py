"""Plugins of third parties come through the door that every stranger has; .ci/third_party installs and uses them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import trainkit
from tests.test_borders import TESTING, imports

PROJECTS = sorted(path.parent for path in (Path(__file__).parent / "third_party").glob("*/pyproject.toml"))
FILES = [file for project in PROJECTS for file in sorted(project.rglob("*.py"))]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_third_party_takes_public_names_alone(file: Path) -> None:
    inside = [item for item in imports(file) if item[1].split(".")[0] == "trainkit"]
    for line, module, name in inside:
        assert module in ("trainkit", TESTING), f"{file}:{line} imports the inside of trainkit, {module}"
        assert module == TESTING or name in trainkit.__all__, f"{file}:{line}: '{name}' is not a public name"


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_a_third_party_s_distribution_is_whole(project: Path) -> None:
    """What is installed from it: typed code, its entry point, the trainkit that it needs."""
    told = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (package,) = [path for path in (project / "src").iterdir() if path.is_dir()]
    assert told["name"] == project.name
    assert told["entry-points"]["trainkit"].popitem()[1] == package.name
    assert (package / "py.typed").is_file()
    assert told["dependencies"] == ["trainkit>=0.1,<0.2"]


def test_each_is_tested_where_it_is_installed() -> None:
    script = (Path(__file__).parents[1] / ".ci" / "third_party").read_text(encoding="utf-8")
    assert len(PROJECTS) == 2
    assert all(project.name in script for project in PROJECTS)
    assert ".ci/third_party" in (Path(__file__).parents[1] / ".ci" / "run").read_text(encoding="utf-8")
