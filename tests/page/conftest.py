"""The browser that the tests of pages share, and the page that they look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.page.browser import INSTALL, Browser, found, started
from tests.page.parts import HOSTILE, sections
from trainkit.page import render


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, started once; a test that needs it is skipped where there is none."""
    if found() is None:
        pytest.skip(f"there is no Chromium to open pages in; install it with: {INSTALL}")
    with started(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a block of each kind."""
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(render(f"Report of {HOSTILE}", sections(), f"runs/{HOSTILE}"), encoding="utf-8")
    return file
