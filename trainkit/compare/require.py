"""``--require "val.accuracy>=0.98"``: what a comparison must have come to, for those who let a program ask."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from trainkit.arguments import near
from trainkit.compare.rows import BEST, GAP, Row
from trainkit.errors import UsageError

_FORM = re.compile(r"\s*(?P<figure>[^<>=!]+?)\s*(?P<sign>>=|<=|>|<)\s*(?P<bound>[^<>=!\s]+)\s*")
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Requirement:
    """What a figure of every row must be.

    Args:
        text: as the user wrote it.
        figure: its name.
        sign: ``>=``, ``<=``, ``>`` or ``<``.
        bound: what it is held against.
    """

    text: str
    figure: str
    sign: str
    bound: float

    def met(self, value: float | None) -> bool:
        """Whether a figure is as it must be; one that nobody measured is not."""
        return value is not None and _SIGNS[self.sign](value, self.bound)


@dataclass(frozen=True)
class Answer:
    """A requirement held against one row: the mean over its runs, and whether it is met."""

    requirement: Requirement
    row: Row
    value: float | None
    met: bool

    @property
    def words(self) -> str:
        """What was got."""
        got = "no such figure" if self.value is None else f"{self.value:.6g}"
        n = len(self.row.counted)
        mean = f", the mean of {n}" if n > 1 and self.value is not None else ""
        ended = "" if all(entry.done for entry in self.row.entries) else f" ({self.row.status})"
        return f"{self.row.name}: {got}{mean}{ended}"


def parse(texts: Sequence[str]) -> list[Requirement]:
    """Read requirements.

    Raises:
        UsageError: if one is none.
    """
    found = []
    for text in texts:
        match = _FORM.fullmatch(text)
        try:
            bound = float(match["bound"]) if match else math.nan
        except ValueError:
            bound = math.nan
        if match is None or math.isnan(bound):
            raise UsageError(
                f"--require {text}: write a figure, one of >= <= > <, and a number, such as: "
                '--require "val.accuracy>=0.98"'
            )
        found.append(Requirement(text.strip(), match["figure"], match["sign"], bound))
    return found


def answers_of(requirements: Sequence[Requirement], rows: Sequence[Row]) -> list[Answer]:
    """Hold requirements against all rows.

    A row that has runs which are not done does not meet any: what they come to is not known.
    """
    made = []
    for requirement in requirements:
        for row in rows:
            found = row.spread(requirement.figure)
            value = None if found is None else found.mean
            whole = found is not None and found.n == len(row.entries) and all(entry.done for entry in row.entries)
            made.append(Answer(requirement, row, value, whole and requirement.met(value)))
    return made


def check_known(option: str, figure: str, known: Collection[str]) -> None:
    """Refuse a figure that no run has.

    Raises:
        UsageError: naming those that there are.
    """
    if figure not in known:
        there = ", ".join(sorted(name for name in known if not name.startswith((BEST, GAP)))) or "none yet"
        raise UsageError(f"{option} {figure}: no run has this figure; {near(figure, known)}figures: {there}")
