"""What users see for wrong recipes, held word for word.

Each ``golden/NAME.toml`` is loaded from inside that folder, and every line it brings up is compared with
``golden/NAME.txt``. A first line ``# overrides: a=1 b=2`` or ``# plugins: x y`` says how. After a change that is meant:

    TRAINKIT_GOLDEN=write python -m pytest tests/recipe/test_golden.py

writes the texts anew; read the difference before you commit it.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainkit.errors import RecipeError
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(file.stem for file in GOLDEN.glob("*.toml"))


def _said(name: str, fake_plugins: Callable[..., Plugins]) -> str:
    first = (GOLDEN / f"{name}.toml").read_bytes().split(b"\n")[0].decode("utf-8", "replace")
    option, _, rest = first.removeprefix("# ").partition(": ")
    overrides = rest.split() if option == "overrides" else []
    plugins = fake_plugins(*(shlex.split(rest) if option == "plugins" else ["trainkit_fake"]))
    with pytest.raises(RecipeError) as caught:
        load_recipe(f"{name}.toml", overrides, plugins)
    # What differs from machine to machine has no place in a golden text.
    pluggy = importlib.metadata.version("pluggy")
    message = str(caught.value).replace(f"{GOLDEN.parent}{os.sep}", "").replace(f"pluggy {pluggy}", "pluggy 1.2.3")
    # The core's own tables grow, and say so in tests of their own.
    message = re.sub(r"(\[run\] takes: duration, device, )[\w, ]+", r"\1...", message)
    return f"{message}\n{caught.value.summary}\nexit code {int(caught.value.exit_code)}\n"


@pytest.mark.parametrize("name", NAMES)
def test_wrong_recipe_says_what_where_and_how_to_put_it_right(
    name: str, fake_plugins: Callable[..., Plugins], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(GOLDEN)
    monkeypatch.setattr(sys, "path", [*sys.path, str(GOLDEN.parent / "plugins")])
    said = _said(name, fake_plugins)
    expected = GOLDEN / f"{name}.txt"
    if os.environ.get("TRAINKIT_GOLDEN") == "write":
        expected.write_text(said, encoding="utf-8")
    assert said == expected.read_text(encoding="utf-8")


def test_there_are_wrong_recipes_of_every_kind() -> None:
    assert len(NAMES) >= 100
    assert {file.stem for file in GOLDEN.glob("*.txt")} == set(NAMES)
