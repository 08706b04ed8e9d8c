"""The pictures of the docs show what the recipes do."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from trainkit.manager import Plugins

DOCS = Path(__file__).parents[1] / "docs"
KILOBYTES = 60  # a page with all of them still loads at once


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location("make_pictures", DOCS / "make_pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pictures_show_the_values_that_the_recipes_have(maker):
    drawn = json.loads((DOCS / "pictures" / "values.json").read_text(encoding="utf-8"))
    assert drawn == maker.values(Plugins()), "run: python docs/make_pictures.py"


def test_every_picture_is_small_and_shown_beside_its_recipe(maker):
    page = (DOCS / "schedules.md").read_text(encoding="utf-8")
    files = sorted((DOCS / "pictures").glob("*.png"))
    assert [file.stem for file in files] == sorted(maker.NAMES)
    for file in files:
        assert file.stat().st_size < KILOBYTES * 1024
        assert f"](pictures/{file.name})" in page
        assert f"](../recipes/{file.stem}.toml)" in page


def test_a_recipe_that_reacts_is_drawn_with_what_its_run_decided(maker, monkeypatch):
    drawn = {}
    monkeypatch.setattr(maker, "draw_preview", lambda run, file, title: drawn.update({file.name: run.events}))
    maker.draw("plateau", Plugins())
    assert {kind for _, kind in drawn["plateau.png"]} == {"plateau:reduce"}
