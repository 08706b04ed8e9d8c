"""``trainkit report``: the table of the best trials, verdicts, front, findings; while a search runs and after it."""

from __future__ import annotations

import json
import operator
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.search.conftest import Searching
from trainkit.cli import main
from trainkit.errors import UsageError
from trainkit.manager import Plugins
from trainkit.report.whole import StudyPage, write_page
from trainkit.search.log import NAME
from trainkit.search.naming import point_text, short_names, value_text
from trainkit.search.table import rows, show_study
from trainkit.space import Dimension, Space
from trainkit.trial import Objective, Record, Study, Trial

LINE = Space((Dimension("optimizer.lr", "float", 1e-3, 1.0, "log"),))


def record(number: int, value: float, train: float | None = None, status: Any = "done", **more: Any) -> Record:
    """A trial with an accuracy on validation samples, and one on training samples."""
    trial = Trial(number, {"optimizer.lr": 0.1}, status, (-value,), trained=1.0, **more)
    metrics = {"val.accuracy": value} if train is None else {"val.accuracy": value, "train.accuracy": train}
    return Record(trial, (value,), metrics=metrics)


def study(*records: Record, objectives: tuple[Objective, ...] = (Objective("val.accuracy", "max"),)) -> Study:
    return Study(Path("study"), "random", LINE, objectives, len(records), 0, list(records))


def test_verdicts_hold_trials_against_the_best_one():
    made = study(
        record(0, 0.90, 0.95),  # the best
        record(1, 0.88, 0.99),  # better than it where it was trained, worse where it was not
        record(2, 0.85, 0.89),  # worse even where it was trained
        record(3, 0.86, 0.92),  # neither
        record(4, 0.87),  # nothing is known of its training samples
        record(5, 0.895, 0.95),
        record(6, 0.99, 0.99, final=False),  # a shorter run, which does not compare
        record(7, 0.99, 0.99, "pruned"),
    )
    made.findings = {"ties": [5]}
    found = {row.record.trial.number: row for row in rows(made)}
    assert list(found) == [0, 5, 1, 4, 3, 2]
    assert [row.verdict for row in found.values()] == ["best", "ties", "overfits", "worse", "worse", "underfits"]
    assert found[1].gap == pytest.approx(0.11)
    assert (found[4].train, found[4].gap) == (None, None)


def test_a_gap_is_positive_where_validation_is_worse_whichever_way_is_good():
    trial = Trial(0, {"optimizer.lr": 0.1}, "done", (0.5,), trained=1.0)
    made = Record(trial, (0.5,), metrics={"val.loss": 0.5, "train.loss": 0.2})
    assert rows(study(made, objectives=(Objective("val.loss"),)))[0].gap == pytest.approx(0.3)


def test_a_front_comes_first_and_its_first_trial_is_the_best():
    def one(number: int, accuracy: float, size: float) -> Record:
        trial = Trial(number, {"optimizer.lr": 0.1}, "done", (-accuracy, size), trained=1.0)
        return Record(trial, (accuracy, size))

    objectives = (Objective("val.accuracy", "max"), Objective("parameters"))
    made = study(one(0, 1.0, 90), one(1, 1.0, 50), one(2, 0.8, 10), one(3, 0.7, 20), objectives=objectives)
    found = [(row.record.trial.number, row.verdict) for row in rows(made)]
    assert found == [(1, "front"), (2, "front"), (0, "beaten"), (3, "beaten")]
    best = made.best()
    assert best is not None
    assert best.trial.number == 1


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=40))
def test_a_front_is_what_no_other_trial_beats(values: list[tuple[int, int, int]]) -> None:
    objectives = tuple(Objective(figure) for figure in ("val.loss", "parameters", "seconds"))
    records = [record(number, 0.0) for number in range(len(values))]
    for one, own in zip(records, values, strict=True):
        one.trial.values = tuple(map(float, own))
    beaten = [any(a != b and all(map(operator.le, a, b)) for a in values) for b in values]
    wanted = sorted((own, number) for number, own in enumerate(values) if not beaten[number])
    assert [one.trial.number for one in study(*records, objectives=objectives).front()] == [n for _, n in wanted]


def test_names_are_as_short_as_can_be_told_apart():
    names = short_names(
        ["optimizer", "optimizer#0.lr", "optimizer#1.lr", "schedule.use", "model.widths.0", "loss.a", "metric.0.a"]
    )
    assert names["optimizer#0.lr"] == names["optimizer#1.lr"] == "lr"
    assert [names["optimizer"], names["schedule.use"], names["model.widths.0"]] == ["optimizer", "schedule", "widths.0"]
    assert [names["loss.a"], names["metric.0.a"]] == ["loss.a", "metric.0.a"]
    assert short_names(["optimizer.use", "optimizer"]) == {"optimizer.use": "optimizer.use", "optimizer": "optimizer"}
    point = {"optimizer": {"use": "adamw"}, "optimizer#1.lr": 0.01234567, "schedule.use": "cosine"}
    assert point_text(point) == "optimizer adamw, lr 0.01235, schedule cosine"
    assert value_text({"use": "sgd", "momentum": 0.9}) == "sgd(momentum=0.9)"
    assert value_text([64, 32]) == "[64, 32]"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search with folds."""
    from tests.search.conftest import RECIPE

    folder = tmp_path_factory.mktemp("searched")
    (folder / "search.toml").write_text(RECIPE, encoding="utf-8")
    changes = ("search.objective=val.accuracy", "search.folds=2")
    Searching(folder / "search.toml", without=())(folder / "s", *changes)
    return folder / "s"


def test_a_finished_study_is_shown_and_left_as_it_is(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: (searched / name).read_bytes() for name in (NAME, "report.json", "recipe.toml", "best.toml")}
    assert main(["report", str(searched), "--top", "3"]) == 0
    out, said = capsys.readouterr()
    assert said == ""
    lines = out.splitlines()
    assert lines[0] == f"{searched}: finished (all 4 trials made)"
    assert "objective   val.accuracy (higher is better)" in out
    assert "4 done, 2 runs each" in out
    place = next(n for n, line in enumerate(lines) if line.startswith("trial "))
    heads = ["trial", "val.accuracy", "on", "train", "gap", "epochs", "seconds", "lr", "widths.0", "verdict"]
    assert lines[place].split() == heads
    assert "+-" in lines[place + 1]
    assert lines[place + 1].split()[-1] == "best"
    assert lines[place + 4] == ""
    assert "winner: trial " in out
    assert "which nothing was chosen by" in out
    for name in ("best.toml", "history.png", "slices.png", "parallel.png"):
        assert str(searched / name) in out
    assert {name: (searched / name).read_bytes() for name in before} == before


def test_json_has_all_that_is_shown(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(searched), "--json", "--top", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["searcher"], found["status"], found["trials"]) == ("random", "finished", {"done": 4})
    assert found["objectives"] == [{"figure": "val.accuracy", "mode": "max"}]
    assert [set(row) >= {"trial", "value", "spread", "gap", "train", "verdict", "point"} for row in found["table"]]
    assert len(found["table"]) == 2
    assert found["table"][0]["trial"] == found["best"]["trial"]
    assert found["table"][0]["value"] >= found["table"][1]["value"]
    assert found["findings"] == json.loads((searched / "report.json").read_text())["findings"]
    pictures = ["history.png", "parallel.png", "slices.png", "timeline.png"]  # too few trials for others
    assert [Path(picture).name for picture in found["pictures"]] == pictures
    assert found["html"] == str(searched / "report.html")


def test_a_study_is_shown_while_it_runs(searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "s"
    shutil.copytree(searched, folder, ignore=shutil.ignore_patterns("report.json", "best.toml", "*.png"))
    lines = (searched / NAME).read_text().splitlines(keepends=True)
    rests = [place for place, line in enumerate(lines) if json.loads(line)["event"] == "done"]
    cut = "".join(lines[: rests[1] + 1]) + '{"event": "as'  # a line that is being written
    (folder / NAME).write_text(cut)
    assert main(["report", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith(f"{folder}: running (")
    assert "2 done" in out
    assert f"to go on    trainkit resume {folder}, if it was killed" in out
    assert "winner: " not in out
    assert (folder / "history.png").stat().st_size > 0
    drawn = (folder / "history.png").stat().st_mtime_ns
    assert main(["report", str(folder), "-q"]) == 0
    assert (folder / "history.png").stat().st_mtime_ns == drawn, "drawn again, though the search runs"
    assert (folder / NAME).read_text() == cut
    (folder / NAME).write_text(lines[0])
    capsys.readouterr()
    assert main(["report", str(folder)]) == 0
    assert "none yet" in capsys.readouterr().out


def test_a_study_that_was_stopped_at_its_winner_is_shown_as_stopped(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "s"
    shutil.copytree(searched, folder)
    report = json.loads((folder / "report.json").read_text()) | {"status": "interrupted", "reason": "signal SIGINT"}
    (folder / "report.json").write_text(json.dumps(report))
    assert main(["report", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == f"{folder}: interrupted (signal SIGINT)"
    assert f"to go on    trainkit resume {folder}\n" in out


@pytest.mark.parametrize("findings", [3, {"importances": [1], "findings": {}, "edges": 1, "ties": "x"}, {"ties": [1]}])
def test_findings_that_nobody_wrote_are_found_out_anew(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], findings: object
) -> None:
    folder = tmp_path / "s"
    shutil.copytree(searched, folder)
    report = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps({**report, "findings": findings}))
    assert main(["report", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == report["findings"]


def test_what_is_no_study_is_said(searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no study"):
        show_study(searched / "trials/0000/run-0", Plugins(), 10, False, print)
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert main(["report", str(searched), "--top", "0"]) == 2
    assert "--top 0" in capsys.readouterr().err


def test_a_page_leads_to_those_of_the_best_trials(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        assert (searched / f"trials/000{number}/run-1/report.html").is_file(), "made with the study's own"
    page = tmp_path / "here" / "study.html"
    page.parent.mkdir()
    assert main(["report", str(searched), "--html", str(page), "--without", "reports"]) == 0
    out, said = capsys.readouterr()
    assert said == ""
    assert out.splitlines()[-1] == f"  {page}"
    for folder, file in ((page.parent, page), (searched, searched / "report.html")):
        leads = re.findall('<a href="([^"#]+)"', file.read_text())
        assert {Path(lead).name for lead in leads} == {"best.toml", "report.html"}
        assert all((folder / unquote(lead)).is_file() for lead in leads)
    assert main(["report", str(searched), "--html", str(page), "--json", "--without", "reports"]) == 0
    assert json.loads(capsys.readouterr().out)["html"] == str(page)


def test_a_page_that_cannot_be_written_is_said_before_anything_is_done(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(searched), "--html", str(tmp_path / "page.png")]) == 2
    assert main(["report", str(searched), "--html", str(tmp_path / "nowhere/page.html")]) == 3
    (tmp_path / "folder.html").mkdir()
    assert main(["report", str(searched), "--html", str(tmp_path / "folder.html")]) == 3
    assert "folder.html: cannot be written" in capsys.readouterr().err


def test_a_search_is_watched_until_it_is_over(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "s"
    shutil.copytree(searched, folder, ignore=shutil.ignore_patterns("report.*", "best.toml", "*.png"))
    lines = (searched / NAME).read_text().splitlines(keepends=True)
    (folder / NAME).write_text("".join(lines[: len(lines) // 2]))
    made: list[str] = []

    def follow(place: Path, file: Path, update: Callable[[], bool], html: Callable[[float | None], str]) -> str:
        assert (place, file) == (folder, folder / "report.html")
        assert [update(), update()] == [True, False]
        made.append(html(2.0))
        (folder / NAME).write_text("".join(lines))
        assert [update(), update()] == [True, False]
        made.append(html(2.0))
        shutil.copy(searched / "report.json", folder)
        return "ended"

    told: list[str] = []
    assert write_page(folder, Plugins(), None, follow, told.append) == folder / "report.html"
    assert "made anew while it goes on" in told[0]
    assert "not over yet" in made[0]
    assert "finished: all 4 trials made" in made[1]
    assert all("Best trials" in page for page in made)
    assert main(["report", str(folder), "--watch", "--without", "reports"]) == 0, "one that is over is shown once"
    assert capsys.readouterr().out.splitlines()[-1] == f"  {folder / 'report.html'}"


def test_a_study_is_shown_without_torch(searched: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"  # an import of it is an error
        "from trainkit.cli import main\n"
        f"sys.exit(main(['report', {str(searched)!r}, '--html', {str(tmp_path / 'a.html')!r}, '--without', 'reports']))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert (tmp_path / "a.html").is_file()


@pytest.mark.parametrize("name", ["report.html", "contour.png", "study.jsonl", "trials"])
def test_a_link_out_of_a_study_is_not_followed(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder, victim = tmp_path / "s", tmp_path / "victim"
    shutil.copytree(searched, folder)
    (folder / name).rename(victim) if (folder / name).exists() else victim.write_text("mine")
    (folder / name).symlink_to(victim)
    before = sorted(victim.rglob("*")) if victim.is_dir() else victim.read_bytes()
    assert main(["report", str(folder), "--html", str(tmp_path / "page.html")]) == 3
    assert f"{folder / name}: it is a link out of the run folder" in capsys.readouterr().err
    assert (sorted(victim.rglob("*")) if victim.is_dir() else victim.read_bytes()) == before


def test_a_trial_that_lies_elsewhere_gets_no_page(searched: Path, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "s", tmp_path / "elsewhere"
    shutil.copytree(searched, folder)
    for page in folder.glob("trials/*/*/report.html"):
        page.unlink()
    (folder / "trials/0000").rename(elsewhere)
    (folder / "trials/0000").symlink_to(elsewhere)
    assert main(["report", str(folder), "--html", str(tmp_path / "a.html"), "--without", "reports"]) == 0
    assert not list(elsewhere.rglob("*.html"))


def test_settings_are_weighed_anew_when_twice_as_many_trials_are_done(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "s"
    shutil.copytree(searched, folder, ignore=shutil.ignore_patterns("report.*"))
    weighed: list[int] = []
    monkeypatch.setattr("trainkit.report.whole.importances", lambda study: weighed.append(1) or [])
    monkeypatch.setattr("trainkit.report.whole.LEAST_WEIGHED", 2)
    page, lines = StudyPage(folder, Plugins(), folder), (folder / NAME).read_text().splitlines(keepends=True)
    ends = [place for place, line in enumerate(lines, 1) if json.loads(line)["event"] == "done"]
    counts = []
    for done in (2, 2, 3, 4):
        (folder / NAME).write_text("".join(lines[: ends[done - 1]]))
        assert page.html(1.0)
        counts.append(len(weighed))
    assert counts == [0, 1, 1, 2], "never for the first page"
