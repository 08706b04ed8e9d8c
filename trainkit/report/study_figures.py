"""The figures of a study's page, as plain data: what each setting does, how settings go together, what went on when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainkit.page import Bars, Curves, Heatmap, Line, Parallel, Point, Scatter, Span, Timeline
from trainkit.search.contour import contour_of
from trainkit.search.looking import by_importance, has_setting, main_settings, ticks, visible_limits, with_values
from trainkit.search.naming import point_text, short_names
from trainkit.search.timeline import Course
from trainkit.space import Dimension
from trainkit.trial import FAILURES, Record, Study

MOST_SETTINGS = 12  # more panels or axes than this could not be read
MOST_TRIALS = 400  # in one figure
MOST_POINTS = 2400  # in the figures of all settings together
MOST_TEXTS = 500  # trials that one sees the settings of where one hovers; of more the page would weigh too much
MOST_DOTS = 1500  # trials in the history, or beside the front
MOST_CURVES = 120
MOST_NAMED = 8  # curves, beyond which colours could not be told apart
BEST = "best so far"
_TEXT = 90  # characters of a point where one hovers


def trial_name(number: int) -> str:
    """What a legend calls a trial."""
    return f"trial {number}"


class StudyFigures:
    """Makes the figures of one study.

    Args:
        study: the study, with its findings.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.objective = study.objectives[0]
        self.shown = with_values(study)
        self.limits = visible_limits([record.figures[0] for record in self.shown], self.objective.mode == "min")
        self.settings = main_settings(study, MOST_SETTINGS)
        self.names = short_names(dimension.name for dimension in study.space.dimensions)
        self.few = some(self.shown, min(MOST_TRIALS, MOST_POINTS // max(1, len(self.settings))))
        self.short = len(study.records) > MOST_TEXTS

    def history(self) -> Scatter:
        """Each trial's value, the best so far, failures at the lower edge."""
        points = [
            Point(record.trial.number, self._value(record), self._text(record), _group(record))
            for record in some(self.shown, MOST_DOTS)
        ]
        best: Record | None = None
        for record in self.shown:
            trial = record.trial
            if trial.status == "done" and trial.final and trial.values:
                better = best is None or trial.values[0] < best.trial.values[0]
                if best is not None and better:  # a step, not a slope
                    points.append(Point(trial.number, best.figures[0], trial_name(best.trial.number), BEST))
                if better:
                    best = record
                    points.append(Point(trial.number, record.figures[0], self._text(record), BEST))
        if best is not None:
            points.append(Point(self.shown[-1].trial.number, best.figures[0], self._text(best), BEST))
        for record in self.study.records:
            if not record.figures and record.trial.status in FAILURES:
                points.append(Point(record.trial.number, self.limits[0], self._text(record), "failed"))
        return Scatter("Value of each trial", points, "trial", self._figure(), path=BEST)

    def front(self) -> Scatter:
        """The first two objectives of each trial, and the trials that no other one beats in all objectives."""
        first, second = self.study.objectives[:2]
        across = [record.figures[1] for record in self.shown]
        points = [Point(r.figures[1], r.figures[0], self._text(r), _group(r)) for r in some(self.shown, MOST_DOTS)]
        front = sorted(self.study.front(), key=lambda record: (record.figures[1], record.figures[0]))
        points += [Point(r.figures[1], r.figures[0], self._text(r), "front") for r in front]
        wide = bool(across) and min(across) > 0 and max(across) > 20 * min(across)
        title = f"{first.figure} against {second.figure}"
        return Scatter(title, points, _goal(second), _goal(first), log_x=wide, path="front")

    def importance(self) -> Bars | None:
        """How much each setting matters."""
        found: Mapping[str, Any] = self.study.findings.get("importances", {})
        if not found:
            return None
        lows, values, highs = ([float(one[key]) for one in found.values()] for key in ("low", "value", "high"))
        return Bars("Share in what distinguishes good from other trials", list(found), values, lows, highs)

    def slices(self) -> list[Scatter]:
        """The value against each setting, the most important first; later trials in another colour than early ones."""
        made = []
        ranked = [dimension for dimension in by_importance(self.study) if dimension in self.settings]
        for dimension in ranked:
            own = [record for record in self.few if has_setting(dimension, record)]
            if own:
                made.append(self._slice(dimension, own))
        return made

    def _slice(self, dimension: Dimension, own: Sequence[Record]) -> Scatter:
        plain = dimension.kind != "choice" and dimension.scale in ("linear", "log")
        places = [dimension.number(record.trial.point[dimension.name]) for record in own]
        log = plain and dimension.scale == "log" and min(places) > 0
        if not plain:  # a choice, or a number near 1, such as a momentum: by its share of the range
            places = [dimension.share(record.trial.point[dimension.name]) for record in own]
        points = [
            Point(place, self._value(record), self._text(record, short=True), self._third(record))
            for place, record in zip(places, own, strict=True)
        ]
        title = dimension.name
        if held := self.study.findings.get("importances", {}).get(dimension.name):
            title += f", importance {held['value']:.2f} ({held['low']:.2f} to {held['high']:.2f})"
        marks = {} if plain else dict(ticks(dimension, 5))
        unit = f" ({dimension.unit})" if dimension.unit else ""
        return Scatter(title, points, dimension.name + unit, self._figure(), log_x=log, ticks_x=marks)

    def _third(self, record: Record) -> str:
        """Which third of the search a trial belongs to: whether it has learned where to look."""
        place = 3 * record.trial.number // max(1, len(self.study.records))
        return ("first third of trials", "second third", "last third")[min(place, 2)]

    def parallel(self) -> Parallel | None:
        """Settings side by side, a line for each trial, good ones on top."""
        if len(self.settings) < 2 or not self.few:
            return None
        ends = [self.limits, *(self._span(place) for place in range(1, len(self.study.objectives)))]
        ranked = sorted(self.few, key=lambda r: r.trial.values or (math.inf,), reverse=True)
        rows = []
        for record in ranked:
            row = [d.share(record.trial.point[d.name]) if has_setting(d, record) else None for d in self.settings]
            for value, (low, high) in zip(record.figures, ends, strict=True):
                row.append(min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5)
            rows.append(row)
        marks = [ticks(dimension) for dimension in self.settings]
        marks += [[(share, _short(low + share * (high - low))) for share in (0.0, 0.5, 1.0)] for low, high in ends]
        return Parallel(
            "Settings and value of each trial",
            [*(self.names[dimension.name] for dimension in self.settings), *(o.figure for o in self.study.objectives)],
            rows,
            [self._text(record) for record in ranked],
            marks,
            [(place + 1) / len(ranked) for place in range(len(ranked))],
        )

    def contour(self) -> Heatmap | None:
        """What the two most important settings do together."""
        found = contour_of(self.study)
        if found is None:
            return None
        x, y = found.x.dimension.name, found.y.dimension.name
        top = len(found.y.values) - 1  # rows are listed from top to bottom
        points = [
            Point(found.x.place(r.trial.point[x]), top - found.y.place(r.trial.point[y]), self._text(r), _group(r))
            for r in some(found.trials, MOST_TRIALS)
        ]
        return Heatmap(
            f"{self.objective.figure} over {x} and {y}",
            found.y.labels[::-1],
            found.x.labels,
            found.values[::-1],
            x,
            y,
            points,
        )

    def timeline(self, course: Course) -> Timeline | None:
        """When trials were trained; as many rows as were trained at once at the most."""
        if not course.stretches:
            return None
        rows = course.rows
        width = len(str(max(rows) + 1))
        several = self.study.parts > 1
        spans = [
            Span(
                f"{row + 1:>{width}}",
                one.begin,
                one.end,
                self._stretch_text(one.trial, one.part if several else None, one.how, one.end - one.begin),
                one.how,
            )
            for row, one in sorted(zip(rows, course.stretches, strict=True), key=lambda pair: (pair[0], pair[1].begin))
        ]
        return Timeline("Trials over time", spans)

    def _stretch_text(self, number: int, part: int | None, how: str, seconds: float) -> str:
        run = "" if part is None else f", run {part}"
        text = f"{trial_name(number)}{run}: {how} after {seconds:.3g} s"
        if number < len(self.study.records) and not self.short:
            text += f"; {point_text(self.study.records[number].trial.point, _TEXT)}"
        return text

    def on_the_way(self) -> tuple[Curves | None, int]:
        """The first objective of each trial as it was trained, and how many trials have one."""
        sign = -1.0 if self.objective.mode == "max" else 1.0
        having = [record for record in self.study.records if len(record.trial.reports) > 1]
        ranked = sorted(having, key=lambda r: (r.trial.status != "done", r.trial.values or (math.inf,)))
        ranked = [record for record in ranked if any(math.isfinite(value) for _, value in record.trial.reports)]
        lines = []
        for place, record in enumerate(ranked[:MOST_CURVES]):
            points = [(share, sign * value) for share, value in record.trial.reports if math.isfinite(value)]
            places, values = ([point[at] for point in points] for at in (0, 1))
            name, style = f"other trials, {record.trial.status}", "dashed"
            if record.trial.status == "done":
                name, style = (trial_name(record.trial.number) if place < MOST_NAMED else "other trials"), "solid"
            lines.append(Line(name, {"share of the run": places}, values, style=style))
        lines.reverse()  # the best ones on top
        heights = [value for line in lines for value in line.y]
        wide = bool(heights) and min(heights) > 0 and max(heights) > 20 * min(heights)
        log = wide and self.objective.mode == "min"  # else what is good would be crowded together
        title = f"{self.objective.figure} on the way"
        return (Curves(title, lines, self._figure(), log, smooth=False) if lines else None), len(ranked)

    def _value(self, record: Record) -> float:
        """The first objective, held within what is shown."""
        return min(max(record.figures[0], self.limits[0]), self.limits[1])

    def _figure(self) -> str:
        return _goal(self.objective)

    def _span(self, objective: int) -> tuple[float, float]:
        lower = self.study.objectives[objective].mode == "min"
        return visible_limits([record.figures[objective] for record in self.shown], lower)

    def _text(self, record: Record, short: bool = False) -> str:
        """What one sees who hovers over a trial: its figures, and its settings where they are not far."""
        trial = record.trial
        figures = ", ".join(
            f"{objective.figure} {value:.5g}"
            for objective, value in zip(self.study.objectives, record.figures, strict=False)
        )
        text = f"{trial_name(trial.number)}: {figures or trial.status}"
        return text if short or self.short else f"{text}; {point_text(trial.point, _TEXT)}"


def some(records: Sequence[Record], most: int) -> list[Record]:
    """The better half of so many, which is looked at most closely, and an even choice of the others, by number."""
    if len(records) <= most:
        return list(records)
    ranked = sorted(records, key=lambda record: record.trial.values or (math.inf,))
    half = most // 2
    rest = ranked[half:]
    chosen = ranked[:half] + [rest[place * len(rest) // half] for place in range(half)]
    return sorted(chosen, key=lambda record: record.trial.number)


def _group(record: Record) -> str:
    return record.trial.status if record.trial.final else f"{record.trial.status}, a shorter run"


def _short(value: float) -> str:
    return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def _goal(objective: Any) -> str:
    return f"{objective.figure} ({'lower' if objective.mode == 'min' else 'higher'} is better)"
