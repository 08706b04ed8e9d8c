"""Pages in a real browser: what a reader sees and what happens on clicks, drags and keys."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from tests.page.parts import POINTS, SEEN
from trainkit.page import Bars, Curves, Heatmap, Line, Point, Scatter, Section, Span, Table, Timeline, render

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
LOSS, RATES, SLICE, CONFUSION = (f'[data-figure="{number}"]' for number in (0, 2, 3, 7))
PLANE = f"{LOSS} svg.plane"
LINES = f"{LOSS} path.line[data-name]"
FIXED = "path.line[data-name=fixed]"  # in all figures
TIP = "#tip > div"


@pytest.fixture
def opened(browser, page):
    """The page with all blocks, opened afresh."""
    browser.open(page)
    yield browser
    assert browser.problems == []
    assert browser.requests == [page.resolve().as_uri()]


def names(browser) -> list[str]:
    return browser.each(LINES, "node.dataset.name")


def ticks(browser) -> list[str]:
    return browser.each(f"{LOSS} .axes text", "node.textContent")


def column(browser, number: int) -> list[str]:
    return browser.each(
        ".blocks > .scroll table", f"[...node.tBodies[0].rows].map((row) => row.cells[{number}].innerText.trim())"
    )[0]


def test_it_opens_offline_with_all_figures_and_no_complaint(opened):
    assert opened.value("document.title") == f"Report of {SEEN}"
    drawn = opened.each("figure.figure", "node.querySelectorAll('.drawn :is(path, rect, circle)').length")
    assert len(drawn) == 11
    assert min(drawn) >= 4
    assert opened.count(".drawn .tone.bad") == 0  # a figure that fails says so there
    assert opened.each("img", "node.naturalWidth") == [2, 2]
    assert opened.value("document.documentElement.scrollWidth <= innerWidth")
    for text in ("NaN", "undefined", "Infinity"):
        assert text not in opened.one("main", "node.outerHTML")


def test_a_click_on_a_name_hides_its_curves_in_all_figures(opened):
    assert names(opened) == ["fixed", "decay", SEEN]
    assert opened.count(FIXED) == 3
    opened.click(f"{LOSS} .legend button")
    assert names(opened) == ["decay", SEEN]
    assert opened.count(FIXED) == 0
    pressed = opened.each("button[data-key='0']", "node.getAttribute('aria-pressed')")
    assert pressed == ["false"] * 3  # two legends and the table
    opened.click("table button.key")
    assert opened.count(FIXED) == 3
    opened.click(f"{LOSS} .legend button:nth-child(2)", shift=True)
    assert names(opened) == ["decay"]
    opened.click(f"{LOSS} .legend button:nth-child(2)", shift=True)  # alone already
    assert names(opened) == ["fixed", "decay", SEEN]
    opened.click(f"{LOSS} .legend button:nth-child(2)", shift=True)
    opened.click("#all")
    assert names(opened) == ["fixed", "decay", SEEN]


def test_one_name_has_one_colour(opened):
    assert len(set(opened.each(FIXED, "getComputedStyle(node).stroke"))) == 1
    assert len(set(opened.each(LINES, "getComputedStyle(node).stroke"))) == 3


def test_hovering_shows_the_values_there(opened):
    opened.mouse("Moved", opened.middle(PLANE, 0.55))
    opened.settle()
    title, *rows = opened.each(TIP, "node.innerText.split('\\n')")
    epoch = float(re.fullmatch(r"epoch (.*)", title[0])[1])
    assert 3.5 <= epoch <= 6.5
    assert sorted(row[0] for row in rows) == sorted(["fixed", "decay", SEEN])
    value = next(float(row[1]) for row in rows if row[0] == "fixed")
    assert value == pytest.approx(0.5 + math.exp(-epoch * 4 / 10), rel=1e-3)
    mean, low, high = map(float, re.findall(r"[\d.]+", next(row[1] for row in rows if row[0] == "decay")))
    assert (low, high) == pytest.approx((0.9 * mean, 1.2 * mean), rel=2e-3)  # its band
    assert opened.count(f"{PLANE} circle.spot") == 3
    opened.mouse("Moved", (5, 5))
    opened.settle()
    assert opened.one("#tip", "node.hidden")


def test_a_drag_zooms_and_a_double_click_goes_back(opened):
    whole = ticks(opened)
    assert "10" in whole
    opened.drag(opened.middle(PLANE, 0.3), opened.middle(PLANE, 0.5))
    near = ticks(opened)
    assert "10" not in near
    assert not opened.one(f"{LOSS} .whole", "node.hidden")
    opened.drag(opened.middle(PLANE, 0.3, 0.3), opened.middle(PLANE, 0.7, 0.7))
    assert ticks(opened) not in (near, whole)
    assert {"1", "0.2"} <= {*whole}  # of the upright axis
    assert not {"1", "0.2"} & {*ticks(opened)}
    opened.click_at(opened.middle(PLANE), clicks=2)
    assert ticks(opened) == whole
    assert opened.one(f"{LOSS} .whole", "node.hidden")


def test_keys_move_zoom_and_tell(opened):
    whole = ticks(opened)
    opened.each(PLANE, "node.focus()")
    for _ in range(3):
        opened.press("ArrowRight")
    assert re.match(r"epoch [\d.]+; fixed [\d.]+; ", opened.one("#said", "node.textContent"))
    opened.press("+")
    assert ticks(opened) != whole
    opened.press("0")
    assert ticks(opened) == whole
    opened.press("Escape")
    assert opened.one("#tip", "node.hidden")
    opened.each(f"{CONFUSION} svg", "node.focus()")
    opened.press("ArrowRight")
    assert opened.one("#said", "node.textContent") == "1; true a; predicted b"


def test_smoothing_is_an_average_without_bias(opened):
    raw = opened.one(f"{LOSS} {FIXED}", "node.getAttribute('d')")
    opened.choose("#smoothing", 0.5)
    assert opened.count(f"{LOSS} path.faint") == 3
    smooth = opened.one(f"{LOSS} {FIXED}", "node.getAttribute('d')")
    assert smooth != raw
    assert smooth.split("L")[0] == raw.split("L")[0]  # the first point stays: no pull towards zero
    opened.mouse("Moved", opened.middle(PLANE, 0.99))
    opened.settle()
    row = next(text for text in opened.each(TIP, "node.innerText") if text.startswith("fixed"))
    mean, share = 0.0, 1.0
    for step in range(POINTS):
        mean, share = 0.5 * mean + 0.5 * (0.5 + math.exp(-step / 10)), share * 0.5
    assert float(re.search(r"([\d.]+) · raw", row)[1]) == pytest.approx(mean / (1 - share), abs=1e-4)


def test_axis_and_logarithm_can_be_chosen(opened):
    label = f"{LOSS} .axes .label"
    assert opened.one(label, "node.textContent") == "epoch"
    assert "warm-up ends" in opened.one(PLANE, "node.textContent")
    for axis, text in (("step", "step (update)"), ("time", "time, s")):
        opened.choose("#axis", axis)
        assert opened.one(label, "node.textContent") == text
    assert "warm-up ends" not in opened.one(PLANE, "node.textContent")
    assert opened.one(f"{RATES} .axes .label", "node.textContent") == "lr"  # it has no other
    before = ticks(opened)
    opened.click(f"{LOSS} button.log")
    assert ticks(opened) != before
    opened.click(f"{RATES} button.log")
    assert "Not shown" not in opened.one(RATES, "node.textContent")


def test_what_cannot_be_drawn_is_said(browser, tmp_path):
    file = tmp_path / "some.html"
    lines = [Line("a", {"epoch": [1, 2, 3], "step": [10, 20, 30]}, [1, 0, -1]), Line("b", {"step": [10]}, [1])]
    file.write_text(render("some", [Section("s", [Curves("c", lines, log=True)])]), encoding="utf-8")
    browser.open(file)
    note = "p.small"
    assert (
        browser.one(note, "node.textContent") == "Not shown: values that are not above 0 (2), curves without epoch (1)."
    )
    browser.choose("#axis", "step")
    assert browser.one(note, "node.textContent") == "Not shown: values that are not above 0 (2)."
    browser.click("button.log")
    assert browser.one(note, "node.textContent") == ""
    assert browser.problems == []


def test_places_on_an_axis_have_names_of_their_own(browser, tmp_path):
    file = tmp_path / "near.html"
    near = Line("a", {"lr": [5.0001e-5, 5.0003e-5]}, [5.0001e10, 5.0003e10])
    file.write_text(render("near", [Section("s", [Curves("c", [near])])]), encoding="utf-8")
    browser.open(file)
    told = browser.each(".axes text:not(.label)", "node.textContent")
    assert len(set(told)) == len(told) > 5
    assert "5.0002e-5" in told


def test_a_click_on_a_column_sorts_it(opened):
    assert column(opened, 1) == ["0.1", "2", "1e-5", "10"]
    opened.click("table th:nth-child(2) button.sort")
    assert column(opened, 1) == ["1e-5", "0.1", "2", "10"]
    opened.click("table th:nth-child(2) button.sort")
    assert column(opened, 1) == ["10", "2", "0.1", "1e-5"]
    assert opened.one("table th:nth-child(2)", "node.getAttribute('aria-sort')") == "descending"
    for order in ("ascending", "descending"):
        opened.click("table th:nth-child(3) button.sort")
        assert opened.one("table th:nth-child(3)", "node.getAttribute('aria-sort')") == order
        assert sorted(column(opened, 2)[2:]) == ["", "nan"]  # whichever way
    opened.click("table th:nth-child(4) button.sort")
    assert column(opened, 3) == [SEEN, "run 9", "run 10", ""]  # as people count


def test_dark_follows_the_system_until_the_reader_decides(browser, page):
    ground = "getComputedStyle(document.body).backgroundColor"
    browser.open(page)
    light = browser.value(ground)
    browser.prefer(dark=True)
    browser.settle()
    dark = browser.value(ground)
    assert light == "rgb(255, 255, 255)"
    assert dark != light
    assert browser.one("#theme", "node.getAttribute('aria-pressed')") == "true"
    browser.click("#theme")
    assert browser.value(ground) == light
    browser.click("#theme")
    browser.prefer(dark=False)
    assert browser.value(ground) == dark
    browser.value("localStorage.clear()")
    assert browser.problems == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_can_be_read(browser, page, dark):
    browser.open(page, dark=dark)
    assert browser.value(CONTRAST) == []
    assert browser.count(".legend .sample") > 8
    assert browser.problems == []


def test_everything_has_a_name_that_is_read_out(opened):
    assert opened.value("document.documentElement.lang") == "en"
    tree = [node for node in opened.call("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    roles = [node["role"]["value"] for node in tree]
    named = {"button", "link", "image", "columnheader", "rowheader", "slider", "combobox", "region", "application"}
    assert named <= {*roles}
    assert [node for node, role in zip(tree, roles, strict=True) if role in named and not node["name"]["value"]] == []


def test_parallel_coordinates_are_picked_along_an_axis(opened):
    first, out = '[data-axis="0"] .catch', ".crossing.out"
    opened.drag(opened.middle(first, down=0.05), opened.middle(first, down=0.5))
    picked = 24 - opened.count(out)
    assert 8 <= picked <= 14
    assert f"{picked} of 24 lines picked" in opened.one(".parallel", "node.textContent")
    opened.click(first)
    assert opened.count(out) == 0
    opened.each('[data-axis="2"]', "node.focus()")
    opened.press("ArrowDown")
    assert 0 < opened.count(out) < 24
    opened.press("0")
    assert opened.count(out) == 0


def test_scatter_and_timeline_are_hovered_and_switched(opened):
    points, bars = f"{SLICE} circle.point", ".timeline rect.span"
    assert (opened.count(points), opened.count(bars)) == (24, 12)
    opened.mouse("Moved", opened.middle(points))
    opened.settle()
    assert opened.one("#tip", "node.innerText").startswith("trial ")
    opened.mouse("Moved", opened.middle(bars))
    opened.settle()
    assert "worker 0" in opened.one("#tip", "node.innerText")
    assert "worker 1" not in opened.one("#tip", "node.innerText")  # at work at that time too, in another lane
    opened.click(f"{SLICE} .legend button")
    assert (opened.count(points), opened.count(bars)) == (12, 6)  # groups of one name are switched together


def test_a_page_reads_itself_anew_and_keeps_what_was_chosen(browser, tmp_path):
    def write(points: int, reload: float | None) -> None:
        places = {"step": list(range(points)), "epoch": [at / 10 for at in range(points)]}
        lines = [Line(name, places, [1.0 + at for at in range(points)]) for name in ("a", "b")]
        blocks = [Table(["run", "n"], [["x", 2], ["y", 1]]), Curves("c", lines)]
        file.write_text(render(f"{points} points", [Section("s", blocks)], reload=reload), encoding="utf-8")

    file = tmp_path / "live.html"
    write(10, None)
    browser.open(file)
    browser.value("sessionStorage.setItem(`trainkit ${location.pathname} paused`, 'true')")  # else it goes as one looks
    write(20, 0.1)
    browser.open(file)
    assert browser.one("#pause", "node.textContent") == "go on"
    browser.click("table th:nth-child(2) button.sort")
    browser.click(".legend button")
    browser.click("button.log")
    browser.choose("#axis", "step")
    browser.click("summary")
    assert browser.value("document.title") == "20 points"  # though seconds may have passed
    write(30, None)  # the run is over
    browser.click("#pause")
    browser.until("document.title === '30 points' && document.getElementById('axis') !== null")
    assert browser.one("#axis", "node.value") == "step"
    assert browser.one("button.log", "node.getAttribute('aria-pressed')") == "true"
    assert browser.each("path.line[data-name]", "node.dataset.name") == ["b"]
    assert column(browser, 0) == ["y", "x"]
    assert browser.one("details", "node.open")
    assert browser.problems == []


def test_a_page_of_fifty_long_curves_is_drawn(browser, tmp_path):
    at = range(4000)
    places = {"epoch": [step / 100 for step in at], "step": list(at), "time": [step * 0.37 for step in at]}
    lines = [Line(f"run {run}", places, [run + (step % 97) / 50 for step in at]) for run in range(50)]
    file = tmp_path / "many.html"
    file.write_text(render("many", [Section("s", [Curves("c", lines)])]), encoding="utf-8")
    browser.open(file)
    strokes = browser.each("path.line[data-name]", "getComputedStyle(node).stroke")
    assert len(strokes) == 50
    assert len(set(strokes)) > 45
    browser.mouse("Moved", browser.middle("svg.plane"))
    browser.settle()
    assert browser.each(TIP, "node.innerText")[-1].strip() == "and 36 more"
    assert browser.problems == []


def test_a_page_forbids_itself_to_run_load_or_send_anything(browser, page):
    browser.open(page)
    tried = (
        "(async () => { const made = document.createElement('script'); made.textContent = 'window.taken = 1';"
        " document.body.append(made); document.body.insertAdjacentHTML('beforeend', `<b onclick='window.taken = 1'></b>"
        "<img src='https://elsewhere.example/x.png'><iframe src='https://elsewhere.example/'></iframe>`);"
        " document.body.lastElementChild.previousElementSibling.previousElementSibling.click();"
        " const sent = await fetch('https://elsewhere.example/').then(() => 'sent', () => 'refused');"
        " return [window.taken ?? 'not taken', sent]; })()"
    )
    assert browser.value(tried) == ["not taken", "refused"]
    assert len([problem for problem in browser.problems if "Content Security Policy" in problem]) >= 4
    assert browser.requests == [page.resolve().as_uri()]


def test_values_of_diverged_runs_are_drawn_as_far_as_they_can_be(browser, tmp_path):
    odd = [5e-324, 1e300, -1.7e308, math.nan, math.inf, -math.inf, 0.0, -1.0, 1e38, 1e-30]
    places = {"epoch": [float(at) for at in range(10)], "lr": [0.0, 1e-320, *[10.0**at for at in range(8)]]}
    blocks = [
        *[
            Curves(f"{log}", [Line("a", places, odd), Line("b", places, [2.0] * 10)], log=log, log_x=log)
            for log in (True, False)
        ],
        Curves("rates", [Line("a", {"lr": places["lr"]}, odd, odd, odd)], log=True, log_x=True, levels=[(-1.0, "no")]),
        Scatter("s", [Point(value, value, "") for value in odd], "x", "y", log_x=True),
        Bars("b", [str(value) for value in odd], odd, odd, odd),
        Heatmap("h", ["r"], [str(value) for value in odd], [odd]),
        Timeline("t", [Span("l", value, value, "") for value in odd]),
    ]
    file = tmp_path / "odd.html"
    file.write_text(render("odd", [Section("s", blocks)]), encoding="utf-8")
    browser.open(file)
    browser.mouse("Moved", browser.middle("svg.plane", 0.3))
    browser.choose("#smoothing", 0.9)
    assert "NaN" not in browser.one("main", "node.outerHTML")
    assert browser.count(".drawn .tone.bad") == 0
    assert browser.problems == []


def test_printed_it_is_light_and_whole(browser, page):
    browser.open(page, dark=True)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", media="print", features=dark)
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.one("#tools", "getComputedStyle(node).display") == "none"
    assert browser.one(".scroll", "getComputedStyle(node).maxHeight") == "none"


def test_without_scripts_there_are_tables_and_texts(browser, page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.call(
            "Page.navigate", url=page.resolve().as_uri()
        )  # and no frame is asked for: it is a script that waits
        browser.until("document.readyState === 'complete' && document.querySelector('noscript p') !== null")
        assert "does not run" in browser.one("noscript p", "node.innerText")
        assert browser.count("figure.figure details table") == 11
        assert browser.one("#tools", "node.hidden")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
