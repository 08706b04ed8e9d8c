"""Self-contained HTML pages: blocks of text, tables, curves and pictures in, one file out that opens offline."""

from __future__ import annotations

from trainkit.page.blocks import (
    Bars,
    Block,
    Cell,
    Code,
    Curves,
    Facts,
    Heatmap,
    Image,
    Line,
    Parallel,
    Pictures,
    Point,
    Scatter,
    Section,
    Span,
    Table,
    Text,
    Timeline,
)
from trainkit.page.render import render

__all__ = [
    "Bars",
    "Block",
    "Cell",
    "Code",
    "Curves",
    "Facts",
    "Heatmap",
    "Image",
    "Line",
    "Parallel",
    "Pictures",
    "Point",
    "Scatter",
    "Section",
    "Span",
    "Table",
    "Text",
    "Timeline",
    "render",
]
