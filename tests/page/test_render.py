"""Pages as text: what stands in them, what cannot, and how large they get."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
import subprocess
import sys
import zlib
from html.parser import HTMLParser

import numpy
import pytest

from tests.page.parts import HOSTILE, SEEN, sections
from trainkit.page import (
    Bars,
    Curves,
    Heatmap,
    Image,
    Line,
    Parallel,
    Pictures,
    Point,
    Scatter,
    Section,
    Span,
    Table,
    Text,
    Timeline,
    render,
)
from trainkit.page.cells import exact, relative, shown
from trainkit.page.figures import MOST_MARKS
from trainkit.page.png import data_url
from trainkit.page.thin import kept


class Reader(HTMLParser):
    """What a browser finds: elements with their attributes, and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in = tag

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self._in == "script" else self.texts).append(data)


def figures(*blocks, **more) -> dict:
    """The data of a page's script."""
    return json.loads(Reader(render("t", [Section("s", blocks)], **more)).scripts[0])


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(render(f"Report of {HOSTILE}", sections(), HOSTILE))


def test_text_of_strangers_stays_text(reader):
    tags = [tag for tag, _ in reader.elements]
    assert tags.count("script") == 2
    assert tags.count("img") == 2  # the pictures
    seen = "".join(reader.texts)
    assert seen.count(SEEN) > 10
    assert not [
        value for _, attributes in reader.elements for name, value in attributes.items() if name.startswith("on")
    ]
    data = json.loads(reader.scripts[0])
    assert SEEN in data["names"]
    assert not re.search(r"[<>&\u2028\u2029]", reader.scripts[0])


def test_only_the_page_s_own_script_and_style_may_run_and_nothing_is_fetched(reader):
    policy = next(a["content"] for tag, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    script = "sha256-" + base64.b64encode(hashlib.sha256(reader.scripts[1].encode()).digest()).decode()
    assert rules.pop("style-src").startswith("'sha256-")
    assert rules == {
        "default-src": "'none'",
        "script-src": f"'{script}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    for _, attributes in reader.elements:
        for name in ("src", "href"):
            address = attributes.get(name) or ""
            assert re.match(r"data:|#|fixed/report\.html$|javascript%3Aalert|/elsewhere|$", address), address


@pytest.mark.parametrize(
    ("link", "is_now"),
    [
        ("trials/0007/report.html", "trials/0007/report.html"),
        ("a b/ü#?.html", "a%20b/%C3%BC%23%3F.html"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("//host/x", "/host/x"),
        ("\\\\host\\x", "%5C%5Chost%5Cx"),
        ("http://host/x", "http%3A//host/x"),
        ("\ud800", "%3F"),
    ],
)
def test_links_lead_to_files_alone(link, is_now):
    assert relative(link) == is_now


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (0.987654321, "0.9877"),
        (12.345678, "12.35"),
        (1234.5678, "1235"),
        (99999.6, "100000"),
        (1e-05, "1e-5"),
        (1.23456e-05, "1.235e-5"),
        (0.001, "0.001"),
        (-0.5, "-0.5"),
        (0.0, "0"),
        (3.0, "3"),
        (1.5e9, "1.5e9"),
        (math.inf, "inf"),
        (math.nan, "nan"),
        (1234567, "1234567"),
        (9223372036854775807, "9223372036854775807"),
        (10**400, str(10**400)),
        (True, "yes"),
        (False, "no"),
        (None, ""),
        ("\x1b[31mred\u202e", "\\x1b[31mred\\u202e"),
        ("\ud800", "\\ud800"),
    ],
)
def test_cells_are_short_and_harmless(cell, text):
    assert shown(cell) == text


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (0.987654321987, "0.9876543"),
        (0.5, ""),
        (7, ""),
        (12345.678, "12345.68"),
        (math.nan, "nan"),
        (123456789, ""),
        (10**400, ""),
        (True, ""),
        ("1", ""),
        (None, ""),
    ],
)
def test_numbers_are_sorted_by_more_than_is_shown(cell, value):
    assert exact(cell) == value


def test_a_page_of_thousands_of_trials_is_small():
    rows = [[trial, "done", *(math.sin(trial + at) for at in range(9))] for trial in range(3000)]
    links = [f"trials/{trial:04}/report.html" for trial in range(3000)]
    text = render("t", [Section("s", [Table([f"column {at}" for at in range(11)], rows, links=links)])])
    assert len(text.encode()) < 1_600_000


def test_a_page_of_large_pictures_and_of_thousands_of_curves_is_small():
    picture = numpy.random.default_rng(0).integers(0, 256, (300, 400, 3), numpy.uint8)
    lines = [Line("others", {"step": [*range(50)]}, [math.sin(run + at) for at in range(50)]) for run in range(3000)]
    blocks = [Pictures("p", [Image(picture, "")] * 40), Curves("c", lines)]
    text = render("t", [Section("s", blocks)])
    assert len(text.encode()) < 2_000_000
    urls = re.findall(r'src="(data:image/png[^"]*)"', text)
    assert len(urls) == 40
    width, height, *_ = png(urls[0])
    assert (width, height) == (50, 37)  # each pixel the mean of 8 x 8


def test_a_page_of_many_long_curves_is_small_and_keeps_their_spikes():
    count = 4000
    lines = []
    for run in range(50):
        y = [1 / (1 + step + run) for step in range(count)]
        y[1777] = 99.0
        y[3001] = -99.0
        places = {
            "epoch": [step / 100 for step in range(count)],
            "step": list(range(count)),
            "time": [step * 0.3137 + run for step in range(count)],
        }
        lines.append(Line(f"run {run}", places, y))
    text = render("many", [Section("s", [Curves("loss", lines), Curves("again", lines)])])
    assert len(text.encode()) < 2_000_000
    drawn = json.loads(Reader(text).scripts[0])["figures"][0]["lines"]
    assert len(drawn) == 50
    for line in drawn:
        assert len(line["y"]) > 100
        assert max(line["y"]) == 99.0
        assert min(line["y"]) == -99.0
        assert line["y"][-1] == pytest.approx(lines[line["name"]].y[-1], rel=1e-4)


def test_thinning_keeps_first_last_extremes_and_gaps():
    values = [math.nan if 100 <= at < 200 else math.sin(at / 2) for at in range(1000)]
    stay = kept(values, 100)
    assert list(stay) == sorted(set(stay))
    assert len(stay) <= 102
    assert (stay[0], stay[-1]) == (0, 999)
    finite = [value for value in values if math.isfinite(value)]
    assert values.index(max(finite)) in stay
    assert values.index(min(finite)) in stay
    assert any(100 <= at < 200 for at in stay)
    assert list(kept(values, 1000)) == list(range(1000))


def test_values_that_json_lacks_become_gaps_and_places_are_shared():
    places = {"step": [1, 2, 123456]}
    data = figures(Curves("c", [Line("a", places, [1.0, math.nan, math.inf]), Line("b", places, [1, 2, 3.14159265])]))
    first, second = data["figures"][0]["lines"]
    assert first["y"] == [1, None, None]
    assert second["y"] == [1, 2, 3.1416]
    assert first["x"] == second["x"] == {"step": 0}
    assert data["places"] == [[1, 2, 123456]]


def test_names_have_one_number_on_the_whole_page():
    places = {"step": [0, 1]}
    data = figures(
        Table(["run"], [["b"]], colours=["b"]),
        Curves("c", [Line("a", places, [0, 1]), Line("b", places, [0, 1])]),
        Scatter("s", [Point(0, 0, "", "a"), Point(0, 0, "")], "x", "y"),
        Timeline("t", [Span("lane", 0, 1, "", "b")]),
    )
    curves, scatter, timeline = data["figures"]
    assert data["names"] == ["b", "a"]
    assert [line["name"] for line in curves["lines"]] == [1, 0]
    assert [point[3] for point in scatter["points"]] == [1, -1]
    assert timeline["spans"][0][4] == 0


def test_large_figures_are_thinned_and_say_so():
    points = [Point(at, at, "") for at in range(3 * MOST_MARKS)]
    grid = [[float(row * 150 + column) for column in range(150)] for row in range(150)]
    names = [str(at) for at in range(150)]
    scatter, heatmap = figures(
        Scatter("s", points, "x", "y"), Heatmap("h", names, names, grid, points=[Point(0, 149, "")])
    )["figures"]
    assert (len(scatter["points"]), scatter["one_in"]) == (MOST_MARKS, 3)
    assert heatmap["pooled"] == [2, 2]
    assert heatmap["rows"] == names[::2]
    assert heatmap["values"][0][0] == pytest.approx((0 + 1 + 150 + 151) / 4, rel=1e-4)
    assert heatmap["points"][0][:2] == [-0.25, 74.25]  # in the corner of the corner's cell


def test_numbers_behind_figures_are_there_without_a_script(reader):
    seen = "".join(reader.texts)
    assert "at epoch" in seen
    text = render("t", [Section("s", [Bars("b", ["lr"], [0.12345], [0.1], [0.2], "share")])])
    table = re.sub(r"\s*<[^>]*>\s*", " ", text[text.index("<table") : text.index("</table")])
    assert table.split() == ["name", "share", "from", "to", "lr", "0.1235", "0.1", "0.2"]
    last = render("t", [Section("s", [Curves("c", [Line("a", {"step": [1, 2, 3]}, [3.0, 1.0, math.nan])])])])
    row = re.sub(r"\s*<[^>]*>\s*", " ", last[last.index("<tbody") : last.index("</tbody")])
    assert row.split() == ["a", "1", "2", "1", "2", "3", "1"]


def test_a_page_that_reads_itself_anew_says_when():
    assert figures(Text("x"), reload=2.5)["reload"] == 2.5
    assert figures(Text("x"))["reload"] is None
    again = Reader(render("t", [], reload=5.0))
    assert ("meta", {"http-equiv": "refresh", "content": "5.0"}) in again.elements


def test_empty_blocks_are_pages_too():
    blocks = [
        Table(["a"], []),
        Curves("c", []),
        Curves("c", [Line("a", {"step": []}, [])]),
        Scatter("s", [], "x", "y"),
        Bars("b", [], []),
        Heatmap("h", [], [], []),
        Pictures("p", []),
        Parallel("p", ["a"], [], [], [[]], []),
        Timeline("t", []),
    ]
    assert len(figures(*blocks)["figures"]) == 7


def test_lists_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="curve 'a' has lists of different lengths"):
        render("t", [Section("s", [Curves("c", [Line("a", {"step": [1, 2]}, [1.0])])])])
    with pytest.raises(ValueError, match="table of 2 columns has a row of 1 cells"):
        render("t", [Section("s", [Table(["a", "b"], [["x"]])])])
    with pytest.raises(ValueError, match="this is"):
        render("t", [Section("s", [Pictures("p", [Image([1, 2], "")])])])


def png(url: str) -> tuple[int, int, int, bytes]:
    """Width, height, the kind of colours and the pixels of a PNG, read by the format's rules."""
    raw = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    parts, at = {}, 8
    while at < len(raw):
        size, name = struct.unpack(">I4s", raw[at : at + 8])
        content = raw[at + 8 : at + 8 + size]
        assert struct.unpack(">I", raw[at + 8 + size : at + 12 + size])[0] == zlib.crc32(name + content)
        parts[name] = content
        at += 12 + size
    width, height, depth, kind, *_ = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert depth == 8
    rows = zlib.decompress(parts[b"IDAT"])
    stride = 1 + width * (3 if kind == 2 else 1)
    assert all(rows[start] == 0 for start in range(0, len(rows), stride))
    return width, height, kind, b"".join(rows[start + 1 : start + stride] for start in range(0, len(rows), stride))


def test_pictures_are_whole():
    assert png(data_url([[0, 255, 7]], 96)) == (3, 1, 0, bytes([0, 255, 7]))
    assert png(data_url([[[1, 2, 3]], [[4, 5, 6]]], 96)) == (1, 2, 2, bytes([1, 2, 3, 4, 5, 6]))
    assert png(data_url([[[9], [8]]], 96)) == (2, 1, 0, bytes([9, 8]))
    assert png(data_url([[-5.0, 300.0, 1.6, math.nan]], 96)) == (4, 1, 0, bytes([0, 255, 2, 0]))
    assert png(data_url([[0, 10, 20, 30]] * 4, 2)) == (2, 2, 0, bytes([5, 25, 5, 25]))


def test_makers_of_pages_wait_for_no_library():
    code = "import sys, trainkit.page; print(sorted({'torch', 'jinja2', 'numpy', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
