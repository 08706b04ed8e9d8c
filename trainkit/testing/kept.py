"""What is made of a component once for all its contracts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from trainkit.component import Component

Made = TypeVar("Made")


def once_for_each(make: Callable[..., Made]) -> Callable[..., Made]:
    """Let a function of a component, and of more arguments, be called once for each.

    What it gives is shared: whoever has it changes nothing of it. A component's table of settings cannot be hashed;
    so components are told apart by identity, and kept, so that no other one takes the place in memory of one that was.

    Args:
        make: takes the component first, and arguments that can be hashed.
    """
    made: dict[tuple[Hashable, ...], tuple[Component, Made]] = {}

    @functools.wraps(make)
    def kept(component: Component, *arguments: Any) -> Made:
        key = (id(component), *arguments)
        if key not in made:
            made[key] = component, make(component, *arguments)
        return made[key][1]

    return kept
