"""Optimizers: each factory takes parameter groups and returns an optimizer.

The factories stand by family in `descent`, `moments`, `roots`, `hyper`, `matrices` and `wrapped`; the updates they
build on in `rules`, `moment_rules`, `root_rules`, `hyper_rules`, `matrix_rules` and `layer_rules`. Optimizers around
others are in `wrappers`, built on `slow_weights` and `sharpness`. Listing the optimizers does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainkit import Component, Problem, hookimpl
from trainkit_optimizers.descent import lars, lion, sgd, sgdw
from trainkit_optimizers.hyper import adam_hd, sgd_hd
from trainkit_optimizers.matrices import muon
from trainkit_optimizers.moments import adam, adamax, adamw, lamb, nadam, nadamw, radam
from trainkit_optimizers.roots import adadelta, adagrad, rmsprop
from trainkit_optimizers.wrapped import adafactor, asgd, lbfgs, rprop, sparse_adam
from trainkit_optimizers.wrappers import asam, lookahead, sam

# Settings that a parameter group cannot have of its own, as the one rule of all groups is made from them.
_OF_ALL_GROUPS: Mapping[str, tuple[str, ...]] = {
    "muon": ("nesterov", "ns_steps", "adjust_lr_fn", "normalise"),
    "rmsprop": ("centered",),
    **dict.fromkeys(("sgd", "sgd_hd", "sgdw"), ("nesterov",)),
}


@hookimpl
def trainkit_components() -> list[Component]:
    fast = {"elementwise": True, "compiles": True}
    return [
        Component("optimizer", adadelta, example={"lr": 1.0}, capabilities=fast),
        Component("optimizer", adafactor, example={"lr": 1e-2}),
        Component("optimizer", adagrad, example={"lr": 1e-2}, capabilities=fast),
        Component("optimizer", adam, example={"lr": 1e-3}, capabilities=fast),
        Component("optimizer", adam_hd, example={"lr": 1e-3, "hyper_lr": 1e-7}, capabilities={"own_lr": True}),
        Component("optimizer", adamax, example={"lr": 2e-3}, capabilities=fast),
        Component("optimizer", adamw, example={"lr": 1e-3, "weight_decay": 0.05}, capabilities=fast),
        Component(
            "optimizer",
            asgd,
            example={"lr": 1e-2},
            exempt={"follows_a_schedule": "torch works out the rate of an update at the end of the one before"},
        ),
        Component("optimizer", lamb, example={"lr": 1e-2}),
        Component("optimizer", lars, example={"lr": 1.0, "weight_decay": 1e-4}),
        Component(
            "optimizer",
            lbfgs,
            example={"lr": 1.0},
            capabilities={"needs_closure": True, "single_group": True},
            exempt={
                "leaves_alone_what_has_no_gradient": "torch takes a missing gradient for 0, in one direction for all",
                "leaves_frozen_parameters_alone": "torch keeps the state of all parameters with the first one",
            },
        ),
        Component("optimizer", lion, example={"lr": 1e-4, "weight_decay": 0.1}, capabilities=fast),
        Component(
            "optimizer",
            muon,
            example={"lr": 0.02, "rest": {"use": "adamw", "lr": 1e-3}},
            capabilities={"min_ndim": 2, "hidden_weights": True},
        ),
        Component("optimizer", nadam, example={"lr": 2e-3}, capabilities=fast),
        Component("optimizer", nadamw, example={"lr": 2e-3, "weight_decay": 0.05}, capabilities=fast),
        Component("optimizer", radam, example={"lr": 1e-3}, capabilities=fast),
        Component("optimizer", rmsprop, example={"lr": 1e-3, "momentum": 0.9}, capabilities=fast),
        Component(
            "optimizer",
            rprop,
            example={"lr": 1e-3},
            exempt={"follows_a_schedule": "it reads its lr at the first update alone; schedules are refused"},
        ),
        Component("optimizer", sgd, example={"lr": 0.1, "momentum": 0.9}, capabilities=fast),
        Component("optimizer", sgd_hd, example={"lr": 0.1, "hyper_lr": 1e-3}, capabilities={"own_lr": True}),
        Component("optimizer", sgdw, example={"lr": 0.1, "weight_decay": 5e-3}, capabilities=fast),
        Component("optimizer", sparse_adam, example={"lr": 1e-3}, capabilities={"sparse": True}),
        Component("wrapper", asam, example={"rho": 0.5}, capabilities={"needs_closure": True}),
        # Slow weights of slow weights would be kept under one name.
        Component("wrapper", lookahead, example={"k": 5}, capabilities={"elementwise": True}, conflicts=("lookahead",)),
        Component("wrapper", sam, example={"rho": 0.05}, capabilities={"needs_closure": True}),
    ]


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    from trainkit import problem_at

    optimizer = recipe["optimizer"]
    parts = {"optimizer": optimizer}
    if optimizer["rest"] is not None:
        parts["optimizer.rest"] = optimizer["rest"]
    names = {key: _own_name(table["use"]) for key, table in parts.items()}
    problems = []
    for key, table in parts.items():
        problems += _alone(recipe, key, names[key], table)
    for index, group in enumerate(optimizer["group"]):
        for key, name in names.items():
            for setting in _OF_ALL_GROUPS.get(name, ()):
                if setting in group:
                    message = f"[{key}] {name} has one '{setting}' for all groups"
                    cure = f"write {setting} in [{key}], and leave it out here"
                    problems.append(problem_at(recipe, f"optimizer.group.{index}.{setting}", message, cure))
    return problems


def _own_name(use: str) -> str:
    """The bare name of an optimizer of this package; empty for those of others, which have rules of their own."""
    owner, _, name = use.rpartition(":")
    return name if owner in ("", "trainkit_optimizers", "trainkit") else ""


def _alone(recipe: Mapping[str, Any], key: str, name: str, table: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the table of one optimizer, which is at ``key``."""
    from trainkit import problem_at

    problems = []
    if name in ("sgd", "sgdw", "sgd_hd") and table["nesterov"] and not table["momentum"]:
        message = "nesterov = true needs momentum above 0, got momentum = 0.0"
        cure = "write momentum = 0.9, or leave nesterov out"
        problems.append(problem_at(recipe, f"{key}.nesterov", message, cure))
    if name == "rprop":
        problems += _without_schedule(recipe, key)
        smallest, largest = table["step_sizes"]
        if smallest > largest:
            message = f"step_sizes must be the smallest and the largest, got {smallest:g} and {largest:g}"
            problems.append(problem_at(recipe, f"{key}.step_sizes", message, "write them the other way round"))
    return problems


def _without_schedule(recipe: Mapping[str, Any], key: str) -> list[Problem]:
    """Rprop reads the rate once."""
    from trainkit import problem_at

    schedule = recipe["schedule"]
    why = f"[{key}] rprop reads its lr at the first update alone"
    if schedule["use"].rpartition(":")[2] != "constant":
        message = f"{why}, so that the schedule '{schedule['use']}' would change nothing"
        return [problem_at(recipe, "schedule.use", message, 'write use = "constant"')]
    if any(digit in "123456789" for digit in str(schedule["warmup"])):
        message = f'{why}, which warmup = "{schedule["warmup"]}" would make small for good'
        return [problem_at(recipe, "schedule.warmup", message, "leave warmup out")]
    return []
