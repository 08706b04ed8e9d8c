"""Rules that prune a trial while it trains, over any searcher."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from statistics import median
from typing import Any

from trainkit import Objective, Order, Space, Trial
from trainkit_searchers.over import CLOSE, Over


class Rule(Over, ABC):
    """A searcher over another one, whose orders it hands on as they are, that prunes trials at their evaluations.

    Args:
        over: the searcher that decides all else.
        after: share of a run before which no trial is pruned.
    """

    def __init__(self, over: Any, after: float) -> None:
        super().__init__(over)
        self.after = after
        self.other = getattr(over, "stop", None)
        self.stop = self._stop

    def ask(self) -> Order | None:
        """The other searcher's order."""
        order: Order | None = self.over.ask()
        return order

    def took(self, order: Order, trial: Trial) -> None:
        """Hand it on."""
        super().took(order, trial)
        self.over.took(order, trial)

    def _stop(self, trial: Trial) -> str:
        reason = "" if self.other is None else str(self.other(trial))
        if reason or not trial.reports or trial.reports[-1][0] < self.after - CLOSE:
            return reason
        return self.reason(trial)

    @abstractmethod
    def reason(self, trial: Trial) -> str:
        """Why it is to be pruned; empty if it is not."""

    def figure(self, value: float) -> str:
        """A value as it was measured."""
        return f"{-value if self.objectives[0].mode == 'max' else value:.4g}"


class Median(Rule):
    """Prunes what is worse than the median of others.

    Args:
        over: the searcher that decides all else.
        after: share of a run before which no trial is pruned.
        at_least: so many others must have come as far.
    """

    def __init__(self, over: Any, after: float, at_least: int) -> None:
        super().__init__(over, after)
        self.at_least = at_least
        self.curves: dict[int, list[tuple[float, float]]] = {}  # shares, and the mean of all values up to there

    def tell(self, trial: Trial) -> None:
        """Keep what was measured of it, unless it failed."""
        if trial.status in ("paused", "done", "pruned") and trial.reports:
            total, means = 0.0, []
            for count, (share, value) in enumerate(sorted(trial.reports), 1):
                total += _known(value)
                means.append((share, total / count))
            self.curves[trial.number] = means
        super().tell(trial)

    def reason(self, trial: Trial) -> str:
        """Worse than the median of the running means of all others that have come as far."""
        share = trial.reports[-1][0]
        best = min(_known(value) for _, value in trial.reports)
        means = [
            next(mean for at, mean in reversed(curve) if at <= share + CLOSE)
            for number, curve in self.curves.items()
            if number != trial.number and curve[-1][0] >= share - CLOSE and curve[0][0] <= share + CLOSE
        ]
        if len(means) < self.at_least or not best > (middle := median(means)):
            return ""
        return (
            f"its best, {self.figure(best)}, is worse than {self.figure(middle)}, the median of {len(means)} others at "
            f"{share:.0%} of the run"
        )


class Threshold(Rule):
    """Prunes what is worse than a figure.

    Args:
        over: the searcher that decides all else.
        worst: the figure, as it is measured.
        after: share of a run before which no trial is pruned.
    """

    def __init__(self, over: Any, worst: float, after: float) -> None:
        super().__init__(over, after)
        self.worst = worst

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        super().begin(space, objectives, trials)
        self.limit = -self.worst if objectives[0].mode == "max" else self.worst

    def reason(self, trial: Trial) -> str:
        """The newest value is worse than the figure."""
        share, value = trial.reports[-1]
        if value <= self.limit:
            return ""
        return f"{self.figure(value)} is worse than {self.figure(self.limit)} at {share:.0%} of the run"


def _known(value: float) -> float:
    return math.inf if math.isnan(value) else value
