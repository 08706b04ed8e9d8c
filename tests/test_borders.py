"""What may import what, beyond what import-linter can say: names, not modules."""

from __future__ import annotations

import ast
import importlib.metadata
import tomllib
from pathlib import Path

import pytest

import trainkit

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/__init__.py"))
PLUGIN_FILES = sorted((ROOT / "plugins").rglob("*.py"))
TESTING = "trainkit.testing"


def imports(file: Path) -> list[tuple[int, str, str]]:
    """Line, module and name of every import in a file, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found += [(node.lineno, "." * node.level + (node.module or ""), alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, "") for alias in node.names]
    return found


@pytest.mark.parametrize("file", PLUGIN_FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_plugin_takes_public_names_alone(file):
    inside = [item for item in imports(file) if item[1].split(".")[0] == "trainkit" and item[1] != TESTING]
    for line, module, name in inside:
        assert module == "trainkit", f"{file}:{line} imports the inside of trainkit, {module}"
        assert name in trainkit.__all__, f"{file}:{line} imports '{name}', which is not a public name"


def test_every_public_name_exists_and_says_what_it_is():
    for name in trainkit.__all__:
        value = getattr(trainkit, name)
        assert value.__doc__, name
    assert sorted(trainkit.__all__) == trainkit.__all__


def test_every_plugin_is_packaged_joined_and_held_to_the_borders():
    names = [folder.name for folder in PLUGINS]
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert wheel == ["trainkit", *(f"plugins/{name}" for name in names), "docs"]
    assert sorted(PROJECT["project"]["entry-points"]["trainkit"].values()) == names
    linter = PROJECT["tool"]["importlinter"]
    assert linter["root_packages"] == ["trainkit", *names]
    contracts = {contract["type"]: contract for contract in linter["contracts"]}
    assert contracts["forbidden"]["forbidden_modules"] == names
    assert contracts["independence"]["modules"] == names


@pytest.mark.parametrize("package", [ROOT / "trainkit", *PLUGINS], ids=lambda path: path.name)
def test_every_package_says_that_it_is_typed(package):
    assert (package / "py.typed").is_file()


def test_the_version_is_said_once_more_and_the_same():
    assert trainkit.__version__ == PROJECT["project"]["version"]
    assert importlib.metadata.version("trainkit") == trainkit.__version__


def test_every_tested_version_is_in_the_stated_range():
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert not [pin for pin in pins.values() if "+" in pin]
    project, build = PROJECT["project"], PROJECT["build-system"]["requires"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["standard"], *extras["optimizers"], *extras["dev"], *build]:
        requirement = Requirement(text)
        if requirement.name != "trainkit":
            assert requirement.specifier.contains(pins[requirement.name]), text


def test_no_public_name_is_that_of_a_module() -> None:
    """``from trainkit import name`` would give the one or the other, by what was imported before."""
    modules = {path.stem for path in Path(trainkit.__file__).parent.iterdir()}
    assert not modules & set(trainkit.__all__)
