"""What a search will cost, said before it begins."""

from __future__ import annotations

import math

from tests.search.study_parts import RATE
from trainkit.search.budget import budget_lines, grid_points
from trainkit.space import Dimension, Space
from trainkit.trial import Rung

GRID = Space((Dimension("a", "choice", choices=(1, 2, 3)), Dimension("b", "float", 0.0, 1.0, step=0.25)))


class Planned:
    """A searcher with a plan."""

    def __init__(self, *rungs: Rung) -> None:
        self.rungs = rungs

    def plan(self) -> list[Rung]:
        return list(self.rungs)


def test_all_trials_in_full() -> None:
    lines = budget_lines(object(), "random", Space((RATE,)), 32, "20ep")  # type: ignore[arg-type]
    assert lines == ["search: random over 1 setting, 32 trials", "  at most 640 epochs in all"]


def test_rungs_and_their_share() -> None:
    rungs = Planned(Rung(9, 1 / 9), Rung(3, 1 / 3, 1 / 9), Rung(1, 1.0, 1 / 3))
    lines = budget_lines(rungs, "asha", Space((RATE,)), 9, "9ep", 2)  # type: ignore[arg-type]
    assert lines == [
        "search: asha over 1 setting, 9 trials, 2 runs each",
        "  rung 1: 9 trials to 1 epochs",
        "  rung 2: 3 trials from 1 to 3 epochs",
        "  rung 3: 1 trials from 3 to 9 epochs",
        "  at most 42 epochs in all, 25.9 % of 9 full trials",
    ]


def test_stages_with_lengths_of_their_own_and_a_grid() -> None:
    stages = Planned(Rung(4, duration="100ba", name="stage 1"), Rung(2, name="stage 2"))
    lines = budget_lines(stages, "coarse_to_fine", GRID, 6, "400ba")  # type: ignore[arg-type]
    assert lines[1:] == [
        "  stage 1: 4 trials to 100 updates",
        "  stage 2: 2 trials to 400 updates",
        "  at most 1,200 updates in all, 50 % of 6 full trials; the whole grid has 15 points: 20 % of it",
    ]


def test_a_grid_counts_what_conditions_leave() -> None:
    use = Dimension("use", "choice", choices=("sgd", "adam"))
    momentum = Dimension("momentum", "choice", choices=(0.0, 0.5, 0.9), when={"use": (0,)})
    assert grid_points(Space((use, momentum))) == 4
    assert grid_points(Space((use, momentum, RATE))) == math.inf


def test_a_varied_length_of_runs_counts_at_its_longest() -> None:
    varied = Dimension("run.duration", "int", 5, 20, unit="ep")
    lines = budget_lines(object(), "random", Space((varied,)), 10, "8ep")  # type: ignore[arg-type]
    assert lines[1].startswith("  at most 200 epochs in all")
    mixed = Dimension("run.duration", "choice", choices=("5ep", "300ba"))
    lines = budget_lines(object(), "random", Space((mixed,)), 10, "8ep")  # type: ignore[arg-type]
    assert lines == ["search: random over 1 setting, 10 trials"]
