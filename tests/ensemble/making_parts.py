"""A recipe of which ensembles are made in a moment, and what they are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.ensemble import trainkit_ensemble_parts as parts
from trainkit.ensemble.outset import Made
from trainkit.ensemble.session import make_ensemble
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe

RECIPE = """\
recipe = 1
seed = 5
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
[ensemble]
use = "seeds"
members = 3
executor = "serial"
bootstrap = 20
"""


class Making:
    """Makes ensembles of a recipe that lies in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.plugins = Plugins([str(Path(parts.__file__))], ["reports"])  # pictures have tests of their own
        self.plugins.load()

    def recipe(self, *changes: str) -> Recipe:
        return load_recipe(self.file, list(changes), self.plugins)

    def __call__(self, folder: Path, *changes: str, **options: Any) -> Made:
        return make_ensemble(self.recipe(*changes), self.plugins, folder, **options)

    def resume(self, folder: Path, *changes: str, **options: Any) -> Made:
        recipe = load_recipe(folder / "recipe.toml", list(changes), self.plugins)
        return make_ensemble(recipe, self.plugins, folder, resume=True, **options)


def trained(folder: Path) -> dict[str, str]:
    """The weights that each member's run has ended with."""
    return {
        path.parent.name: json.loads(path.read_text())["weights_sha256"]
        for path in sorted(folder.glob("members/*/report.json"))
    }


def essence(folder: Path) -> dict[str, Any]:
    """What an ensemble is, without when and where it was made."""
    manifest = json.loads((folder / "ensemble.json").read_text())
    report = json.loads((folder / "report.json").read_text())
    return {
        "weights": [member["weights"] for member in manifest["members"]],
        "state": manifest["state"],
        "temperature": manifest["temperature"],
        "ensemble": report["ensemble"],
        "members": [member["test"] for member in report["members"]],
    }
