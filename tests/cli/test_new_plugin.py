"""``new-plugin``: names, refusals, and what it writes; tests/testing/test_template.py looks at what it makes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainkit import __version__
from trainkit.cli import main
from trainkit.errors import Exit
from trainkit.kinds import KINDS
from trainkit.new_plugin import TEMPLATE, names_of, render


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_project_is_made_and_what_comes_next_is_said(folder, capsys):
    assert main(["new-plugin", "trainkit-triangle", "--kind", "schedule"]) == 0
    assert files_in(folder) == [
        "trainkit-triangle/.github/workflows/tests.yml",
        "trainkit-triangle/.gitignore",
        "trainkit-triangle/README.md",
        "trainkit-triangle/pyproject.toml",
        "trainkit-triangle/src/trainkit_triangle/__init__.py",
        "trainkit-triangle/src/trainkit_triangle/py.typed",
        "trainkit-triangle/src/trainkit_triangle/recipes/triangle.toml",
        "trainkit-triangle/src/trainkit_triangle/schedule.py",
        "trainkit-triangle/tests/test_triangle.py",
    ]
    out, err = capsys.readouterr()
    assert out == ""
    assert "cd trainkit-triangle\n" in err
    assert "trainkit trainkit_triangle:triangle\n" in err


def test_as_json_it_is_one_object(folder, capsys):
    assert main(["new-plugin", "Lab.Of_mine", "--kind", "loss", "--out", "here/lab", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made.pop("files") == files_in(folder / "here" / "lab")
    assert made == {
        "name": "lab-of-mine",
        "kind": "loss",
        "package": "lab_of_mine",
        "component": "lab_of_mine",
        "class_name": "LabOfMine",
        "folder": str(Path("here/lab")),
        "recipe": "lab_of_mine:lab_of_mine",
    }


def test_quiet_says_nothing(capsys):
    assert main(["new-plugin", "lab-of-mine", "--kind", "loss", "-q"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("lab", "takes a name and a kind"),
        ("--kind schedule", "takes a name and a kind"),
        ("lab --kind loss --template", "--template prints where the template lies, and makes nothing: write it alone"),
        ("lab --kind shedule", "did you mean 'schedule'?  kinds: data, "),
        ("3d-nets --kind model", "the first a letter, with hyphens between them, such as 'plugin-3d-nets'"),
        ("trainkit-3d --kind model", "a component named '3d'"),
        ("trainkit- --kind model", "such as 'trainkit'"),
        ("nets/../x --kind model", "'nets/../x' cannot be the name of a package"),
        ("-- --kind", "new-plugin: "),
        ("Netz\u00fc --kind model", "such as 'netz'"),
        ("\u96ea --kind model", "such as 'my-lab'"),
        (f"{'x' * 41} --kind model", "a name of 41 characters is too long; take at most 40"),
        ("trainkit --kind model", "a module named 'trainkit' is there already"),
        ("trainkit-schedules --kind schedule", "a module named 'trainkit_schedules' is there already"),
        ("numpy --kind data", "a module named 'numpy' is there already"),
        ("Random --kind searcher", "a module named 'random' is there already, and would be hidden"),
        ("trainkit-lambda --kind loss", "'lambda' is a word of Python"),
        ("trainkit-match --kind loss", "'match' is a word of Python"),
        ("trainkit-sum --kind loss", "'sum' is a name that the plugin's own code uses"),
        ("trainkit-loss --kind loss", "'loss' is a name that the plugin's own code uses"),
        ("trainkit-component --kind loss", "'Component' is a name that the plugin's own code uses"),
        ("trainkit-for-events --kind reaction", "'for_events' is a name that the plugin's own code uses"),
        ("trainkit-run-tiny --kind schedule", "'run_tiny' is a name that the plugin's own code uses"),
        ("trainkit-test-time --kind ensembler", "pytest would take a function named 'test_time' for a test; take "),
        ("trainkit-adamw --kind optimizer", "trainkit has optimizer 'adamw' already"),
    ],
)
def test_what_makes_no_plugin_is_one_message_and_nothing_is_made(folder, capsys, words, said):
    assert main(["new-plugin", *words.split()]) == Exit.RECIPE
    out, err = capsys.readouterr()
    assert said in err
    assert out == ""
    assert "Traceback" not in err
    assert list(folder.iterdir()) == []


def test_a_name_that_another_kind_has_is_free(folder):
    assert main(["new-plugin", "trainkit-adamw", "--kind", "schedule", "-q"]) == 0
    assert "trainkit-x-name" not in str(names_of("x-name", "loss"))
    assert main(["new-plugin", "x-name", "--kind", "schedule", "-q"]) == 0


def test_a_plugin_that_is_installed_can_be_made_again(folder, monkeypatch):
    """The package and the component are there, but as the same distribution's."""
    installed = folder / "site"
    for name, group in (("trainkit-again", "trainkit"), ("again-not", "console_scripts")):
        package = name.replace("-", "_")
        info = installed / f"{package}-0.1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{package} = {package}\n")
    made = render(names_of("trainkit-again", "callback"))
    for name in ("__init__.py", "callback.py"):
        path = installed / "trainkit_again" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(made[f"src/trainkit_again/{name}"])
    (installed / "again_not.py").touch()
    monkeypatch.syspath_prepend(str(installed))
    assert main(["list", "callback", "--json"]) == 0
    assert main(["new-plugin", "trainkit-again", "--kind", "callback", "-q"]) == 0
    assert main(["new-plugin", "again-not", "--kind", "callback"]) == Exit.RECIPE
    assert main(["new-plugin", "my-again", "--kind", "callback", "-q"]) == 0
    for name in ("trainkit_again", "trainkit_again.callback"):
        sys.modules.pop(name, None)


# ------------------------------------------------------------ folders


def test_nothing_is_written_over(folder, capsys):
    (folder / "lab-x").mkdir()
    (folder / "lab-x" / "notes.txt").write_text("mine")
    (folder / "file").write_text("mine")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to(folder / "empty")
    for words in ([], ["--out", "file"], ["--out", "link"]):
        assert main(["new-plugin", "lab-x", "--kind", "data", *words]) == Exit.RECIPE
        assert "is there already, and is not an empty folder; name another place with --out DIR" in (
            capsys.readouterr().err
        )
    assert files_in(folder) == ["file", "lab-x/notes.txt"]


def test_an_empty_folder_is_taken(folder):
    (folder / "lab-x").mkdir()
    assert main(["new-plugin", "lab-x", "--kind", "data", "-q"]) == 0
    assert "lab-x/pyproject.toml" in files_in(folder)


@pytest.mark.parametrize("after", [0, 4])
def test_a_full_disk_leaves_nothing_behind(folder, capsys, monkeypatch, after):
    (folder / "lab-x").mkdir()
    write, written = Path.write_bytes, []

    def fails(path: Path, content: bytes) -> int:
        if len(written) == after:
            write(path, content[:3])
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fails)
    assert main(["new-plugin", "lab-x", "--kind", "data"]) == Exit.ENVIRONMENT
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert len(written) == after
    assert list(folder.rglob("*")) == [folder / "lab-x"]


@pytest.mark.parametrize(
    ("place", "why"), [("file/below", "Not a directory"), (f"{'x' * 300}/lab", "File name too long")]
)
def test_a_place_that_cannot_be_is_one_message(folder, capsys, place, why):
    (folder / "file").write_text("mine")
    assert main(["new-plugin", "lab-x", "--kind", "data", "--out", place]) == Exit.ENVIRONMENT
    assert f"cannot be written: {why}; name another place with --out DIR" in capsys.readouterr().err
    assert files_in(folder) == ["file"]


# ------------------------------------------------------------ the template


def test_the_template_is_where_it_says(capsys):
    assert main(["new-plugin", "--template"]) == 0
    assert Path(capsys.readouterr().out.strip()) == TEMPLATE
    assert (TEMPLATE / "copier.yml").is_file()
    assert main(["new-plugin", "--template", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"template": str(TEMPLATE)}


def test_there_is_a_part_for_every_kind():
    parts = {"__init__.py.jinja", "thing.py.jinja", "recipe.toml.jinja", "test.py.jinja", "description.txt"}
    assert {path.name for path in (TEMPLATE / "kinds").iterdir()} == set(KINDS)
    for kind in KINDS:
        assert {path.name for path in (TEMPLATE / "kinds" / kind).iterdir()} == parts


def test_a_new_plugin_asks_for_the_versions_that_its_trainkit_is_one_of():
    major, minor = map(int, __version__.split(".")[:2])
    made = render(names_of("lab-x", "data"))["pyproject.toml"].decode()
    assert f'dependencies = ["trainkit>={major}.{minor},<{major}.{minor + 1}"]' in made


def test_torch_is_not_imported():
    """Nor a template engine, where the command line is wrong."""
    code = (
        "import sys; from trainkit.cli import main; main(sys.argv[1:]);"
        "print(sorted({'torch', 'jinja2', 'numpy'} & set(sys.modules)))"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code, "new-plugin", "lab-x", "--kind", kind], capture_output=True, text=True
        ).stdout.splitlines()[-1]
        for kind in ("loss", "los")
    ]
    assert found == ["['jinja2']", "[]"]


def test_names_in_the_template_are_not_left_unfilled():
    for kind in KINDS:
        for name, content in render(names_of("lab-x", kind)).items():
            assert not re.search(r"(?<!\$)\{\{|\{%|\.jinja", name + content.decode()), (kind, name)
