"""Reactions: figures become events, and events change the learning rate's schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainkit.hookspecs import hookimpl
from trainkit.protocols import Events, Reaction, Schedule
from trainkit.remembering import for_events
from trainkit.run import Metrics, Run


@dataclass(frozen=True)
class Watch:
    """A reaction and the figure it looks at.

    Args:
        label: marks its events, ``plateau`` or, where a recipe has two, ``plateau#2``.
        reaction: the component.
        monitor: the figure, such as ``val.loss``.
        after: figures before this update are not looked at.
    """

    label: str
    reaction: Reaction
    monitor: str
    after: int

    def reacting(self, body: Schedule, start: int) -> Schedule:
        """The body as this reaction changes it.

        The reaction knows its own events by their bare kind. It hands the events on to the body, on the body's clock;
        there those of the reactions further inside, whose kinds still bear their labels, are meant.
        """
        prefix = f"{self.label}:"
        of_others = for_events(lambda events: [(at, kind) for at, kind in events if ":" in kind])
        bare = for_events(lambda events: [(at, kind.removeprefix(prefix)) for at, kind in events])

        def inside(t: int, T: int, events: Events = ()) -> float:
            return body(t, T, of_others(events) if events else events)

        changed = self.reaction.react(inside, start)

        def factor(t: int, T: int, events: Events = ()) -> float:
            return changed(t, T, bare(events) if events else events)

        return factor


class Reactions:
    """All reactions of a run; their state is saved as a plugin's is.

    Args:
        watches: the reactions, the innermost first.
    """

    def __init__(self, watches: Sequence[Watch] = ()) -> None:
        self.watches = tuple(watches)

    def observe(self, run: Run, figures: Metrics) -> None:
        """Show new figures to those that look at them; what they decide is added to ``run.events``."""
        for watch in self.watches:
            if watch.monitor not in figures or run.step < watch.after:
                continue
            value = figures[watch.monitor]
            sign = -1.0 if run.higher_is_better(watch.monitor) else 1.0
            kind = watch.reaction.observe(run.step, sign * value)
            if kind is not None:
                run.events.append((run.step, f"{watch.label}:{kind}"))
                does = watch.reaction.describe(kind)
                run.say(f"update {run.step}: {watch.label}: {does} ({watch.monitor} {value:.6g})")

    @hookimpl
    def trainkit_save(self, run: Run) -> Mapping[str, Any]:
        """The counters of every reaction by label."""
        return {watch.label: dict(watch.reaction.save()) for watch in self.watches}

    @hookimpl
    def trainkit_restore(self, run: Run, state: Mapping[str, Any]) -> None:
        """Undo `trainkit_save`."""
        for watch in self.watches:
            if watch.label in state:
                watch.reaction.restore(state[watch.label])
