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
    assert [file.stem for file in files] == sorted([*maker.NAMES, *maker.OTHERS])
    for file in files:
        assert file.stat().st_size < KILOBYTES * 1024
        if file.stem in maker.OTHERS:
            assert f"](pictures/{file.name})" in (DOCS / maker.OTHERS[file.stem]).read_text(encoding="utf-8")
            continue
        assert f"](pictures/{file.name})" in page
        assert f"](../recipes/{file.stem}.toml)" in page


def test_a_recipe_that_reacts_is_drawn_with_what_its_run_decided(maker, monkeypatch):
    drawn = {}
    monkeypatch.setattr(maker, "draw_preview", lambda run, file, title: drawn.update({file.name: run.events}))
    maker.draw("plateau", Plugins())
    assert {kind for _, kind in drawn["plateau.png"]} == {"plateau:reduce"}


@pytest.fixture
def page(maker, monkeypatch):
    """Draws a recipe and returns the figure, which is written nowhere."""
    from matplotlib.figure import Figure

    pages = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: pages.append(self))

    def page(name: str) -> Figure:
        maker.draw(name, Plugins())
        return pages.pop()

    return page


def test_a_panel_begins_at_zero_unless_that_would_flatten_its_curve(page):
    rate, momentum = page("onecycle").axes
    assert (rate.get_ylabel(), rate.get_ylim()[0]) == ("learning rate", 0)
    assert momentum.get_ylabel() == "momentum"
    assert 0.8 < momentum.get_ylim()[0] < 0.85
    constant, sizes = page("growing_batch").axes
    assert constant.get_ylim()[0] == sizes.get_ylim()[0] == 0


def test_events_are_named_once_and_a_single_curve_not_at_all(page):
    (panel,) = page("plateau").axes
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["plateau:reduce"]
    assert len(panel.get_lines()) > 2
    (panel,) = page("wsd").axes
    assert panel.get_legend() is None
