"""Every key knows its line, whatever form of TOML it is written in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trainkit.recipe import positions
from trainkit.recipe.positions import LONGEST_LINE, Source
from trainkit.recipe.read import parse
from trainkit.recipe.text import Path

TEXT = '''\
recipe = 1                       # 1
[search]                         # 2
space = {                        # 3
  "optimizer.lr" = { low = 1e-4, # 4
     high = 1.0 },               # 5: TOML 1.1 lets inline tables span lines
  note = """
a = [ {
""",                             # 8
  last = [ 1,                    # 9
    2, ],                        # 10
}                                # 11
optimizer.lr = 0.1               # 12
optimizer."odd.name".x = 1       # 13
[[metric]]                       # 14
use = "a"                        # 15
[[metric]]                       # 16
use = "b"                        # 17
[metric.more]                    # 18
y = 1                            # 19
[[metric.item]]                  # 20
q = 1                            # 21
[[metric.item]]                  # 22
q = 2                            # 23
betas = [                        # 24
 0.9,                            # 25
 0.99 ]                          # 26
[later.inner]                    # 27
z = 1                            # 28
[later]                          # 29
w = [ { use = "x" },             # 30
  { use = "y",                   # 31
    p = 2 } ]                    # 32
text = \'\'\'
  # = [ {
  \'\'\'
end = true                       # 36
'''

LINES: list[tuple[Path, int]] = [
    (("recipe",), 1),
    (("search",), 2),
    (("search", "space"), 3),
    (("search", "space", "optimizer.lr"), 4),
    (("search", "space", "optimizer.lr", "low"), 4),
    (("search", "space", "optimizer.lr", "high"), 5),
    (("search", "space", "note"), 6),
    (("search", "space", "last"), 9),
    (("search", "space", "last", 1), 10),
    (("search", "optimizer", "lr"), 12),
    (("search", "optimizer", "odd.name", "x"), 13),
    (("metric",), 14),
    (("metric", 0), 14),
    (("metric", 0, "use"), 15),
    (("metric", 1), 16),
    (("metric", 1, "use"), 17),
    (("metric", 1, "more", "y"), 19),
    (("metric", 1, "item", 0, "q"), 21),
    (("metric", 1, "item", 1), 22),
    (("metric", 1, "item", 1, "q"), 23),
    (("metric", 1, "item", 1, "betas"), 24),
    (("metric", 1, "item", 1, "betas", 0), 25),
    (("metric", 1, "item", 1, "betas", 1), 26),
    (("later",), 29),
    (("later", "inner"), 27),
    (("later", "inner", "z"), 28),
    (("later", "w", 0, "use"), 30),
    (("later", "w", 1, "use"), 31),
    (("later", "w", 1, "p"), 32),
    (("later", "text"), 33),
    (("later", "end"), 36),
]


@pytest.fixture(scope="module")
def source() -> Source:
    return parse(TEXT.encode(), "r.toml")


@pytest.mark.parametrize(("path", "line"), LINES, ids=lambda value: str(value))
def test_line_of_a_key(source: Source, path: Path, line: int) -> None:
    assert source.place(path).line == line


def test_place_shows_its_line(source: Source) -> None:
    place = source.place(("metric", 1, "use"))
    assert (str(place), place.source) == ("r.toml:17", 'use = "b"                        # 17')


def test_missing_key_points_at_its_tables_header(source: Source) -> None:
    assert source.place(("metric", 1, "item", 1, "nothing")).line == 22
    assert source.place(("search", "space", "optimizer.lr", "scale")).line == 4
    assert str(source.place(("nothing",))) == "r.toml"


def test_every_key_of_a_long_recipe_is_found_in_one_pass(work: Callable[..., Any]) -> None:
    lines = ["[t0]"]
    for number in range(269):
        lines.append(f"[t{number}]" if number % 9 == 8 else f"k{number} = [{number}, 0.5]")
    source = parse("\n".join(lines).encode(), "r.toml")

    def find() -> None:
        for table, keys in source.tables.items():
            for key in keys:
                assert source.place((table, key)).source.startswith(f"{key} =")

    counted = work(find)
    assert counted.raised is None
    assert counted.parsed <= len(source.text)
    assert counted.lines <= 20 * len(source.text)


@pytest.mark.parametrize("item", ["{{ use = 'a', n = {n} }},", "{n},", "[ [\n{n} ],\n ],", '"""\n{n}""",'])
def test_all_of_a_long_value_over_many_lines_is_found_in_one_pass(item: str, work: Callable[..., Any]) -> None:
    costs = []
    for count in (300, 600):
        text = "x = [\n" + "".join(f"  {item.format(n=n)}\n" for n in range(count)) + "]\n"
        source = parse(text.encode(), "r.toml")
        places = []
        counted = work(lambda: places.extend(source.place(("x", n)) for n in range(count)))  # noqa: B023
        assert counted.raised is None
        per_item = item.count("\n") + 1
        assert [place.line for place in places] == [2 + per_item * n for n in range(count)]
        assert counted.parsed <= 2 * len(text)
        costs.append(counted.total)
    assert costs[1] <= 2.2 * costs[0]


def test_a_long_line_is_not_shown_whole_for_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    plain = positions.shown
    monkeypatch.setattr(positions, "shown", lambda text, *more: shown.append(len(text)) or plain(text, *more))
    source = parse(b"x = [" + b"nan, " * 1900 + b"]", "r.toml")
    place = source.place(("x",))
    assert len(place.source) == LONGEST_LINE
    assert place.source.endswith("...")
    assert max(shown) <= LONGEST_LINE + 1
