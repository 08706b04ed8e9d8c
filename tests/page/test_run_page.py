"""The page of a run in a real browser, hostile names and all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.page.browser import Browser
from tests.report.conftest import PICTURES, run_of
from trainkit.manager import Plugins

NAME = "</script><script>window.broken = true</script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plugins = Plugins()
    return run_of(PICTURES, tmp_path_factory.mktemp("run"), plugins)


def test_the_page_of_a_run_opens_without_a_network_and_without_a_complaint(browser: Browser, run: Path) -> None:
    page = run / "report.html"
    browser.open(page)
    assert browser.problems == []
    assert browser.requests == [page.resolve().as_uri()]
    headings = browser.each("h2", "node.textContent")
    assert headings[:2] == ["Summary", "Curves"]
    assert {"Predictions on val", "Worst samples", "First weights", "Time", "Recipe"} <= set(headings)
    drawn = browser.each("figure.figure", "node.querySelectorAll('.drawn :is(path, rect, circle)').length")
    assert len(drawn) == 11  # two figures, rate, two norms, ratio, confusion, calibration, confidence, times, pace
    assert min(drawn) >= 3
    assert browser.count(".drawn .tone.bad") == 0
    assert set(browser.each("img", "node.naturalWidth")) == {6}
    before = browser.count("path.line[data-name='val']")
    browser.click("figure.figure .legend button:nth-child(2)")  # val, in loss and accuracy
    assert (before, browser.count("path.line[data-name='val']")) == (2, 0)
    for text in ("NaN", "undefined", "Infinity"):
        assert text not in browser.one("main", "node.outerHTML")


def test_names_of_a_stranger_do_nothing_there(browser: Browser, run: Path, tmp_path: Path) -> None:
    from trainkit.report.run_page import RunPage

    lines = [
        {"step": step, "epoch": step / 6, "split": "val", "time": step, NAME: 1.0, f"{NAME}/0": 2.0, "loss": 1.0}
        for step in (30, 36)
    ]
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("recipe.toml", "environment.json", "report.json"):
        (folder / name).write_text((run / name).read_text().replace("mlp", NAME).replace("cpu", NAME))
    text = (run / "metrics.jsonl").read_text() + "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    page = RunPage(folder, {})
    page.update()
    (tmp_path / "page.html").write_text(page.html())
    browser.open(tmp_path / "page.html")
    assert browser.problems == []
    assert browser.value("window.broken === undefined")
    assert NAME in browser.value("document.body.textContent")
