"""Which models can be lanes, whatever the number format that they are trained in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.conftest import RECIPE
from trainkit.build import make_ready, prepare
from trainkit.lanes.probe import differing
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import load_recipe


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_numbers_of_half_the_bits_keep_no_model_from_being_lanes(tmp_path: Path, precision: str) -> None:
    """Of eight layers in bfloat16 two right results lie further apart than a wrong one would."""
    (tmp_path / "r.toml").write_text(RECIPE)
    changes = ["data.features=[3,16,16]", "model={use='resnet', depth=8}", f"run.precision={precision}"]
    run = prepare(load_recipe(tmp_path / "r.toml", changes, Plugins()), Plugins(), tmp_path / "run", silent)
    make_ready(run)
    assert differing(run) == ""
