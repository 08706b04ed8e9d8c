"""The optimizers of the library pytorch_optimizer, as ``kozistr:soap`` and so on.

Names and signatures stand in `table`, which is made from the library, so that recipes are checked and components listed
where it is not installed; `facts` says what signatures do not. Neither torch nor the library is imported for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from trainkit import Component, hookimpl, problem_at
from trainkit_kozistr import facts
from trainkit_kozistr.entries import PREFIX, entries, factory
from trainkit_kozistr.table import VERSION

if TYPE_CHECKING:
    from trainkit import Problem


@hookimpl
def trainkit_components() -> list[Component]:
    libraries = {"pytorch_optimizer": f"pip install 'pytorch_optimizer=={VERSION}'"}
    return [
        Component(
            "optimizer",
            factory(entry),
            PREFIX + entry.name,
            example=entry.example,
            capabilities=entry.capabilities,
            libraries=libraries,
        )
        for entry in entries()
    ]


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for key, use in _uses(recipe["optimizer"], "optimizer"):
        name = use.removeprefix(PREFIX)
        if use.startswith(PREFIX) and name in facts.REFUSED:
            why, cure = facts.REFUSED[name]
            problems.append(
                problem_at(recipe, f"{key}.use", f"[{key}] {use} {why}", cure or "choose another optimizer")
            )
    return problems


def _uses(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """What ``use`` says in a table and in those inside it, and where they are."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, part in items:
        if name == "use" and isinstance(part, str):
            yield key, part
        yield from _uses(part, f"{key}.{name}")
