"""The table of names and signatures, read into typed factories; neither torch nor the library is imported."""

from __future__ import annotations

import ast
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from trainkit import Between, NonNegative, Positive
from trainkit_kozistr import facts
from trainkit_kozistr.table import OPTIMIZERS

PREFIX = "kozistr:"
_PLAIN: Mapping[str, Any] = {"bool": bool, "int": int, "float": float, "str": str}
# What the library would refuse when the run is built is refused before, as a problem of the recipe.
_LIMITED: Mapping[str, Any] = {"lr": Positive, "weight_decay": NonNegative, "eps": NonNegative}
_UNIT = Annotated[float, Between(0, 1)]


@dataclass(frozen=True)
class Entry:
    """One optimizer of the library.

    Args:
        name: as the library calls it.
        wrapped: the name of its class.
        help: what it does, in one sentence.
        settings: type and default by name; `inspect.Parameter.empty` where there is no default.
    """

    name: str
    wrapped: str
    help: str
    settings: Mapping[str, tuple[Any, Any]]

    @property
    def defaults(self) -> dict[str, Any]:
        """The defaults by name, those of settings without one included."""
        return {name: default for name, (_, default) in self.settings.items()}

    @property
    def capabilities(self) -> dict[str, bool | int]:
        """What it can and cannot do, as components declare it."""
        found: dict[str, bool | int] = {}
        if self.name in facts.MUON:
            found |= {"min_ndim": 2, "hidden_weights": True}
        if self.name in facts.MATRICES:
            found |= {"min_ndim": 2, "max_ndim": 2}
        for names, word in (
            (facts.CLOSURE, "needs_closure"),
            (facts.SINGLE_GROUP, "single_group"),
            (facts.OWN_LR, "own_lr"),
            (facts.ONE_LR, "one_lr"),
        ):
            if self.name in names:
                found[word] = True
        return found

    @property
    def example(self) -> dict[str, Any]:
        """Settings that make a working optimizer."""
        rate = self.defaults.get("lr")
        return ({"lr": rate} if isinstance(rate, float) else {}) | dict(facts.EXAMPLES.get(self.name, {}))

    @property
    def exempt(self) -> dict[str, str]:
        """Contracts of optimizers that it cannot keep, and why."""
        if self.name in facts.REFUSED:
            return {"builds_from_its_example": f"it {facts.REFUSED[self.name][0]}"}
        return dict(facts.EXEMPT.get(self.name, {}))

    @property
    def text(self) -> str:
        """Its docstring: what it does, what to know, its settings."""
        more = [f"Wraps `pytorch_optimizer.{self.wrapped}`."]
        if self.name in facts.LICENCES:
            more.append(f"Its code is under {facts.LICENCES[self.name]}, which forbids commercial use.")
        if self.name in facts.REFUSED:
            more.append(f"It cannot be used in a recipe: it {facts.REFUSED[self.name][0]}.")
        elsewhere = f"see the documentation of pytorch_optimizer.{self.wrapped}."
        lines = [f"    {name}: {facts.HELP.get(name, elsewhere)}" for name in self.settings]
        parts = [self.help, " ".join(more), *(["Args:\n" + "\n".join(lines)] if lines else [])]
        return "\n\n".join(parts)


def entries() -> list[Entry]:
    """Every optimizer of the table."""
    found: list[Entry] = []
    blocks: list[list[str]] = []
    for line in OPTIMIZERS.splitlines():
        if line.startswith(" "):
            blocks[-1].append(line.strip())
        else:
            blocks.append([line])
    for first, *rest in blocks:
        title, _, text = first.partition(": ")
        name, _, wrapped = title.partition(" ")
        settings = dict(_setting(part, name) for part in " ".join(rest).split("; ") if part)
        found.append(Entry(name, wrapped, text, {key: value for key, value in settings.items() if value is not None}))
    return found


def _setting(text: str, optimizer: str) -> tuple[str, Any]:
    name, _, rest = text.partition(": ")
    if optimizer in facts.MUON and name.startswith("adamw_"):
        return name, None  # of the library's own AdamW, whose place [optimizer.rest] takes
    kind, has_default, written = rest.partition(" = ")
    return name, (_type(name, kind), _value(written) if has_default else inspect.Parameter.empty)


@functools.cache  # a few dozen defaults and types stand a thousand times in the table
def _value(written: str) -> Any:
    return math.inf if written == "inf" else ast.literal_eval(written)


@functools.cache
def _type(name: str, kind: str) -> Any:
    bare = kind.removesuffix("?")
    found: Any
    if bare in _PLAIN:
        found = _LIMITED.get(name, float) if bare == "float" else _PLAIN[bare]
    elif "*" in bare:
        item, _, count = bare.partition("*")
        one: Any = _UNIT if name == "betas" else _PLAIN[item]
        found = tuple.__class_getitem__((one,) * int(count))
    elif bare.endswith("..."):
        found = tuple.__class_getitem__((_PLAIN[bare.removesuffix("...")], ...))
    else:
        found = Literal[tuple(bare.split("|"))]
    return found | None if bare != kind else found


def factory(entry: Entry) -> Callable[..., Any]:
    """The typed function that a recipe's table is compared with."""

    def build(params: list[dict[str, Any]], /, **settings: Any) -> Any:
        from trainkit_kozistr.adapted import make

        return make(entry, params, settings)

    build.__name__ = build.__qualname__ = entry.name
    build.__doc__ = entry.text
    groups = inspect.Parameter("params", inspect.Parameter.POSITIONAL_ONLY, annotation=list[dict[str, Any]])
    keyword = inspect.Parameter.KEYWORD_ONLY
    settings = [
        inspect.Parameter(name, keyword, default=default, annotation=kind)
        for name, (kind, default) in entry.settings.items()
    ]
    build.__signature__ = inspect.Signature([groups, *settings])  # type: ignore[attr-defined]
    return build
