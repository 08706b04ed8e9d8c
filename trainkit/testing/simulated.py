"""Whole searches without runs: a function for the figure of a point at a share of its run takes their place.

Serially, or with several workers whose trials advance in an arbitrary order that follows from a seed. Trials are the
same objects throughout, as the core's are, so that a searcher that keeps one would see it change. A search of thirty
trials takes a few milliseconds::

    study = simulate(Mine(seed=3), bowl, trials=30)
    assert study.best < 0.1
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from trainkit.space import Dimension, Point, Space
from trainkit.trial import Objective, Order, Searcher, Trial

# The figure of a point after a share of its run, lower is better; of several objectives one for each.
Curve = Callable[[Point, float], float | tuple[float, ...]]

RATES = Space((Dimension("optimizer.lr", "float", 1e-4, 1.0, "log"), Dimension("optimizer.momentum", "float", 0, 0.99)))


@dataclass
class Call:
    """A call of `took` or `tell`, as a study's log would have it."""

    name: str
    trial: Trial
    order: Order | None = None

    def make(self, searcher: Searcher) -> None:
        """Make it again."""
        trial = copy.deepcopy(self.trial)
        if self.order is not None:
            searcher.took(self.order, trial)
        else:
            searcher.tell(trial)


@dataclass
class Simulated:
    """What came of a search."""

    trials: list[Trial] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    trained: float = 0.0  # runs' worth of training
    pruned_by_stop: dict[int, str] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)  # paused trials that the end of the search made pruned ones

    @property
    def orders(self) -> list[tuple[int, Order]]:
        """The orders, each with the number of its trial, in the order in which they were taken."""
        return [(call.trial.number, call.order) for call in self.calls if call.order is not None]

    @property
    def points(self) -> list[Point]:
        """The point of each trial."""
        return [trial.point for trial in self.trials]

    @property
    def best(self) -> float:
        """The best value of a trial that reached its end."""
        return min((t.values[0] for t in self.trials if t.status == "done" and t.values), default=float("inf"))

    def statuses(self) -> dict[str, int]:
        """How many trials ended how."""
        return {s: sum(t.status == s for t in self.trials) for s in sorted({t.status for t in self.trials})}


def shown(order: Order | None) -> str:
    """An order in few words."""
    if order is None:
        return "nothing"
    what = str(dict(order.point)) if order.trial is None else f"trial {order.trial} to go on"
    begins = "" if order.parent is None else f" from trial {order.parent}"
    return what + begins + ("" if order.until == 1 else f" until {order.until:g}")


@dataclass
class _Going:
    trial: Trial
    until: float
    weights: Any


def simulate(
    searcher: Searcher,
    curve: Curve,
    *,
    trials: int,
    workers: int = 1,
    seed: int = 0,
    space: Space = RATES,
    evaluations: int = 27,
    given: Sequence[Point] = (),
    fails: Callable[[Trial], str | None] = lambda trial: None,
    objectives: Sequence[Objective] = (Objective("val.loss"),),
    begun: bool = False,
    state: Callable[[Any, Point], Any] | None = None,
    pure: bool = True,
    study: Simulated | None = None,
    name: str = "the searcher",
) -> Simulated:
    """Carry a search out.

    Args:
        searcher: asked, and told; `begin` is called unless ``begun``.
        curve: the figure of a point after a share of its run; with ``state``, of the state and the share.
        trials: how many may be begun.
        workers: how many are trained at once, one evaluation at a time, in an order drawn with ``seed``.
        seed: of the order.
        space: what is varied.
        evaluations: of a whole run, evenly spaced.
        given: points that take the place of the first that the searcher proposes.
        fails: the status with which a trial ends before its next evaluation, such as ``nan``, or ``done``.
        objectives: as `begin` is told them.
        begun: whether `begin` was called.
        state: what an evaluation interval makes of a trial's state, for runs whose settings change on the way: clones
            begin with their parent's.
        pure: whether each order is asked for twice, which must give the same.
        study: one that has ended and goes on, perhaps with more trials; a new searcher is told what was.
        name: how messages call the searcher.

    Raises:
        AssertionError: if the searcher orders what cannot be done, or gives two answers to one question.
    """
    if not begun:
        searcher.begin(space, objectives, trials)
    study, going, source = study or Simulated(), list[_Going](), Random(seed)
    for call in study.calls:
        call.make(searcher)
    for number in study.cut:
        study.trials[number].status = "paused"
    weights: dict[int, Any] = {}
    stop = getattr(searcher, "stop", None)
    while True:
        while len(going) < workers and (order := searcher.ask()) is not None:
            if pure:
                again = searcher.ask()
                assert again == order, (
                    f"{name}: asked twice, it orders {shown(order)} and then {shown(again)}; ask must change nothing"
                )
            assert 0 < order.until <= 1, f"{name}: an order's until is a share of the run, and {order.until} is none"
            if order.trial is None:
                number = len(study.trials)
                if number >= trials:  # the core begins no more, and takes it as if there were nothing to do
                    break
                point = given[number] if number < len(given) and order.parent is None else order.point
                trial = Trial(number, dict(point), parent=order.parent, changes=order.changes, final=order.final)
                study.trials.append(trial)
                if order.parent is not None:
                    assert 0 <= order.parent < number, f"{name}: there is no trial {order.parent} to begin from"
                    parent = study.trials[order.parent]
                    assert parent.status != "running", (
                        f"{name}: trial {parent.number} trains on before trial {number} has its state"
                    )
                    trial.trained = parent.trained
                    weights[number] = weights.get(parent.number)
            else:
                assert 0 <= order.trial < len(study.trials), f"{name}: there is no trial {order.trial} to go on with"
                trial = study.trials[order.trial]
                assert trial.status == "paused", f"{name}: trial {trial.number} is {trial.status} and was to go on"
            assert trial.trained < order.until + 1e-9, (
                f"{name}: trial {trial.number} is trained to {trial.trained:g} and was to go on to {order.until:g}"
            )
            trial.status = "running"
            assert len(study.calls) <= 8 * trials * evaluations, f"{name}: after {len(study.calls)} calls it orders on"
            study.calls.append(Call("took", copy.deepcopy(trial), order))
            searcher.took(order, trial)
            going.append(_Going(trial, order.until, None))
        if not going:
            break
        place = source.randrange(len(going))
        trial, until = going[place].trial, going[place].until
        if status := fails(trial):
            trial.status = status  # type: ignore[assignment]
            trial.values = trial.values if status == "done" else ()
        else:
            trial.trained = (round(trial.trained * evaluations) + 1) / evaluations
            study.trained += 1 / evaluations
            if state is not None:
                weights[trial.number] = state(weights.get(trial.number), trial.point)
            value = curve(trial.point if state is None else weights[trial.number], trial.trained)
            trial.values = value if isinstance(value, tuple) else (value,)
            trial.reports.append((trial.trained, trial.values[0]))
            if trial.trained > 1 - 1e-9:
                trial.status = "done"
            elif stop is not None and (reason := stop(trial)):
                repeated = stop(trial)
                assert repeated == reason, f"{name}: stop gave {reason!r} and then {repeated!r} for one evaluation"
                trial.status = "pruned"
                study.pruned_by_stop[trial.number] = reason
            elif trial.trained >= until - 1e-9:
                trial.status = "paused"
        if trial.status != "running":
            del going[place]
            study.calls.append(Call("tell", copy.deepcopy(trial)))
            searcher.tell(trial)
    study.cut = [trial.number for trial in study.trials if trial.status == "paused"]
    for number in study.cut:
        study.trials[number].status = "pruned"
    return study


class ToldAsWorst:
    """A searcher that is told of failures as the core tells them: as the worst finite value so far, else infinite.

    Args:
        searcher: the searcher.
    """

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher
        self.worst = -math.inf

    def __getattr__(self, name: str) -> Any:
        return getattr(self.searcher, name)

    def tell(self, trial: Trial) -> None:
        """Tell it, and remember the worst value."""
        if trial.status in ("nan", "oom"):
            trial.values = (self.worst if self.worst > -math.inf else math.inf,)
        else:
            self.worst = max([self.worst, *trial.values[:1]])
        self.searcher.tell(trial)


class Listed:
    """A searcher that proposes given points, and keeps what it is told.

    Args:
        values: the learning rates of the points.
    """

    def __init__(self, values: Sequence[float]) -> None:
        self.values = list(values)
        self.took_orders: list[Order] = []
        self.told: list[tuple[int, str, tuple[float, ...]]] = []

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """Remember how many trials there may be."""
        self.trials = trials

    def ask(self) -> Order | None:
        """The next of the points."""
        place = len(self.took_orders)
        return Order({"optimizer.lr": self.values[place]}, note="listed") if place < len(self.values) else None

    def took(self, order: Order, trial: Trial) -> None:
        """Keep the order."""
        self.took_orders.append(order)

    def tell(self, trial: Trial) -> None:
        """Keep what is told."""
        self.told.append((trial.number, trial.status, trial.values))

    def exhausted(self) -> str:
        """Why there is no more."""
        return "the list has ended"


def rate(point: Point, share: float) -> float:
    """The value of a listed point, at any share: its learning rate."""
    return float(point["optimizer.lr"])


def replays(make: Callable[[], Searcher], study: Simulated, *, trials: int, space: Space = RATES) -> None:
    """Assert that a searcher that is told a log asks, at each order of the log, for what the log has.

    With one worker alone: there the searcher was asked for each order just before it was taken.
    """
    searcher = make()
    searcher.begin(space, (Objective("val.loss"),), trials)
    for call in study.calls:
        if call.order is not None:
            asked = searcher.ask()
            assert asked == call.order, f"continued, it orders {shown(asked)}, and had ordered {shown(call.order)}"
        call.make(searcher)
    order = searcher.ask()
    assert order is None or (order.trial is None and len(study.trials) == trials), f"it orders {shown(order)}"


def planned(searcher: Any) -> float:
    """Runs' worth of training that a searcher's plan comes to."""
    return float(sum(rung.trials * (rung.until - rung.since) for rung in searcher.plan()))


def bowl(point: Mapping[str, Any], share: float) -> float:
    """Learning curves that fall to a floor, lowest at lr 0.05 and momentum 0.8; larger rates fall faster."""
    rate, momentum = float(point["optimizer.lr"]), float(point["optimizer.momentum"])
    off = (math.log10(rate) - math.log10(0.05)) ** 2 + 2 * (momentum - 0.8) ** 2
    return off + math.exp(-8 * share * (1 + 10 * rate) / 2)
