"""A page with a block of each kind, whose texts are as hostile as a stranger's can be."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainkit.page import (
    Bars,
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

HOSTILE = (
    "</script><script>document.title='taken'</script><!-- \u2028\u202e ]]> & \"quoted\" <img src=x onerror=alert(1)>"
)
SEEN = HOSTILE.replace("\u202e", "\\u202e")  # marks that turn text around are shown as what they are
POINTS = 41


def curve(name: str, least: float, style: str = "solid", band: bool = False) -> Line:
    """A falling curve of ten epochs, each of 20 steps and 2 seconds."""
    y = [least + math.exp(-step / 10) for step in range(POINTS)]
    places = {
        "epoch": [step / 4 for step in range(POINTS)],
        "step": [step * 5.0 for step in range(POINTS)],
        "time": [step / 2 for step in range(POINTS)],
    }
    edges = ([value * 0.9 for value in y], [value * 1.2 for value in y]) if band else ((), ())
    return Line(name, places, y, *edges, style=style)


def sections() -> Sequence[Section]:
    """All kinds of blocks."""
    loss = Curves(
        "val.loss",
        [curve("fixed", 0.5), curve("decay", 0.3, band=True), curve(HOSTILE, 0.1)],
        unit="cross entropy",
        log=True,
        marks=[("epoch", 2.0, "warm-up ends"), ("step", 40.0, HOSTILE)],
        levels=[(0.4, "goal")],
    )
    both = Curves("accuracy", [curve("fixed", 0.5), curve("fixed", 0.6, style="dashed"), curve("dots", 0.2, "dots")])
    rate = [10 ** (place / 10 - 5) for place in range(40)]
    finder = Curves(
        "rates",
        [Line("loss", {"lr": rate}, [2 - value for value in rate])],
        log_x=True,
        marks=[("lr", 1e-3, "steepest")],
    )
    table = Table(
        ["run", "optimizer.lr", "val.accuracy", "remark"],
        [
            ["fixed", 0.1, 0.987654321, HOSTILE],
            ["decay", 2, None, None],
            ["third", 1e-05, math.nan, "run 10"],
            ["fourth", 10.0, 0.5, "run 9"],
        ],
        "Runs",
        links=["fixed/report.html", "javascript:alert(1)", "//elsewhere.example/x", ""],
        colours=["fixed", "decay", "", ""],
    )
    trials = range(24)
    points = [
        Point(10 ** (-trial / 6), trial / 24, f"trial {trial}\n{HOSTILE}", ("done", "failed")[trial % 2])
        for trial in trials
    ]
    parallel = Parallel(
        "all trials",
        ["optimizer.lr", "model.use", "val.accuracy"],
        [[trial / 23, (trial % 2 or None), trial / 23] for trial in trials],
        [f"trial {trial}\n{HOSTILE}" for trial in trials],
        [[(0.0, "1e-4"), (1.0, "1")], [(1.0, HOSTILE)], [(0.0, "0.1"), (1.0, "0.9")]],
        [trial / 23 for trial in trials],
    )
    shades: list[list[float | None]] = [[at / 20 for at in range(10)], [None, *(at / 20 for at in range(11, 20))]]
    grid = [[90.0 * (row == column) + row + column for column in range(5)] for row in range(5)]
    return [
        Section(
            f"Summary {HOSTILE}",
            [
                Text(HOSTILE),
                *[Text(f"a {tone} text", tone) for tone in ("note", "good", "bad")],
                table,
                Facts([("python", "3.11"), (HOSTILE, 3)], "Environment"),
                Code(HOSTILE, f"recipe.toml {HOSTILE}"),
            ],
        ),
        Section("Curves", [loss, both, finder]),
        Section(
            "Study",
            [
                Scatter("slice", points, "optimizer.lr", "val.accuracy", log_x=True),
                Scatter(
                    "choice",
                    [Point(trial % 2, trial, "") for trial in trials],
                    "use",
                    HOSTILE,
                    ticks_x={0: HOSTILE, 1: "sgd"},
                ),
                Scatter(
                    "front", [Point(at, 9 - at, f"trial {at}", "front") for at in range(9)], "s", "error", path="front"
                ),
                Bars("importance", ["optimizer.lr", HOSTILE], [0.7, -0.2], [0.6, -0.3], [0.8, 0.1], "share"),
                Heatmap("confusion", [*"abcd", HOSTILE], [*"abcd", HOSTILE], grid, "predicted", "true"),
                Heatmap(
                    "contour", ["1", "2"], [str(at) for at in range(10)], shades, points=[Point(0.5, 0.5, HOSTILE)]
                ),
                parallel,
                Timeline(
                    "trials",
                    [Span(f"worker {at % 3}", at, at + 2.5, HOSTILE, ("done", "failed")[at % 2]) for at in range(12)],
                ),
            ],
        ),
        Section(
            "Pictures",
            [
                Pictures(
                    "mistakes",
                    [
                        Image([[0, 255], [128, 64]], HOSTILE),
                        Image([[[255, 0, 0], [0, 255, 0]]], "a red and a green pixel"),
                    ],
                )
            ],
        ),
    ]
