"""The numbers that ``[[schedule.also]]`` can name: of the optimizer, the data, the loss, the model, callbacks."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from trainkit.run import Run

BATCH_SIZE = "data.batch_size"


@dataclass(frozen=True)
class Number:
    """One number that a schedule can set.

    Args:
        label: how previews and logs call it, such as ``weight_decay/0``.
        base: its value now.
        put: sets it.
        group: the optimizer's group it belongs to, if it does.
        name: its key there, where setting it takes no more than that.
        whole: whether it is a whole number.
    """

    label: str
    base: float
    put: Callable[[float], None]
    group: int | None = None
    name: str = ""
    whole: bool = False


def find_numbers(run: Run, parts: Mapping[str, Any], target: str, match: str | None) -> list[Number]:
    """The numbers that a target names.

    Args:
        run: the run, with its optimizer.
        parts: callbacks by name.
        target: as the recipe writes it.
        match: pattern of parameter names, for groups of the optimizer.

    Raises:
        ValueError: if there is no such number, naming those there are; the second line is the cure.
    """
    where, _, rest = target.partition(".")
    if match is not None and where in ("data", "loss", "model", "callback"):
        raise ValueError("match chooses among the optimizer's groups\n  leave it out")
    if target == BATCH_SIZE:
        return [Number(BATCH_SIZE, run.feed.batch_size, _read_by_the_feed, whole=True)]
    if where == "loss" and rest:
        return [_attribute(run.loss, rest, target, f"the loss {type(run.loss).__name__}")]
    if where == "model" and rest:
        return _of_modules(run.model, rest, target)
    if where == "callback" and rest:
        name, _, setting = rest.partition(".")
        if name not in parts:
            known = ", ".join(parts) or "none"
            raise ValueError(f"there is no callback '{name}'\n  callbacks of this recipe: {known}")
        return [_attribute(parts[name], setting, target, f"the callback {name}")]
    return _of_groups(run, target, match)


def _read_by_the_feed(value: float) -> None:
    """The size of an update's batches is planned before the run, by the same schedule."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _near(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, 1, 0.5)
    return f"did you mean '{near[0]}'?  " if near else ""


def _of_groups(run: Run, target: str, match: str | None) -> list[Number]:
    groups = run.optimizer.param_groups
    if target == "lr":
        return _rates(groups, match)
    name, _, place = target.partition(".")
    known = sorted({number for group in groups for number in _numbers_of(group)} - {"lr", "lr_scale"})
    numbers = []
    matched = False
    for index, group in enumerate(groups):
        if match is not None and not any(fnmatch.fnmatchcase(parameter, match) for parameter in group["names"]):
            continue
        matched = True
        if target not in _numbers_of(group):
            continue
        if place:
            value = float(group[name][int(place)])
            numbers.append(Number(f"{target}/{index}", value, _into_tuple(run, index, name, int(place))))
        else:
            value = float(group[name])
            numbers.append(Number(f"{target}/{index}", value, _into_group(run, index, name), index, name))
    if not matched:
        raise ValueError(f'match = "{match}" holds for no parameter of the optimizer\'s groups\n  {_listed(groups)}')
    if not numbers:
        cure = f"{_near(target, known)}numbers of this optimizer: {', '.join(known)}"
        raise ValueError(f"the optimizer has no number '{target}'\n  {cure}; others: {OTHERS}")
    return numbers


def _rates(groups: Sequence[Mapping[str, Any]], match: str | None) -> list[Number]:
    """The rates of the groups of which every parameter matches."""
    if match is None:
        raise ValueError("the learning rate follows [schedule] itself\n  write it there, or in its 'multiply'")
    numbers = []
    for index, group in enumerate(groups):
        others = [name for name in group["names"] if not fnmatch.fnmatchcase(name, match)]
        if len(others) == len(group["names"]):
            continue
        if others:
            cure = f'write [[optimizer.group]] with match = "{match}", so that they are a group of their own'
            raise ValueError(f'match = "{match}" is for a part of a group, which {others[0]} is in too\n  {cure}')
        numbers.append(Number(f"lr/{index}", float(group["lr"]), _read_from_the_group, index, "lr"))
    if not numbers:
        raise ValueError(f'match = "{match}" holds for no parameter of the optimizer\'s groups\n  {_listed(groups)}')
    return numbers


def _read_from_the_group(value: float) -> None:
    """A group's rate is set by its name."""


def _listed(groups: Sequence[Mapping[str, Any]]) -> str:
    return "parameters are named like " + ", ".join([name for group in groups for name in group["names"]][:3])


OTHERS = f"{BATCH_SIZE}, loss.NAME, callback.NAME.SETTING, model.PATTERN.NAME"


def _numbers_of(group: Mapping[str, Any]) -> list[str]:
    """Names of the numbers in a group; those in a tuple as ``betas.0``."""
    names = []
    for name, value in group.items():
        if name in ("params", "names"):
            continue
        if _is_number(value) or hasattr(value, "fill_"):
            names.append(name)
        elif isinstance(value, tuple | list):
            names += [f"{name}.{place}" for place, part in enumerate(value) if _is_number(part)]
    return names


def _into_group(run: Run, index: int, name: str) -> Callable[[float], None]:
    def put(value: float) -> None:
        run.optimizer.param_groups[index][name] = value

    return put


def _into_tuple(run: Run, index: int, name: str, place: int) -> Callable[[float], None]:
    def put(value: float) -> None:
        group = run.optimizer.param_groups[index]
        held = group[name]
        group[name] = (*held[:place], value, *held[place + 1 :])

    return put


def _attribute(holder: Any, name: str, target: str, what: str) -> Number:
    held = {key: value for key, value in vars(holder).items() if _is_number(value) and not key.startswith("_")}
    if name not in held:
        listed = ", ".join(held) or "none"
        raise ValueError(f"{what} has no number '{name}'\n  {_near(name, list(held))}its numbers: {listed}")
    try:
        setattr(holder, name, held[name])
    except AttributeError:  # a frozen dataclass, a property
        raise ValueError(f"{what} does not let '{name}' be changed\n  schedule another number") from None
    return Number(target, float(held[name]), _setter([holder], name), whole=isinstance(held[name], int))


def _of_modules(model: nn.Module, pattern: str, target: str) -> list[Number]:
    """Attributes of modules whose dotted name matches; those that start alike are set together."""
    held = {
        f"{path}.{name}".lstrip("."): (module, name, value)
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, float) and not name.startswith("_")
    }
    alike: dict[tuple[str, float], list[Any]] = {}
    for dotted, (module, name, value) in held.items():
        if fnmatch.fnmatchcase(dotted, pattern):
            alike.setdefault((name, value), []).append(module)
    if not alike:
        listed = ", ".join(list(held)[:8]) or "none"
        raise ValueError(f"the model has no number '{pattern}'\n  {_near(pattern, list(held))}its numbers: {listed}")
    return [
        Number(target if len(alike) == 1 else f"{target}/{number}", value, _setter(modules, name))
        for number, ((name, value), modules) in enumerate(alike.items())
    ]


def _setter(holders: Sequence[Any], name: str) -> Callable[[float], None]:
    def put(value: float) -> None:
        for holder in holders:
            if getattr(holder, name) != value:
                setattr(holder, name, value)

    return put
