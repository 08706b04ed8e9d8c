"""Reading is safe: whatever lies at a recipe's path is answered at once, with one message."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainkit.errors import Exit, RecipeError
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe
from trainkit.recipe.read import MAX_BYTES, MAX_KEYS, parse

# Reading that waits for a pipe, or a parser that is lost in a text, ends here; how fast reading is, is counted below.
pytestmark = pytest.mark.timeout(30)


def _refusal(source: Path | str, plugins: Plugins) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(source, [], plugins)
    assert caught.value.exit_code is Exit.RECIPE
    assert len(caught.value.problems) == 1
    return str(caught.value)


def test_fifo_does_not_make_it_wait(tmp_path: Path, plugins: Plugins) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    assert "is not a regular file" in _refusal(tmp_path / "pipe.toml", plugins)


def test_device_and_folder_are_refused(tmp_path: Path, plugins: Plugins) -> None:
    assert "is not a regular file" in _refusal("/dev/zero", plugins)
    assert "is a folder" in _refusal(tmp_path, plugins)


@pytest.mark.parametrize("name", ["nul\0.toml", "x" * 5000, "no/such/folder/r.toml", "\ud800.toml"])
def test_names_that_cannot_be_files(name: str, plugins: Plugins) -> None:
    _refusal(name, plugins)


def test_missing_file_asks_for_the_one_that_was_meant(
    tmp_path: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # names of any length are found, but long ones are shown cut
    Path("folder").mkdir()
    Path("folder/resnet.toml").write_text("")
    assert "did you mean 'folder/resnet.toml'?" in _refusal("folder/resnte.toml", plugins)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file_says_why(tmp_path: Path, plugins: Plugins) -> None:
    file = tmp_path / "r.toml"
    file.touch(mode=0)
    assert "Permission denied" in _refusal(file, plugins)


def test_link_to_itself_is_refused(tmp_path: Path, plugins: Plugins) -> None:
    (tmp_path / "r.toml").symlink_to("r.toml")
    assert "cannot be read" in _refusal(tmp_path / "r.toml", plugins)


# Texts of a size that is given in characters: those refused at sight, and those that are read and have many problems.
HOSTILE: list[Callable[[int], str]] = [
    lambda size: ".".join("a" * (size // 2)) + " = 1",
    lambda size: "\n".join(".".join("ab"[n % 2] for n in range(16)) + str(n) + " = 1" for n in range(size // 40)),
    lambda size: "x = " + "[" * (size // 2) + "]" * (size // 2),
    lambda size: "x = " + "{a=" * (size // 4) + "1" + "}" * (size // 4),
    lambda size: "x = " + "[" * size,
    lambda size: "x = " + "9" * size,
    lambda size: "\n" * size + "x = [\n" + "9" * 4400 + "]",
    lambda size: 'x = """' + '"' * size,
    lambda size: 'x = "' + "\\" * size,
    lambda size: "[" + ".".join("a" * (size // 2)) + "]",
    lambda size: "[[a]]\n" * (size // 6),
    lambda size: "x = 1\n" * (size // 6),
    lambda size: "x = [\n" + "1,\n" * (size // 3) + "]",
    lambda size: "x = [" + "{a = 1}, " * (size // 9) + "]",
    lambda size: "#" * size,
    lambda size: "x = [" + "\n" * size + "]",
    lambda size: "x = '''" + "\n" * size,
    lambda size: "x = [\n" + ("nan," + " " * (size // 1900 - 5) + "\n") * 1900 + "]",
    lambda size: "x = [\n" + ("1979-05-27," + " " * (size // 1900 - 12) + "\n") * 1900 + "]",
    lambda size: "x = [" + ("nan," + " " * (size // 1900 - 4)) * 1900 + "]",
    lambda size: "callback = [\n" + ("{}," + " " * (size // 1900 - 4) + "\n") * 1900 + "]",
    lambda size: "callback = [\n" + ("{use='x',\na=1}," + " " * (size // 600 - 17) + "\n") * 600 + "]",
    lambda size: "extends = [\n" + ("'no'," + " " * (size // 1900 - 6) + "\n") * 1900 + "]",
    lambda size: "extends = [\n" + ("'no.toml'," + " " * (size // 1900 - 11) + "\n") * 1900 + "]",
    lambda size: "drop = [\n" + ("'no'," + " " * (size // 1900 - 6) + "\n") * 1900 + "]",
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: f"{hostile(12_000)[:14]!r}")
def test_hostile_text_costs_no_more_than_its_length(
    hostile: Callable[[int], str], tmp_path: Path, plugins: Plugins, work: Callable[..., Any]
) -> None:
    file = tmp_path / "r.toml"
    load = functools.partial(load_recipe, file, [], plugins)
    file.write_text(hostile(MAX_BYTES - 5000))
    with pytest.raises(RecipeError):
        load()
    half, whole = 10_000, 20_000
    costs = {}
    for size in (half, whole):
        file.write_text(hostile(size))
        counted = work(load)
        assert isinstance(counted.raised, RecipeError)
        assert counted.total <= 40 * file.stat().st_size + 500 * MAX_KEYS
        costs[size] = counted.total
    # What grows with the square of the length would cost four times as much.
    assert costs[whole] <= 2.2 * costs[half]


@pytest.mark.parametrize("line", ["[[a]]", "[[a.b]]", "x = 1", "[x]", "x = [1, 2]", "x = { a = 1 } # ="])
def test_too_many_values_are_refused_before_they_are_parsed(
    line: str, tmp_path: Path, plugins: Plugins, work: Callable[..., Any]
) -> None:
    file = tmp_path / "r.toml"
    costs = []
    for lines in (MAX_KEYS + 1, MAX_KEYS * 3 // 2):
        file.write_text(f"{line}\n" * lines)
        counted = work(lambda: load_recipe(file, [], plugins))
        assert "has more than 2000 values" in str(counted.raised)
        assert counted.parsed == 0
        costs.append(counted.lines)
    assert costs[1] <= costs[0] + 10


@pytest.mark.parametrize(
    ("first", "more", "end", "has", "each"),
    [
        ("", "[a{n}]\n", "", 0, 1),
        ("a = 1\n", "[[b.'=']]\n", "", 3, 1),
        ("", "a{n} = '= , [' # = ,\n", "", 0, 1),
        ("a = [", " 1 ,\n", "]\n", 1, 1),
        ("a = [", "{{}}, ", "]\n", 1, 1),
        ("[a]\n", "b{n}.c = 1\n", "", 1, 2),
        ("[a]\nb = [", "{{ c = [ ], }},\n", "]\n", 2, 2),
    ],
)
def test_the_most_values_that_a_recipe_may_have(first: str, more: str, end: str, has: int, each: int) -> None:
    def text(values: int) -> bytes:
        count, left = divmod(values - has, each)
        return (first + "".join(more.format(n=n) for n in range(count)) + end + "z = 1\n" * left).encode()

    parse(text(MAX_KEYS), "r.toml")
    with pytest.raises(RecipeError, match="has more than 2000 values, the most"):
        parse(text(MAX_KEYS + 1), "r.toml")


def test_floats_in_a_list_are_no_dotted_key() -> None:
    assert parse(b"x = [" + b"0.125, " * 100 + b"]", "r.toml").tables["x"] == [0.125] * 100


def test_text_and_comments_may_hold_dots_and_brackets() -> None:
    text = f'# {"." * 99}\nx = "{"[" * 99}{"a." * 99}"\ny = """\n{"{" * 99}\n{"b." * 99}"""\n'
    assert set(parse(text.encode(), "r.toml").tables) == {"x", "y"}


def test_byte_order_mark_and_windows_line_ends_are_read(load: Callable[..., Recipe], base: str) -> None:
    recipe = load("\ufeff" + base.replace("\n", "\r\n"))
    assert recipe.tables["seed"] == 17
    assert recipe.origin("seed").place.line == 2  # type: ignore[union-attr]


def test_recipe_from_standard_input(base: str, plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(base.encode())))
    recipe = load_recipe("-", [], plugins)
    assert str(recipe.origin("optimizer.lr").place) == "standard input:15"
