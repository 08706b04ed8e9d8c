"""Schedules: pure functions of time, each a factor on the base value; and reactions, which change them by a figure.

``t`` counts the updates already made, ``T`` the planned ones; a warm-up and a cool-down come off both. What depends on
``T`` holds its end value after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainkit import Component, Problem, hookimpl
from trainkit_schedules.arcs import onecycle as onecycle
from trainkit_schedules.arcs import slanted_triangular as slanted_triangular
from trainkit_schedules.arcs import trapezoid as trapezoid
from trainkit_schedules.arcs import wsd as wsd
from trainkit_schedules.checks import schedule_faults
from trainkit_schedules.cycles import cosine_cycles as cosine_cycles
from trainkit_schedules.cycles import cosine_restarts as cosine_restarts
from trainkit_schedules.cycles import cyclic as cyclic
from trainkit_schedules.cycles import snapshot_cycles as snapshot_cycles
from trainkit_schedules.decays import budget as budget
from trainkit_schedules.decays import constant as constant
from trainkit_schedules.decays import cosine as cosine
from trainkit_schedules.decays import exponential as exponential
from trainkit_schedules.decays import inverse_sqrt as inverse_sqrt
from trainkit_schedules.decays import inverse_time as inverse_time
from trainkit_schedules.decays import linear as linear
from trainkit_schedules.decays import noam as noam
from trainkit_schedules.decays import polynomial as polynomial
from trainkit_schedules.decays import rex as rex
from trainkit_schedules.decays import tanh as tanh
from trainkit_schedules.decays import temperature as temperature
from trainkit_schedules.reactions import freeze as freeze
from trainkit_schedules.reactions import halve as halve
from trainkit_schedules.reactions import plateau as plateau
from trainkit_schedules.reactions import stagnation_restart as stagnation_restart
from trainkit_schedules.sequence import fge_tail as fge_tail
from trainkit_schedules.sequence import phases as phases
from trainkit_schedules.sequence import swa_tail as swa_tail
from trainkit_schedules.stairs import multistep as multistep
from trainkit_schedules.stairs import piecewise as piecewise
from trainkit_schedules.stairs import step as step
from trainkit_schedules.values import growth as growth
from trainkit_schedules.values import onecycle_momentum as onecycle_momentum
from trainkit_schedules.values import ramp as ramp

# What gives values themselves, and what jumps by design.
ABSOLUTE = (onecycle_momentum, ramp)
JUMPING = (
    cosine_cycles,
    cosine_restarts,
    exponential,
    fge_tail,
    growth,
    inverse_time,
    multistep,
    snapshot_cycles,
    step,
)
# What only falls or only rises, whatever its settings.
MONOTONE = (
    *(budget, constant, cosine, exponential, growth, inverse_sqrt, inverse_time, linear, multistep, polynomial, ramp),
    *(rex, step, tanh, temperature, trapezoid, wsd),
)


@hookimpl
def trainkit_components() -> list[Component]:
    schedules: list[tuple[Any, dict[str, Any]]] = [
        (budget, {}),
        (constant, {}),
        (cosine, {"end": 0.01}),
        (cosine_cycles, {"cycles": 3}),
        (cosine_restarts, {"first": "1ep", "mult": 2}),
        (cyclic, {"low": 0.1, "up": "2ep"}),
        (exponential, {"rate": 0.96}),
        (fge_tail, {"body": {"use": "cosine"}, "cycle": "2ep"}),
        (growth, {"every": "2ep", "growth": 2.0, "maximum": 4.0}),
        (inverse_sqrt, {"timescale": "1ep"}),
        (inverse_time, {"k": 0.5}),
        (linear, {"end": 0.0}),
        (multistep, {"milestones": ["0.5dur", "0.75dur"], "gamma": 0.1}),
        (noam, {"d_model": 512, "rise": "1ep"}),
        (onecycle, {"pct": 0.3}),
        (onecycle_momentum, {"pct": 0.3}),
        (phases, {"phases": [{"use": "constant", "length": "0.5dur"}, {"use": "cosine"}]}),
        (piecewise, {"at": ["0ba", "0.2dur", "1dur"], "factors": [0.2, 1.0, 0.0]}),
        (polynomial, {"power": 2.0}),
        (ramp, {"start": 0.04, "end": 0.4, "shape": "cosine"}),
        (rex, {}),
        (slanted_triangular, {"cut_frac": 0.1}),
        (snapshot_cycles, {"cycles": 3}),
        (step, {"every": "5ep", "gamma": 0.5}),
        (swa_tail, {"body": {"use": "cosine"}, "anneal": "0.05dur", "swa": 0.5}),
        (tanh, {}),
        (temperature, {"final": 0.01}),
        (trapezoid, {"decay": "0.2dur"}),
        (wsd, {"decay": "0.2dur", "shape": "1-sqrt"}),
    ]
    reactions: list[tuple[Any, dict[str, Any], bool]] = [
        (freeze, {"at": ["0.5dur"], "length": "1ep"}, False),
        (halve, {"patience": 3}, True),
        (plateau, {"factor": 0.1, "patience": 5}, True),
        (stagnation_restart, {"window": 5, "threshold": 1e-3}, True),
    ]
    components = []
    for factory, example in schedules:
        traits = {"compiles": True, **({"absolute": True} if factory in ABSOLUTE else {})}
        traits |= {"jumps": True} if factory in JUMPING else {}
        traits |= {"monotone": True} if factory in MONOTONE else {}
        components.append(Component("schedule", factory, example=example, capabilities=traits))
    for factory, example, needs in reactions:
        traits = {"compiles": True, **({"needs_metric": True} if needs else {})}
        components.append(Component("reaction", factory, example=example, capabilities=traits))
    return components


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    from trainkit import problem_at

    found = schedule_faults(recipe["schedule"], __name__)
    return [problem_at(recipe, key, message, cure) for key, message, cure in found]
