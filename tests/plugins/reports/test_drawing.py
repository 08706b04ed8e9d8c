"""``curves.png``: what of millions of points is drawn."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit import Thinned
from trainkit.thinned import MOST_BUNCHES
from trainkit_reports import drawing
from trainkit_reports.drawing import draw


def curve_of(heights: list[float], most: int = MOST_BUNCHES) -> Thinned:
    curve = Thinned(most)
    for x, y in enumerate(heights):
        curve.add(x, y)
    return curve


def test_a_curve_that_a_picture_can_show_is_drawn_point_by_point():
    heights = [float(number % 7) for number in range(MOST_BUNCHES)]
    assert curve_of(heights).points == list(enumerate(heights))


def test_a_million_points_are_thinned_out_and_no_spike_is_lost():
    heights = [1.0] * 1_000_000
    heights[123_456], heights[987_654] = 50.0, -3.0
    points = curve_of(heights).points
    assert len(points) <= 2 * MOST_BUNCHES
    assert (123_456, 50.0) in points
    assert (987_654, -3.0) in points
    assert points == sorted(points)
    assert points[-1][0] > 998_000


@settings(deadline=None, max_examples=50)
@given(heights=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=100))
def test_lowest_and_highest_stay_whatever_comes(heights):
    curve = curve_of(heights, most=4)
    drawn = [y for _, y in curve.points]
    assert (min(drawn), max(drawn)) == (min(heights), max(heights))
    assert len(drawn) <= 8
    assert curve.last == (len(heights) - 1, heights[-1])
    assert {(x, y) for x, y in curve.points} <= set(enumerate(heights))


def test_lines_are_gone_through_once_and_figures_that_are_not_there_left_out(tmp_path):
    lines = iter(
        [
            {"step": 1, "epoch": 1, "split": "train", "time": 0.1, "loss": 2.0, "lr/0": 0.1, "lr/1": 0.1},
            {"step": 1, "epoch": 1, "split": "val", "time": 0.1, "loss": None, "accuracy": 0.5},
            {"step": 2, "epoch": 2, "split": "train", "time": 0.2, "loss": 0.01, "lr/0": 0.1, "lr/1": 0.1},
            {"step": 2, "epoch": 2, "split": "test", "time": 0.2, "loss": 0.02, "accuracy": 0.6},
        ]
    )
    draw(lines, ["accuracy"], tmp_path / "curves.png", "a run")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_metric_of_several_figures_is_drawn_as_that_of_all_of_them(tmp_path, monkeypatch):
    shown = {}
    monkeypatch.setattr(
        drawing, "_draw", lambda figures, curves, *_: shown.update(figures=figures, val=curves["val", "rmse"].points)
    )
    lines = [
        {"step": 1, "epoch": 1, "split": "val", "loss": 2.0, "rmse.all": 3.0, "rmse.price": 5.0},
        {"step": 2, "epoch": 2, "split": "val", "loss": 1.0, "rmse.all": 2.0, "rmse.price": 4.0},
    ]
    drawing.draw(lines, ["rmse", "absent"], tmp_path / "curves.png", "a run")
    assert shown == {"figures": ["loss", "rmse"], "val": [(1, 3.0), (2, 2.0)]}
