"""The picture of when the trials of a search were trained."""

from __future__ import annotations

from pathlib import Path

from trainkit import Study, course_of
from trainkit_reports.paper import page as new_page
from trainkit_reports.paper import plain, save

COLOURS = {"done": "tab:blue", "pruned": "tab:gray", "paused": "silver", "interrupted": "tab:orange"}
MOST_NAMED = 60  # bars that can hold a trial's number
ROW = 0.26  # inches


def draw_timeline(study: Study) -> Path | None:
    """Draw ``timeline.png``: a bar for each training, side by side those at once; nothing where the log has none."""
    course = course_of(study.folder)
    if not course.stretches:
        return None
    rows = course.rows
    count = max(rows) + 1
    title = f"{study.folder.name}: trials over time, {count} at once at the most"
    page = new_page(9, min(11.0, 1.6 + ROW * count), title)
    axes = page.add_subplot()
    for how in dict.fromkeys(one.how for one in course.stretches):
        own = [(row, one) for row, one in zip(rows, course.stretches, strict=True) if one.how == how]
        axes.barh(
            [row for row, _ in own],
            [one.end - one.begin for _, one in own],
            left=[one.begin for _, one in own],
            height=0.82,
            color=COLOURS.get(how, "tab:red"),
            edgecolor="white",
            linewidth=0.6,
            label=f"{plain(how)} ({len(own)})",
        )
    if len(course.stretches) <= MOST_NAMED:
        for row, one in zip(rows, course.stretches, strict=True):
            axes.annotate(
                str(one.trial), ((one.begin + one.end) / 2, row), ha="center", va="center", fontsize=6, color="white"
            )
    axes.set_xlim(0, course.seconds or None)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_yticks([])
    axes.set_xlabel("seconds of the study, the time between its processes left out")
    axes.set_ylabel("trained at once")
    axes.grid(alpha=0.3, axis="x")
    page.legend(fontsize=8, loc="outside right upper")
    return save(page, study, "timeline.png")
