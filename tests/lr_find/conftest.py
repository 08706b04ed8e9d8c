"""A recipe whose range test takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from trainkit.lr_find.finding import CHANGES, RangeTest
from trainkit.lr_find.found import Found
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import load_recipe

PARTS = Path(__file__).parent / "trainkit_lr_find_parts.py"
# 116 training samples, batches of 16: 8 updates an epoch.
RECIPE = """\
recipe = 1
seed = 5
[run]
duration = "2ep"
device = "cpu"
[data]
use = "synthetic"
samples = 192
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
lr = 0.1  # found on paper
[schedule]
use = "cosine"
warmup = "2ba"
[[callback]]
use = "witness"
"""


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """Those that are installed, and the callbacks of these tests."""
    found = Plugins([str(PARTS)])
    found.load()
    return found


@pytest.fixture(scope="session")
def parts(plugins) -> ModuleType:
    """The module with the callbacks of these tests, as the plugins have it."""
    (module,) = (plugin.module for plugin in plugins.plugins if plugin.name == PARTS.stem)
    return module


@pytest.fixture
def file(tmp_path) -> Path:
    """The recipe, in a file."""
    file = tmp_path / "mine.toml"
    file.write_text(RECIPE, encoding="utf-8")
    return file


@pytest.fixture
def find(file, plugins, parts) -> Callable[..., Found]:
    """Makes a range test of the recipe with changes."""

    def find(*changes: str, text: str = "", **options: object) -> Found:
        if text:
            file.write_text(text, encoding="utf-8")
        parts.SEEN.clear()
        options.setdefault("updates", 40)
        return RangeTest(load_recipe(file, [*changes, *CHANGES], plugins), **options).find(silent)

    return find
