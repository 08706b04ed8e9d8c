"""What each component is for, in numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from trainkit import Dimension, Limit, Objective, Space, Trial
from trainkit_robust import latin_hypercube
from trainkit_robust.middle import _middle_of_logs

RANGES = Space((Dimension("a", "float", 0.0, 1.0), Dimension("b", "float", 1e-4, 1.0, "log")))


def points(space: Space, trials: int, seed: int = 3) -> list[dict[str, float]]:
    searcher = latin_hypercube(seed)
    searcher.begin(space, (Objective("val.loss"),), trials)
    found = []
    while (order := searcher.ask()) is not None:
        searcher.took(order, Trial(len(found), order.point))
        found.append(dict(order.point))
    return found


def test_each_part_of_every_range_is_tried_once() -> None:
    found = points(RANGES, 9)
    for dimension in RANGES.dimensions:
        shares = [dimension.share(point[dimension.name]) for point in found]
        assert sorted(int(share * 9) for share in shares) == list(range(9))


def test_points_meet_constraints() -> None:
    space = Space(RANGES.dimensions, (Limit(("a", "b"), "sum", "below", 0.5),))
    found = points(space, 20)
    assert len(found) == 20
    assert all(point["a"] + point["b"] < 0.5 for point in found)


@pytest.mark.parametrize("members", [1, 2, 3, 4])
def test_the_median_is_that_of_probabilities(members: int) -> None:
    torch.manual_seed(members)
    logs = (3 * torch.randn(members, 5, 4, dtype=torch.float64)).log_softmax(-1)
    expected = np.median(logs.exp().numpy(), axis=0)
    np.testing.assert_allclose(_middle_of_logs(logs).exp().numpy(), expected, rtol=1e-12)


def test_drift_grows_from_nothing_in_a_run(run_tiny) -> None:
    made = run_tiny(callback=[{"use": "drift"}], run={"duration": "6ba", "log_every": "1ba", "threads": 1})
    figures = [line["drift"] for line in made.lines if line["split"] == "train"]
    assert len(figures) == 6
    assert 0 < figures[0] < figures[-1]


def test_the_recipe_of_the_package_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trainkit", "trainkit_robust:robust", "--run-dir", str(tmp_path / "study"), "-q"]
    subprocess.run(command, check=True, cwd=tmp_path)
    made = json.loads((tmp_path / "study" / "ensemble" / "report.json").read_text(encoding="utf-8"))
    assert len(made["members"]) == 3
