"""``[search.space]``: from what is written to dimensions, each with its type, range and conditions."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainkit.errors import Problem, RecipeError
from trainkit.manager import Plugins
from trainkit.recipe.conditions import Conditions, contexts
from trainkit.recipe.merge import Composed
from trainkit.recipe.points import laid, path_of, place_of
from trainkit.recipe.ranges import EXAMPLE, LARGEST, read_range
from trainkit.recipe.reach import Unreachable, reach
from trainkit.recipe.text import Path, did_you_mean, dotted, shown, shown_value
from trainkit.settings import split_annotated
from trainkit.space import Dimension, Space

KEYS = ("low", "high", "scale", "step", "choices", "when")
# Choices of one setting, and settings in all: more could not be searched, and would make a check long.
MOST_CHOICES, MOST_SETTINGS = 1000, 200
# What a search may not vary, and why; a table stands for all of its settings.
FIXED: Mapping[str, str] = {
    "search": "a search does not vary itself",
    "ensemble": "it says what is made of the trials when they are done",
    "recipe": "it says what the recipe is written in",
    "requires": "it says what has to be installed",
    "extends": "it says what the recipe begins with",
    "drop": "it says what the recipe leaves out",
    "logger": "it changes nothing that a trial learns",
    "run.device": "it says where trials are trained, which the executor decides",
    "run.threads": "each trial is trained with one thread",
    "run.monitor": "it says which figure counts, which must be the same for all trials",
    **{
        f"run.{name}": "it changes nothing that a trial learns"
        for name in ("log_every", "save_every", "save_pause", "save_in_background", "save_best", "keep", "keep_pages")
    },
    **{f"run.{name}": "it is for runs that go on" for name in ("on_length_change", "on_conflict")},
    **{
        f"data.{name}": "all trials must be measured on the same samples"
        for name in ("seed", "folds", "fold", "fold_by", "train_on", "bag")
    },
}


@dataclass
class Entry:
    """One range or list of choices as it was written.

    Args:
        name: the dimension's name.
        path: where its value goes.
        raw: what was written, with choices spelled out.
        when: the conditions that follow from where it stands.
        whole: whether its choices are tables, or lists of tables: settings inside may be varied too.
    """

    name: str
    path: Path
    raw: dict[str, Any]
    when: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    whole: bool = False


class SpaceReader:
    """Reads ``[search.space]`` of a recipe.

    Args:
        composed: the recipe as written.
        plugins: where components come from.
    """

    def __init__(self, composed: Composed, plugins: Plugins) -> None:
        self.composed = composed
        self.plugins = plugins
        self.problems: list[Problem] = []

    def problem(self, name: str, message: str, cure: str = "", value: Any = None) -> None:
        """Keep a problem of one dimension."""
        place = place_of(self.composed, name, value)
        said = f"[search.space] {shown(name)}: {message}"
        self.problems.append(Problem(place, said, cure))

    def read(self, written: Mapping[str, Any]) -> Space:
        """The space, without the dimensions that have problems."""
        entries: list[Entry] = []
        for name, raw in written.items():
            entries += self._entries(name, raw, {})
            if len(entries) > MOST_SETTINGS:
                self.problem(name, f"the search varies more than {MOST_SETTINGS} settings", "vary fewer")
                return Space(())
        self._twice(entries)
        conditions = Conditions({entry.name: entry.raw.get("choices") for entry in entries})
        whens: dict[str, dict[str, tuple[Any, ...]]] = {}
        wrong: set[str] = set()
        for entry in entries:
            own, faults = conditions.read(entry.raw.get("when", {}))
            for message, cure in faults:
                self.problem(entry.name, message, cure)
                wrong.add(entry.name)
            whens[entry.name] = entry.when | own
        order, circle = conditions.order(whens)
        if circle:
            self.problem(circle[0], f"its condition goes round in a circle: {' needs '.join(circle)}", "leave one out")
        made: list[Dimension] = []
        by_name = {entry.name: entry for entry in entries}
        for name in order:
            dimension = None if name in wrong else self._dimension(by_name[name], whens[name], made)
            if dimension is not None:
                made.append(dimension)
        return Space(tuple(made))

    def _entries(self, name: str, raw: Any, when: dict[str, tuple[Any, ...]]) -> Iterator[Entry]:
        """The entry of a name, and those of ranges inside its choices."""
        try:
            path = path_of(name)
        except ValueError:
            self.problem(name, "it is not a dotted key", 'such as "optimizer.lr"')
            return
        for length in range(1, len(path) + 1):
            if (why := FIXED.get(".".join(map(str, path[:length])))) is not None:
                self.problem(name, f"a search cannot vary it: {why}", "leave it out")
                return
        if isinstance(raw, list):
            raw = {"choices": raw}
        if not isinstance(raw, dict) or not {"low", "high", "choices"} & set(raw):
            inside = isinstance(raw, dict) and next((key for key, item in raw.items() if _is_range(item)), None)
            got = f"got {shown_value(raw)}" if not isinstance(raw, dict) else "it says neither"
            cure = f'write the whole name in quotes: "{name}.{inside}"' if inside else EXAMPLE
            self.problem(name, f"needs low and high, or choices; {got}", cure)
            return
        if unknown := [key for key in raw if key not in KEYS]:
            cure = did_you_mean(unknown[0], KEYS) + f"a range takes: {', '.join(KEYS)}"
            self.problem(name, f"a range has no '{shown(unknown[0])}'", cure)
            return
        if "choices" not in raw:
            yield Entry(name, path, raw, when)
            return
        if others := [key for key in ("low", "high", "scale", "step") if key in raw]:
            self.problem(name, f"has choices, and {others[0]} too", "write one of the two")
            return
        choices = raw["choices"]
        if not isinstance(choices, list) or not choices:
            self.problem(name, f"choices must be a list of values, got {shown_value(choices)}", EXAMPLE)
            return
        if len(choices) > MOST_CHOICES:
            self.problem(name, f"has {len(choices)} choices, and may have {MOST_CHOICES}", "write a range with a step")
            return
        stripped, nested = [], []
        for number, choice in enumerate(choices):
            bare, ranges = _taken_out(choice, ())
            stripped.append(bare)
            nested += [(f"{name}#{number}.{dotted(inside)}", found, number) for inside, found in ranges]
        for number, choice in enumerate(stripped):
            same = next((n for n in range(number) if _same(stripped[n], choice)), None)
            if same is not None:
                if any(place in (same, number) for _, _, place in nested):
                    message = f"choices {same} and {number} differ in their ranges alone"
                    cure = "give one of them a setting that the other has not, or make one range of the two"
                else:
                    message, cure = f"the choice {shown_value(choice)} is there twice", "leave one out"
                self.problem(name, message, cure, choices)
                return
        whole = any(_has_table(choice) for choice in stripped)
        yield Entry(name, path, {**raw, "choices": stripped}, when, whole)
        for inner, found, number in nested:
            if isinstance(found, dict) and "when" in found:
                self.problem(inner, "a range inside a choice counts with that choice, and has no when", "leave it out")
                continue
            yield from self._entries(inner, found, {**when, name: (number,)})

    def _twice(self, entries: list[Entry]) -> None:
        """Find two dimensions that write the same setting, where both may count."""
        for one, other in itertools.combinations(entries, 2):
            short, long = sorted((one, other), key=lambda entry: len(entry.path))
            if long.path[: len(short.path)] != short.path or (short.whole and long.path != short.path):
                continue
            if any(set(one.when[name]).isdisjoint(other.when[name]) for name in one.when.keys() & other.when.keys()):
                continue
            message = f"{shown(short.name)} gives it a value already"
            self.problem(long.name, message, "leave one of the two out, or write ranges inside the choices")

    def _dimension(self, entry: Entry, when: dict[str, tuple[Any, ...]], before: list[Dimension]) -> Dimension | None:
        draft = Dimension(entry.name, "choice", choices=(None,), when=when)
        if any(name not in {dimension.name for dimension in before} for name in when):
            return None  # the condition's own setting has problems
        annotations = []
        met = False
        for point in contexts(draft, before):
            met = True
            try:
                tables = laid(self.composed, point, self.plugins).tables
                annotations.append(reach(self.plugins, tables, entry.path).annotation)
            except RecipeError as error:
                self.problem(entry.name, error.problems[0].message, error.problems[0].cure)
                return None
            except Unreachable as error:
                self._unreachable(entry, error, point, when)
                return None
        if not met:
            self.problem(entry.name, "its conditions can never hold together", _said(when, before))
            return None
        annotation = next((a for a in annotations if split_annotated(a)[0] is float), annotations[0])
        if "choices" in entry.raw:
            choices = tuple(_as_typed(annotation, choice) for choice in entry.raw["choices"])
            return dataclasses.replace(draft, choices=choices)
        try:
            return read_range(entry.raw, annotation, draft)
        except ValueError as error:
            message, _, cure = str(error).partition("\n")
            self.problem(entry.name, message, cure)
            return None

    def _unreachable(self, entry: Entry, error: Unreachable, point: Mapping[str, Any], when: Mapping[str, Any]) -> None:
        message, cure = error.message, error.cure
        if others := {name: value for name, value in point.items() if name not in when}:
            said = ", ".join(f"{name} = {shown_value(value)}" for name, value in others.items())
            message += f", and the search tries {said}"
            chosen = next(iter(others))
            cure = f'say when it counts, such as when = {{ "{chosen}" = ... }}\n{cure}'
        self.problem(entry.name, message, cure)


def _is_range(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and not isinstance(value[0], dict)
    return isinstance(value, dict) and "use" not in value and bool({"low", "high", "choices"} & set(value))


def _taken_out(value: Any, path: Path) -> tuple[Any, list[tuple[Path, Any]]]:
    """A choice without the ranges inside it, and those with their paths."""
    if isinstance(value, dict):
        kept, found = {}, []
        for key, item in value.items():
            if isinstance(item, dict) and _is_range(item):
                found.append(((*path, key), item))
                continue
            kept[key], more = _taken_out(item, (*path, key))
            found += more
        return kept, found
    if isinstance(value, list):
        taken = [_taken_out(item, (*path, number)) for number, item in enumerate(value)]
        return [item for item, _ in taken], [inside for _, more in taken for inside in more]
    return value, []


def _has_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_has_table, value)))


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one: 1 and 1.0 are, and true is neither."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _as_typed(annotation: Any, value: Any) -> Any:
    """A whole number for a setting of any number, as recipes have it."""
    if split_annotated(annotation)[0] is float and type(value) is int and abs(value) <= LARGEST:
        return float(value)
    return value


def _said(when: Mapping[str, tuple[Any, ...]], before: list[Dimension]) -> str:
    """Which of the conditions' own settings count only under conditions."""
    by_name = {dimension.name: dimension for dimension in before}
    parts = []
    for name in when:
        for other, places in by_name[name].when.items():
            values = " or ".join(shown_value(by_name[other].choices[place]) for place in places)
            parts.append(f"{name} counts only where {other} is {values}")
    return "; ".join(parts)
