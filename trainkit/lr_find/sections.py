"""The page of a range test."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainkit.lr_find.curve import tolerances
from trainkit.lr_find.found import Found, rounded
from trainkit.page import Code, Curves, Facts, Line, Section, Table, Text

MOST_ROWS = 1000  # of the table of values: a page stays below two megabytes


def sections(found: Found, recipe: str) -> list[Section]:
    """What the page shows.

    Args:
        found: the test.
        recipe: the recipe in TOML, as it was tested: not compiled, without loggers.
    """
    curve, name = found.curve, found.setting.name
    finite = [place for place, loss in enumerate(curve.smoothed) if math.isfinite(loss)]
    every = max(1, math.ceil(len(finite) / MOST_ROWS))

    def line(title: str, losses: Sequence[float], style: str = "solid") -> Line:
        places = [place for place in finite if place < len(losses) and math.isfinite(losses[place])]
        return Line(title, {name: [curve.values[p] for p in places]}, [losses[p] for p in places], style=style)

    lines = [line("running mean", curve.smoothed), line("loss of each batch", curve.losses, "dots")]
    if found.held is not None:
        lines.append(line("running mean, as the recipe has it", found.held.smoothed, "dashed"))
    beside = []
    if found.held is not None:
        allowed = tolerances(found.held.smoothed)[: len(curve.values)]
        pair = [line("difference", found.above), line("as good as alike", allowed, "dashed")]
        title = "Above the loss with the setting as it is"
        beside.append(Curves(title, pair, "loss", smooth=False, log_x=not found.sweep.linear))
    marks = [(name, value, f"{rule} {value:g}") for rule, value in found.suggestions.items() if value is not None]
    if found.setting.now is not None and found.sweep.low <= found.setting.now <= found.sweep.high:
        marks.append((name, found.setting.now, f"recipe {found.setting.now:g}"))
    facts: list[tuple[str, str | float | None]] = [
        (rule, "none" if value is None else value) for rule, value in found.suggestions.items()
    ]
    facts += [("recipe", found.setting.now), ("ended", found.end()), ("loss", found.loss)]
    left = found.traces.left
    said = (
        f"Traces left in: {', '.join(left)}." if left else "All are the same before and after: the test left no trace."
    )
    return [
        Section(
            "Range test",
            [
                Facts(facts),
                Curves(
                    f"Training loss over {name}", lines, "loss", smooth=False, marks=marks, log_x=not found.sweep.linear
                ),
                *beside,
                *(Text(f"{note[0].upper()}{note[1:]}.", "note") for note in found.notes),
            ],
        ),
        Section(
            "Values",
            [
                Table(
                    ["update", name, "loss", "running mean"],
                    [
                        [place + 1, rounded(curve.values[place]), curve.losses[place], curve.smoothed[place]]
                        for place in finite[::every]
                    ],
                    f"one of {every} updates; --json has all" if every > 1 else "",
                )
            ],
        ),
        Section(
            "SHA-256 before and after",
            [
                Text(said, "bad" if left else "good"),
                Table(
                    ["part", "before", "after"],
                    [[part, value, found.traces.after.get(part)] for part, value in found.traces.before.items()],
                ),
            ],
        ),
        Section("Recipe", [Code(recipe, f"{found.recipe}, as it was tested")]),
    ]
