"""A recipe that is searched in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe
from trainkit.search.report import StudyReport
from trainkit.search.show import StudyDisplay
from trainkit.search.study import run_study

RECIPE = """\
recipe = 1
seed = 5
logger = []
[run]
duration = "2ep"
device = "cpu"
[data]
use = "synthetic"
samples = 96
features = [6]
batch_size = 16
[model]
use = "mlp"
widths = [8]
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.1
[search]
use = "random"
trials = 4
executor = "serial"
[search.space]
"optimizer.lr" = { low = 1e-3, high = 1.0, scale = "log" }
"model.widths.0" = { low = 4, high = 32 }
"""


class Searching:
    """Searches a recipe that lies in a file.

    Args:
        file: the recipe.
        without: plugins that are left out; pictures and pages of each search take longer than its trials.
    """

    def __init__(self, file: Path, without: Sequence[str] = ("reports",)) -> None:
        self.file = file
        self.plugins = Plugins(without=without)

    def recipe(self, *changes: str) -> Recipe:
        return load_recipe(self.file, list(changes), self.plugins)

    def __call__(self, folder: Path, *changes: str, **options: Any) -> StudyReport:
        options.setdefault("display", StudyDisplay(-1))
        return run_study(self.recipe(*changes), self.plugins, folder, **options)

    def resume(self, folder: Path, *changes: str, **options: Any) -> StudyReport:
        recipe = load_recipe(folder / "recipe.toml", list(changes), self.plugins)
        options.setdefault("display", StudyDisplay(-1))
        return run_study(recipe, self.plugins, folder, resume=True, **options)


@pytest.fixture
def searching(tmp_path: Path) -> Searching:
    """The recipe above, in a file."""
    file = tmp_path / "search.toml"
    file.write_text(RECIPE, encoding="utf-8")
    return Searching(file)
