"""What ``--on`` does with one run and with recipes of many, whatever executor takes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainkit.cli import main

PARTS = str(Path(__file__).parent / "trainkit_elsewhere_parts.py")
COMMON = ["-p", PARTS, "--without", "ray", "--without", "reports", "--on", "there"]
RECIPE = """\
recipe = 1
logger = []
[run]
duration = "2ep"
device = "cpu"
threads = 1
[data]
use = "synthetic"
samples = 60
features = [4]
batch_size = 12
[model]
use = "linear"
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
"""
SEARCH = '[search]\nuse = "random"\ntrials = 2\nexecutor = "lanes"\n[search.space]\n"optimizer.lr" = [0.1, 0.2]\n'


@pytest.fixture(autouse=True)
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text(RECIPE)


def report(folder: str) -> Any:
    return json.loads(Path(folder, "report.json").read_text())


def test_a_run_is_the_one_that_is_made_here(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["r.toml", "-q", "--without", "reports", "--run-dir", "here"]) == 0
    Path("dies").touch()
    capfd.readouterr()
    assert main(["r.toml", *COMMON, "--json", "--run-dir", "away"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told == {**report("away"), "folder": "away"}
    assert told["weights_sha256"] == report("here")["weights_sha256"]
    assert told["metrics"]["test.loss"] == report("here")["metrics"]["test.loss"]
    names = [{path.name for path in Path(folder).iterdir()} for folder in ("here", "away")]
    assert names[0] == names[1]
    assert Path("places.txt").read_text() == "there away\n"


def test_it_goes_on_longer_and_is_refused_where_it_is_over(capfd: pytest.CaptureFixture[str]) -> None:
    Path("stops").touch()
    assert main(["r.toml", *COMMON, "--run-dir", "away"]) == 75
    Path("stops").unlink()
    assert main(["r.toml", *COMMON, "--run-dir", "away", "--resume"]) == 0
    first = report("away")
    capfd.readouterr()
    assert main(["resume", "away", *COMMON]) == 2
    assert "trainkit: away: the run is finished" in capfd.readouterr().err
    assert report("away") == first
    assert main(["resume", "away", "--extend", "1ep", *COMMON]) == 0
    assert report("away")["epochs"] == 3
    for place in (["--without", "reports"], COMMON):
        capfd.readouterr()
        assert main(["resume", "away", "--extend", "1ep", "optimizer.lr=0.3", *place]) == 2
        assert "lr is 0.3 here and 0.1 in the checkpoint" in capfd.readouterr().err
    assert main(["r.toml", *COMMON, "--run-dir", "away"]) == 3
    assert "it holds a run: continue that with --resume" in capfd.readouterr().err
    assert main(["r.toml", *COMMON, "--run-dir", "away", "--fresh"]) == 0
    assert report("away")["weights_sha256"] == first["weights_sha256"]
    assert Path("away", ".old-1", "report.json").is_file()


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [("data.samples=3", 2, "synthetic: val = 0.2 of 3 samples is none"), ("optimizer.lr=1e38", 4, "not finite")],
)
def test_what_goes_wrong_is_said_with_the_exit_code_that_it_has_here(
    change: str, code: int, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["r.toml", change, "--without", "reports", "-q", "--run-dir", "run"]) == code
    assert told in capfd.readouterr().err
    kept = Path("run").exists()
    if kept:
        Path("run").rename("here")
    assert main(["r.toml", change, *COMMON, "-q", "--run-dir", "run"]) == code
    assert told in capfd.readouterr().err
    assert Path("run").exists() == kept


def test_recipes_of_many_runs_are_given_the_executor_that_takes_the_place() -> None:
    Path("s.toml").write_text(RECIPE + SEARCH)
    Path("e.toml").write_text(RECIPE + '[ensemble]\nuse = "seeds"\nmembers = 2\n')
    assert main(["s.toml", *COMMON, "-q", "--run-dir", "study"]) == 0
    assert main(["e.toml", *COMMON, "-q", "--run-dir", "ensemble"]) == 0
    assert main(["r.toml", *COMMON, "-q", "--seeds", "2", "--run-dir", "seeds"]) == 0
    assert Path("places.txt").read_text() == "there study\nthere ensemble\nthere seeds\n"
    for folder in ("study", "ensemble"):
        assert 'executor]\nuse = "far"' in Path(folder, "recipe.toml").read_text()
    assert len(report("seeds")["runs"]) == 2
