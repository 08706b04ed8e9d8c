"""Names of strangers are shown with control characters and bidirectional marks escaped, wherever they come from."""

from __future__ import annotations

import json

import pytest

from tests.security import conftest
from trainkit.cli import main
from trainkit.console import emit, say
from trainkit.errors import UNSAFE
from trainkit.recipe import parse_toml
from trainkit.recipe.text import show_key
from trainkit.rundir import RunFolder

HOSTILE = "a\x1b[2J\x1b]0;title\x07\u202egnp.exe\x9b31m\u2066\r"
RECIPE = conftest.RECIPE.format(path="'data.csv'")


def harmless(text: str) -> bool:
    return not any(ord(character) in UNSAFE - {0x09, 0x0A} for character in text)


def test_everything_that_is_said_is_escaped(capsys):
    say(f"note: {HOSTILE}")
    emit(HOSTILE)
    captured = capsys.readouterr()
    assert harmless(captured.out + captured.err)
    assert "\\x1b[2J" in captured.err
    assert "\\u202e" in captured.out


@pytest.mark.parametrize(
    "place", ["use = {}", "{} = 1", "[data.{}]\nx = 1", "requires = [{}]", "extends = {}", "drop = [{}]"]
)
def test_names_of_recipes(tmp_path, monkeypatch, capsys, place):
    monkeypatch.chdir(tmp_path)
    text = json.dumps(HOSTILE)
    (tmp_path / "r.toml").write_text(
        place.format(text) + "\n" + RECIPE.replace("recipe = 1\n", "", 1), encoding="utf-8"
    )
    assert main(["validate", "r.toml"]) in (2, 3)
    captured = capsys.readouterr()
    assert captured.err
    assert harmless(captured.out + captured.err)


def test_names_of_data_run_folders_and_checkpoints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "data.csv").write_text(f"{HOSTILE.strip()},z\n" + "1,2\n" * 40, encoding="utf-8", newline="")
    name = HOSTILE.replace("/", "")
    (tmp_path / name).mkdir()
    (tmp_path / name / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / name / "checkpoints" / "step-000000000001").mkdir(parents=True)
    for words in (["r.toml"], ["resume", name], ["evaluate", name], [name], ["resume", f"{name}x"], [f"x={name}"]):
        assert main(words) in (2, 3, 5), words
        captured = capsys.readouterr()
        assert captured.err
        assert harmless(captured.out + captured.err), words


def test_the_log_escapes_and_no_name_makes_up_an_entry(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        folder.log(f"{HOSTILE}\n2026-01-01T00:00:00 finished: all planned updates made")
    text = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert harmless(text)
    assert text.splitlines()[1].startswith("    2026")


def test_filled_recipes_hold_escapes_that_read_back():
    text = f"x = {show_key(HOSTILE)}\n"
    assert harmless(text)
    assert parse_toml(text, "x") == {"x": HOSTILE}


def test_pictures_hold_names_as_they_are():
    from trainkit.preview_plot import plain

    assert plain("$\\frac{1}{2}$ \u202ex\x1b") == "\\$\\frac{1}{2}\\$ ?x?"
