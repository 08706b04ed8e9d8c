"""The page of a comparison in a real browser."""

from __future__ import annotations

from tests.compare.conftest import write_run
from trainkit.cli import main

EVIL = "<script>document.title='taken'<"
CURVES = "path.line[data-name]"


def test_a_comparison_is_looked_into(browser, tmp_path):
    for name, lr, losses in (("slow", 0.01, (0.9, 0.8)), (EVIL, 0.1, (0.5, 0.45))):
        for seed, loss in enumerate(losses):
            folder = tmp_path / f"{name}-{seed}"
            write_run(folder, seed, (2.0, 1.5, loss), (0.1, 0.5, 1 - loss), lr=lr, more="x = '</script><b>'")
    folders = [str(folder) for folder in sorted(tmp_path.iterdir(), reverse=True)]
    page = tmp_path / "page.html"
    assert main(["compare", *folders, "--html", str(page), "--by", "step", "--quiet", "--json"]) == 0
    browser.open(page)
    assert browser.value("document.title") == f"Comparison of slow, {EVIL}"
    assert browser.value("document.querySelector('#axis').value") == "step"
    # Losses, accuracies and rates, of two rows each.
    assert sorted(browser.each(CURVES, "node.dataset.name")) == sorted(["slow", EVIL] * 5)
    browser.click(".legend button")
    assert set(browser.each(CURVES, "node.dataset.name")) == {EVIL}
    browser.click("th:nth-child(4) button")
    first = browser.one("tbody tr", "node.innerText")
    assert EVIL in first
    assert browser.count("circle") >= 4  # intervals are points
    assert browser.count("b") == 0
    assert browser.problems == []
    assert browser.requests == [page.resolve().as_uri()]
