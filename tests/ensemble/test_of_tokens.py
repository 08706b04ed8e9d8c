"""Ensembles of models of tokens are refused, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainkit.cli import main

SEARCH = """\
[search]
use = "random"
trials = 2
objective = "val.loss"
mode = "min"
[search.space]
"optimizer.lr" = { low = 0.01, high = 0.1 }
"""

RECIPE = """\
recipe = 1
[run]
duration = "2ba"
device = "cpu"
[data]
use = "synthetic"
task = "tokens"
samples = 40
batch_size = 8
[model]
use = "gpt"
layers = 1
width = 8
heads = 1
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
[ensemble]
use = "seeds"
"""


@pytest.mark.parametrize("more", ["", SEARCH], ids=["alone", "of a search"])
def test_an_ensemble_of_tokens_is_refused_before_anything_is_trained(
    more: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ensemble.toml").write_text(RECIPE + more, encoding="utf-8")
    folder = tmp_path / "run"
    assert main(["run", str(tmp_path / "ensemble.toml"), "--run-dir", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "an ensemble combines one output of each sample, and these have one for every token" in said
    assert 'use = "ema" or "swa"' in said
    assert not folder.exists()
