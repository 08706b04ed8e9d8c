"""What is another thing is described as another, and what is made alike is described alike."""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import nn

from trainkit.lanes.described import described


def scaled(values: Any, factor: float = 1.0) -> Any:
    return values * factor


def closing(number: Any) -> Callable[..., Any]:
    return lambda values: values * number


def with_default(number: Any) -> Callable[..., Any]:
    def call(values: Any, factor: Any = number) -> Any:
        return values * factor

    return call


def with_keyword(number: Any) -> Callable[..., Any]:
    def call(values: Any, *, factor: Any = number) -> Any:
        return values * factor

    return call


def marked(number: Any) -> Callable[..., Any]:
    def call(values: Any) -> Any:
        return values * call.number  # type: ignore[attr-defined]

    call.number = number  # type: ignore[attr-defined]
    return call


class Held:
    def __init__(self, number: Any) -> None:
        self.number = number

    def call(self, values: Any) -> Any:
        return values * self.number


class Slotted:
    __slots__ = ("__number",)

    def __init__(self, number: Any) -> None:
        self.__number = number


class Listed(list[Any]):
    def __init__(self, number: Any) -> None:
        super().__init__([1])
        self.number = number


def of_local_class(number: Any) -> Any:
    class Local:
        def __call__(self, values: Any) -> Any:
            return values * number

        @property
        def factor(self) -> Any:
            return number

    return Local()


class Private(nn.Module):
    def __init__(self, number: Any) -> None:
        super().__init__()
        self._table = {"number": number}


class Unsaved(nn.Module):
    def __init__(self, number: Any) -> None:
        super().__init__()
        self.register_buffer("number", torch.tensor(number), persistent=False)


def hooked(number: Any) -> nn.Module:
    layer = nn.Identity()
    layer.register_forward_hook(lambda module, inputs, outputs: outputs * number)
    return layer


def in_a_list(number: Any) -> nn.Module:
    layer = nn.Identity()
    layer.others = [nn.Threshold(number, 0.0)]  # type: ignore[assignment]
    return layer


MAKERS: dict[str, Callable[[Any], Any]] = {
    "number": lambda number: number,
    "closure": closing,
    "default": with_default,
    "keyword": with_keyword,
    "attribute": marked,
    "partial": lambda number: functools.partial(scaled, factor=number),
    "partial of a closure": lambda number: functools.partial(closing(number), 1),
    "bound method": lambda number: Held(number).call,
    "bound method of C": lambda number: torch.tensor(number).add,
    "array": lambda number: numpy.array([0.0, number]),
    "long array": lambda number: numpy.array([0.0] * 4000 + [number] + [0.0] * 4000),
    "objects in an array": lambda number: numpy.array([Held(number), None], dtype=object),
    "number of numpy": lambda number: numpy.float64(number),
    "tensor": lambda number: torch.tensor([number]),
    "slots": Slotted,
    "list with attributes": Listed,
    "set": lambda number: {1.0, number},
    "key": lambda number: {number: 1},
    "object in an object": lambda number: Held(Held(number)),
    "local class": of_local_class,
    "private table of a module": Private,
    "buffer that is not saved": Unsaved,
    "hook of a module": hooked,
    "module in a list": in_a_list,
    "slice": lambda number: slice(0, number),
}


@pytest.mark.parametrize("what", MAKERS)
def test_equal_things_alone_are_described_alike(what: str) -> None:
    make = MAKERS[what]
    one, two, other = make(0.25), make(0.25), make(0.5)
    if what != "hook of a module":  # each hook has a number of its own
        assert described(one) == described(two)
    assert hash(described(one)) == hash(described(one))
    assert described(one) == described(one)
    assert described(one) != described(other)


def test_what_looks_alike_is_told_apart() -> None:
    first, second = (lambda values: values + 1), (lambda values: values + 2)
    assert described(first) != described(second)
    assert described([1]) != described((1,))
    assert described({1: 0}) != described({"1": 0})
    assert described(0.0) != described(-0.0)
    assert described({"1"}) != described({1})
    assert described(numpy.zeros((2, 3))) != described(numpy.zeros((3, 2)))
    assert described(numpy.zeros(2, "int32")) != described(numpy.zeros(1, "int64"))
    assert described(nn.Linear(2, 2).eval()) != described(nn.Linear(2, 2))


def test_what_nothing_is_known_of_equals_itself_alone() -> None:
    def nested(make: Callable[[Any], Any], times: int) -> Any:
        made: Any = 1.0
        for _ in range(times):
            made = make(made)
        return made

    for one, two in (
        (torch.Generator(), torch.Generator()),
        (deque([1]), deque([2])),
        (nested(Held, 8), nested(Held, 8)),
        (nested(Held, 8).call, nested(Held, 8).call),
        (torch.empty(2, device="meta"), torch.empty(2, device="meta")),
        (torch.zeros(2).to_sparse(), torch.zeros(2).to_sparse()),
    ):
        assert described(one) == described(one)
        assert described(one) != described(two)
    lists = nested(lambda made: [made], 3000), nested(lambda made: [made], 3000)
    assert described(Held(lists[0])) != described(Held(lists[1]))  # lists themselves cannot be referred to weakly
    assert described(Held(torch)) == described(Held(torch))
    assert described(Held(types)) != described(Held(torch))


def test_a_description_equals_none_of_what_comes_after_its_object() -> None:
    """The next object often lies where one that is gone has lain."""

    class Strange(deque[int]):
        pass

    seen: set[Any] = set()
    for number in range(50):
        value = Strange([number])
        assert described(value) not in seen
        seen.add(described(value))
        del value


def test_objects_that_hold_each_other_are_described() -> None:
    def family(number: float, count: int = 40) -> nn.Module:
        parent = nn.ModuleList(nn.Threshold(number, 0.0) for _ in range(count))
        for child in parent:
            child.parent = [parent]  # in a list, so that it is no child in turn
        return parent

    assert described(family(0.25)) == described(family(0.25))
    assert described(family(0.25)) != described(family(0.5))
    one: list[Any] = [1.0]
    one.append(one)
    two: list[Any] = [1.0]
    two.append(two)
    assert described(one) == described(two)
    same, other = Held(1.0), Held(1.0)
    assert described([same, other, same]) != described([same, other, other])


def test_numbers_that_may_differ() -> None:
    def held(number: float, inner: float) -> Held:
        made = Held(number)
        made.inner = Held([inner])  # type: ignore[attr-defined]
        return made

    assert described(held(1.0, 2.0), "own") == described(held(3.0, 2.0), "own")
    assert described(held(1.0, 2.0), "own") != described(held(1.0, 4.0), "own")
    assert described(held(1.0, 2.0), "own") != described(held(1, 2.0), "own")
    assert described(held(1.0, 2.0), "all") == described(held(3.0, 4.0), "all")
    assert described(functools.partial(scaled, factor=1.0), "own") != described(
        functools.partial(scaled, factor=2.0), "own"
    )
    assert described(Slotted(1.0), "own") != described(Slotted(2.0), "own")
    assert described(nn.Threshold(1.0, 0.0), "own") == described(nn.Threshold(2.0, 0.0), "own")
