"""What is said of an ensemble: plainly also where one model would have done."""

from __future__ import annotations

from typing import Any

import pytest

from trainkit.ensemble.words import verdict_of, words


def figure(value: float, low: float | None = None, high: float | None = None) -> dict[str, float]:
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high}


def model(nll: float, accuracy: float = 0.9) -> dict[str, Any]:
    figures = {"accuracy": figure(accuracy), "nll": figure(nll), "ece": figure(0.05)}
    return {split: {"raw": figures, "calibrated": figures} for split in ("validation", "test")}


def report(best: tuple[float, float], longer: tuple[float, float] | None = None, **more: Any) -> dict[str, Any]:
    """Of an ensemble whose NLL is 0.3, with intervals of its difference from the best member and a longer run."""
    apart = {
        name: {"test": {"calibrated": {"nll": figure(sum(ends) / 2, *ends), "accuracy": figure(0.01, -0.02, 0.03)}}}
        for name, ends in (("best_member", best), ("longer", longer))
        if ends is not None
    }
    found = {
        "kind": "calibrated",
        "chosen_by": "nll",
        "members": [{}, {}, {}],
        "samples": {"validation": 100, "test": 400},
        "ensemble": model(0.3, 0.91),
        "best_member": {"name": "runs/a", **model(0.32)},
        "differences": apart,
        "optimism": {"ensemble": {"calibrated": {"nll": 0.1}}},
        "reselection": {"ensemble": {"calibrated": {"nll": 0.25}}},
        "cost": {
            "passes": 3,
            "member": {"macs": 100},
            "ensemble": {"macs": 300},
            "training": {"longer": {"updates": 1200}},
        },
    }
    return (found | {"longer": model(0.2)} if longer is not None else found) | more


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((-0.2, -0.1), "better"),
        ((0.1, 0.2), "worse"),
        ((-0.1, 0.1), "even"),
        ((0.0, 0.1), "even"),
        ((-0.1, 0.0), "even"),
    ],
)
def test_a_verdict_is_one_where_the_interval_leaves_no_doubt(ends: tuple[float, float], expected: str) -> None:
    assert verdict_of(figure(0, *ends)) == expected


def test_an_ensemble_that_is_better_is_said_to_be() -> None:
    first = words(report((-0.03, -0.01)))[0]
    assert first == (
        "the ensemble is better than the best member (runs/a): negative log likelihood 0.3 against 0.32 "
        "(by -0.03 to -0.01); accuracy 91.00% against 90.00% (by -2.00 to +3.00 points)"
    )


def test_one_member_that_is_better_is_to_be_used_alone() -> None:
    first = words(report((0.01, 0.03)))[0]
    assert first.startswith("the best member (runs/a) alone is better than the ensemble: use it alone, at 1/3 of ")


def test_what_cannot_be_told_apart_costs_less_alone() -> None:
    first = words(report((-0.01, 0.03)))[0]
    assert first.startswith("the ensemble cannot be told from the best member (runs/a) on these samples: use it alone")


def test_an_average_costs_no_more_than_one_member() -> None:
    cost = {"passes": 1, "member": {"macs": 100}, "ensemble": {"macs": 100}}
    first = words(report((-0.01, 0.03), cost=cost))[0]
    assert first.startswith("the ensemble cannot be told from the best member (runs/a) on these samples: negative log")
    assert words(report((0.01, 0.03), cost=cost))[0].startswith(
        "the best member (runs/a) alone is better than the ensemble: use it alone: negative log likelihood"
    )
    uncounted = {"passes": 4, "member": {"macs": None}, "ensemble": {"macs": None}}
    assert "at 1/4 of the ensemble's cost" in words(report((0.01, 0.03), cost=uncounted))[0]


def test_a_student_that_is_worse_but_costs_less_is_no_reason_to_use_a_member_alone() -> None:
    cost = {"passes": 1, "member": {"macs": 81920}, "ensemble": {"macs": 13200}, "training": {"longer": {"updates": 9}}}
    less = "costs less (13,200 multiplications for a prediction, against 81,920)"
    figures = ": negative log likelihood 0.3 against 0.32"
    worse, even, better = (words(report(ends, cost=cost))[0] for ends in ((0.01, 0.03), (-0.01, 0.03), (-0.03, -0.01)))
    assert worse.startswith(f"the best member (runs/a) alone is better than the ensemble, which {less}{figures}")
    assert even.startswith(
        f"the ensemble cannot be told from the best member (runs/a) on these samples, and {less}{figures}"
    )
    assert better.startswith(f"the ensemble is better than the best member (runs/a), and {less}{figures}")
    longer = words(report((0.01, 0.03), (0.1, 0.2), cost=cost))[1]
    assert " is better than the ensemble, but the ensemble costs less (13,200 multiplications for a" in longer
    assert "against 81,920 of the best member): negative log likelihood" in longer
    assert "do not ensemble" not in longer
    cost["ensemble"] = {"macs": 80000}  # nearly the same
    assert "use it alone: negative log" in words(report((0.01, 0.03), cost=cost))[0]


def test_an_ensemble_that_is_one_of_its_members_is_said_to_be() -> None:
    held = report((0.0, 0.0))
    held["differences"]["best_member"]["test"]["calibrated"]["accuracy"] = figure(0.0, 0.0, 0.0)
    assert words(held)[0] == "nothing is gained by more members: the ensemble is runs/a"
    assert words(held | {"members": [{}]})[0] == "one member: the ensemble is runs/a"
    held["differences"]["best_member"]["test"]["calibrated"]["ece"] = figure(0.0, -6.9e-18, 3.5e-18)  # as it was seen
    assert words(held)[0] == "nothing is gained by more members: the ensemble is runs/a"


def test_rounding_is_that_of_the_figures_own_size() -> None:
    own = {split: {"raw": {"mse": figure(2e10)}} for split in ("validation", "test")}
    held = report((0.0, 0.0), kind="raw", chosen_by="mse", ensemble=own, best_member={"name": "runs/a", **own})
    held["differences"] = {"best_member": {"test": {"raw": {"mse": figure(0.0, -3.8e-6, 3.8e-6)}}}}
    assert words(held)[0] == "nothing is gained by more members: the ensemble is runs/a"
    held["differences"] = {"best_member": {"test": {"raw": {"mse": figure(0.0, -1.0, 1.0)}}}}
    assert words(held)[0].startswith("the ensemble cannot be told from the best member (runs/a)")


@pytest.mark.parametrize(
    ("longer", "start"),
    [
        (
            (-0.2, -0.1),
            "the ensemble is better than one run trained for as long as all members together (1,200 updates)",
        ),
        (
            (0.1, 0.2),
            "one run trained for as long as all members together (1,200 updates) is better than the ensemble: do",
        ),
        ((-0.1, 0.2), "the ensemble cannot be told from one run trained for as long as all members together (1,200 "),
    ],
)
def test_the_same_training_spent_on_one_run_is_held_against_it(longer: tuple[float, float], start: str) -> None:
    said = words(report((-0.03, -0.01), longer))
    assert said[1].startswith(start)
    assert ("do not ensemble here, train one model longer" in said[1]) == (longer == (0.1, 0.2))


def test_what_was_chosen_by_is_not_what_is_to_be_expected() -> None:
    assert words(report((-0.03, -0.01)))[1] == (
        "negative log likelihood was 0.3 on the validation samples it was chosen by, 0.25 on those of them that had no "
        "part in the choice, and is 0.3 on test"
    )


def test_few_samples_are_said_to_be_few() -> None:
    said = words(report((-0.03, -0.01)))
    assert said[-1] == "400 test samples: one standard error of an accuracy here is 1.4 points"
    many = report((-0.03, -0.01), samples={"validation": 100, "test": 4000})
    assert not any("standard error" in text for text in words(many))


def test_a_variance_that_does_not_fit_is_said() -> None:
    assert any(
        "too small: squared errors on validation are 7 times" in t for t in words(report((0, 1), variance_scale=7.0))
    )
    assert not any("variance" in text for text in words(report((0, 1), variance_scale=1.2)))
