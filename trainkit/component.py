"""A component: a named factory whose keyword-only parameters are what a recipe may write."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainkit.catalogue import installed
from trainkit.kinds import CAPABILITIES as CAPABILITIES
from trainkit.kinds import GIVEN as GIVEN
from trainkit.kinds import KINDS as KINDS
from trainkit.kinds import OWNABLE as OWNABLE
from trainkit.settings import Setting, is_duration
from trainkit.signature import read_given, read_help, read_settings
from trainkit.strict import settings_model

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True)
class Component:
    """A named factory of one kind.

    Args:
        kind: one of `KINDS`.
        factory: a typed function; parameters before ``/`` are given by the core by name (`GIVEN`), parameters
            after ``*`` are the recipe's settings.
        name: how recipes call it; the factory's own name if empty.
        example: settings that make a working component; feeds docs, ``describe`` and contract tests.
        capabilities: what it can or cannot do, keys from `CAPABILITIES`.
        figures: what it measures itself of a split, by ``trainkit_evaluate``: each figure's name, without the split,
            and whether a higher one is better; a recipe may then look at ``val.NAME``.
        owns: what of a run it takes over, from `OWNABLE`; two owners of one thing are a problem of the recipe.
        before: names of components of the same kind whose hooks must run after this one's.
        after: names of components of the same kind whose hooks must run before this one's.
        conflicts: names of components of the same kind that cannot be in one recipe with this one.
        libraries: optional libraries it needs, as ``{"import name": "command that installs it"}``.
        exempt: contracts of its kind that it cannot keep, as ``{"same_seed_same_result": "why"}``; see
            `trainkit.testing`.

    Raises:
        TypeError: if the factory's signature does not follow the rules; the message names file and line.
        ValueError: if kind, capability or owned thing is not known.
    """

    kind: str
    factory: Callable[..., Any]
    name: str = ""
    example: Mapping[str, Any] = field(default_factory=dict)
    capabilities: Mapping[str, bool | int] = field(default_factory=dict)
    figures: Mapping[str, bool] = field(default_factory=dict)
    owns: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)
    exempt: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[Setting, ...] = field(init=False)
    given: tuple[str, ...] = field(init=False)
    # Filled in by the manager when the component is listed.
    plugin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.factory.__name__)
        where = f"{self.kind} '{self.name}' ({self.source})"
        if self.kind not in KINDS:
            raise ValueError(f"{where}: no kind named '{self.kind}'; kinds: {', '.join(KINDS)}")
        for words, known, what in (
            (self.capabilities, CAPABILITIES, "capability"),
            (self.owns, OWNABLE, "thing to own"),
        ):
            if unknown := [word for word in words if word not in known]:
                raise ValueError(f"{where}: no {what} named '{unknown[0]}'; known: {', '.join(known)}")
        try:
            object.__setattr__(self, "settings", read_settings(self.factory))
        except (TypeError, NameError) as error:
            raise TypeError(f"{where}: {error}") from None
        if self.kind in ("data", "augmentation"):
            for setting in self.settings:
                if is_duration(setting.annotation):
                    why = "an epoch has no length before the data"
                    raise TypeError(f"{where}: '{setting.name}' cannot be a duration: {why}")
        object.__setattr__(self, "given", read_given(self.factory))
        if unknown := [name for name in self.given if name not in GIVEN[self.kind]]:
            can_give = ", ".join(GIVEN[self.kind]) or "nothing"
            raise TypeError(
                f"{where}: the core cannot give '{unknown[0]}' to a {self.kind}; it can give: {can_give}. "
                "Put settings after '*'"
            )

    @property
    def source(self) -> str:
        """File and line where the factory is defined, such as ``lion.py:16``."""
        return self.origin.replace("\\", "/").rsplit("/", 1)[-1]

    @property
    def origin(self) -> str:
        """As `source`, with the whole path, so that an editor can open it."""
        try:
            code = inspect.unwrap(self.factory).__code__
        except AttributeError:
            return str(getattr(self.factory, "__module__", "unknown place"))
        return f"{code.co_filename}:{code.co_firstlineno}"

    @property
    def help(self) -> str:
        """The docstring's first paragraph."""
        return read_help(self.factory.__doc__)[0]

    @functools.cached_property
    def model(self) -> type[BaseModel]:
        """The strict pydantic model of its own settings."""
        return settings_model(self.name, self.settings)

    @property
    def missing_libraries(self) -> dict[str, str]:
        """Optional libraries that are not installed, with the commands that install them; nothing is imported."""
        return {name: how for name, how in self.libraries.items() if not installed(name)}

    def accepts(self) -> str:
        """Its settings in one line, as error messages show them."""
        return "; ".join(str(setting) for setting in self.settings) or "no settings"


def own_figures(components: Iterable[Component]) -> dict[str, bool]:
    """The figures that components measure themselves, by name: whether a higher one is better."""
    return {name: higher for component in components for name, higher in component.figures.items()}
