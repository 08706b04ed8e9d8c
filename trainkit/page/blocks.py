"""What a page is made of: plain data, which knows nothing of HTML. All text in it is taken as text, never as markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Args:
        text: what it says.
        tone: ``plain``, ``note``, ``good`` or ``bad``: how it is set off.
    """

    text: str
    tone: str = "plain"


@dataclass(frozen=True)
class Code:
    """Text as it stands in a file, such as a recipe; folded away until it is asked for."""

    text: str
    title: str


@dataclass(frozen=True)
class Facts:
    """Names and their values, such as an environment."""

    rows: Sequence[tuple[str, Cell]]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose rows a reader sorts by a click on a column's name.

    Args:
        columns: their names.
        rows: a cell for each column; numbers stay numbers, so that they sort as such. ``None`` is an empty cell.
        title: what stands above it.
        links: by row, where its first cell leads (a relative path), where it leads anywhere.
        colours: by row, the `Line.name` whose colour marks it and whose curve it switches; empty for none.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    links: Sequence[str] = ()
    colours: Sequence[str] = ()


@dataclass(frozen=True)
class Line:
    """One curve.

    Args:
        name: what the legend calls it. Curves of one name have one colour on the whole page, and a click on it in a
            legend hides all of them.
        x: by axis (``epoch``, ``step``, ``time``; or another one, alone) the places of its points, rising.
        y: values, as many.
        low: lower edge of a band around it, such as the least of several seeds; empty for none.
        high: upper edge.
        style: ``solid``, ``dashed`` or ``dots``.
    """

    name: str
    x: Mapping[str, Sequence[float]]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    style: str = "solid"


@dataclass(frozen=True)
class Curves:
    """Curves against one axis, which a reader can choose, zoom, smooth, hover over and switch off.

    Args:
        title: what is drawn.
        lines: the curves.
        unit: what the values are, along the upright axis.
        log: whether the upright axis is logarithmic at first.
        smooth: whether the page's smoothing works on it (not on what is scheduled).
        marks: places to mark: ``(name of the axis, place, text)``.
        levels: values to mark: ``(value, text)``.
        log_x: whether the level axis is logarithmic.
        axis: the axis that all curves of the page are drawn against at first; the first figure that names one counts.
    """

    title: str
    lines: Sequence[Line]
    unit: str = ""
    log: bool = False
    smooth: bool = True
    marks: Sequence[tuple[str, float, str]] = ()
    levels: Sequence[tuple[float, str]] = ()
    log_x: bool = False
    axis: str = ""


@dataclass(frozen=True)
class Point:
    """A point of a `Scatter`: its place, what a reader sees who hovers over it, and its group (colour, legend)."""

    x: float
    y: float
    text: str
    group: str = ""


@dataclass(frozen=True)
class Scatter:
    """Points in a plane; ``ticks_x`` names the places of choices. ``path`` joins the points of one group by a line."""

    title: str
    points: Sequence[Point]
    x: str
    y: str
    log_x: bool = False
    ticks_x: Mapping[float, str] = field(default_factory=dict)
    path: str = ""


@dataclass(frozen=True)
class Bars:
    """A bar for each name, with an interval where ``low`` and ``high`` are given.

    With ``dots`` it is a point instead, on an axis that need not begin at zero: intervals that lie close together.
    """

    title: str
    names: Sequence[str]
    values: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    unit: str = ""
    dots: bool = False


@dataclass(frozen=True)
class Heatmap:
    """A matrix as colours, each cell with its number where there is room.

    Args:
        title: what is drawn.
        rows: names from top to bottom.
        columns: names from left to right.
        values: by row; ``None`` where nothing is known.
        x: what the columns are.
        y: what the rows are.
        points: points to draw over it, in numbers of columns and rows, such as the trials of a contour.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    x: str = ""
    y: str = ""
    points: Sequence[Point] = ()


@dataclass(frozen=True)
class Image:
    """A small picture.

    Args:
        pixels: rows of pixels, each a grey value or red, green and blue, from 0 to 255: an array of bytes of shape
            (height, width) or (height, width, 3). Or ``bytes``, a PNG file, shown as it is.
        text: what stands below it, and is read out in its place.
    """

    pixels: object
    text: str


@dataclass(frozen=True)
class Pictures:
    """Small pictures side by side, enlarged to ``size`` CSS pixels without smoothing."""

    title: str
    images: Sequence[Image]
    size: int = 96


@dataclass(frozen=True)
class Parallel:
    """Parallel coordinates: one line across all axes for each row; the reader picks a range on an axis.

    Args:
        title: what is drawn.
        axes: names, the objective last.
        rows: by line a share from 0 to 1 on each axis; ``None`` where the setting does not count.
        texts: by line what a reader sees who hovers over it.
        ticks: by axis, ``(share, text)``.
        good: by line from 0 (worst) to 1 (best), which makes its colour.
    """

    title: str
    axes: Sequence[str]
    rows: Sequence[Sequence[float | None]]
    texts: Sequence[str]
    ticks: Sequence[Sequence[tuple[float, str]]]
    good: Sequence[float]


@dataclass(frozen=True)
class Span:
    """A bar of a `Timeline`: seconds from ``start`` to ``end`` in a lane of its own or a shared one."""

    lane: str
    start: float
    end: float
    text: str
    group: str = ""


@dataclass(frozen=True)
class Timeline:
    """What went on when: bars from left to right, in seconds since the beginning."""

    title: str
    spans: Sequence[Span]


Block = Text | Code | Facts | Table | Curves | Scatter | Bars | Heatmap | Pictures | Parallel | Timeline


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading, which its contents name."""

    title: str
    blocks: Sequence[Block]
