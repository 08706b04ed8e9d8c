"""What something is made of, as a value that equals that of what computes alike; in doubt it equals nothing else."""

from __future__ import annotations

import datetime
import decimal
import functools
import pathlib
import re
import sys
import types
import weakref
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Any, Literal

import numpy
import torch
from torch import Tensor, nn

from trainkit.checkpoint import raw_bytes
from trainkit.lanes.dropout import MASKED

Free = Literal["none", "own", "all"]
# What a class says of itself that is no part of what its objects compute.
_OF_CLASSES = {"__module__", "__dict__", "__weakref__", "__doc__", "__abstractmethods__", "_abc_impl"}
_OF_MODULES = frozenset(vars(nn.Module()))
_CONTAINERS = (dict, list, tuple, set, frozenset)
# Their text says all of them.
_PLAIN = (
    *(complex, range, pathlib.PurePath, re.Pattern, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, numpy.dtype, type(Ellipsis), type(NotImplemented)),
)
_HEAP = 1 << 9  # the flag of classes that are made by a program, not by an interpreter


class Only:
    """Equals only what stands for the very same object, while that lives.

    An `id` alone would not do: descriptions outlive what they describe, and memory is used again.

    Args:
        value: the object.
    """

    def __init__(self, value: Any) -> None:
        self._hash = id(value)
        try:
            self._value: Any = weakref.ref(value)
        except TypeError:
            self._value = lambda: value

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        mine = self._value()
        return isinstance(other, Only) and mine is not None and mine is other._value()

    def __hash__(self) -> int:
        return self._hash


def described(value: Any, free: Free = "none", deep: int = 4) -> Hashable:
    """What something is made of, so that only equal things have equal descriptions.

    Args:
        value: anything.
        free: which fractional numbers do not count: those that the object itself holds as attributes, or all.
        deep: how many objects within objects are looked into.
    """
    try:
        return Description(free).of(value, deep, free == "own")
    except RecursionError:
        return Only(value)


class Description:
    """Describes objects; whatever it meets again is described as that, so that objects may hold each other.

    Args:
        free: see `described`.
    """

    def __init__(self, free: Free = "none") -> None:
        self._all_free = free == "all"
        self._met: dict[int, tuple[int, Any]] = {}  # holds the objects, so that no other gets their identity

    def of(self, value: Any, deep: int, own: bool = False) -> Hashable:
        """What a value is made of.

        Args:
            value: anything.
            deep: how many objects within objects are looked into.
            own: whether the numbers among its attributes do not count.
        """
        kind = type(value)
        if isinstance(value, float) and self._all_free:
            return "a number"
        if isinstance(value, numpy.generic) and not value.dtype.hasobject:
            return kind.__name__, str(value.dtype), value.tobytes()
        if isinstance(value, float):
            return kind.__name__, value.hex()  # 0.0 and -0.0 are two
        if value is None or isinstance(value, bool | int | str | bytes):
            return kind.__name__, value
        if isinstance(value, _PLAIN):
            return kind.__name__, repr(value)
        if isinstance(value, slice):
            return "slice", self.of((value.start, value.stop, value.step), deep)
        if isinstance(value, Tensor):
            known = value.layout == torch.strided and not value.is_meta and not value.is_quantized
            return (*tensor_form(value), str(value.device), raw_bytes(value)) if known else Only(value)
        if kind is tuple:
            return "tuple", tuple(self.of(part, deep) for part in value)
        if isinstance(value, type):
            return self._class(value, deep)
        if id(value) in self._met:
            return "met before", self._met[id(value)][0]
        self._meet(value)
        return self._object(value, deep, own)

    def _meet(self, value: Any) -> None:
        self._met.setdefault(id(value), (len(self._met), value))

    def _object(self, value: Any, deep: int, own: bool) -> Hashable:
        kind = type(value)
        if kind is numpy.ndarray:
            held = self.of(value.tolist(), deep) if value.dtype.hasobject else value.tobytes()
            return "ndarray", value.shape, str(value.dtype), held
        if isinstance(value, types.FunctionType):
            return self._function(value, deep)
        if isinstance(value, types.MethodType):
            return "method", self.of(value.__func__, deep), self.of(value.__self__, deep)
        if isinstance(value, types.BuiltinFunctionType):
            owner = value.__self__
            owned = "" if owner is None or isinstance(owner, types.ModuleType) else self.of(owner, deep)
            return "function", value.__module__, value.__qualname__, owned
        if kind is functools.partial:
            return "partial", self.of((value.func, value.args, value.keywords, vars(value)), deep)
        if kind in _CONTAINERS:
            return kind.__name__, self._contained(value, deep)
        if not deep or isinstance(value, types.ModuleType) or _hides(kind):
            return Only(value)
        named = self._class(kind, deep)
        if isinstance(value, nn.Module):
            state = [*value.named_parameters(), *value.named_buffers()]
            hooks = [list(held.values()) for key, held in vars(value).items() if _is_hooks(key, held)]
            parts = tuple((name, self.of(tensor, deep)) for name, tensor in state)
            return named, tuple(self.modules(value, deep - 1, own=own)), parts, self.of(hooks, deep - 1)
        inside = self._contained(value, deep - 1) if isinstance(value, _CONTAINERS) else ""
        return (
            named,
            inside,
            self._attributes(_attributes_of(value), deep - 1, getattr(value, "__dict__", ()) if own else ()),
        )

    def _attributes(self, held: dict[str, Any], deep: int, own: Any = ()) -> Hashable:
        return tuple(
            (key, "a number" if key in own and isinstance(part, float) else self.of(part, deep))
            for key, part in held.items()
        )

    def _contained(self, value: Any, deep: int) -> Hashable:
        if isinstance(value, dict):
            return tuple((self.of(key, deep), self.of(part, deep)) for key, part in value.items())
        if isinstance(value, set | frozenset):
            # Their order is chance: what is met within is not counted here.
            free: Free = "all" if self._all_free else "none"
            return frozenset(Counter(Description(free).of(part, deep) for part in value).items())
        return tuple(self.of(part, deep) for part in value)

    def _function(self, function: types.FunctionType, deep: int) -> Hashable:
        # The code tells two lambdas of one scope apart.
        named = "function", function.__module__, function.__qualname__, function.__code__
        cells = []
        for cell in function.__closure__ or ():
            try:
                cells.append(self.of(cell.cell_contents, deep))
            except ValueError:  # not filled in yet
                cells.append("")
        parts = (function.__defaults__, function.__kwdefaults__, vars(function))
        return *named, tuple(cells), *[self.of(part, deep) for part in parts]

    def _class(self, kind: type, deep: int) -> Hashable:
        """A class by its name; one that was made within a function, by its contents."""
        name = f"{kind.__module__}.{kind.__qualname__}"
        found: Any = sys.modules.get(kind.__module__)
        for part in kind.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is kind:
            return name
        if not kind.__flags__ & _HEAP:
            return Only(kind)
        if id(kind) in self._met:
            return "met before", self._met[id(kind)][0]
        self._meet(kind)
        held = {key: _unwrapped(part) for key, part in vars(kind).items() if key not in _OF_CLASSES}
        slots = types.MemberDescriptorType | types.GetSetDescriptorType
        held = {key: part for key, part in held.items() if not isinstance(part, slots)}
        return name, tuple(self._class(base, deep) for base in kind.__bases__), self._attributes(held, deep)

    def modules(self, model: nn.Module, deep: int = 4, rates: bool = False, own: bool = False) -> Iterator[Hashable]:
        """Every module of a model with all that it holds but tensors.

        Args:
            model: the model.
            deep: how many objects within objects are looked into.
            rates: whether the mode and the rates of dropouts do not count, which are each lane's own.
            own: whether the numbers among the model's own attributes do not count.
        """
        listed = list(model.named_modules(remove_duplicate=False))
        for _, module in listed:
            self._meet(module)
        told: set[int] = set()
        for name, module in listed:
            if id(module) in told:
                yield name, self._met[id(module)][0]
                continue
            told.add(id(module))
            free = {"p"} if rates and type(module) in MASKED else set()
            held = {key: part for key, part in vars(module).items() if key not in _OF_MODULES and key not in free}
            mode = "" if rates else module.training
            numbers = held if own and module is model else ()
            yield name, self._class(type(module), deep), mode, self._attributes(held, deep, numbers)


def tensor_form(tensor: Tensor) -> tuple[Hashable, ...]:
    """A tensor without its values."""
    return tuple(tensor.shape), tuple(tensor.stride()), str(tensor.dtype), tensor.requires_grad


def _is_hooks(key: str, held: Any) -> bool:
    return key in _OF_MODULES and key not in ("_parameters", "_buffers", "_modules") and isinstance(held, dict)


def _hides(kind: type) -> bool:
    """Whether objects of a class hold what Python cannot look into."""
    if not kind.__flags__ & _HEAP:
        return kind not in _CONTAINERS
    mine = (object, *_CONTAINERS)
    return any(
        isinstance(vars(base).get("__new__"), types.BuiltinFunctionType) for base in kind.__mro__ if base not in mine
    )


def _attributes_of(value: Any) -> dict[str, Any]:
    """What an object holds by name, in its dictionary or in slots."""
    held: dict[str, Any] = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        for name, member in vars(base).items():
            if isinstance(member, types.MemberDescriptorType):
                try:
                    held[f"{base.__qualname__}.{name}"] = member.__get__(value)
                except AttributeError:  # a slot that is empty
                    continue
    return held


def _unwrapped(part: Any) -> Any:
    if isinstance(part, property):
        return part.fget, part.fset, part.fdel
    return part.__func__ if isinstance(part, staticmethod | classmethod) else part
