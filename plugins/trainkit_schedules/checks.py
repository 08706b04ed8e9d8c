"""Settings of a schedule that do not go together, told before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# A key of [schedule] ("" for the table), what is wrong, and how to put it right.
Fault = tuple[str, str, str]


def faults(name: str, settings: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with the settings of one schedule."""
    return _CHECKS[name](settings) if name in _CHECKS else []


def _exponential(settings: Mapping[str, Any]) -> list[Fault]:
    rate, k = settings["rate"], settings["k"]
    if rate is None and k is None:
        return [("", "exponential needs 'rate' or 'k'", "write rate = 0.96, or k = 0.1")]
    if rate is not None and k is not None:
        message = f"exponential takes 'rate' or 'k', not both: rate = {rate:g}, k = {k:g}"
        return [("k", message, "leave one of them out")]
    return []


def _multistep(settings: Mapping[str, Any]) -> list[Fault]:
    if settings["milestones"]:
        return []
    return [("milestones", "multistep needs at least one milestone", 'write milestones = ["30ep", "60ep"]')]


def _piecewise(settings: Mapping[str, Any]) -> list[Fault]:
    at, factors = settings["at"], settings["factors"]
    if at and len(at) == len(factors):
        return []
    message = f"piecewise needs a factor for each time: {len(at)} in 'at', {len(factors)} in 'factors'"
    return [("at", message, 'write at = ["0ba", "1dur"] and factors = [1.0, 0.0]')]


def _noam(settings: Mapping[str, Any]) -> list[Fault]:
    if not any(character in "123456789" for character in str(settings["warmup"]).lower().partition("e")[0]):
        return []
    message = f"noam warms up by itself over 'rise'; warmup = \"{settings['warmup']}\" would come before it"
    return [("warmup", message, "leave warmup out")]


def _onecycle(settings: Mapping[str, Any]) -> list[Fault]:
    if not settings["three_phase"] or settings["pct"] <= 0.5:
        return []
    message = f"onecycle with three_phase falls as long as it rises: pct = {settings['pct']:g} is above 0.5"
    return [("pct", message, "write 0.5 or less")]


def _tanh(settings: Mapping[str, Any]) -> list[Fault]:
    if settings["lower"] < settings["upper"]:
        return []
    message = f"tanh needs lower below upper: lower = {settings['lower']:g}, upper = {settings['upper']:g}"
    return [("lower", message, "the defaults are -7 and 3")]


def _temperature(settings: Mapping[str, Any]) -> list[Fault]:
    if settings["final"] <= settings["start"]:
        return []
    message = f"temperature cools: final = {settings['final']:g} is above start = {settings['start']:g}"
    return [("final", message, "make it the smaller one")]


_CHECKS: Mapping[str, Callable[[Mapping[str, Any]], list[Fault]]] = {
    "exponential": _exponential,
    "multistep": _multistep,
    "noam": _noam,
    "onecycle": _onecycle,
    "piecewise": _piecewise,
    "tanh": _tanh,
    "temperature": _temperature,
}
