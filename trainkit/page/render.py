"""From blocks to one file of HTML that needs nothing else: no network, no other file, no trust in any text."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainkit.errors import printable
from trainkit.page.behind import behind
from trainkit.page.blocks import Block, Code, Facts, Pictures, Section, Table, Text
from trainkit.page.cells import exact, is_number, relative, shown
from trainkit.page.figures import FIGURES, Data
from trainkit.page.png import data_url

_ASSETS = Path(__file__).resolve().parent / "assets"
# In this order: each uses what stands before it.
SCRIPTS = ("base", "scales", "plane", "curves", "scatter", "bars", "heatmap", "parallel", "timeline", "tables", "page")
_PICTURES_WEIGH = 400_000  # bytes, of all pictures of a page before they are packed
_WIDE = 62  # letters of a row, more than half a page holds
_TONES = ("plain", "note", "good", "bad")


def render(title: str, sections: Sequence[Section], subtitle: str = "", reload: float | None = None) -> str:
    """Make a page.

    Args:
        title: its heading, and what a browser's tab says.
        sections: its parts, in order.
        subtitle: a line below the heading, such as a folder and a date.
        reload: seconds after which the page reads itself anew, as while a run goes on; never if not given. What a
            reader chose (zoom, hidden curves, smoothing) stays.

    Returns:
        The text of one HTML file, to be written as UTF-8. Below 2 MB, whatever the length of the curves.

    Raises:
        ValueError: if the lists of a block do not fit together, or a picture has no pixels.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    blocks = [block for section in sections for block in section.blocks]
    data = Data(blocks)
    pictures = sum(len(block.images) for block in blocks if isinstance(block, Pictures))
    side = max(16, math.isqrt(_PICTURES_WEIGH // (3 * max(1, pictures))))
    parts = [
        {
            "title": printable(section.title),
            "key": f"part-{number}",
            "blocks": [_view(block, data, side) for block in section.blocks],
        }
        for number, section in enumerate(sections, start=1)
    ]
    style = _asset("page.css")
    script = '"use strict";\n(() => {\n' + "\n".join(_asset(f"{name}.js") for name in SCRIPTS) + "\n})();\n"
    return environment.get_template("page.html").render(
        title=printable(title),
        subtitle=printable(subtitle),
        parts=parts,
        reload=reload,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=Markup(data.text(reload=reload)),
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _view(block: Block, data: Data, side: int) -> dict[str, Any]:
    """What the template shows of a block: text, which it escapes."""
    match block:
        case Text():
            return {
                "kind": "text",
                "text": printable(block.text),
                "tone": block.tone if block.tone in _TONES else "plain",
            }
        case Code():
            return {"kind": "code", "text": printable(block.text), "title": printable(block.title)}
        case Facts():
            rows = [(printable(name), shown(value)) for name, value in block.rows]
            return {"kind": "facts", "title": printable(block.title), "rows": rows}
        case Table():
            return {"kind": "table", "table": _table(block, data)}
        case Pictures():
            size = max(8, block.size)
            images = [(data_url(image.pixels, min(side, 2 * size)), printable(image.text)) for image in block.images]
            return {"kind": "pictures", "title": printable(block.title), "size": size, "images": images}
        case _:
            assert isinstance(block, FIGURES)
            return {
                "kind": "figure",
                "what": type(block).__name__.lower(),
                "title": printable(block.title),
                "number": data.add(block),
                "table": _table(behind(block), data),
            }


def _table(table: Table, data: Data) -> dict[str, Any]:
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ValueError(f"a table of {len(table.columns)} columns has a row of {len(row)} cells: {row!r}")
    for name in table.colours:
        if name:
            data.name(name)
    right = [
        any(is_number(row[at]) for row in table.rows)
        and all(row[at] is None or is_number(row[at]) for row in table.rows)
        for at in range(len(table.columns))
    ]
    widths = [max(len(shown(cell)) for cell in cells) for cells in zip(table.columns, *table.rows, strict=True)]
    return {
        "title": printable(table.title),
        "wide": sum(widths) + 3 * len(widths) > _WIDE,
        "columns": [(printable(name), to_right) for name, to_right in zip(table.columns, right, strict=True)],
        "rows": [
            {
                "cells": [(shown(cell), exact(cell), to_right) for cell, to_right in zip(row, right, strict=True)],
                "link": relative(table.links[at]) if at < len(table.links) and table.links[at] else "",
                "colour": printable(table.colours[at]) if at < len(table.colours) else "",
            }
            for at, row in enumerate(table.rows)
        ],
    }
