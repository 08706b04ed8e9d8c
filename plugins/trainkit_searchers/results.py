"""What is known of trials, in a form for searchers that want a finite value for each."""

from __future__ import annotations

import math
from typing import TypeAlias

from trainkit import Trial

Values: TypeAlias = tuple[float, ...]


class Finite:
    """Gives each trial finite values: where some are not, the worst seen so far takes their place.

    What cannot be given any yet, as nothing finite is known, waits for the first finite values and is put behind them.
    """

    def __init__(self) -> None:
        self.worst: Values = ()
        self._waiting: list[int] = []

    def settle(self, place: int, values: Values) -> list[tuple[int, Values]]:
        """Those whose values are known now, by their place: this one, and those that waited for it.

        Args:
            place: the searcher's number for it.
            values: lower is better.
        """
        finite = all(map(math.isfinite, values))
        if not finite and not self.worst:
            self._waiting.append(place)
            return []
        if not finite:
            values = tuple(
                value if math.isfinite(value) else worst for value, worst in zip(values, self.worst, strict=True)
            )
            return [(place, values)]
        self.worst = tuple(map(max, values, self.worst)) if self.worst else values
        waiting, self._waiting = self._waiting, []
        behind = tuple(math.nextafter(value, math.inf) for value in values)
        return [(place, values), *((other, behind) for other in waiting)]


def last_report(trial: Trial) -> tuple[float, float] | None:
    """The share and the value of a trial's last report, or of its own value where it has none."""
    if trial.reports:
        return trial.reports[-1]
    return (trial.trained, trial.values[0]) if trial.values else None
