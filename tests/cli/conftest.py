"""The command line called as a function, a recipe that trains in a moment, and plugins that exist for one test."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from trainkit.cli import main

RECIPE = """\
recipe = 1
seed = 3
logger = []
[run]
duration = "2ep"
threads = 1
[data]
use = "synthetic"
samples = 96
batch_size = 16
[model]
use = "linear"
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.1
"""


class Outcome(NamedTuple):
    """What a command did: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON object that it must be."""
        return json.loads(self.out)


Command = Callable[..., Outcome]
Distribute = Callable[..., str]


@pytest.fixture
def trainkit(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process, standing in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINKIT_RUNS", str(tmp_path / "runs"))

    def command(*words: str) -> Outcome:
        capsys.readouterr()
        code = main(words)
        written = capsys.readouterr()
        return Outcome(code, written.out, written.err)

    return command


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """The name of a recipe that is right, in the folder one stands in."""
    (tmp_path / "small.toml").write_text(RECIPE, encoding="utf-8")
    return "small.toml"


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distribute]:
    """Install a made-up package with one plugin module, as an installer would leave it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    before = set(sys.modules)

    def install(module: str, code: str, version: str = "1.2", entry: str = "", needs: Sequence[str] = ()) -> str:
        (site / f"{module}.py").write_text(code, encoding="utf-8")
        name = module.replace("_", "-")
        info = site / f"{module}-{version}.dist-info"
        info.mkdir()
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            f"Version: {version}",
            *(f"Requires-Dist: {n}" for n in needs),
        ]
        (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[trainkit]\n{entry or module} = {module}\n", encoding="utf-8")
        importlib.invalidate_caches()
        return name

    yield install
    for module in [module for module in set(sys.modules) - before if (site / f"{module}.py").exists()]:
        del sys.modules[module]


@pytest.fixture
def recipe_package(distribution: Distribute, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Install a made-up package that ships recipes, or another version of it; gives the folder of the recipes."""
    site, installed = tmp_path / "site", set()

    def install(
        package: str,
        recipes: Mapping[str, str],
        version: str = "1.2",
        code: str = "def trainkit_components(): return []",
    ) -> Path:
        for info in site.glob(f"{package}-*.dist-info"):
            shutil.rmtree(info)
        distribution(package, "", version)
        (site / f"{package}.py").unlink()
        folder = site / package / "recipes"
        folder.mkdir(parents=True, exist_ok=True)
        (site / package / "__init__.py").write_text(code, encoding="utf-8")
        for name, text in recipes.items():
            file = folder / f"{name}.toml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        installed.add(package)
        sys.modules.pop(package, None)
        importlib.invalidate_caches()
        return folder

    yield install
    for package in installed:
        sys.modules.pop(package, None)
