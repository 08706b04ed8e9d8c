"""The command line called as a function, and a recipe that trains in a moment."""

from __future__ import annotations

import json
from collections.abc import Callable
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
SEARCH = """\
[search]
use = "random"
trials = 2
objective = "val.accuracy"
executor = "serial"
[search.space]
"optimizer.lr" = { low = 1e-3, high = 1.0, scale = "log" }
"""
ENSEMBLE = """\
[ensemble]
use = "seeds"
members = 2
executor = "serial"
"""


class Outcome(NamedTuple):
    """What a command did: its exit code and what it wrote."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def trainkit(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process, standing in a folder that has the recipe ``r.toml``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINKIT_RUNS", str(tmp_path / "runs"))
    # What a prediction costs is measured longer than these ensembles are trained, and has tests of its own.
    monkeypatch.setattr("trainkit.ensemble.costs.latency_ms", lambda *given: 1.0)
    monkeypatch.setattr("trainkit.ensemble.costs.multiplications", lambda *given: None)
    (tmp_path / "r.toml").write_text(RECIPE, encoding="utf-8")

    def command(*words: str) -> Outcome:
        capsys.readouterr()
        code = main(words)
        written = capsys.readouterr()
        return Outcome(code, written.out, written.err)

    return command


def report_of(folder: Path) -> Any:
    """What ``report.json`` of a folder says."""
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def hashes(folder: Path) -> dict[str, str]:
    """The hash of the weights of each run, as its own folder has it."""
    return {path.parent.name: report_of(path.parent)["weights_sha256"] for path in folder.glob("seed-*/report.json")}
