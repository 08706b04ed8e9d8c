"""What ``--on`` is refused with, before anybody looks for a cluster."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainkit import UsageError
from trainkit.cli import main
from trainkit.training import _check_place

RECIPE = """\
recipe = 1
[run]
duration = "1ep"
[data]
use = "synthetic"
[model]
use = "mlp"
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
"""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--on", "nowhere"], "--on nowhere: it is no address of a Ray cluster\n  write ray://HOST:10001"),
        (["--on", ""], "--on takes an address, such as ray://HOST:10001, auto, or local"),
        (["--on", "local", "--smoke"], "--smoke looks at a run in this process, and --on trains elsewhere"),
        (["--on", "local", "--profile"], "--profile looks at a run in this process, and --on trains elsewhere"),
        (["--on", "local", "--executor", "serial"], "--executor serial takes no --on; executors that do: ray"),
        (["--on", "local", "--without", "ray"], "--on: no installed executor takes it"),
        (["--on", "local", "--seeds", "2", "--executor", "lanes"], "--executor lanes takes no --on"),
    ],
)
def test_what_cannot_be_trained_elsewhere(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text(RECIPE)
    assert main(["r.toml", *words, "--run-dir", "run"]) == 2
    assert told in capsys.readouterr().err
    assert not Path("run").exists()


def test_processes_of_torchrun_are_not_sent_elsewhere() -> None:
    session: Any = SimpleNamespace(args=SimpleNamespace(on="local"), worker=SimpleNamespace(size=2))
    with pytest.raises(
        UsageError, match="runs that --on trains elsewhere are started by one process, and torchrun has"
    ):
        _check_place(session)
