"""How good each searcher's best trial is: four real problems, paired seeds, a sign test against random search.

    python benchmarks/search_quality.py [--quick] [--seeds N] [--problem NAME]

Problem: a network with one hidden layer of 32 on data that ships with scikit-learn, split 60/20/20 and standardised;
batch 32; 10 epochs on digits and 20 elsewhere. Space: lr 1e-4 to 10 (log), weight decay 1e-7 to 1 (log), momentum 0 to
0.99, gain of the initialisation 0.03 to 10 (log), label smoothing 0 to 0.4 (classes only). Objective: the validation
loss after the last epoch. Budget: the epochs of 48 full trials; the first one is the same for all (lr 0.01, momentum
0). Searchers are driven by their protocol, in batches of 8; a trial that diverges is told as the worst value so far.
The seeds are trained side by side, which changes no figure.

A searcher wins a seed where its best validation loss is below that of random search with the same seed; p is that of
the two-sided sign test. "= random" says how many random trials have the same median best.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from search_problems import PROBLEMS, Problem, Training, train

from trainkit import Objective, Order, Rung, Searcher, Trial

TRIALS, TOGETHER = 48, 8
FIRST = {"lr": 0.01, "weight_decay": 1e-4, "momentum": 0.0, "gain": 1.0, "smoothing": 0.0}


class Search:
    """One searcher with one seed, driven as a study drives it: batches of eight, results told in order."""

    def __init__(self, problem: Problem, searcher: Searcher, seed: int, trials: int) -> None:
        self.problem, self.searcher, self.seed, self.trials = problem, searcher, seed, trials
        self.known: list[Trial] = []
        self.trainings: list[Training] = []
        self.spent = 0
        self.curve: list[tuple[int, float, float]] = []  # epochs spent, best validation loss, its test loss
        self.worst = math.nan
        searcher.begin(problem.space, [Objective("val.loss")], trials)

    @property
    def budget(self) -> int:
        """Epochs that may be spent."""
        return TRIALS * self.problem.epochs

    def orders(self) -> list[tuple[Trial, Training, int]]:
        """What is trained next, and until which epoch."""
        taken: list[tuple[Trial, Training, int]] = []
        while len(taken) < TOGETHER and self.spent < self.budget:
            order = self.searcher.ask()
            if order is None or (order.trial is None and len(self.known) >= self.trials):
                break
            trial, training, full = self._begun(order)
            until = min(full, max(training.epoch + 1, math.ceil(order.until * full - 1e-9)))
            if self.spent + until - training.epoch > self.budget:
                break
            self.spent += until - training.epoch
            trial.status = "running"
            self.searcher.took(order, trial)
            taken.append((trial, training, until))
        return taken

    def _begun(self, order: Order) -> tuple[Trial, Training, int]:
        if order.trial is not None:
            trial, training = self.known[order.trial], self.trainings[order.trial]
        else:
            number = len(self.known)
            point = {n: v for n, v in FIRST.items() if n in {d.name for d in self.problem.space.dimensions}}
            trial = Trial(number, dict(order.point) if number else point, parent=order.parent, changes=order.changes)
            training = Training(dict(trial.point), self.seed * 100003 + number)
            if order.parent is not None:
                parent = self.trainings[order.parent]
                training.epoch, training.losses = parent.epoch, list(parent.losses)
                training.weights, training.momenta = parent.weights, parent.momenta
            self.known.append(trial)
            self.trainings.append(training)
        return trial, training, self.length(trial)

    def length(self, trial: Trial) -> int:
        """Epochs of a trial's whole run."""
        duration = str(trial.changes.get("run.duration", f"{self.problem.epochs}ep"))
        return int(duration.removesuffix("ep"))

    def tell(self, trial: Trial, training: Training) -> None:
        """Tell how a trial came to rest."""
        full = self.length(trial)
        pruned = self._pruned_at(trial, training, full)
        if pruned:
            self.spent -= training.epoch - pruned
            del training.losses[pruned:]
            training.epoch = pruned
        loss = training.losses[-1]
        finite = math.isfinite(loss)
        if finite:
            self.worst = max(loss, self.worst) if math.isfinite(self.worst) else loss
            if full == self.problem.epochs and training.epoch >= full:
                before = self.curve[-1] if self.curve else (0, math.inf, math.nan)
                self.curve.append((self.spent, loss, training.test) if loss < before[1] else (self.spent, *before[1:]))
        rest = "pruned" if pruned else "done" if training.epoch >= full else "paused"
        trial.status = rest if finite else "nan"  # type: ignore[assignment]
        trial.values = (loss if finite else (self.worst if math.isfinite(self.worst) else math.inf),)
        trial.trained = training.epoch / full
        trial.reports = [((n + 1) / full, value) for n, value in enumerate(training.losses) if math.isfinite(value)]
        self.searcher.tell(trial)

    def _pruned_at(self, trial: Trial, training: Training, full: int) -> int:
        """The epoch at which the searcher would have stopped the trial; 0 for none."""
        stop: Callable[[Trial], str] | None = getattr(self.searcher, "stop", None)
        if stop is None:
            return 0
        for epoch in range(1, training.epoch):
            seen = training.losses[:epoch]
            if not math.isfinite(seen[-1]):
                return 0
            trial.reports = [((n + 1) / full, value) for n, value in enumerate(seen)]
            trial.trained = epoch / full
            if stop(trial):
                return epoch
        return 0


def run(problem: Problem, make: Callable[[int, int], Searcher], seeds: Sequence[int], trials: int) -> list[Search]:
    """One searcher with every seed, side by side."""
    searches = [Search(problem, make(seed, problem.epochs), seed, trials) for seed in seeds]
    going = list(searches)
    while going:
        work = [(search, *item) for search in going for item in search.orders()]
        going = [search for search in going if any(item[0] is search for item in work)]
        train(problem, [training for _, _, training, _ in work], [until for *_, until in work])
        for search, trial, training, _ in work:
            search.tell(trial, training)
    return searches


def searchers(names: Sequence[str]) -> dict[str, Callable[[int, int], Searcher]]:
    """How each is made from seed and epochs."""
    import trainkit_searchers as own

    plain: Callable[[int], Any] = own.random
    made: dict[str, Callable[[int, int], Any]] = {
        "random": lambda seed, epochs: plain(seed),
        "sobol": lambda seed, epochs: own.sobol(seed),
        "coarse_to_fine": lambda seed, epochs: own.coarse_to_fine(seed),
        "bayesian (tpe)": lambda seed, epochs: own.bayesian(seed),
        "bayesian (gp)": lambda seed, epochs: own.bayesian(seed, model="gp"),
        "genetic": lambda seed, epochs: own.genetic(seed),
        "cmaes": lambda seed, epochs: own.cmaes(seed),
        "successive_halving": lambda seed, epochs: own.successive_halving(over=plain(seed)),
        "asha": lambda seed, epochs: own.asha(over=plain(seed)),
        "hyperband": lambda seed, epochs: own.hyperband(over=plain(seed)),
        "asha over tpe": lambda seed, epochs: own.asha(over=own.bayesian(seed)),
        "median_stopping": lambda seed, epochs: own.median_stopping(over=plain(seed)),
        "pbt": lambda seed, epochs: own.pbt(seed),
    }
    return {name: made[name] for name in names or made}


def trials_within(problem: Problem, make: Callable[[int, int], Searcher]) -> int:
    """The most trials whose plan takes no more than the budget's epochs; 48 for a searcher without a plan."""
    most = TRIALS
    for trials in range(TRIALS, 12 * TRIALS):
        searcher = make(0, problem.epochs)
        plan: Callable[[], list[Rung]] | None = getattr(searcher, "plan", None)
        if plan is None:
            return TRIALS
        try:
            searcher.begin(problem.space, [Objective("val.loss")], trials)
        except ValueError:  # a number that makes no whole plan
            continue
        epochs = 0
        for rung in plan():
            full = int(str(rung.duration or f"{problem.epochs}ep").removesuffix("ep"))
            ends = [max(1, math.ceil(share * full - 1e-9)) if share else 0 for share in (rung.since, rung.until)]
            epochs += rung.trials * (ends[1] - ends[0])
        if epochs > TRIALS * problem.epochs:
            break
        most = trials
    return most


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p of so many wins and losses, were each as likely as the other."""
    total = wins + losses
    tail = sum(math.comb(total, k) for k in range(max(wins, losses), total + 1)) / 2**total
    return min(1.0, 2 * tail)


def equal_to_random(value: float, pool: Sequence[float]) -> str:
    """How many random trials have ``value`` as the median of their best."""
    share = sum(loss <= value for loss in pool) / len(pool)
    if not share:
        return f">{len(pool) // 2}"
    return f"{math.log(0.5) / math.log1p(-share):.0f}" if share < 1 else "1"


def tables(problem: Problem, names: Sequence[str], seeds: Sequence[int]) -> str:
    """What every searcher reached on one problem."""
    all_of = searchers(names)
    found = {}
    for name, make in all_of.items():
        # A rule that stops trials has no plan: it may begin twice as many, as far as the epochs go.
        trials = 2 * TRIALS if name == "median_stopping" else trials_within(problem, make)
        found[name] = run(problem, make, seeds, trials)
    base = found["random"]
    pool = [t.losses[-1] for search in base for t in search.trainings[1:] if t.losses]
    pool = [loss if math.isfinite(loss) else math.inf for loss in pool]
    lines = [
        f"### {problem.name}: {len(seeds)} seeds, the epochs of {TRIALS} full trials of {problem.epochs} epochs",
        "",
        "| searcher | 1/4 of the epochs | 1/2 | all | = random | wins : losses | p | the winner's test loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, searches in found.items():
        at = [statistics.median(best_at(s, share * s.budget) for s in searches) for share in (0.25, 0.5, 1.0)]
        pairs = [(winner(s)[0], winner(b)[0]) for s, b in zip(searches, base, strict=True)]
        wins, losses = sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)
        p = f"{sign_test(wins, losses):.4f}" if wins + losses else "-"
        tested = statistics.median(winner(s)[1] for s in searches)
        figures = " | ".join(f"{value:.4f}" for value in at)
        won = f"{wins} : {losses}" if name != "random" else "-"
        lines.append(f"| {name} | {figures} | {equal_to_random(at[2], pool)} | {won} | {p} | {tested:.4f} |")
    return "\n".join(lines)


def best_at(search: Search, epochs: float) -> float:
    """The best validation loss of a full trial within so many epochs; infinite where none was finished."""
    return min((loss for spent, loss, _ in search.curve if spent <= epochs), default=math.inf)


def winner(search: Search) -> tuple[float, float]:
    """The best validation loss of all, and its test loss."""
    return search.curve[-1][1:] if search.curve else (math.inf, math.nan)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds, one problem, three searchers")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--problem", choices=list(PROBLEMS), action="append")
    parser.add_argument("--searcher", action="append", default=[], help="only these, beside random")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [*dict.fromkeys(["random", *options.searcher])] if options.searcher else []
    problems = options.problem or list(PROBLEMS)
    if options.quick:
        names, problems, options.seeds = ["random", "sobol", "successive_halving"], ["wine"], 2
    for name in problems:
        print(tables(Problem.load(name), names, range(options.seeds)), flush=True)
        print()


if __name__ == "__main__":
    main()
