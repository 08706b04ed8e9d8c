"""A probe of a recipe without labels expects what is true of it, and finds what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainkit.cli import main

RECIPES = Path(__file__).parents[3] / "recipes"


@pytest.mark.parametrize(
    ("recipe", "expected"), [("autoencoder", "the loss of the targets' mean"), ("vae", "about 140.8")]
)
def test_its_first_loss_is_that_of_the_mean(recipe: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """That inputs give their targets away is no finding: they are these."""
    words = ["probe", str(RECIPES / f"{recipe}.toml"), "-q", "run.threads=1"]
    for check in ("inputs", "initial-loss", "gradient-check", "batch-independence"):
        words += ["--only", check]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "4 checks: 4 good" in told
    assert expected in told
