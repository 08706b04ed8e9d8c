"""What a recipe requires once it is filled: what its user wrote, and what it uses, not older than what is installed."""

from __future__ import annotations

import pytest

from trainkit.plugin import Plugin
from trainkit.recipe.needs import in_use, with_least


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([], ["trainkit-lion>=0.5"]),
        (["other>=1"], ["other>=1", "trainkit-lion>=0.5"]),
        (["trainkit-lion"], ["trainkit-lion>=0.5"]),
        (["Trainkit_Lion>=0.2,<1"], ["Trainkit_Lion<1,>=0.5"]),
        (["trainkit-lion[fast]!=0.4"], ["trainkit-lion[fast]!=0.4,>=0.5"]),
        (["trainkit-lion==0.5"], ["trainkit-lion==0.5"]),
        (["trainkit-lion>=9; python_version < '3'"], ["trainkit-lion>=9; python_version < '3'", "trainkit-lion>=0.5"]),
        (["not a requirement!"], ["not a requirement!", "trainkit-lion>=0.5"]),
    ],
)
def test_the_installed_version_is_the_least(written, expected):
    found = with_least(written, {"trainkit-lion": "0.5"})
    assert found == expected
    assert with_least(found, {"trainkit-lion": "0.5"}) == found


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.5.dev2+g12ab", "x>=0.5.dev2"), ("1.0rc1", "x>=1.0rc1"), ("no version", "x")],
)
def test_versions_that_cannot_be_a_bound_are_cut_to_what_can(version, expected):
    assert with_least([], {"x": version}) == [expected]


def test_trainkit_itself_and_what_is_not_installed_are_not_named():
    plugins = [
        Plugin("data", "trainkit_data", "trainkit", "0.1.0"),
        Plugin("b", "b_part", "b-dist", "2"),
        Plugin("a", "a_part", "a-dist", "1"),
        Plugin("more", "b_more", "b-dist", "2"),
        Plugin("mine", "mine", "./mine.py", "not installed"),
    ]
    assert in_use(plugins) == {"a-dist": "1", "b-dist": "2"}
