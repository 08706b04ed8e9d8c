"""``trainkit runs``: which runs are found, which are read, what is shown of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from trainkit.cli import main
from trainkit.runs import find, index
from trainkit.runs.entry import Entry
from trainkit.runs.query import Condition, columns_of, in_order

LONG_AGO = time.time() - 1000.0  # files of this moment are read anew


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINKIT_CACHE", str(tmp_path / "cache"))


def write(file: Path, text: str, at: float = LONG_AGO) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    os.utime(file, (at, at))


def make_run(folder: Path, at: float = LONG_AGO, report: dict[str, Any] | None = None, **tables: Any) -> Path:
    """A run folder; without a report of its own it has finished with an accuracy."""
    recipe = {"recipe": 1, "seed": 5, "run": {"duration": "2ep"}, "optimizer": {"use": "sgd", "lr": 0.1}, **tables}
    write(folder / "recipe.toml", tomli_w.dumps(recipe), at)
    if report is None:
        report = finished(0.5)
    if report:
        write(folder / "report.json", json.dumps(report), at)
    return folder


def finished(accuracy: float) -> dict[str, Any]:
    metrics = {"val.loss": 1 - accuracy, "val.accuracy": accuracy}
    return {"status": "finished", "metrics": metrics, "best": None, "steps": 40, "epochs": 2.0, "seconds": 1.5}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three runs, one of them within a folder, and a study with a trial."""
    root = tmp_path / "runs"
    make_run(root / "a", LONG_AGO, finished(0.7))
    make_run(root / "b", LONG_AGO + 1, finished(0.9), optimizer={"use": "adamw", "lr": 0.003})
    make_run(root / "project" / "c", LONG_AGO + 2, finished(0.8), optimizer={"use": "adamw", "lr": 0.1})
    study = make_run(root / "s", LONG_AGO + 3, {"status": "finished", "best": {"metrics": {"val.accuracy": 0.6}}})
    write(study / "study.jsonl", "{}\n")
    make_run(study / "trials" / "0", LONG_AGO, finished(0.6), seed=1)
    make_run(study / "trials" / "1", LONG_AGO, finished(0.2), seed=2)
    return root


def shown(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> list[dict[str, Any]]:
    assert main(["runs", *words, "--json"]) == code
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["runs"]
    return found


def names(found: list[dict[str, Any]]) -> list[str]:
    return [one["name"] for one in found]


# ---------------------------------------------------------------- which are found


def test_the_newest_come_first_and_trials_only_where_they_are_asked_for(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = shown(capsys, str(root))
    assert [(one["name"], one["kind"]) for one in found] == [
        *(("s", "study"), ("project/c", "run"), ("b", "run"), ("a", "run")),
    ]
    assert set(names(shown(capsys, str(root), "--trials"))) == {"a", "b", "project/c", "s", "s/trials/0", "s/trials/1"}
    assert names(shown(capsys, str(root / "s"), "--sort", "val.accuracy")) == ["trials/0", "trials/1"]


def test_filters_and_order(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert names(shown(capsys, str(root), "--filter", "optimizer.use=adamw")) == ["project/c", "b"]
    both = ("--filter", "optimizer.use=adamw", "--filter", "optimizer.lr<0.01")
    assert names(shown(capsys, str(root), *both)) == ["b"]
    assert names(shown(capsys, str(root), "--sort", "val.accuracy")) == ["b", "project/c", "a", "s"]
    assert names(shown(capsys, str(root), "--sort", "val.accuracy", "--reverse")) == ["s", "a", "project/c", "b"]
    assert names(shown(capsys, str(root), "--sort", "val.loss")) == ["b", "project/c", "a", "s"]  # the study has none
    assert names(shown(capsys, str(root), "--sort", "val.accuracy", "--limit", "1")) == ["b"]
    assert names(shown(capsys, str(root), "--filter", "kind=study", "--filter", "status=finished")) == ["s"]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("optimizer.lr=0.10", True),
        ("optimizer.lr=1e-1", True),
        ("optimizer.lr!=0.1", False),
        ("optimizer.lr <= 0.1", True),
        ("optimizer.lr<0.1", False),
        ("optimizer.lr>nothing", False),
        ("optimizer.use=adam*", True),
        ("optimizer.use='adamw'", False),
        ('optimizer.use="adamw"', True),
        ("optimizer.nesterov=true", True),
        ("optimizer.nesterov>0", False),
        ("callback=ema", True),
        ("callback!=ema", False),
        ("callback=swa", False),
        ("model.widths=[8, 16]", True),
        ("model.widths=[8,16]", True),
        ("model.widths=8", True),
        ("val.accuracy>=0.9", True),
        ("missing=1", False),
        ("missing!=1", True),
        ("missing>1", False),
        ("name=b", True),
        ("changed>=2001-01-01", True),
        ("run.duration=2ep", True),
    ],
)
def test_conditions(text: str, holds: bool) -> None:
    recipe = {
        "optimizer.use": "adamw",
        "optimizer.lr": 0.1,
        "optimizer.nesterov": True,
        "callback": ["clip_norm", "ema"],
        "model.widths": [8, 16],
        "run.duration": "2ep",
    }
    entry = Entry("b", "run", "finished", LONG_AGO, recipe, {"val.accuracy": 0.9})
    assert Condition.read(text).holds(entry) is holds


def test_what_is_not_there_comes_last_in_either_order() -> None:
    some = [
        Entry(name, "run", "", 0.0, {}, {} if value is None else {"val.x": value})
        for name, value in (("a", 1.0), ("b", None), ("c", 3), ("d", float("nan")), ("e", "text"))
    ]
    assert [one.name for one in in_order(some, "val.x", False)] == ["c", "a", "e", "b", "d"]
    assert [one.name for one in in_order(some, "val.x", True)] == ["a", "c", "e", "b", "d"]


def test_columns_are_what_was_asked_for_and_what_differs(root: Path) -> None:
    columns = columns_of(index.entries(root), ["seed"])
    assert columns == [
        *("name", "kind", "status", "seed", "val.accuracy", "val.loss", "optimizer.use", "optimizer.lr", "changed"),
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--filter", "optimizer.us=sgd"], "did you mean 'optimizer.use'?"),
        (["--sort", "val.acuracy"], "did you mean 'val.accuracy'?"),
        (["--columns", "optimizer.lr,nothing"], "'nothing': no run here has such a value"),
        (["--filter", "optimizer.use"], "write a name, = != < <= > or >="),
        (["--limit", "-1"], "write a whole number"),
        (["--json", "--markdown"], "not both"),
    ],
)
def test_a_wrong_word_is_named(root: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    assert main(["runs", str(root), *words]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_that_is_not_there_and_one_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr() == ("", f"{tmp_path}: there are no runs in it\n")


# ---------------------------------------------------------------- what is shown


def test_the_table_as_text_and_as_markdown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["runs", str(root), "--sort", "val.accuracy", "--columns", "optimizer.lr, val.accuracy", "--limit", "2"]
    assert main(asked) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "name       optimizer.lr  val.accuracy",
        "b          0.003         0.9",
        "project/c  0.1           0.8",
    ]
    assert err == "4 runs, 2 shown; --limit 0 shows all\n"
    assert main([*asked, "--markdown"]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "| b | 0.003 | 0.9 |"


def test_a_run_that_goes_on_shows_its_newest_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "runs" / "a", report={})
    line = {"step": 20, "epoch": 1, "split": "val", "time": 0.5, "loss": 0.75, "lr/0": 0.1}
    old = json.dumps({**line, "step": 10, "loss": 0.9}) + "\n"
    write(folder / "metrics.jsonl", old * 500 + json.dumps(line) + '\n{"step": 30, "epo')
    (one,) = shown(capsys, str(tmp_path / "runs"))
    assert one["status"] == "unfinished"
    assert one["results"] == {"val.loss": 0.75, "steps": 20, "epochs": 1, "seconds": 0.5}


def test_what_a_stranger_left_is_shown_without_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "runs"
    make_run(root / "evil", optimizer={"use": "\x1b[2J<script>|", "lr": 0.1})
    write(root / "broken" / "recipe.toml", "recipe = ")
    write(root / "deep" / "recipe.toml", "a = " + "[" * 5000)
    write(make_run(root / "list") / "report.json", "[1]")
    outside = make_run(tmp_path / "outside")
    (root / "link").symlink_to(outside)
    (root / "linked").mkdir()
    (root / "linked" / "recipe.toml").symlink_to(outside / "recipe.toml")
    assert main(["runs", str(root), "--columns", "status,optimizer.use", "--sort", "name", "--markdown"]) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert out.splitlines()[2:] == [
        "| broken | unreadable |  |",
        "| deep | unreadable |  |",
        r"| evil | finished | \x1b\[2J\<script\>\| |",
        "| linked | unreadable |  |",
        "| list | unreadable | sgd |",
    ]
    assert "linked: recipe.toml cannot be read: it is a link, not a file" in err


# ---------------------------------------------------------------- what is read


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the folders whose files are read."""
    made: list[str] = []

    def counted(place: find.Place) -> Entry:
        made.append(place.name)
        return find.read(place)

    monkeypatch.setattr(index, "read", counted)
    return made


def test_only_what_has_changed_is_read_again(root: Path, reads: list[str]) -> None:
    first = index.entries(root)
    assert sorted(reads) == ["a", "b", "project/c", "s"]
    del reads[:]
    assert index.entries(root) == first
    assert reads == []
    write(root / "a" / "report.json", json.dumps(finished(0.1)), LONG_AGO + 5)
    make_run(root / "new", LONG_AGO + 6)
    (root / "b" / "recipe.toml").unlink()
    again = {entry.name: entry for entry in index.entries(root)}
    assert sorted(reads) == ["a", "new"]
    assert again.keys() == {"a", "new", "project/c", "s"}
    assert again["a"].results["val.accuracy"] == 0.1
    del reads[:]
    assert {entry.name: entry for entry in index.entries(root)} == again
    assert reads == []


def test_what_was_written_this_moment_is_not_remembered(tmp_path: Path, reads: list[str]) -> None:
    make_run(tmp_path / "runs" / "a", time.time())
    for _ in range(2):
        index.entries(tmp_path / "runs")
    assert reads == ["a", "a"]


@pytest.mark.parametrize("text", ["", "[1]", '{"format": 99}', '{"format": 1, "entries": {"a": [1]}}', "[" * 9999])
def test_an_index_of_another_form_is_no_index(root: Path, reads: list[str], tmp_path: Path, text: str) -> None:
    first = index.entries(root)
    (file,) = (tmp_path / "cache" / "runs").iterdir()
    file.write_text(text)
    del reads[:]
    assert index.entries(root) == first
    assert len(reads) == 4


def test_it_works_where_nothing_can_be_remembered(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    assert len(index.entries(root)) == 4


def test_torch_is_not_imported(root: Path) -> None:
    code = f"import sys; from trainkit.cli import main; main(['runs', {str(root)!r}]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
