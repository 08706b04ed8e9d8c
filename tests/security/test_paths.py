"""Paths of recipes, their bases and run folders stay where the user has put them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.security.conftest import RECIPE
from trainkit.cli import main


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with data in it and a secret beside it."""
    home = tmp_path / "home"
    home.mkdir()
    rows = "x,y\n" + "".join(f"{n},{n * 0.5}\n" for n in range(64))
    (home / "data.csv").write_text(rows, encoding="utf-8")
    (tmp_path / "secret.csv").write_text(rows, encoding="utf-8")
    (home / "inner").mkdir()
    (home / "inner" / "more.csv").write_text(rows, encoding="utf-8")
    (home / "link.csv").symlink_to(tmp_path / "secret.csv")
    (home / "out").symlink_to(tmp_path)
    (home / "inside.csv").symlink_to("inner/more.csv")
    os.mkfifo(home / "pipe.csv")
    monkeypatch.chdir(home)
    monkeypatch.delenv("TRAINKIT_DATA", raising=False)
    return home


def answer(capsys, path: str, *words: str) -> tuple[int, str]:
    Path("r.toml").write_text(RECIPE.format(path=f"'{path}'"), encoding="utf-8")
    code = main(["r.toml", "--smoke", "-q", *words])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("path", ["data.csv", "inner/more.csv", "./inner/../data.csv", "inside.csv", "{home}/data.csv"])
def test_paths_within_are_read(place, capsys, path):
    assert answer(capsys, path.format(home=place)) == (0, "")


@pytest.mark.parametrize(
    "path",
    [
        *("../secret.csv", "inner/../../secret.csv", "{tmp}/secret.csv", "link.csv", "out/secret.csv"),
        *("/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/environ", "~/secret.csv"),
        *("..", "/", "inner/../../home2/x"),
    ],
)  # fmt: skip
def test_paths_that_lead_out_are_a_problem_with_its_line(place, capsys, path):
    code, err = answer(capsys, path.format(tmp=place.parent))
    assert code == 2
    assert "r.toml:11: [data] path leads out of the folders that a recipe may read, to /" in err
    assert "data.path=/" in err


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nothing/$(touch x)/a.csv", "command line: 'data.path=/nothing/$(touch x)/a.csv'\n"),
        (f"/nothing/{'a' * 90}.csv", f"command line: data.path=/nothing/{'a' * 90}.csv\n"),
    ],
    ids=lambda value: value[:12],
)
def test_what_is_to_be_typed_instead_is_one_word_for_a_shell(place, capsys, path, words):
    code, err = answer(capsys, path)
    assert (code, words in err) == (2, True), err


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("pipe.csv", 'must be a file or folder, and "pipe.csv" is a pipe'),
        ("x" * 5000, "cannot be a path: File name too long"),
        ("~nobody-at-all/x.csv", "cannot be a path: Could not determine home directory"),
    ],
    ids=lambda value: value[:12],
)
def test_what_is_no_file_is_a_problem_and_waited_for_by_nobody(place, capsys, path, reason):
    code, err = answer(capsys, path)
    assert (code, reason in err) == (2, True), err


SEARCH = """\
[search]
use = "random"
trials = 2
executor = "serial"
warm_start = {warm}
[search.space]
"{setting}" = {space}
"""


@pytest.mark.parametrize(
    ("warm", "setting", "space", "said"),
    [
        ('["study", "../other"]', "optimizer.lr", "[0.1, 0.2]", "r.toml:23: [search] warm_start leads out of the fold"),
        ('["/etc"]', "optimizer.lr", "[0.1, 0.2]", 'search.warm_start=["/etc"]'),
        ("[]", "data.path", '["data.csv", "../secret.csv"]', "r.toml:25: [data] path leads out of the folders"),
    ],
)
def test_a_search_reads_nothing_outside_either(place, capsys, warm, setting, space, said):
    text = RECIPE.format(path="'data.csv'") + SEARCH.format(warm=warm, setting=setting, space=space)
    Path("r.toml").write_text(text, encoding="utf-8")
    assert main(["validate", "r.toml"]) == 2
    assert said in capsys.readouterr().err


def test_trials_read_what_the_user_names_in_processes_of_their_own_too(place, capsys):
    text = RECIPE.format(path="'data.csv'")
    text += SEARCH.format(warm="[]", setting="optimizer.lr", space="[0.1, 0.2]").replace(
        '"serial"', '{ use = "processes", workers = 1 }'
    )
    Path("r.toml").write_text(text, encoding="utf-8")
    assert main(["r.toml", "--run-dir", "s", "-q", f"data.path={place.parent / 'secret.csv'}"]) == 0
    report = json.loads(Path("s/report.json").read_text(encoding="utf-8"))
    assert report["trials"] == {"done": 2}
    assert "test" in report["best"]
    assert "TRAINKIT_DATA" not in os.environ


def test_the_user_may_name_any_file_or_folder(place, capsys, monkeypatch):
    outside = str(place.parent / "secret.csv")
    assert answer(capsys, "data.csv", f"data.path={outside}")[0] == 0
    monkeypatch.setenv("TRAINKIT_DATA", os.pathsep.join([str(place), str(place.parent)]))
    assert answer(capsys, outside)[0] == 0
    assert answer(capsys, "data.csv")[0] == 0


def test_what_lies_beside_the_recipe_may_be_read(place, capsys, monkeypatch):
    (place / "r.toml").write_text(RECIPE.format(path=f"'{place}/data.csv'"), encoding="utf-8")
    monkeypatch.chdir(place.parent)
    assert main([str(place / "r.toml"), "--smoke", "-q"]) == 0


@pytest.mark.parametrize(
    "base",
    ["/etc/passwd", "../secret.csv", "link.toml", "pipe.toml", "inner.toml", "a\\u0000.toml", "~/x.toml", "os:p"],
)
def test_bases_are_recipes_and_nothing_else(place, capsys, base):
    Path("link.toml").symlink_to("/etc/passwd")
    os.mkfifo("pipe.toml")
    Path("inner.toml").mkdir()
    Path("r.toml").write_text(f'extends = "{base}"\n', encoding="utf-8")
    assert main(["validate", "r.toml"]) in (2, 3)
    err = capsys.readouterr().err
    assert "root:" not in err, "no line of a file that is no recipe is shown"


@pytest.fixture
def run(place, capsys) -> Path:
    """A run folder that could go on."""
    Path("r.toml").write_text(RECIPE.format(path="'data.csv'"), encoding="utf-8")
    assert main(["r.toml", "--run-dir", "run", "-q"]) == 0
    capsys.readouterr()
    return place / "run"


@pytest.mark.parametrize(
    "name",
    ["recipe.toml", "metrics.jsonl", "log.txt", "report.json", "report.html", "best.json", ".lock", "curves.png"],
)
def test_a_link_out_of_a_run_folder_is_refused_and_what_it_leads_to_left_alone(run, capsys, name):
    victim = run.parent.parent / "victim"
    content = (run / name).read_bytes() if (run / name).exists() else b"mine"
    victim.write_bytes(content)
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(victim)
    longer = ["run.duration=2ep", "run.on_length_change=rescale", "-q"]
    ways = (
        ["resume", "run", *longer],
        ["evaluate", "run"],
        ["report", "run", "--html", "run/report.html"],
        ["r.toml", "--run-dir", "run", "--resume", *longer],
    )
    for words in ways:
        assert main(words) == 3
        assert f"{name}: it is a link out of the run folder, to {victim}" in capsys.readouterr().err
    assert victim.read_bytes() == content


@pytest.mark.parametrize(
    "name", ["checkpoints", "checkpoints/.spare", "checkpoints/step-000000000099", "metrics.jsonl"]
)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_part_of_a_run_is_refused_without_waiting(run, capsys, name, kind):
    path = run / name
    if path.exists():
        path.rename(run.parent / "moved")
    if kind == "link":
        path.symlink_to(run.parent.parent)
    else:
        os.mkfifo(path)
    assert main(["resume", "run", "run.duration=2ep", "run.on_length_change=rescale", "-q"]) in (3, 5)
    assert f"{path.name}: it is a {kind}" in capsys.readouterr().err


def test_a_lock_that_is_a_link_empties_no_file(place, capsys):
    (place / "new").mkdir()
    victim = place.parent / "victim"
    victim.write_text("mine", encoding="utf-8")
    (place / "new" / ".lock").symlink_to(victim)
    assert answer(capsys, "data.csv")[0] == 0
    assert main(["r.toml", "--run-dir", "new", "-q"]) == 3
    assert victim.read_text(encoding="utf-8") == "mine"
