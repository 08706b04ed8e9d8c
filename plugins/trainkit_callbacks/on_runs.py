"""Callbacks that look at a run, or end it: factories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit import Duration, Fraction, NonNegative, NonNegativeInt, Period, Positive, PositiveInt

if TYPE_CHECKING:
    from trainkit_callbacks.keeping import KeepCheckpoints
    from trainkit_callbacks.monitors import Norms, UpdateRatio
    from trainkit_callbacks.stopping import EarlyStop, TimeLimit


def norms(*, gradients: bool = True, weights: bool = True, groups: bool = True) -> Norms:
    """Write L2 norms of gradients and weights into the lines of ``metrics.jsonl``.

    ``gradient_norm`` is the mean over the updates since the last line, before any callback changes the gradients;
    ``gradient_norm_used`` is that of what the optimizer was given, where there is such a callback. Updates that were
    left out do not count. ``weight_norm`` is that of the weights at the line. ``gradient_norm/0`` is that of parameter
    group 0. With compile = "step" the run goes on eagerly.

    Args:
        gradients: whether to write those of the gradients.
        weights: whether to write those of the weights.
        groups: whether to write them for each parameter group, too.
    """
    from trainkit_callbacks.monitors import Norms

    if not (gradients or weights):
        raise ValueError("gradients = false and weights = false leave nothing to write\n  write one of them")
    return Norms(gradients, weights, groups)


def update_ratio(*, every: Period = "1ep", low: NonNegative = 1e-5, high: Positive = 1e-1) -> UpdateRatio:
    """Write how large an update is beside the weights, for each parameter group: ``||dw|| / ||w||``.

    The last update of every ``every`` is measured, the others cost nothing; ``update_ratio/0`` stands in the next line
    of ``metrics.jsonl``. About 1e-3 is usual. A group outside the limits is told once; below them only while its
    learning rate is at least a tenth of its highest. Frozen parameters do not count; weights that are all zero have no
    ratio.

    Args:
        every: time from one measured update to the next.
        low: smallest ratio that is not told.
        high: largest ratio that is not told.

    Source: Karpathy et al., "CS231n: Neural Networks Part 3", section "Ratio of weights:updates".
    """
    from trainkit_callbacks.monitors import UpdateRatio

    if low >= high:
        raise ValueError(f"low = {low:g} must be below high = {high:g}\n  about 1e-3 is usual")
    return UpdateRatio(every, low, high)


def keep_checkpoints(
    *,
    at: list[Period] = [],  # noqa: B006 - never changed
    every: Period | None = None,
    cycles: PositiveInt | None = None,
    start: Duration = "0ba",
    phase: Fraction = 1.0,
    warmup: Duration = "0ba",
) -> KeepCheckpoints:
    """Save checkpoints at given times and keep them, beside those that ``run.keep`` keeps.

    Each is pinned: an empty file beside it, such as ``step-000000000400.pin``, and removing that file lets it go.
    Averages and ensembles of one run are made of them. At least one of ``at``, ``every`` and ``cycles`` says when.

    Args:
        at: times, such as ["0.5dur", "1dur"].
        every: time from one to the next.
        cycles: keep one at the end of each of so many equal parts of the run, the last of which may be shorter: where
            ``snapshot_cycles`` has its lowest values.
        start: with ``every``: time from which it is counted.
        phase: with ``every``: which part of the first ``every`` passes before the first one; 1 is at its end, 0.5 in
            its middle.
        warmup: the schedule's warm-up, from whose end ``start`` and ``cycles`` are counted.
    """
    from trainkit_callbacks.keeping import KeepCheckpoints

    if not at and every is None and cycles is None:
        raise ValueError('keep_checkpoints needs to be told when\n  write at = ["0.5dur"], every = "1ep" or cycles = 5')
    return KeepCheckpoints(at, every, cycles, start, phase, warmup)


def early_stop(*, monitor: str = "val.loss", patience: NonNegativeInt = 5, min_delta: NonNegative = 0.0) -> EarlyStop:
    """End the run when a figure has stopped getting better.

    Whether lower or higher is better follows from the figure. A figure that is not finite never counts as better; the
    first such figure is told.

    Args:
        monitor: the figure, such as "val.loss" or "val.accuracy".
        patience: evaluations without improvement that are borne; the next one ends the run.
        min_delta: how much better a figure must be to count.

    Source: Prechelt 1998, "Early Stopping - But When?".
    """
    from trainkit_callbacks.stopping import EarlyStop

    return EarlyStop(monitor, patience, min_delta)


def time_limit(*, minutes: Positive) -> TimeLimit:
    """End the run, with a checkpoint, at the first update after so many minutes.

    The time is that of this process from its first epoch on: reading data and building come before, a continued run
    begins anew. Evaluating, saving and the test at the end may take longer than what is left: leave room for them.

    Args:
        minutes: wall time, fractions allowed.
    """
    from trainkit_callbacks.stopping import TimeLimit

    return TimeLimit(minutes)
