"""How a page writes values: short for readers, whole for sorting, and harmless whatever a stranger put into them."""

from __future__ import annotations

import math
from urllib.parse import quote

from trainkit.errors import printable
from trainkit.page.blocks import Cell

_DIGITS = 4  # that a reader is shown; the whole number is a hover away


def shown(cell: Cell) -> str:
    """A cell as text: whole numbers as they are, others to four digits, ``yes`` and ``no``, nothing for ``None``."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return str(cell)  # whole: a seed of twenty digits is to be typed again
    return short(cell) if isinstance(cell, float) else printable(str(cell))


def short(value: float) -> str:
    """A number to four digits: ``0.9877``, ``12.35``, ``123456``, ``1.5e-6``."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e7):
        mantissa, _, power = f"{value:.{_DIGITS - 1}e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    text = f"{value:.{max(0, _DIGITS - 1 - math.floor(math.log10(size)))}f}" if size else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


def is_number(cell: Cell) -> bool:
    """Whether a cell is sorted as a number and stands to the right."""
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def exact(cell: Cell) -> str:
    """What a number is sorted by, to seven digits; nothing where what is shown says as much."""
    if not isinstance(cell, float):
        return ""
    text = f"{cell:.7g}"
    return "" if float(shown(cell)) == float(text) else text


def relative(link: str) -> str:
    """A link that can lead to a file alone: never to a script (``javascript:``) or another machine (``//``)."""
    kept = quote(link.encode("utf-8", "replace"), safe="/")
    return "/" + kept.lstrip("/") if kept.startswith("/") else kept
