"""``trainkit report`` of a run, and the logger that writes its page."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.conftest import PICTURES, run_of
from trainkit.arguments import REPEATS
from trainkit.cli import main
from trainkit.errors import MachineError
from trainkit.manager import Plugins
from trainkit.report import command, ending, watch
from trainkit.report import open as opening


@pytest.fixture
def copy(pictures: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pictures, tmp_path / "run"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Which splits were looked at."""
    seen: list[Any] = []
    known = opening.look_into
    monkeypatch.setattr(
        opening, "look_into", lambda folder, split, *given: seen.append(split) or known(folder, split, *given)
    )
    return seen


def test_words_need_no_model(pictures: Path, capsys: pytest.CaptureFixture[str], opened: list[Any]) -> None:
    before = sorted(path.name for path in pictures.iterdir())
    assert main(["report", str(pictures)]) == 0
    out = capsys.readouterr().out
    report = json.loads((pictures / "report.json").read_text())
    assert out.startswith(f"{pictures}: finished (all planned updates made)\n")
    assert f"{report['metrics']['test.accuracy']:.5g}" in out
    assert opened == []
    assert sorted(path.name for path in pictures.iterdir()) == before


def test_json_is_one_object(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(pictures), "--json", "--split", "test"]) == 0
    found = json.loads(capsys.readouterr().out)
    report = json.loads((pictures / "report.json").read_text())
    assert found["status"] == "finished"
    assert found["figures"]["accuracy"]["last"]["val"] == report["metrics"]["val.accuracy"]
    assert found["best"] == report["best"]
    assert found["predictions"]["split"] == "test"
    assert found["predictions"]["accuracy"] == pytest.approx(report["metrics"]["test.accuracy"], abs=1e-12)
    assert found["html"] is None
    assert found["times"]["updates"] > 0


def test_a_page_shows_the_split_that_is_named(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], opened: list[Any]
) -> None:
    assert main(["report", str(pictures), "--html", str(tmp_path / "a.html")]) == 0
    assert "Predictions on val" in (tmp_path / "a.html").read_text()
    assert main(["report", str(pictures), "--html", str(tmp_path / "b.html"), "--split", "test"]) == 0
    assert "Predictions on test" in (tmp_path / "b.html").read_text()
    assert opened == [None, "test"]
    assert str(tmp_path / "b.html") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--html", "page.txt"], 2, "name a file that ends in .html"),
        (["--html", "nowhere/page.html"], 3, "there is no folder nowhere"),
        (["--split", "valid"], 2, "invalid choice"),
        (["--top", "0"], 2, "--top 0"),
    ],
)
def test_wrong_words_are_said_before_any_work(
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(pictures), *words]) == code
    assert said in capsys.readouterr().err


def test_a_split_that_the_data_lacks(tmp_path: Path, plugins: Plugins, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_of(PICTURES, tmp_path, plugins, "data.test=0.0", "logger=[]", "run.duration=1ep")
    assert main(["report", str(folder), "--split", "test"]) == 2
    assert "the data has no such split" in capsys.readouterr().err


def test_what_holds_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    (tmp_path / REPEATS).write_text('{"over": "seed", "runs": []}')
    assert main(["report", str(tmp_path)]) == 2
    assert f"trainkit compare {tmp_path}" in capsys.readouterr().err


def test_a_run_whose_model_cannot_be_built_has_a_page_that_says_so(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copy / "checkpoints")
    assert main(["report", str(copy), "--html", str(copy / "page.html")]) == 0
    assert "what the model predicts is not shown" in capsys.readouterr().err
    page = (copy / "page.html").read_text()
    assert "what the model predicts is not shown" in page
    assert "Predictions on" not in page


def test_a_run_that_has_not_ended_is_not_built(copy: Path, opened: list[Any]) -> None:
    (copy / "report.json").unlink()
    assert main(["report", str(copy), "--html", str(copy / "page.html"), "-q"]) == 0
    assert opened == []
    assert "the run has not ended: --split val shows" in (copy / "page.html").read_text()
    assert main(["report", str(copy), "--html", str(copy / "page.html"), "--split", "val", "-q"]) == 0
    assert opened == ["val"]


def test_watching_ends_with_the_whole_page(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], opened: list[Any]
) -> None:
    report = (copy / "report.json").read_text()
    (copy / "report.json").unlink()
    pages: list[str] = []

    def sleep(seconds: float) -> None:
        pages.append((copy / "report.html").read_text())
        (copy / "report.json").write_text(report)

    monkeypatch.setattr(watch.time, "sleep", sleep)
    monkeypatch.setattr(watch, "watch", lambda *given: known(*given, sleep))
    assert main(["report", str(copy), "--watch"]) == 0
    assert "its process is at work" not in pages[0]
    assert "Predictions on val" not in pages[0]
    assert "Predictions on val" in (copy / "report.html").read_text()
    assert opened == [None]
    assert "made anew" in capsys.readouterr().err


known = watch.watch


def test_a_page_that_cannot_be_written_is_said(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "write_atomically", full)
    assert main(["report", str(copy), "--html", str(copy / "page.html"), "-q"]) == MachineError.exit_code


# ------------------------------------------------------------ at the end of a run


def test_the_logger_writes_the_page_that_the_verb_writes(pictures: Path, numbers: Path) -> None:
    page = (pictures / "report.html").read_text()
    assert "Predictions on val" in page
    assert "finished (all planned updates made)" in page
    other = (numbers / "report.html").read_text()
    assert "--html FILE --split val shows what the model predicts" in other
    assert "Predictions on" not in other


def test_what_was_decided_on_the_way_is_marked_at_once_and_later(tmp_path: Path, plugins: Plugins) -> None:
    changes = 'schedule={use="constant", react=[{use="plateau", patience=0}]}', "optimizer.lr=2.0", "run.duration=8ep"
    folder = run_of(PICTURES, tmp_path, plugins, *changes)
    assert main(["report", str(folder), "--html", str(tmp_path / "later.html"), "-q"]) == 0
    found = [
        re.findall(r"Decided from figures: ([^<]*)<", page.read_text())
        for page in (folder / "report.html", tmp_path / "later.html")
    ]
    assert found[0] == found[1]
    assert re.fullmatch(r"(update \d+: plateau reduce(; )?)+", found[0][0])


def test_it_changes_nothing_of_the_run(pictures: Path, tmp_path: Path, plugins: Plugins) -> None:
    without = run_of(PICTURES, tmp_path, plugins, "logger=[]")
    same = ("weights_sha256", "metrics", "best", "steps")
    reports = [json.loads((folder / "report.json").read_text()) for folder in (pictures, without)]
    assert [reports[0][key] for key in same] == [reports[1][key] for key in same]
    assert not (without / "report.html").exists()


def test_a_page_that_cannot_be_made_fails_no_run(
    tmp_path: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any) -> str:
        raise ValueError("no page")

    monkeypatch.setattr(ending.RunPage, "html", broken)
    folder = run_of(PICTURES, tmp_path, plugins, "run.duration=1ep")
    assert json.loads((folder / "report.json").read_text())["status"] == "finished"
    assert not (folder / "report.html").exists()
    assert "logger 'report' failed in trainkit_run_end" in (folder / "log.txt").read_text()


@pytest.mark.parametrize("split", ["test", "train", "none"])
def test_the_split_is_the_one_that_is_named(
    tmp_path: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    from trainkit.report import look

    seen: list[str] = []
    known = look.look_at
    monkeypatch.setattr(look, "look_at", lambda run, split: seen.append(split) or known(run, split))
    changes = f'logger=[{{use="report", split="{split}"}}]', "run.duration=1ep", "data.val=0.0"
    folder = run_of(PICTURES, tmp_path, plugins, *changes)
    assert seen == [split] * (split != "none")
    assert (folder / "report.html").is_file()


def test_a_run_that_fails_is_not_evaluated(tmp_path: Path, plugins: Plugins) -> None:
    from trainkit.errors import RunError

    with pytest.raises(RunError):
        run_of(PICTURES, tmp_path, plugins, "optimizer.lr=1e30")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "the run failed" in page
    assert "Predictions on" not in page


def test_progress_shows_no_evaluation_that_is_none_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.toml").write_text(PICTURES)
    assert main(["run", str(tmp_path / "r.toml"), "run.duration=2ep", "--run-dir", str(tmp_path / "run")]) == 0
    err = capsys.readouterr().err
    assert err.count("epoch 2/2") == 1
    assert str(tmp_path / "run" / "report.html") in err
