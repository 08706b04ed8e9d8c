"""The page on ensembles: its plugin is one that works, as it stands there."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from trainkit.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "ensembles.md").read_text(encoding="utf-8")
RECIPE = """
extends = "trainkit:mlp_digits"
[run]
duration = "2ep"
threads = 1
[model]
widths = [8]
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The plugin of the page, and a short recipe, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "hookimpl" in block]
    (tmp_path / "my_ensemble.py").write_text(code, encoding="utf-8")
    (tmp_path / "ensemble.toml").write_text(RECIPE + "[ensemble]\nuse = 'seeds'\nbootstrap = 10\n", encoding="utf-8")
    single = RECIPE.replace("[run]", "logger = []\n[run]", 1)
    (tmp_path / "single.toml").write_text(single, encoding="utf-8")
    yield tmp_path
    sys.modules.pop("my_ensemble", None)


def test_the_ensembler_of_the_page_trains_its_members_and_is_opened_again(lab, capsys):
    (command,) = re.findall(r"^    trainkit (run .* -p ./my_ensemble.py .*)$", PAGE, re.MULTILINE)
    assert main([*command.split(), "--run-dir", "made", "--without", "reports", "--json", "-q"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ensembler"], len(report["members"])) == ("median", 3)
    assert len({member["test"]["raw"]["nll"]["value"] for member in report["members"]}) == 3
    assert main(["evaluate", "made", "-p", "./my_ensemble.py", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["metrics"]
    assert measured["nll"] == pytest.approx(report["ensemble"]["test"]["calibrated"]["nll"]["value"], rel=1e-5)


def test_it_takes_finished_runs_and_says_what_it_chose(lab, capsys):
    for seed in (1, 2):
        assert main(["single.toml", f"seed={seed}", "data.seed=0", "--run-dir", f"run-{seed}", "-q"]) == 0
    made = ["ensemble", "run-1", "run-2", "--use", "median", "-p", "./my_ensemble.py", "--out", "made", "bootstrap=10"]
    assert main([*made, "--without", "reports"]) == 0
    said = capsys.readouterr().err
    assert re.search(r"nll on validation: [\d.]+ of the median, [\d.]+ of the mean", said)
    manifest = json.loads((lab / "made" / "ensemble.json").read_text(encoding="utf-8"))
    assert set(manifest["state"]) == {"median"}
