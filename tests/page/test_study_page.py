"""The pages of studies and ensembles in a real browser, hostile names and all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.page.browser import Browser
from tests.report.ensembles import report
from tests.report.studies import BOTH, searched
from trainkit.report.ensemble import write_ensemble_page
from trainkit.report.study import write_study_page
from trainkit.space import Dimension
from trainkit.trial import Objective

NAME = "</script><script>window.broken = true</script><b>"


def looked_at(browser: Browser, page: Path) -> list[int]:
    """Open a page that has to be without a fault; how many shapes are in each of its figures."""
    browser.open(page)
    assert browser.problems == []
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.count(".drawn .tone.bad") == 0
    assert browser.value("window.broken === undefined")
    assert browser.count("b") == 0
    for text in ("NaN", "undefined", "Infinity"):
        assert text not in browser.one("main", "node.outerHTML")
    shapes: list[int] = browser.each("figure.figure", "node.querySelectorAll('.drawn :is(path, rect, circle)').length")
    return shapes


def test_a_search_is_looked_into(browser: Browser, tmp_path: Path) -> None:
    study = searched(tmp_path / "s", lambda p, n: () if n == 4 else (n / 30,))
    shares = {d.name: {"value": 0.5 / 2**n, "low": 0.0, "high": 0.9} for n, d in enumerate(study.space.dimensions)}
    study.findings = {"findings": [], "importances": shares, "edges": [], "ties": []}
    drawn = looked_at(browser, write_study_page(study))
    assert len(drawn) == 10  # history, importance, four slices, parallel, surface, on the way, time
    assert min(drawn) >= 4
    headings = browser.each("h2", "node.textContent")
    assert {"History", "Importance", "Each setting", "Settings together", "Ends of ranges", "Time"} <= set(headings)
    best = study.best()
    assert best is not None
    name = f"path.line[data-name='trial {best.trial.number}']"
    assert browser.count(name) == 1
    browser.click("table button.key")  # of the first row, which is the best trial's
    assert browser.count(name) == 0


def test_several_objectives_and_a_search_that_has_just_begun(browser: Browser, tmp_path: Path) -> None:
    both = searched(tmp_path / "s", lambda p, n: (1 - 1 / (n + 1), float(n + 1)), objectives=BOTH)
    assert min(looked_at(browser, write_study_page(both))) >= 4
    assert "Pareto front" in browser.each("h2", "node.textContent")
    for trials in (0, 1, 2):
        begun = searched(tmp_path / f"begun-{trials}", lambda p, n: (0.5,), trials=trials)
        looked_at(browser, write_study_page(begun))


def test_an_ensemble_is_looked_into(browser: Browser, tmp_path: Path) -> None:
    drawn = looked_at(browser, write_ensemble_page(tmp_path, report()))
    assert len(drawn) == 10  # five against the number of members, two of calibration, three matrices
    assert min(drawn) >= 3
    before = browser.count("path.line[data-name='best member']")
    browser.click("figure.figure .legend button:nth-child(2)")
    assert (before, browser.count("path.line[data-name='best member']")) == (7, 0)
    alone = report(members=1, longer=False)
    alone["curve"]["points"] = alone["curve"]["points"][:1]
    looked_at(browser, write_ensemble_page(tmp_path, alone))


@pytest.mark.parametrize("kind", ["study", "ensemble"])
def test_names_of_a_stranger_do_nothing_there(browser: Browser, tmp_path: Path, kind: str) -> None:
    if kind == "study":
        space = [Dimension(f"loss.{NAME}", "float"), Dimension("data.path", "choice", choices=(NAME, "b"))]
        study = searched(tmp_path / "s", lambda p, n: (float(n),), space, (Objective(f"val.{NAME}", "max"),))
        study.searcher = study.records[3].message = NAME
        study.records[5].trial.status = NAME  # type: ignore[assignment]
        study.findings = {"findings": [{"about": "ties", "text": NAME}]}
        (study.folder / "recipe.toml").write_text(f"# {NAME}\n")
        (study.folder / "environment.json").write_text(json.dumps({NAME: NAME}))
        page = write_study_page(study)
    else:
        held = report()
        held |= {"ensembler": NAME, "words": [NAME], "notes": [NAME]}
        for member in held["members"]:
            member["name"] = NAME + member["name"]
        held["diversity"]["members"] = [NAME] * 3
        held["classes"][0]["class"] = NAME
        page = write_ensemble_page(tmp_path, held)
    looked_at(browser, page)
    assert NAME in browser.value("document.body.textContent")
