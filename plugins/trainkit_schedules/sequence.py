"""Schedules made of schedules: one after the other, or one with a tail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from trainkit import Duration, Nested, Period, Positive
from trainkit_schedules.lengths import Checked, check_inside
from trainkit_schedules.progress import half_cosine

if TYPE_CHECKING:
    from trainkit import Events, Phase, Schedule


def phases(*, phases: list[Annotated[Any, Nested("schedule", adds="phase")]]) -> Schedule:
    """Schedules one after the other, each with a clock of its own that begins at 0 and a length of its own.

    A phase of ``length`` L has L as its T: a ``linear`` falls to its end within it. One phase may leave ``length`` out
    and takes what the others leave; together they must fill the run, after warm-up and before cool-down. The last one
    goes on after the end of the run. Inside a phase ``ramp`` gives factors as every schedule does: a rise to the base
    value is a ramp from 0.1 to 1.

    Args:
        phases: the schedules in their order; each takes a ``length`` beside its own settings.

    Source: after torch's `SequentialLR`, with the length of each schedule in place of the moments between them.
    """
    parts: list[Phase] = phases
    for number, part in enumerate(parts):
        if part.length == 0:
            raise ValueError(f"phases.{number} comes to no update\nlengthen it, or leave it out")
    fixed = sum(part.length or 0 for part in parts)

    def length_of(part: Phase, T: int) -> int:
        return max(0, T - fixed) if part.length is None else part.length

    def factor(t: int, T: int, events: Events = ()) -> float:
        begin = 0
        for part in parts[:-1]:
            length = length_of(part, T)
            if t < begin + length:
                return part.schedule(t - begin, length, _moved(events, begin))
            begin += length
        return parts[-1].schedule(t - begin, length_of(parts[-1], T), _moved(events, begin))

    def fits(T: int) -> None:
        is_open = [number for number, part in enumerate(parts) if part.length is None]
        if fixed > T:
            raise ValueError(f"the phases take {fixed} updates, the schedule has {T}\nshorten them, or the warm-up")
        if fixed == T and is_open:
            rest = "the others take all" if len(parts) > 1 else "there are none"
            raise ValueError(f"phases.{is_open[0]} is left no update: {rest} {T} of them\nshorten the others")
        if fixed < T and not is_open:
            raise ValueError(
                f"the phases take {fixed} updates, the schedule has {T}\n"
                "leave the length of one phase out, so that it takes what remains"
            )
        for number, part in enumerate(parts):
            check_inside(part.schedule, length_of(part, T), f"phases.{number}")

    return Checked(factor, fits)


def _moved(events: Events, by: int) -> Events:
    """The events on a clock that begins ``by`` updates later."""
    return [(at - by, kind) for at, kind in events] if events else events


def swa_tail(
    *,
    body: Annotated[Any, Nested("schedule")],
    start: Duration = "0.75dur",
    anneal: Duration = "10ep",
    swa: Positive = 0.5,
    shape: Literal["cos", "linear"] = "cos",
) -> Schedule:
    """Follow ``body`` until ``start``, go from its value there to ``swa`` over ``anneal``, and stay.

    The body is planned for the whole run and cut off. The constant tail is what weight averaging wants: the callback
    ``swa`` with the same ``start``.

    Args:
        body: the schedule of the first part, a table with its own ``use``.
        start: end of the first part, counted from the end of the warm-up; "0.75dur" is three quarters of the whole run.
        anneal: time of the passage from the body's value to the tail's.
        swa: value of the tail, as a factor on the base value; it may be above the body's.
        shape: curve of the passage.

    Source: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization", section 3,
    arXiv 1803.05407; agrees with torch's `SWALR`.
    """
    first, begin, passage = body, int(start), int(anneal)

    def factor(t: int, T: int, events: Events = ()) -> float:
        if t < begin:
            return float(first(t, T, events))
        share = min(1.0, (t - begin) / passage) if passage else 1.0
        over = half_cosine(share) if shape == "cos" else share
        return float(first(begin, T, events) * (1 - over) + swa * over)

    def fits(T: int) -> None:
        if begin >= T:
            raise ValueError(
                f"start is {begin} updates, the schedule has {T}: the tail never comes\n"
                "write an earlier start, or a shorter warm-up"
            )
        check_inside(first, T, "body")

    return Checked(factor, fits)


def fge_tail(
    *,
    body: Annotated[Any, Nested("schedule")],
    start: Duration = "0.75dur",
    cycle: Period = "2ep",
    high: Positive = 0.5,
    low: Positive = 0.005,
) -> Schedule:
    """Follow ``body`` until ``start``, then go from ``high`` to ``low`` and back in lines, again and again.

    The body is planned for the whole run and cut off. With s = ((t - start) mod c + 1) / c: (1 - 2s) high + 2s low
    up to the middle of a cycle, (2 - 2s) low + (2s - 1) high after it. The callback ``keep_checkpoints`` with
    ``start``, ``every`` = cycle and ``phase = 0.5`` keeps the weights in the middles, where the value is ``low``.

    Args:
        body: the schedule of the first part, a table with its own ``use``.
        start: end of the first part, counted from the end of the warm-up; the paper has 0.7 to 0.8 of the usual run.
        cycle: length of a cycle, an even number of updates; the paper has 2 to 4 epochs.
        high: highest value, as a factor on the base value.
        low: lowest value, as a factor on the base value.

    Source: Garipov et al. 2018, "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", section 4 (alpha_1 is
    high, alpha_2 low), arXiv 1802.10026.
    """
    first, begin, length = body, int(start), int(cycle)
    if length % 2:
        raise ValueError(
            f"cycle comes to {length} updates, and a cycle has two equal halves\n"
            '  write an even number of updates, such as "2ep"'
        )
    if low >= high:
        raise ValueError(f"low = {low:g} must be below high = {high:g}\n  the paper has a hundredth of it")

    def factor(t: int, T: int, events: Events = ()) -> float:
        if t < begin:
            return float(first(t, T, events))
        share = ((t - begin) % length + 1) / length
        if share <= 0.5:
            return (1 - 2 * share) * high + 2 * share * low
        return (2 - 2 * share) * low + (2 * share - 1) * high

    def fits(T: int) -> None:
        if begin + length // 2 > T:
            raise ValueError(
                f"the middle of the first cycle is update {begin + length // 2}, the schedule has {T}\n"
                "write an earlier start, or a shorter cycle"
            )
        check_inside(first, T, "body")

    return Checked(factor, fits)
