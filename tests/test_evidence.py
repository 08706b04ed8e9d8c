"""What a few runs prove: Student's t by published values, intervals, pairs, folds, several tests."""

from __future__ import annotations

import math

import pytest

from trainkit import evidence
from trainkit.evidence import holm, paired, spread, t_beyond, t_quantile

# Two-sided 95 % and 99.9 % points as every table of Student's t prints them.
TABLE = [
    (1, 12.7062047364, 636.6192487688),
    (2, 4.3026527297, 31.5990545764),
    (4, 2.7764451052, 8.6103015814),
    (9, 2.2621571628, 4.7809125859),
    (30, 2.0422724563, 3.6459586350),
    (1000, 1.9623390808, 3.3002826484),
]


@pytest.mark.parametrize(("df", "point", "far"), TABLE)
def test_quantiles_are_those_of_the_tables(df, point, far):
    assert t_quantile(0.95, df) == pytest.approx(point, rel=1e-10)
    assert t_quantile(0.999, df) == pytest.approx(far, rel=1e-10)
    assert t_beyond(-point, df) == pytest.approx(0.05, rel=1e-9)


def test_tails_are_exact_far_out_and_near_zero():
    # One degree of freedom is Cauchy's distribution, two have a closed form.
    for t in (1e-9, 1e-3, 0.5, 1.0, 7.0, 1e3, 1e8):
        assert t_beyond(t, 1) == pytest.approx(2 / math.pi * math.atan2(1, t), rel=1e-12)
        root = math.sqrt(2 + t * t)
        assert t_beyond(t, 2) == pytest.approx(2 / (root * (root + t)), rel=1e-12)
    assert t_beyond(0.0, 3) == 1.0
    assert t_beyond(math.inf, 3) == 0.0


def test_a_mean_has_an_interval_and_a_single_value_none():
    found = spread([1.0, 2.0, 3.0, 4.0])
    assert (found.n, found.mean) == (4, 2.5)
    assert found.sd == pytest.approx(1.2909944487358056)
    # By hand: 3.1824463053 * 1.2909944487 / 2.
    assert found.high - found.mean == pytest.approx(2.0542602568, rel=1e-9)
    assert found.mean - found.low == pytest.approx(2.0542602568, rel=1e-9)
    assert (spread([3.0]).sd, spread([3.0]).low) == (None, None)


def test_folds_share_samples_and_make_intervals_wider():
    values = [0.91, 0.93, 0.90, 0.95, 0.92]
    apart, folds = spread(values), spread(values, folds=5)
    # sqrt(1/5 + 1/4) against sqrt(1/5).
    assert (folds.high - folds.mean) / (apart.high - apart.mean) == pytest.approx(1.5)
    ones, others = values, [0.90, 0.90, 0.89, 0.92, 0.92]
    assert paired(ones, others, 5).t == pytest.approx(paired(ones, others).t / 1.5)


def test_pairs_are_tested_by_their_differences():
    # Student's own example (1908): hours of sleep gained with two drugs; t = 4.0621, P = 0.0028.
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired(two, one)
    assert found.difference.mean == pytest.approx(1.58)
    assert found.t == pytest.approx(4.062127683)
    assert found.p == pytest.approx(0.00283289)
    assert (found.difference.low, found.difference.high) == pytest.approx((0.7001142, 2.4598858))


def test_where_there_is_no_spread_there_is_no_test():
    assert (paired([1.0], [2.0]).t, paired([1.0], [2.0]).p) == (None, None)
    same = paired([0.1, 0.7, 0.4], [0.1, 0.7, 0.4])
    assert (same.difference.mean, same.p) == (0.0, 1.0)
    shifted = paired([0.3, 0.9, 0.6], [0.1, 0.7, 0.4])  # 0.2 each, but for rounding
    assert (shifted.t, shifted.p) == (None, None)
    assert spread([0.1, 0.1, 0.1]).sd == 0.0


def test_a_quantile_is_sought_once(monkeypatch):
    asked = []
    monkeypatch.setattr(evidence, "t_beyond", lambda t, df: asked.append(df) or t_beyond(t, df))
    t_quantile.cache_clear()
    first = spread([1.0, 2.0, 4.0])
    count = len(asked)
    assert count > 0
    assert spread([1.0, 2.0, 4.0]) == first
    assert len(asked) == count


def test_several_tests_are_held_against_the_level_together():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([None, 0.5, 0.9, None]) == [None, 1.0, 1.0, None]
    assert holm([]) == []
