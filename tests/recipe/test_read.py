"""Reading is safe: whatever lies at a recipe's path is answered at once, with one message."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainkit.errors import Exit, RecipeError
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe
from trainkit.recipe.read import MAX_BYTES, parse


def _refusal(source: Path | str, plugins: Plugins) -> str:
    start = time.process_time()
    with pytest.raises(RecipeError) as caught:
        load_recipe(source, [], plugins)
    assert time.process_time() - start < 1
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


def test_missing_file_asks_for_the_one_that_was_meant(tmp_path: Path, plugins: Plugins) -> None:
    (tmp_path / "resnet.toml").write_text("")
    assert f"did you mean '{tmp_path / 'resnet.toml'}'?" in _refusal(tmp_path / "resnte.toml", plugins)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file_says_why(tmp_path: Path, plugins: Plugins) -> None:
    file = tmp_path / "r.toml"
    file.touch(mode=0)
    assert "Permission denied" in _refusal(file, plugins)


def test_link_to_itself_is_refused(tmp_path: Path, plugins: Plugins) -> None:
    (tmp_path / "r.toml").symlink_to("r.toml")
    assert "cannot be read" in _refusal(tmp_path / "r.toml", plugins)


@pytest.mark.parametrize(
    "text",
    [
        ".".join("a" * 20_000) + " = 1",
        "\n".join(".".join("ab"[n % 2] for n in range(16)) + str(k) + " = 1" for k in range(1900)),
        "x = " + "[" * 1000 + "]" * 1000,
        "x = " + "{a=" * 1000 + "1" + "}" * 1000,
        "x = " + "[" * 30_000,
        "x = " + "9" * 60_000,
        'x = """' + '"' * 60_000,
        'x = "' + "\\" * 60_000,
        "[" + ".".join("a" * 3000) + "]",
        "[[a]]\n" * 9000,
        "x = [\n" + "1,\n" * 30_000 + "]",
        "x = [" + "{a = 1}, " * 6000 + "]",
        "#" * MAX_BYTES,
    ],
    ids=lambda text: f"{text[:12]!r}",
)
def test_hostile_text_is_answered_within_a_second(text: str, tmp_path: Path, plugins: Plugins) -> None:
    file = tmp_path / "r.toml"
    file.write_text(text)
    start = time.process_time()
    with pytest.raises(RecipeError):
        load_recipe(file, [], plugins)
    assert time.process_time() - start < 1


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
