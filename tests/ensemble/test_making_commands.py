"""The command line with ``[ensemble]``: exit codes, JSON, what is shown, and a search before it."""

from __future__ import annotations

import json
import os
import signal
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.ensemble import trainkit_ensemble_parts as parts
from tests.ensemble.making_parts import RECIPE, Making, essence, trained
from tests.soak.zygote import Zygote
from trainkit.cli import main
from trainkit.recipe import to_toml

SEARCH = """
[search]
trials = 4
executor = "serial"
[search.space]
"optimizer.lr" = { low = 1e-3, high = 1.0, scale = "log" }
"model.widths.0" = { low = 4, high = 32 }
"""


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Said]


@pytest.fixture
def trainkit(making: Making, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any) -> Command:
    """Run a command in this process, standing in a folder with two recipes."""
    monkeypatch.chdir(tmp_path)
    Path("e.toml").write_text(RECIPE, encoding="utf-8")
    Path("s.toml").write_text(RECIPE.replace('"seeds"\nmembers = 3', '"topk"') + SEARCH, encoding="utf-8")

    def command(*words: str) -> Said:
        capsys.readouterr()
        code = main([*words, "--without", "reports", "-p", str(Path(parts.__file__))])
        written = capsys.readouterr()
        return Said(code, written.out, written.err)

    return command


def test_a_recipe_is_made_shown_and_left_alone(trainkit: Command) -> None:
    said = trainkit("run", "e.toml", "--run-dir", "e")
    assert said.code == 0
    lines = said.err.splitlines()
    assert [line.split("  ")[:2] for line in lines[:3]] == [[f"member {number}", "done"] for number in range(3)]
    table = said.err[said.err.index("on test") :]
    for row in ("mean member", "best member: member", "ensemble  "):
        assert row in table
    assert "all of it: trainkit report e" in said.err
    assert trainkit("resume", "e").code == 2
    assert trainkit("run", "e.toml", "--run-dir", "e").code == 3
    assert trainkit("run", "e.toml", "--run-dir", "e", "--resume").code == 2
    assert trainkit("evaluate", "e", "--json").json["metrics"]["accuracy"] > 0.5
    assert trainkit("run", "e.toml", "--run-dir", "e", "--profile", "--fresh").code == 2


def test_json_is_what_the_report_says(trainkit: Command) -> None:
    said = trainkit("run", "e.toml", "--run-dir", "e", "--json", "-q", "ensemble.members=2")
    assert (said.code, said.err) == (0, "")
    found = said.json
    assert found.pop("folder") == "e"
    assert found.pop("reason") == "all members are there"
    assert found == json.loads(Path("e/report.json").read_text())


def test_smoke_and_validate_leave_nothing(trainkit: Command) -> None:
    before = sorted(Path().iterdir())
    assert trainkit("run", "e.toml", "--smoke").code == 0
    said = trainkit("run", "s.toml", "--smoke", "--json")
    assert (said.code, said.json["status"]) == (0, "finished")
    assert trainkit("validate", "e.toml", "s.toml").code == 0
    for verb in (("validate",), ("run", "--smoke"), ("run",)):
        said = trainkit(*verb, "e.toml", "ensemble={ use = 'picky', share = 0.0 }")
        assert said.code == 2
        assert "[ensemble] picky: share 0.0 leaves nobody\n" in said.err
        assert "  write one above 0\n" in said.err
    said = trainkit("run", "s.toml", "ensemble={ use = 'picky', share = 0.0 }", "--run-dir", "s")
    assert said.code == 2, "found after the search alone"
    assert sorted(Path().iterdir()) == before


def test_a_member_that_fails_has_the_exit_code_of_a_run(trainkit: Command) -> None:
    said = trainkit("run", "e.toml", "--run-dir", "e", "ensemble={ use = 'pair', lr = 1e30 }")
    assert said.code == 4
    assert said.err.splitlines()[-1].endswith("to go on from its newest checkpoint: trainkit resume e")
    assert trainkit("run", "e.toml", "--run-dir", "f", "ensemble={ use = 'pair', crash = 3 }").code == 1


def test_verbs_of_one_run_look_at_one_run(trainkit: Command) -> None:
    assert trainkit("preview", "e.toml").code == 0
    assert trainkit("resume", "nowhere").code == 2
    trainkit("run", "e.toml", "--run-dir", "e", "ensemble.members=1", "-q")
    assert trainkit("resume", "e", "--extend", "1ep").code == 2


def test_a_search_is_followed_by_an_ensemble_of_its_trials(trainkit: Command) -> None:
    said = trainkit("run", "s.toml", "--run-dir", "s", "--json", "-q")
    assert said.code == 0
    made = said.json["ensemble"]
    order = [member["name"] for member in made["members"]]
    assert order[0] == f"trial {said.json['best']['trial']}"
    assert sorted(order) == [f"trial {number}" for number in range(4)]
    assert not Path("s/ensemble/members").exists()
    assert tomllib.loads(Path("s/trials/0000/recipe.toml").read_text()).keys().isdisjoint({"search", "ensemble"})
    assert tomllib.loads(Path("s/best.toml").read_text())["drop"] == ["search", "ensemble"]
    # The search measures its winner on the test samples once, and the ensemble itself: the two agree on the winner.
    winner = made["members"][0]["test"]["raw"]["accuracy"]["value"]
    assert winner == pytest.approx(said.json["best"]["test"]["accuracy"], abs=1e-6)
    for folder in ("s", "s/ensemble", Path("s").absolute(), "s/trials/.."):
        again = trainkit("resume", str(folder))
        assert again.code == 2
        assert "the study is finished" in again.err


def test_a_search_goes_on_and_its_ensemble_with_it(trainkit: Command) -> None:
    assert trainkit("run", "s.toml", "--run-dir", "s", "-q", "search.trials=3").code == 0
    log = Path("s/study.jsonl").read_text()
    other = trainkit("resume", "s", "ensemble=vote", "--json", "-q")
    assert (other.code, other.json["ensemble"]["ensembler"]) == (0, "vote")
    assert '"ask"' not in Path("s/study.jsonl").read_text()[len(log) :], "the search was begun again"
    wider = trainkit("resume", "s", "search.trials=5", "--json", "-q")
    assert (wider.code, len(wider.json["ensemble"]["members"])) == (0, 5)


def test_a_search_that_goes_on_leaves_its_ensemble_of_the_same_trials_alone(trainkit: Command) -> None:
    made = trainkit("run", "s.toml", "--run-dir", "s", "-q", "--json", "search.trials=2").json["ensemble"]
    before = Path("s/ensemble/ensemble.json").read_bytes()
    said = trainkit("resume", "s", "search.refit=true", "--json")
    assert said.code == 0
    assert said.json["best"]["refit"]["status"] == "done"
    again = said.json["ensemble"]
    assert again.pop("reason") != made.pop("reason")
    assert again == made
    assert "on test" in said.err
    assert Path("s/ensemble/ensemble.json").read_bytes() == before


def test_the_ensemble_of_a_study_is_its_own_from_wherever_it_is_named(
    trainkit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trainkit("run", "s.toml", "--run-dir", "s", "-q").code == 0
    before = {path: path.stat().st_mtime_ns for path in Path("s").absolute().rglob("*") if path.is_file()}
    other = trainkit("run", "e.toml", "--run-dir", "s/ensemble", "--resume")
    assert other.code == 2
    assert "it holds the ensemble of a study, which goes on with it: trainkit resume" in other.err
    monkeypatch.chdir("s/ensemble")
    again = trainkit("resume", ".")
    assert again.code == 2
    assert "the study is finished" in again.err
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_does_not_go_on_in_the_folder_of_an_ensemble(trainkit: Command, finished: bool) -> None:
    assert trainkit("run", "e.toml", "--run-dir", "e", "-q").code == 0
    if not finished:
        Path("e/ensemble.json").unlink()
        Path("e/report.json").unlink()
    names = sorted(Path("e").rglob("*"))
    said = trainkit("run", "e.toml", "drop=['ensemble']", "--run-dir", "e", "--resume")
    assert said.code == 2, said.err
    assert "e: it holds an ensemble, and the recipe has no [ensemble]; name another folder" in said.err
    assert sorted(Path("e").rglob("*")) == names


def test_an_ensemble_whose_recipe_has_lost_it_is_not_taken_for_a_run(trainkit: Command) -> None:
    assert trainkit("run", "e.toml", "--run-dir", "e", "-q").code == 0
    path = Path("e/recipe.toml")
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    del tables["ensemble"]
    path.write_text(to_toml(tables), encoding="utf-8")
    said = trainkit("resume", "e")
    assert said.code == 2
    assert "recipe.toml: it has no [ensemble], and the folder holds an ensemble" in said.err


def test_members_are_trained_from_the_winner(trainkit: Command) -> None:
    said = trainkit(
        "run", "s.toml", "--run-dir", "s", "ensemble={ use = 'seeds', members = 2, bootstrap = 20 }", "--json"
    )
    assert said.code == 0
    point = said.json["best"]["point"]
    for number in range(2):
        recipe = tomllib.loads(Path(f"s/ensemble/members/{number:04d}/recipe.toml").read_text())
        assert recipe["optimizer"]["lr"] == point["optimizer.lr"]
        assert recipe["model"]["widths"] == [point["model.widths.0"]]


def test_a_search_that_is_over_is_not_searched_again_for_its_ensemble(
    trainkit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*given: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trainkit.ensemble.making.write_artefact", dies)
        trainkit("run", "s.toml", "--run-dir", "s", "-q")
    assert not Path("s/ensemble/ensemble.json").exists()
    log = Path("s/study.jsonl").read_bytes()
    said = trainkit("resume", "s")
    assert said.code == 0
    assert Path("s/study.jsonl").read_bytes() == log
    assert Path("s/ensemble/ensemble.json").exists()


def test_an_ensemble_that_is_killed_again_and_again_is_the_undisturbed_one(tmp_path: Path, making: Making) -> None:
    folder, often = tmp_path / "e", ["run.evaluate_every=1ba", "run.save_every=1ba"]
    changes = [*often, "callback=[{ use = 'act', what = 'slow' }]"]
    words = ["run", str(making.file), "--run-dir", str(folder), "--resume", "-q"]
    words += ["--without", "reports", "-p", str(Path(parts.__file__)), *changes]

    def stopped_by(zygote: Zygote, number: signal.Signals, there: Path) -> int:
        """Begin it, and send a signal as soon as this process has made something."""
        seen, process, deadline = _size(there), zygote.start(words), time.monotonic() + 120
        while _size(there) == seen and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process, number)
        return zygote.wait(process)

    with Zygote() as zygote:
        for member in ("0000", "0002"):
            assert stopped_by(zygote, signal.SIGKILL, folder / f"members/{member}/metrics.jsonl") == -signal.SIGKILL
            assert not (folder / "report.json").exists()
        before = trained(folder)
        assert stopped_by(zygote, signal.SIGTERM, folder / "history.jsonl") == 75
    assert making(folder, *changes, resume=True).status == "finished"
    assert trained(folder).items() >= before.items()
    making(tmp_path / "alike", *often)
    assert essence(folder) == essence(tmp_path / "alike")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
