"""Settings of a schedule that do not go together, told before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

# A key of the table ("" for the table itself), what is wrong, and how to put it right.
Fault = tuple[str, str, str]
Settings = Mapping[str, Any]


def schedule_faults(schedule: Settings, package: str) -> list[Fault]:
    """What is wrong with the settings of [schedule] and of every schedule and reaction inside it.

    Args:
        schedule: the filled table.
        package: where the components stand that this module knows; those of others are passed over.

    Returns:
        Faults with whole keys, such as ``schedule.react.0.window``.
    """
    found = []
    for path, table in _tables(schedule, "schedule"):
        owner, _, name = table["use"].rpartition(":")
        if name in _CHECKS and owner in ("", package, "trainkit"):
            found += [(f"{path}.{key}".rstrip("."), message, cure) for key, message, cure in _CHECKS[name](table)]
    return found


def _tables(value: Any, path: str) -> Iterator[tuple[str, Settings]]:
    """Every table that names a component, with its path; the outer ones first."""
    if isinstance(value, Mapping):
        if isinstance(value.get("use"), str):
            yield path, value
        for key, inside in value.items():
            yield from _tables(inside, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for number, inside in enumerate(value):
            yield from _tables(inside, f"{path}.{number}")


def _exponential(settings: Settings) -> list[Fault]:
    rate, k = settings["rate"], settings["k"]
    if rate is None and k is None:
        return [("", "exponential needs 'rate' or 'k'", "write rate = 0.96, or k = 0.1")]
    if rate is not None and k is not None:
        message = f"exponential takes 'rate' or 'k', not both: rate = {rate:g}, k = {k:g}"
        return [("k", message, "leave one of them out")]
    return []


def _multistep(settings: Settings) -> list[Fault]:
    if settings["milestones"]:
        return _falling("milestones", settings["milestones"])
    return [("milestones", "multistep needs at least one milestone", 'write milestones = ["30ep", "60ep"]')]


def _piecewise(settings: Settings) -> list[Fault]:
    at, factors = settings["at"], settings["factors"]
    if at and len(at) == len(factors):
        return _falling("at", at)
    message = f"piecewise needs a factor for each time: {len(at)} in 'at', {len(factors)} in 'factors'"
    return [("at", message, 'write at = ["0ba", "1dur"] and factors = [1.0, 0.0]')]


def _falling(key: str, moments: Sequence[str]) -> list[Fault]:
    """Moments of one unit that do not rise; those of several units are compared when an epoch has its length."""
    matches = [re.fullmatch(r"(.+?)([a-zA-Z]+)", moment) for moment in moments]
    parts = [match.groups() for match in matches if match is not None]
    if len({unit for _, unit in parts}) != 1:
        return []
    for number, ((earlier, unit), (later, _)) in enumerate(pairwise(parts), 1):
        if Fraction(later) <= Fraction(earlier):
            message = f'{key} must rise: "{later}{unit}" comes after "{earlier}{unit}"'
            return [(f"{key}.{number}", message, "write each time once, the earliest first")]
    return []


def _noam(settings: Settings) -> list[Fault]:
    written = settings.get("warmup", "0ba")  # a schedule inside another one has none
    if not any(character in "123456789" for character in str(written).lower().partition("e")[0]):
        return []
    message = f"noam warms up by itself over 'rise'; warmup = \"{written}\" would come before it"
    return [("warmup", message, "leave warmup out")]


def _onecycle(settings: Settings) -> list[Fault]:
    if not settings["three_phase"] or settings["pct"] <= 0.5:
        return []
    name = settings["use"].rpartition(":")[2]
    message = f"{name} with three_phase falls as long as it rises: pct = {settings['pct']:g} is above 0.5"
    return [("pct", message, "write 0.5 or less")]


def _tanh(settings: Settings) -> list[Fault]:
    if settings["lower"] < settings["upper"]:
        return []
    message = f"tanh needs lower below upper: lower = {settings['lower']:g}, upper = {settings['upper']:g}"
    return [("lower", message, "the defaults are -7 and 3")]


def _temperature(settings: Settings) -> list[Fault]:
    if settings["final"] <= settings["start"]:
        return []
    message = f"temperature cools: final = {settings['final']:g} is above start = {settings['start']:g}"
    return [("final", message, "make it the smaller one")]


def _onecycle_momentum(settings: Settings) -> list[Fault]:
    found = _onecycle(settings)
    if settings["low"] > settings["high"]:
        message = f"onecycle_momentum goes down to 'low': low = {settings['low']:g}, high = {settings['high']:g}"
        found.append(("low", message, "make it the smaller one"))
    return found


def _ramp(settings: Settings) -> list[Fault]:
    if settings["shape"] != "exp" or (settings["start"] > 0 and settings["end"] > 0):
        return []
    message = (
        f'ramp with shape = "exp" goes by ratios: start = {settings["start"]:g}, end = {settings["end"]:g}, '
        "and both must be above 0"
    )
    return [("shape", message, 'write shape = "linear", or a small number in place of 0')]


def _phases(settings: Settings) -> list[Fault]:
    if not settings["phases"]:
        return [("phases", "phases needs at least one", 'write phases = [{ use = "cosine" }]')]
    unsaid = [number for number, phase in enumerate(settings["phases"]) if phase["length"] is None]
    if len(unsaid) < 2:
        return []
    named = " and ".join(f"phases.{number}" for number in unsaid)
    message = f"one phase alone can take what the others leave; {named} have no length"
    return [(f"phases.{unsaid[1]}", message, 'write length = "5ep", or another time')]


def _freeze(settings: Settings) -> list[Fault]:
    if not settings["at"] and settings["patience"] is None:
        return [("", "freeze needs 'at' or 'patience'", 'write at = ["10ep"] and length = "2ep", or patience = 3')]
    if settings["at"] and settings["length"] is None:
        return [("at", "freeze needs a 'length' for the times in 'at'", 'write length = "2ep", or another time')]
    return []


_CHECKS: Mapping[str, Callable[[Settings], list[Fault]]] = {
    "exponential": _exponential,
    "freeze": _freeze,
    "multistep": _multistep,
    "noam": _noam,
    "onecycle": _onecycle,
    "onecycle_momentum": _onecycle_momentum,
    "phases": _phases,
    "piecewise": _piecewise,
    "ramp": _ramp,
    "tanh": _tanh,
    "temperature": _temperature,
}
