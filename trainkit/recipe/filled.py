"""What a checked recipe is: filled tables that know where each value was written, and the components they name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainkit.component import Component
from trainkit.errors import Place, Problem
from trainkit.manager import Plugins
from trainkit.plugin import Plugin
from trainkit.recipe.merge import Composed
from trainkit.recipe.overrides import parse_key
from trainkit.recipe.sources import base_hashes
from trainkit.recipe.text import Path, header, lookup

if TYPE_CHECKING:
    from trainkit.recipe.packed import Pack
    from trainkit.recipe.searching import SearchPlan


class FilledTables(dict[str, Any]):
    """A recipe's tables with every default filled in, in plain values: ``None`` where a value is unset, lists for
    tuples, text for paths and durations.

    Args:
        tables: the filled tables.
        composed: what was written, with its places; or what finds that out, for those who ask.
    """

    def __init__(self, tables: Mapping[str, Any], composed: Composed | Callable[[], Composed]) -> None:
        super().__init__(tables)
        self._composed = composed

    @property
    def composed(self) -> Composed:
        """What was written, with its places."""
        if not isinstance(self._composed, Composed):
            self._composed = self._composed()
        return self._composed

    @property
    def bases(self) -> dict[str, str]:
        """SHA-256 of each base by name; none of a text that this process has written itself, which extends nothing."""
        return base_hashes(self._composed) if isinstance(self._composed, Composed) else {}

    def place(self, path: Path) -> Place:
        """Where the key at ``path`` was written; the table it belongs to where it was not."""
        return self.composed.place(path)


@dataclass(frozen=True)
class Origin:
    """Where a value comes from.

    Args:
        value: the value that counts.
        place: where it was written; ``None`` for a default.
        earlier: what bases had set, the latest first, with its place.
        default: the signature's default.
        has_default: whether the signature has one.
    """

    value: Any
    place: Place | None
    earlier: tuple[tuple[Any, Place], ...] = ()
    default: Any = None
    has_default: bool = False


@dataclass
class Recipe:
    """A recipe that was found to be right.

    Args:
        tables: its tables, filled.
        components: the component of every table with ``use``, by path, such as ``("data", "augment", 0)``.
        order: the paths of callbacks, then loggers, in the order in which their hooks are called.
        path: the recipe as the user named it.
        notes: what the user may want to know though nothing is wrong.
        plugins: the plugins it was checked against.
        defaults: the signature's default of each key that has one.
        search: what ``[search]`` says; ``None`` where there is none.
        pack: the pack that it was in, if any.
    """

    tables: FilledTables
    components: dict[Path, Component]
    order: list[Path]
    path: str
    notes: list[str]
    plugins: Plugins = field(repr=False)
    defaults: dict[Path, Any] = field(default_factory=dict, repr=False)
    search: SearchPlan | None = field(default=None, repr=False)
    pack: Pack | None = field(default=None, repr=False)

    def plugins_in_use(self) -> list[Plugin]:
        """The plugins that supply the recipe's components, in the order in which they are installed."""
        names = {component.plugin for component in self.components.values()}
        return [plugin for plugin in self.plugins.plugins if plugin.name in names]

    def making_updates(self) -> list[tuple[Path, Component]]:
        """What makes an update together: the optimizer, those inside it, then its wrappers from the inside out."""
        parts = [(path, part) for path, part in self.components.items() if path[0] == "optimizer"]
        return sorted(parts, key=lambda item: item[1].kind == "wrapper")

    @property
    def sets_own_lr(self) -> bool:
        """Whether the optimizer sets its own learning rate, so that no schedule may."""
        return any(part.capabilities.get("own_lr") for _, part in self.making_updates())

    def origin(self, path: Path | str) -> Origin:
        """Where the value at ``path`` comes from.

        Raises:
            KeyError: if the recipe has no such key.
        """
        path = key_path(path)
        value = lookup(self.tables, path)
        marks = self.tables.composed.marks.get(path, [])
        return Origin(
            value=value,
            place=marks[-1].origin.place(path) if marks else None,
            earlier=tuple((mark.value, mark.origin.place(path)) for mark in reversed(marks[:-1])),
            default=self.defaults.get(path),
            has_default=path in self.defaults,
        )


def key_path(key: Path | str) -> Path:
    """The path that a dotted key names: ``metric.0.use`` is ``("metric", 0, "use")``."""
    if not isinstance(key, str):
        return tuple(key)
    return tuple(int(part) if isinstance(part, str) and part.isdecimal() else part for part in parse_key(key))


def problem_at(tables: Mapping[str, Any], key: Path | str, message: str, cure: str = "") -> Problem:
    """Make a problem of the recipe that knows its file and line; for plugins' ``trainkit_check_recipe``.

    Args:
        tables: the recipe as the hook was given it.
        key: the key at fault, such as ``"optimizer.lr"`` or ``"callback.0.max_norm"``.
        message: what is wrong, showing the value.
        cure: how to put it right.

    Raises:
        ValueError: if ``key`` is not a dotted key.
    """
    path = key_path(key)
    place = tables.place(path) if isinstance(tables, FilledTables) else Place("recipe")
    return Problem(place, message, cure)


def named_tables(value: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Find every table that names a component (``use``) in a part of a recipe, itself among them, however deep.

    Args:
        value: the part, such as ``recipe["optimizer"]``.
        key: its key, such as ``"optimizer"``.

    Returns:
        The key of each, such as ``"optimizer.rest"``, and the table; in the order of the recipe, outer ones first.
    """
    if isinstance(value, Mapping) and isinstance(value.get("use"), str):
        yield key, value
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, part in items:
        yield from named_tables(part, f"{key}.{name}")


def named(path: Path, component: Component) -> str:
    """A component as messages name it, with the table that it stands in."""
    return f"{header(path)} {component.name}"
