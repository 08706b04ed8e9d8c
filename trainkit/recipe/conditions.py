"""Conditions of a search's space: when each dimension counts, in which order they stand, and in what surroundings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from trainkit.recipe.points import path_of
from trainkit.recipe.text import did_you_mean, shown, shown_value
from trainkit.space import Dimension, Space

# Surroundings of one dimension that are looked at: more than this would make a check long, and show nothing new.
MOST = 64


class Conditions:
    """Reads ``when`` against the choices of all dimensions.

    Args:
        choices: of each dimension by name; ``None`` for a range.
    """

    def __init__(self, choices: Mapping[str, Sequence[Any] | None]) -> None:
        self.choices = choices

    def read(self, when: Any) -> tuple[dict[str, tuple[Any, ...]], list[tuple[str, str]]]:
        """The conditions as dimensions have them, and what is wrong, each with its cure."""
        if not isinstance(when, dict):
            cure = 'such as when = { "optimizer.use" = "sgd" }'
            return {}, [(f"when must be a table of settings and values, got {shown_value(when)}", cure)]
        read: dict[str, tuple[Any, ...]] = {}
        faults: list[tuple[str, str]] = []
        for written, wanted in when.items():
            name = self._name(written)
            if name is None:
                cure = did_you_mean(written, self.choices) + f"the search varies: {', '.join(self.choices)}"
                faults.append((f"its condition names '{shown(written)}', which the search does not vary", cure))
                continue
            values = wanted if isinstance(wanted, list) else [wanted]
            held: list[Any] = []
            for value in values:
                found = self._places(name, value)
                if not found:
                    known = ", ".join(map(shown_value, self.choices[name] or ()))
                    message = f"its condition can never hold: {shown(name)} is never {shown_value(value)}"
                    faults.append((message, f"choices: {known}" if known else "a condition needs choices"))
                held += found
            read[name] = tuple(dict.fromkeys(held))
        return read, faults

    def _name(self, written: str) -> str | None:
        if written in self.choices:
            return written
        # `optimizer.use` of choices that are whole tables.
        outer = written.removesuffix(".use")
        return outer if outer in self.choices and outer != written else None

    def _places(self, name: str, value: Any) -> list[int]:
        places = []
        for place, choice in enumerate(self.choices[name] or ()):
            use = choice.get("use") if isinstance(choice, dict) else None
            if (choice == value and isinstance(choice, bool) == isinstance(value, bool)) or (use and use == value):
                places.append(place)
        return places

    @staticmethod
    def order(whens: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str]]:
        """The names, each after those that its condition names; and a circle, if there is one."""
        order: list[str] = []
        waiting = list(whens)
        while waiting:
            free = next((n for n in waiting if all(o in order or o not in whens for o in whens[n])), None)
            if free is None:
                walk = [waiting[0]]
                while walk[-1] not in walk[:-1]:
                    walk.append(next(o for o in whens[walk[-1]] if o in waiting))
                return order, walk[walk.index(walk[-1]) :]
            order.append(free)
            waiting.remove(free)
        return order, []


def contexts(dimension: Dimension, before: Iterable[Dimension]) -> Iterator[dict[str, Any]]:
    """Points in which a dimension counts: with each value of what its conditions name, and of the components above it.

    Args:
        dimension: the dimension.
        before: those that come before it in the space.

    Returns:
        Values of those dimensions alone; nothing where the dimension can never count.
    """
    known = {other.name: other for other in before}
    asked = dict(dimension.when)
    waiting = list(asked)
    while waiting:
        name = waiting.pop()
        for parent, values in known[name].when.items():
            waiting += [] if parent in asked else [parent]
            asked[parent] = tuple(value for value in asked.get(parent, values) if value in values)
    path = path_of(dimension.name)
    above = [other for other in known.values() if other.name in asked or _is_above(other, path)]
    space = Space((*known.values(), dimension))

    def grow(number: int, point: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if number == len(above):
            if space.counts(dimension, point):
                yield point
            return
        other = above[number]
        if not space.counts(other, point):
            yield from grow(number + 1, point)
            return
        for place in asked.get(other.name, range(len(other.choices))):
            yield from grow(number + 1, {**point, other.name: other.choices[place]})

    for count, point in enumerate(grow(0, {})):
        if count >= MOST:
            return
        yield point


def _is_above(other: Dimension, path: tuple[str | int, ...]) -> bool:
    """Whether a dimension decides which component the setting belongs to."""
    if other.kind != "choice":
        return False
    at = path_of(other.name)
    table = at[:-1] if at[-1] == "use" else at
    return len(table) < len(path) and path[: len(table)] == table and at != path
