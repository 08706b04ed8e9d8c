"""What `new-plugin` makes is whole: its tests and all contracts pass, its recipe trains, Copier makes the same."""

from __future__ import annotations

import keyword
import os
import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from trainkit.kinds import KINDS
from trainkit.new_plugin import LONGEST, TEMPLATE, Names, names_of, render, write_project
from trainkit.testing import contract_names

GUIDE = (Path(__file__).parents[2] / "docs" / "new-plugin.md").read_text(encoding="utf-8")
MADE = [names_of(f"trainkit-made-{kind}", kind) for kind in KINDS]
TRIANGLE = names_of("trainkit-triangle", "schedule")

SHORT = ["run.duration=1ep", "logger=[]"]  # as long as it takes to see that everything is there
FEW = {kind: ["search.trials=2"] for kind in ("searcher", "executor")}
RUN_THE_RECIPE = """
import json
import pytest
from trainkit.__main__ import main

@pytest.mark.parametrize("words", %r, ids=lambda words: words[0])
def test_it_trains(words, tmp_path, capsys):
    assert main([*words, "--run-dir", str(tmp_path / "run"), "--without", "reports", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["status"] == "finished"
"""


def installed(folder: Path, plugins: list[Names]) -> dict[str, str]:
    """An environment in which projects in this folder are installed, as an editable install would have it."""
    site = folder / "site"
    for names in plugins:
        info = site / f"{names.package}-0.1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {names.name}\nVersion: 0.1.0\nRequires-Dist: trainkit>=0.1,<0.2\n"
        )
        (info / "entry_points.txt").write_text(f"[trainkit]\n{names.package} = {names.package}\n")
    paths = [site, *(folder / names.name / "src" for names in plugins)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "TRAINKIT_RUNS": str(folder / "runs")}


def recipe_of(names: Names) -> str:
    """How the recipe is called that a project ships."""
    return f"{names.package}:{names.component}"


def outcomes_of(folder: Path, environment: Mapping[str, str], *words: str) -> tuple[str, dict[str, str]]:
    """Run pytest in a folder, in one process.

    Returns:
        What it says, and by the name of each test what it came to: nothing where it passed, or was about what the
        component does not declare.
    """
    words = ("-q", "-n", "0", "-p", "no:cacheprovider", "--junit-xml=found.xml", "--trainkit-contracts", *words)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    found: dict[str, str] = {}
    for case in ElementTree.parse(folder / "found.xml").iter("testcase"):
        found[f"{case.get('classname')}::{case.get('name')}"] = "; ".join(
            f"{part.tag}: {part.get('message')}"
            for part in case
            if part.tag in ("failure", "error", "skipped") and " declare" not in (part.get("message") or "")
        )
    return ended.stdout, found


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A project of each kind, and that of the guide."""
    folder = tmp_path / "made"
    for names in [*MADE, TRIANGLE]:
        write_project(render(names), folder / names.name)
    return folder


def plant_the_defect_of_the_guide(made: Path) -> None:
    """Change the project of the guide as the guide says."""
    old, new = (re.search(rf"^\{sign} +(.*)$", GUIDE, re.MULTILINE)[1] for sign in "-+")  # type: ignore[index]
    file = made / TRIANGLE.name / "src" / TRIANGLE.package / "schedule.py"
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.slow
def test_each_kind_passes_its_tests_keeps_every_contract_and_trains_its_recipe(made):
    """In one test, as one process does it for all; and the defect of the guide is caught, and nothing else is wrong."""
    plant_the_defect_of_the_guide(made)
    (made / "test_recipes.py").write_text(
        RUN_THE_RECIPE % [[recipe_of(names), *SHORT, *FEW.get(names.kind, [])] for names in MADE], encoding="utf-8"
    )
    # The settings of a new project hold for all of them.
    settings = (made / TRIANGLE.name / "pyproject.toml").read_text(encoding="utf-8").partition("[tool.pytest")
    (made / "pyproject.toml").write_text("".join(settings[1:]), encoding="utf-8")
    everyone = [*MADE, TRIANGLE]
    named = [word for names in everyone for word in ("--trainkit-dist", names.name)]
    folders = [f"{names.name}/tests" for names in everyone]
    said, found = outcomes_of(made, installed(made, everyone), *named, *folders, "test_recipes.py")

    wrong = {test: came for test, came in found.items() if came}
    caught = [test for test in wrong if test.endswith("[schedule-triangle]")]
    assert list(wrong) == caught, said
    assert len(caught) == 1, said
    told = re.search(r"^E  (AssertionError: .*?)```", GUIDE, re.MULTILINE | re.DOTALL)
    assert told is not None
    assert " ".join(told[1].split()) in wrong[caught[0]]
    for names in MADE:
        own = [test for test in found if f"{names.name}.tests" in test.replace("/", ".")]
        assert 1 <= len(own) <= 4, names
        marks = f"[{names.kind}-{names.component}]", f"[{names.package}]"
        held = [test for test in found if "Contract::" in test and test.endswith(marks)]
        assert {re.sub(r"^.*::test_(\w+)\[.*$", r"\1", test) for test in held} == set(contract_names(names.kind)), names
        assert f"test_recipes::test_it_trains[{recipe_of(names)}]" in found


# ------------------------------------------------------------ the guide


def test_the_guide_shows_what_is_made():
    made = render(TRIANGLE)
    shown = re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert len(shown) == 4
    for name, content in shown:
        assert content == made[name].decode(), name
    tree = re.search(r"```text\ntrainkit-triangle/\n(.*?)```", GUIDE, re.DOTALL)
    assert tree is not None
    ends = re.findall(r"[├└]── (\S+)", tree[1])
    assert len(ends) == 10  # nine files and a folder
    assert all(any(f"/{name}".endswith(f"/{end}") for end in ends) for name in made)
    assert all(f"`{kind}`" in GUIDE for kind in KINDS)


# ------------------------------------------------------------ what tools make of it


@pytest.mark.parametrize("words", [["check"], ["format", "--check"]], ids=lambda words: words[0])
@pytest.mark.parametrize("name", ["ab", "trainkit-triangle", f"{'l' * 20}-{'m' * 19}"])
def test_ruff_finds_nothing_whatever_the_length_of_the_name(tmp_path, name, words):
    assert 2 <= len(name) <= LONGEST
    for kind in KINDS:
        write_project(render(names_of(name, kind)), tmp_path / kind)
    ended = subprocess.run(
        [sys.executable, "-m", "ruff", *words, "--no-cache", tmp_path], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("names", [*MADE, names_of("lab", "data"), names_of("a-b2-c", "model")], ids=str)
def test_copier_makes_the_same(tmp_path, names):
    from copier import run_copy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        run_copy(str(TEMPLATE), tmp_path / "copy", {"name": names.name, "kind": names.kind}, quiet=True, defaults=True)
    copied = {
        path.relative_to(tmp_path / "copy").as_posix(): path.read_bytes()
        for path in (tmp_path / "copy").rglob("*")
        if path.is_file()
    }
    answers = yaml.safe_load(copied.pop(".copier-answers.yml"))
    assert {key: value for key, value in answers.items() if not key.startswith("_")} == {
        "name": names.name,
        "kind": names.kind,
    }
    assert copied == render(names)


def test_copier_asks_for_the_same_names_and_kinds():
    from copier import run_copy

    asked = yaml.safe_load((TEMPLATE / "copier.yml").read_text(encoding="utf-8"))
    assert tuple(asked["kind"]["choices"]) == KINDS
    for wrong in ("Lab", "3d", "lab_x", "a--b", "-a", "a-", ""):
        with pytest.raises(ValueError, match="lower-case letters and digits"):
            run_copy(str(TEMPLATE), "nowhere", {"name": wrong, "kind": "data"}, quiet=True, pretend=True, defaults=True)


@pytest.mark.parametrize("name", ["trainkit-3d", "trainkit-test-time", "test-x", "x" * 41, "trainkit-lambda"])
def test_copier_refuses_names_that_would_make_no_working_project(name):
    from copier import run_copy

    with pytest.raises(ValueError, match="Validation error for question 'name'"):
        run_copy(str(TEMPLATE), "nowhere", {"name": name, "kind": "data"}, quiet=True, pretend=True, defaults=True)


def test_copier_knows_the_words_of_python():
    validator = yaml.safe_load((TEMPLATE / "copier.yml").read_text(encoding="utf-8"))["name"]["validator"]
    words = set(re.findall(r"'([a-z]+)'", validator[validator.index("['and'") :]))
    assert {word for word in (*keyword.kwlist, *keyword.softkwlist) if word.isalpha() and word.islower()} <= words
    assert f"length > {LONGEST} " in validator


def test_a_wheel_of_it_is_whole(made, tmp_path):
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(made / TRIANGLE.name)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        points = archive.read("trainkit_triangle-0.1.0.dist-info/entry_points.txt").decode()
        metadata = archive.read("trainkit_triangle-0.1.0.dist-info/METADATA").decode()
    assert sorted(name for name in names if ".dist-info/" not in name) == [
        "trainkit_triangle/__init__.py",
        "trainkit_triangle/py.typed",
        "trainkit_triangle/recipes/triangle.toml",
        "trainkit_triangle/schedule.py",
    ]
    assert points.split() == ["[trainkit]", "trainkit_triangle", "=", "trainkit_triangle"]
    assert "Requires-Dist: trainkit<0.2,>=0.1\n" in metadata
    assert "# trainkit-triangle" in metadata


def test_the_template_travels_in_the_wheel_of_trainkit():
    from hatchling.builders.wheel import WheelBuilder

    root = TEMPLATE.parents[1]
    builder = WheelBuilder(str(root))
    included = {Path(file.path) for file in builder.recurse_selected_project_files()}
    missing = {path for path in TEMPLATE.rglob("*") if path.is_file() and "__pycache__" not in path.parts} - included
    assert not missing
