"""Population based training: trials train side by side; the worst go on as changed copies of the best."""

from __future__ import annotations

from collections.abc import Sequence

from trainkit import Objective, Order, Point, Rung, Space, Trial
from trainkit_searchers.exploring import explored, stays
from trainkit_searchers.over import CLOSE, Level, Standing, nearest, standing_of
from trainkit_searchers.points import draw, generator


class Population:
    """Trains a population generation by generation; a generation is ranked when all of it has come to rest.

    So a study is the same for any number of workers. Where evaluations are so far apart that a trial has passed the end
    of a generation when it rests, the next generation is one that lies beyond.

    Args:
        seed: the recipe's seed.
        population: how many trials train side by side; unset is as many as the search's trials allow.
        generations: equal parts of a run, after each of which but the last the worst are replaced.
        share: of the population, the part that is replaced and the part that may be copied.
        perturb: how far a copied number is moved.
        resample: how likely a copied value is drawn anew instead.
    """

    def __init__(
        self, seed: int, population: int | None, generations: int, share: float, perturb: float, resample: float
    ) -> None:
        self.seed = seed
        self.wanted = population
        self.share = share
        self.perturb = perturb
        self.resample = resample
        self.shares = [(place + 1) / generations for place in range(generations)]
        self.levels = [Level() for _ in self.shares]
        self.sent: list[set[int]] = [set() for _ in self.shares]
        self.heading: dict[int, int] = {}  # the generation that each trial is trained in, or rests after
        self.points: dict[int, Point] = {}
        self.open = True  # whether trials of the first generation are still to begin
        self.pending: list[Order] = []  # of the generation that begins
        self.now = 0  # the generation that was ordered last

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        self.space = space
        self.trials = trials
        if all(stays(dimension) for dimension in space.dimensions):
            names = ", ".join(dimension.name for dimension in space.dimensions)
            raise ValueError(
                f"pbt changes settings while a trial trains, and none of these can change then: {names}\n"
                "vary numbers of the optimizer, the schedule, the loss, augmentations or callbacks, or take another "
                "searcher"
            )
        turns = len(self.shares) - 1
        fitting = [size for size in range(2, trials + 1) if size + turns * self._replaced(size) <= trials]
        if not fitting:
            raise ValueError(
                f"pbt with {turns + 1} generations begins at least {2 + turns} trials, and trials = {trials}\n"
                "write more trials, or fewer generations"
            )
        self.size = fitting[-1] if self.wanted is None else self.wanted
        if self.size not in fitting:
            needed = self.size + turns * self._replaced(self.size)
            raise ValueError(
                f"pbt with population = {self.size} and {turns + 1} generations begins {needed} trials with those that "
                f"replace others, and trials = {trials}\nwrite trials = {needed}, or a population of at most "
                f"{fitting[-1]}"
            )

    def _replaced(self, size: int) -> int:
        """How many of a population are replaced after a generation."""
        return max(1, int(size * self.share + 1e-9))

    def plan(self) -> list[Rung]:
        """The generations."""
        since = [0.0, *self.shares[:-1]]
        return [
            Rung(self.size, share, since[place], name=f"generation {place + 1}")
            for place, share in enumerate(self.shares)
        ]

    def ask(self) -> Order | None:
        """A trial of the first generation; then, when a generation is complete, those of the next."""
        if not self.open:
            return self.pending[0] if self.pending else None
        point = draw(self.space, generator(self.seed, len(self.points)))
        return None if point is None else Order(point, until=self.shares[0], note=self._note(0))

    def took(self, order: Order, trial: Trial) -> None:
        """Enter the trial in the generation that it is trained in."""
        if trial.over:  # of an earlier study: a population begins anew
            return
        fresh = order.trial is None and order.parent is None
        if self.open and not fresh:  # a study that was begun with fewer trials
            self.open = False
            self._decide()
        place = self.heading[trial.number] = nearest(self.shares, order.until)
        self.sent[place].add(trial.number)
        self.now = max(self.now, place)
        if fresh:
            self.points[trial.number] = dict(trial.point)
            self.open = self.open and len(self.points) < self.size
            return
        if order.trial is None:
            self.points[trial.number] = dict(trial.point)
        mine = next((number for number, each in enumerate(self.pending) if _same(each, order)), None)
        if mine is not None:
            del self.pending[mine]

    def tell(self, trial: Trial) -> None:
        """Rank the trial; where it was the generation's last, decide upon the next."""
        if trial.number not in self.heading:
            return
        place = self.heading[trial.number]
        self.levels[place].put(standing_of(trial))
        if place == self.now and not self.open and not self.pending:
            self._decide()

    def _decide(self) -> None:
        level = self.levels[self.now]
        alive = [standing for standing in level.ranked if standing.group == 0 and not standing.done]
        if len(level.standings) < len(self.sent[self.now]) or not alive:
            return
        trained = max(standing.trained for standing in alive)
        place = next((p for p in range(self.now + 1, len(self.shares)) if self.shares[p] > trained + CLOSE), None)
        if place is None:
            return
        count = self._replaced(len(level.ranked))
        best = alive[:count]
        lost = sum(standing.group > 0 for standing in level.ranked)
        later = (len(self.shares) - 1 - place) * count  # trials that are kept for the generations after this one
        clones = min(max(lost, min(count, lost + len(alive) - len(best))), self.trials - len(self.points) - later)
        going_on = alive[: len(alive) - max(0, clones - lost)]
        self.pending = self._orders(best, going_on, max(0, clones), place)

    def _orders(self, best: list[Standing], going_on: list[Standing], clones: int, place: int) -> list[Order]:
        until, made, parents = self.shares[place], list[Order](), set[int]()
        for number in range(len(self.points), len(self.points) + clones):
            source = generator(self.seed, number)
            parent = best[int(source.integers(len(best)))].number
            parents.add(parent)
            point = explored(self.space, self.points[parent], source, self.perturb, self.resample)
            made.append(Order(point, until=until, parent=parent, note=f"{self._note(place)}, from trial {parent}"))
        # Those that are copied go on last: a clone begins with the newest checkpoint that its parent has.
        for standing in sorted(going_on, key=lambda standing: standing.number in parents):
            made.append(Order(trial=standing.number, until=until, note=self._note(place)))
        return made

    def _note(self, place: int) -> str:
        return f"generation {place + 1} of {len(self.shares)}"

    def exhausted(self) -> str:
        """Why there is no more."""
        if self.open:
            return "no point that was drawn meets the constraints"
        if not any(standing.group == 0 for standing in self.levels[self.now].ranked):
            return "all trials of the population failed"
        return f"all {len(self.shares)} generations of {self.size} trials are trained"


def _same(one: Order, other: Order) -> bool:
    """Whether both let one trial go on, or begin a clone of one."""
    return one.trial == other.trial and one.parent == other.parent
