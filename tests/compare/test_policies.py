"""What docs/comparing.md says of three learning-rate policies is so, from runs to verdict."""

from __future__ import annotations

import json
from pathlib import Path

from trainkit.cli import main

RECIPES = Path(__file__).parents[2] / "recipes"
PAGE = (RECIPES.parent / "docs" / "comparing.md").read_text(encoding="utf-8")
POLICIES = ("lr_fixed", "lr_decay", "lr_adam")


def test_three_policies_with_two_seeds_each(tmp_path, capsys):
    runs = [str(tmp_path / name) for name in POLICIES]
    for name, run in zip(POLICIES, runs, strict=True):
        words = ["run", str(RECIPES / f"{name}.toml"), "--seeds", "2", "--run-dir", run, "--quiet"]
        assert main([*words, "logger=[]", "run.threads=1", "--without", "reports"]) == 0
    capsys.readouterr()
    assert main(["compare", *runs, "--json", "--require", "val.accuracy>=0.96"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["n"]) for row in found["rows"]] == [(name, 2) for name in POLICIES]
    assert found["differing"] == ["optimizer.use", "optimizer.lr", "schedule.use"]
    losses = [row["figures"]["val.loss"]["mean"] for row in found["rows"]]
    assert losses[0] > 5 * losses[1] > 5 * losses[2]
    assert [answer["met"] for answer in found["required"]] == [False, True, True]
    assert all(len(test["says"]) > 0 and test["difference"]["n"] == 2 for test in found["tests"])
    shown = [line.split() for line in PAGE.splitlines() if line.startswith("    lr_") and "seeds" in line]
    # The page has means of five seeds of which these are two.
    for row, loss in zip(shown, losses, strict=True):
        assert abs(float(row[6]) - loss) < 4 * float(row[7][1:])
