"""Every hook has a docstring that says when it is called, and a test of its own in tests/hooks."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from trainkit import hookspecs
from trainkit.hooking import hook_names

FOLDER = Path(__file__).parent / "hooks"


def named_in_tests_of_hooks() -> set[str]:
    """Names of all test functions in tests/hooks, read without importing them."""
    names = set()
    for file in FOLDER.glob("test_*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return names


@pytest.mark.parametrize("name", hook_names())
def test_every_hook_says_when_it_is_called(name):
    doc = inspect.getdoc(getattr(hookspecs, name)) or ""
    assert doc.splitlines()[0].endswith("."), "the first line is a sentence"
    assert "Called " in doc, "it says when and how often"


@pytest.mark.parametrize("name", hook_names())
def test_every_hook_that_gives_something_says_what_becomes_of_it(name):
    spec = getattr(hookspecs, name)
    if spec.__annotations__["return"] != "None":
        doc = inspect.getdoc(spec) or ""
        assert any(words in doc for words in ("Returns:", "The first plugin to give", "List the components"))


@pytest.mark.parametrize("name", hook_names())
def test_every_hook_has_a_test_of_its_own(name):
    assert f"test_{name}" in named_in_tests_of_hooks(), f"write test_{name} in tests/hooks"
