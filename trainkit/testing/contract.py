"""What a contract is: a class of tests, one behaviour each, that every component of a kind passes."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Collection, Iterator, Mapping
from types import ModuleType
from typing import ClassVar

from trainkit.component import KINDS, Component
from trainkit.testing import contracts as _package


class Contract:
    """Base of all contracts: each method ``test_...`` is one behaviour, which the component it is given must have.

    A component that cannot keep one says so itself, with the reason: ``Component(..., exempt={"same_seed_same_result":
    "reads a sensor"})``. The test is then expected to fail; one that passes all the same is a failure, so that an
    exemption goes when it is no longer needed. A component that is exempt from ``builds_from_its_example`` is held to
    no contract that needs it built.

    Attributes:
        kind: the kind of component that it is for; ``""`` for every kind.
        component: the component to hold to it, in a test module of one's own, or a fixture of the class that makes it;
            ``None``: those that ``--trainkit-contracts`` selects.
        builds: whether its tests build the component.
        once: whether it is about the plugin: its tests run once, with the first of its components. Any of them may
            declare the exemption.
    """

    kind: ClassVar[str] = ""
    component: ClassVar[Component | None] = None
    builds: ClassVar[bool] = True
    once: ClassVar[bool] = False


def contract_of(test_name: str) -> str:
    """The name of the contract that a test's name holds: ``test_is_pure`` is ``is_pure``."""
    return test_name.removeprefix("test_")


def contract_modules(kinds: Collection[str] = KINDS) -> Iterator[ModuleType]:
    """The modules of contracts, imported: `every`, which is for all kinds, then those named as one of these kinds."""
    yield importlib.import_module(f"{_package.__name__}.every")
    names = {module.name for module in pkgutil.iter_modules(_package.__path__)}
    for name in sorted(names.intersection(kinds)):
        yield importlib.import_module(f"{_package.__name__}.{name}")


def contract_classes(kinds: Collection[str] = KINDS) -> Iterator[type[Contract]]:
    """The contracts of these kinds, and those that are for every kind, in the order of their modules."""
    for module in contract_modules(kinds):
        for found in vars(module).values():
            if inspect.isclass(found) and issubclass(found, Contract) and found.__module__ == module.__name__:
                yield found


@functools.cache
def contract_names(kind: str) -> Mapping[str, str]:
    """The contracts that components of a kind are held to.

    Args:
        kind: such as ``optimizer``.

    Returns:
        By name, such as ``is_pure``, what it demands in one line.
    """
    return {name: demand for found in contract_classes([kind]) for name, demand in demands(found).items()}


def demands(contract: type[Contract]) -> dict[str, str]:
    """The contracts of one class by name, and what each demands in one line."""
    return {
        contract_of(name): (inspect.getdoc(test) or "").partition("\n")[0]
        for base in reversed(contract.__mro__)
        for name, test in vars(base).items()
        if name.startswith("test_")
    }
