"""Pages to draw on, and text as it is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainkit import Study


def page(width: float, height: float, title: str) -> Any:
    """An empty page, in inches, with a title, in several lines where it is wider than the page."""
    # The object interface: pyplot would pick a window system and keep figures in a global list.
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    made.suptitle(plain(title), wrap=True)
    return made


def plain(text: str) -> str:
    """A name as it is: no formula, and no mark that would turn or move other text."""
    return "".join(part if part.isprintable() or part == "\n" else "?" for part in text).replace("$", r"\$")


def save(page: Any, study: Study, name: str) -> Path:
    """Write a page into the folder of a study."""
    path = study.folder / name
    page.savefig(path, dpi=110)
    return path
