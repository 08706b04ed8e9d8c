"""A model's parameters: what each is called, which module holds it, and which layer it belongs to."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from trainkit.recipe.text import did_you_mean
from trainkit.settings import show_value

# Lists of modules; what derives from them has a name and a meaning of its own.
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
CRITERIA = ("match", "type", "ndim")


@dataclass(frozen=True)
class Owned:
    """One parameter; tied weights are one, under their first name.

    Args:
        name: as `torch.nn.Module.named_parameters` calls it.
        parameter: the parameter.
        module: what holds it under that name.
    """

    name: str
    parameter: nn.Parameter
    module: nn.Module

    @property
    def types(self) -> tuple[str, ...]:
        """The module's class, and the classes that it derives from, short of `torch.nn.Module`."""
        classes = type(self.module).__mro__
        return tuple(cls.__name__ for cls in classes[: classes.index(nn.Module)]) or ("Module",)

    def meets(self, wanted: Mapping[str, Any]) -> bool:
        """Whether it has all of what is ``wanted``: ``match`` (a pattern), ``type``, ``ndim``; unset ones count not."""
        match, kind, ndim = (wanted.get(key) for key in CRITERIA)
        return (
            (match is None or fits(match, self.name))
            and (kind is None or kind in self.types)
            and (ndim is None or ndim == self.parameter.dim())
        )


def fits(pattern: str, name: str) -> bool:
    """Whether a parameter's name has the form of a shell-style pattern; capitals count."""
    return fnmatch.fnmatchcase(name, pattern)


def parameters_of(model: nn.Module) -> list[Owned]:
    """Every parameter of a model, in the order in which the model registers them."""
    return [Owned(name, p, model.get_submodule(name.rpartition(".")[0])) for name, p in model.named_parameters()]


def criterion_help(key: str, value: Any, model: nn.Module) -> str:
    """What a user may have meant with a ``match``, ``type`` or ``ndim`` that no parameter has."""
    owned = parameters_of(model)
    if key == "ndim":
        found = sorted({one.parameter.dim() for one in owned})
        return f"parameters here have {' or '.join(map(str, found))} dimensions"
    if key == "type":
        types = list(dict.fromkeys(one.types[0] for one in owned))
        near = did_you_mean(value, list(dict.fromkeys(kind for one in owned for kind in one.types)))
        return f"{near}parameters here are held by {', '.join(types)}"
    names = [one.name for one in owned]
    first = {one.parameter: one.name for one in owned}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if fits(value, name) and first[parameter] != name:
            return f"'{name}' is tied to '{first[parameter]}', under which it is found"
    near_names = difflib.get_close_matches(value, names, 3, 0.4) or names[:3]
    return f"parameters are named like {', '.join(near_names)}"


def criteria_text(wanted: Mapping[str, Any]) -> str:
    """What is wanted, as a recipe writes it."""
    return ", ".join(f"{key} = {show_value(wanted[key])}" for key in CRITERIA if wanted.get(key) is not None)


@dataclass(frozen=True)
class Layers:
    """A model as a list of layers, from the input to the head.

    Layers are the modules inside the model, in the order in which it registers them. Plain lists of modules
    (``Sequential``, ``ModuleList``, ``ModuleDict``) are opened, however deep; any other module is one layer, whatever
    it holds. A module without matrices, such as a norm, belongs to the layer before it, and what lies before the first
    layer to the first. The last layer is the head.

    Args:
        names: the layers by the name of their module.
        holders: for each module of each layer, the layer's number.
    """

    names: Sequence[str]
    holders: Mapping[str, int]

    def number(self, parameter: str) -> int:
        """The layer, from 0, of the parameter of this name; what the model holds itself is in the first."""
        while parameter:
            if parameter in self.holders:
                return self.holders[parameter]
            parameter = parameter.rpartition(".")[0]
        return 0

    def is_head(self, parameter: str) -> bool:
        """Whether the parameter of this name is in the last layer."""
        return self.number(parameter) == len(self.names) - 1

    def depth(self, parameter: str) -> int:
        """How many layers lie above the parameter of this name; 0 in the head."""
        return len(self.names) - 1 - self.number(parameter)


def layers_of(model: nn.Module) -> Layers:
    """Find a model's layers."""
    names: list[str] = []
    holders: dict[str, int] = {}
    for name, module in _opened(model, ""):
        dims = [parameter.dim() for parameter in module.parameters()]
        if not dims:
            continue
        if max(dims) > 1:
            names.append(name)
        holders[name] = max(0, len(names) - 1)
    return Layers(names or ["model"], holders)


def _opened(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if type(child) in _LISTS:
            yield from _opened(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child
