"""What a few runs say about all runs of a recipe: means with intervals, differences in pairs, several tests at once.

The distribution is Student's t, for the few runs that anybody can afford; nothing but the standard library is needed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95
_STEPS = 400  # of a continued fraction; a few dozen do
_EXACT = 1e-15


@dataclass(frozen=True)
class Spread:
    """Values of one figure, one from each run.

    Args:
        n: how many.
        mean: their mean.
        sd: their standard deviation, of n - 1 degrees of freedom; ``None`` of a single value.
        low: lower end of the interval that holds the mean of all such runs, at `LEVEL`; ``None`` of a single value.
        high: its upper end.
    """

    n: int
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Paired:
    """By how much one recipe's values are above another's, pair by pair.

    Args:
        difference: the differences as a sample of their own.
        t: their mean in units of its error; ``None`` where all pairs differ by the same.
        p: how likely a mean as far from zero is where there is no difference; ``None`` where nothing can be said: of
            one pair, or where all pairs differ by the same.
    """

    difference: Spread
    t: float | None
    p: float | None


def spread(values: Sequence[float], folds: int = 0, level: float = LEVEL) -> Spread:
    """The mean of values and the interval around it.

    Args:
        values: one of each run.
        folds: into how many parts the samples were cut, where the runs are folds: they share most of their training
            samples, so that their values are closer together than those of independent runs, and the error of the mean
            is s * sqrt(1/n + 1/(folds - 1)) instead of s * sqrt(1/n).
        level: of the interval.

    Source: Nadeau & Bengio 2003, "Inference for the generalization error", Machine Learning 52, section 3; for folds
    that are drawn several times Bouckaert & Frank 2004, "Evaluating the replicability of significance tests".
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Spread(n, mean)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    if max(values) == min(values):  # else their mean's last digit makes a spread
        mean, sd = values[0], 0.0
    half = t_quantile(level, n - 1) * sd * _shrink(n, folds)
    return Spread(n, mean, sd, mean - half, mean + half)


def paired(ones: Sequence[float], others: Sequence[float], folds: int = 0) -> Paired:
    """Test whether two recipes differ, by runs of the same seeds or folds.

    Args:
        ones: values of the one recipe.
        others: values of the other, in the same order of seeds or folds.
        folds: see `spread`: the test is then the corrected resampled t test.
    """
    found = spread([one - other for one, other in zip(ones, others, strict=True)], folds)
    if found.sd is None:
        return Paired(found, None, None)
    # Values in decimal digits that differ by the same do so but for rounding, which is no spread to measure by.
    if found.sd <= 1e-12 * max(map(abs, (*ones, *others))):
        return Paired(found, None, 1.0 if found.mean == 0 else None)
    t = found.mean / (found.sd * _shrink(found.n, folds))
    return Paired(found, t, t_beyond(t, found.n - 1))


def _shrink(n: int, folds: int) -> float:
    """The error of a mean in units of the standard deviation."""
    return math.sqrt(1 / n + (1 / (folds - 1) if folds > 1 else 0))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Adjust p values of several tests: each is held against the level as if it were the only one.

    Those that are ``None`` are no tests, and stay.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.
    """
    made: list[float | None] = [None] * len(ps)
    known = sorted((p, number) for number, p in enumerate(ps) if p is not None)
    floor = 0.0
    for rank, (p, number) in enumerate(known):
        floor = max(floor, min(1.0, p * (len(known) - rank)))
        made[number] = floor
    return made


def wilson(share: float, samples: float) -> tuple[float, float]:
    """Between what bounds a share may lie that was counted on so few samples, at 95 %.

    Args:
        share: from 0 to 1.
        samples: how many it was counted on, at least 1.

    Source: Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference.
    """
    width = 1.96**2 / samples
    middle = (share + width / 2) / (1 + width)
    reach = 1.96 * math.sqrt(share * (1 - share) / samples + width / (4 * samples)) / (1 + width)
    return middle - reach, middle + reach


def t_beyond(t: float, df: float) -> float:
    """How likely a value of Student's t distribution is at least as far from zero as ``t``, on either side."""
    if math.isinf(t):
        return 0.0
    return _beta_share(df / 2, 0.5, df / (df + t * t), t * t / (df + t * t))


@functools.lru_cache(maxsize=1024)  # every pair of many recipes asks for the same few
def t_quantile(level: float, df: float) -> float:
    """How far from zero ``level`` of Student's t distribution reaches on either side: 2.776 for 0.95 and df = 4."""
    low, high = 0.0, 1.0
    while t_beyond(high, df) > 1 - level:
        low, high = high, 2 * high
    while high - low > 1e-14 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_beyond(middle, df) > 1 - level else (low, middle)
    return (low + high) / 2


def _beta_share(a: float, b: float, x: float, rest: float) -> float:
    """The regularised incomplete beta function I_x(a, b), where ``rest`` is 1 - x to its last digit.

    Source: Abramowitz & Stegun 26.5.8, the continued fraction, evaluated by Lentz's method.
    """
    if x <= 0 or rest <= 0:
        return float(x > 0)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1.0 - _beta_share(b, a, rest, x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest))
    upper, lower = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1))
    found = lower
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            lower = 1.0 / (1.0 + term * lower)
            upper = 1.0 + term / upper
            found *= upper * lower
        if abs(upper * lower - 1.0) < _EXACT:
            break
    return front * found / a
