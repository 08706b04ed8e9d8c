"""Learning-rate schedules: pure functions of time, each a factor on the base value.

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
from trainkit_schedules.checks import faults
from trainkit_schedules.cycles import cosine_cycles as cosine_cycles
from trainkit_schedules.cycles import cosine_restarts as cosine_restarts
from trainkit_schedules.cycles import cyclic as cyclic
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
from trainkit_schedules.stairs import multistep as multistep
from trainkit_schedules.stairs import piecewise as piecewise
from trainkit_schedules.stairs import step as step


@hookimpl
def trainkit_components() -> list[Component]:
    fits = {"lanes": True, "compiles": True}
    examples: list[tuple[Any, dict[str, Any]]] = [
        (budget, {}),
        (constant, {}),
        (cosine, {"end": 0.01}),
        (cosine_cycles, {"cycles": 3}),
        (cosine_restarts, {"first": "1ep", "mult": 2}),
        (cyclic, {"low": 0.1, "up": "2ep"}),
        (exponential, {"rate": 0.96}),
        (inverse_sqrt, {"timescale": "1ep"}),
        (inverse_time, {"k": 0.5}),
        (linear, {"end": 0.0}),
        (multistep, {"milestones": ["5ep", "8ep"], "gamma": 0.1}),
        (noam, {"d_model": 512, "rise": "1ep"}),
        (onecycle, {"pct": 0.3}),
        (piecewise, {"at": ["0ba", "0.2dur", "1dur"], "factors": [0.2, 1.0, 0.0]}),
        (polynomial, {"power": 2.0}),
        (rex, {}),
        (slanted_triangular, {"cut_frac": 0.1}),
        (step, {"every": "5ep", "gamma": 0.5}),
        (tanh, {}),
        (temperature, {"final": 0.01}),
        (trapezoid, {"decay": "0.2dur"}),
        (wsd, {"decay": "0.2dur", "shape": "1-sqrt"}),
    ]
    return [Component("schedule", factory, example=example, capabilities=fits) for factory, example in examples]


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    from trainkit import problem_at

    schedule = recipe["schedule"]
    found = faults(schedule["use"].rpartition(":")[2], schedule)
    return [problem_at(recipe, f"schedule.{key}".rstrip("."), message, cure) for key, message, cure in found]
