"""Pictures of ensembles: drawn for whatever a report can hold."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")

from trainkit import wilson
from trainkit_reports import ensembles
from trainkit_reports.ensembles import draw_ensemble

ALL = ["curve.png", "reliability.png", "diversity.png"]


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def model(shift: float = 0.0) -> dict[str, Any]:
    values = {"accuracy": 0.9 - shift, "nll": 0.3 + shift, "brier": 0.1, "ece": 0.05 + shift}
    figures = {name: figure(value) for name, value in values.items()}
    return {"test": {"raw": figures, "calibrated": copy.deepcopy(figures)}}


def bins(*counts: int) -> list[dict[str, float]]:
    return [
        {"low": n / 15, "high": (n + 1) / 15, "samples": c, "confidence": (n + 0.5) / 15, "accuracy": n / 15}
        for n, c in enumerate(counts)
        if c
    ]


def report(members: int = 4, longer: bool = True) -> dict[str, Any]:
    points = [
        {"members": size, "sets": 1, "raw": {"accuracy": 0.8, "nll": 1 / size}, "calibrated": {"nll": 0.9 / size}}
        for size in range(1, members + 1)
    ]
    matrix = [[0.0 if row == column else 0.1 * row for column in range(members)] for row in range(members)]
    measure = {"matrix": matrix, "mean": 0.1}
    both = {"raw": bins(0, 3, 0, 9, 20), "calibrated": bins(0, 0, 5, 30)}
    found = {
        "task": "classification",
        "ensembler": "greedy",
        "kind": "calibrated",
        "chosen_by": "nll",
        "bins": 15,
        "level": 0.95,
        "samples": {"validation": 50, "test": 100},
        "ensemble": model(),
        "best_member": {"name": "runs/a", **model(0.02)},
        "curve": {"split": "test", "sets": "drawn", "points": points},
        "reliability": {"split": "test", "ensemble": both, "best_member": both},
        "diversity": {
            "split": "test",
            "members": [f"runs/{number}" for number in range(members)],
            **{name: copy.deepcopy(measure) for name in ("disagreement", "error_correlation", "kl")},
        },
    }
    return found | ({"longer": model(-0.05)} if longer else {})


def drawn(folder: Path, held: dict[str, Any]) -> list[str]:
    made = draw_ensemble(folder, held)
    for picture in made:
        data = picture.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) > 5000
    assert sorted(picture.name for picture in made) == sorted(path.name for path in folder.glob("*.png"))
    return [picture.name for picture in made]


@pytest.mark.parametrize("longer", [True, False])
def test_classes(tmp_path: Path, longer: bool) -> None:
    assert drawn(tmp_path, report(longer=longer)) == ALL


def test_the_longer_run_is_beside_the_curve(tmp_path: Path) -> None:
    def lines(held: dict[str, Any]) -> list[str]:
        page = ensembles._curve("a", held)
        return [text.get_text() for text in page.axes[0].get_legend().get_texts()]

    assert lines(report()) == ["ensemble", "best member on validation", "one run, trained as long as all members"]
    assert lines(report(longer=False)) == ["ensemble", "best member on validation"]


def test_the_foot_of_the_curve_names_the_intervals_that_are_drawn() -> None:
    def foot(held: dict[str, Any]) -> str:
        return str(ensembles._curve("a", held).get_supxlabel())

    assert foot(report()) == "points: means over drawn sets of members; bar and band: 95% bootstrap intervals"
    alone = report(longer=False)
    assert foot(alone) == "points: means over drawn sets of members; bar: 95% bootstrap intervals"
    alone["ensemble"] = {}
    assert foot(alone) == "points: means over drawn sets of members"


def test_the_legend_of_reliability_covers_nothing_that_is_drawn() -> None:
    page = ensembles._reliability("a", report())
    page.savefig(io.BytesIO())  # lays it out
    above = [axes for axes in page.axes if axes.get_legend() is not None]
    assert len(above) == 2
    for axes in above:
        legend = axes.get_legend().get_window_extent()
        for other in page.axes:
            assert not legend.overlaps(other.get_window_extent())
            assert not legend.overlaps(other.xaxis.get_tightbbox())
            assert not legend.overlaps(other.yaxis.label.get_window_extent())
        assert page.bbox.x0 <= legend.x0 <= legend.x1 <= page.bbox.x1


def test_the_curve_has_its_points(tmp_path: Path) -> None:
    axes = ensembles._curve("a", report()).axes
    assert [tuple(point) for point in axes[0].lines[0].get_xydata()] == [(n, 0.9 / n) for n in (1, 2, 3, 4)]
    assert [point[1] for point in axes[1].lines[0].get_xydata()] == [0.8] * 4


def test_numbers(tmp_path: Path) -> None:
    held = report()
    held |= {"task": "regression", "kind": "raw", "chosen_by": "mse"}
    figures = {"raw": {"mse": figure(2.0), "mae": figure(1.0), "r2": figure(0.5)}}
    for name in ("ensemble", "best_member", "longer"):
        held[name] = {"test": figures}
    for point in held["curve"]["points"]:
        point["raw"] = {"mse": 2.0, "mae": 1.0, "r2": 0.5}
        del point["calibrated"]
    del held["reliability"], held["diversity"]["disagreement"], held["diversity"]["kl"]
    assert drawn(tmp_path, held) == ["curve.png", "diversity.png"]


def test_a_long_title_stays_on_a_narrow_page() -> None:
    held = report()
    del held["diversity"]["disagreement"], held["diversity"]["kl"]
    page = ensembles._diversity("diabetes_regression_with_five_seeds-20", held)
    page.savefig(io.BytesIO())  # lays it out
    title = page._suptitle.get_window_extent()
    assert page.bbox.x0 <= title.x0 <= title.x1 <= page.bbox.x1
    assert not title.overlaps(page.axes[0].title.get_window_extent())


def test_one_member_and_folds_have_less_to_show(tmp_path: Path) -> None:
    held = report(members=1, longer=False)
    held["curve"] = {"reason": "there is one member"}
    assert drawn(tmp_path, held) == ["reliability.png"]
    del held["reliability"], held["diversity"]
    (tmp_path / "folds").mkdir()
    assert drawn(tmp_path / "folds", held) == []


def test_figures_that_were_infinite(tmp_path: Path) -> None:
    held = report()
    nothing = {"value": None, "low": None, "high": None}
    for name in ("ensemble", "longer", "best_member"):
        held[name]["test"]["calibrated"]["nll"] = nothing
    held["curve"]["points"][1]["calibrated"]["nll"] = None
    assert drawn(tmp_path, held) == ALL


def test_pairs_without_a_number(tmp_path: Path) -> None:
    held = report(members=2)
    held["diversity"]["error_correlation"] = {"matrix": [[None, None], [None, None]], "mean": None}
    assert drawn(tmp_path, held) == ALL


def test_many_members_with_odd_names(tmp_path: Path) -> None:
    held = report(members=30)
    held["diversity"]["members"] = [f"$x_{{{number}\\frac" + "a\n" * 40 for number in range(30)]
    folder = tmp_path / "a_b$x_1$\\frac"
    folder.mkdir()
    assert drawn(folder, held) == ALL


@pytest.mark.parametrize(("share", "samples"), [(0.0, 5), (1.0, 5), (0.5, 10), (0.93, 359)])
def test_the_interval_of_a_share_is_that_ofwilson(share: float, samples: int) -> None:
    from statistics import NormalDist

    low, high = wilson(share, samples)
    assert low + 1e-12 >= 0
    assert high <= 1 + 1e-12
    for end in (low, high):  # by its definition: the share lies 1.96 standard errors of the bound away
        assert abs(share - end) == pytest.approx(1.96 * (end * (1 - end) / samples) ** 0.5, abs=1e-9)
    assert NormalDist().inv_cdf(0.975) == pytest.approx(1.96, abs=1e-3)
