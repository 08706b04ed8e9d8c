"""Optimizers of other libraries: whether the installed library is what a bridge to it was written for."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from trainkit.errors import MachineError
from trainkit.protocols import Optimizer
from trainkit.seeding import random_state, restore_random_state

TRIES = 12  # some optimizers look at several gradients before they move


def check_bridge(
    distribution: str,
    version: str,
    wrapped: Callable[..., Any],
    defaults: Mapping[str, Any],
    make: Callable[[list[dict[str, Any]]], Optimizer],
    *,
    ndims: Sequence[int] = (2, 1),
    closure: bool = False,
) -> None:
    """Check an optimizer of another library before it is used: its signature, and that it makes a finite update.

    For factories that wrap a library: releases rename settings and change defaults, and a method that was tested with
    one version may do something else with the next. The trial takes a millisecond and draws no number of the run's.

    Args:
        distribution: the library's name, as it is installed.
        version: the version that the bridge was tested with.
        wrapped: the library's class or function.
        defaults: what the bridge takes to be the default of each parameter that it uses; `inspect.Parameter.empty` for
            one without a default.
        make: builds the optimizer over the parameter groups it is given.
        ndims: number of dimensions of each parameter of the trial.
        closure: whether a step must be given the loss as a function.

    Raises:
        MachineError: naming the library, its version, and what is not as the bridge knows it.
    """
    name = wrapped.__name__
    try:
        found = inspect.signature(wrapped).parameters
    except (TypeError, ValueError) as error:
        raise _misfit(distribution, version, f"{name} has no signature: {error}") from error
    for setting, default in defaults.items():
        if setting not in found:
            raise _misfit(distribution, version, f"{name} has no parameter '{setting}'")
        if found[setting].default != default:
            said = f"{name} has {setting} = {found[setting].default!r}, the bridge knows {default!r}"
            raise _misfit(distribution, version, said)
    here = torch.device("cpu")
    random = random_state(here)
    try:
        fault = _tried(make, ndims, closure)
    except Exception as error:
        fault = f"an update raised {type(error).__name__}: {error}"
        raise _misfit(distribution, version, f"{name}: {fault}") from error
    finally:
        restore_random_state(random, here)
    if fault:
        raise _misfit(distribution, version, f"{name}: {fault}")


def _misfit(distribution: str, version: str, fault: str) -> MachineError:
    try:
        installed = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        installed = "of an unknown version"
    return MachineError(
        f"{distribution} {installed} is not what trainkit's bridge knows: {fault}\n"
        f"  the version it was tested with: pip install '{distribution}=={version}'"
    )


def _tried(make: Callable[[list[dict[str, Any]]], Optimizer], ndims: Sequence[int], closure: bool) -> str:
    """Let an optimizer move two parameters; what is wrong with it, or nothing."""
    with torch.enable_grad():
        torch.default_generator.manual_seed(0)  # of the CPU alone: a device's is left as it is
        parameters = [nn.Parameter(torch.randn((4, 3, 2, 2)[:ndim]) + 2) for ndim in ndims]
        names = [f"parameter{number}" for number in range(len(parameters))]
        before = [parameter.detach().clone() for parameter in parameters]
        optimizer = make([{"params": parameters, "names": names, "lr_scale": 1.0}])

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            total = torch.stack([(parameter * (1 + parameter)).sum() for parameter in parameters]).sum()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        for _ in range(TRIES):
            if closure:
                optimizer.step(loss)
            else:
                loss()
                optimizer.step()
            if not all(bool(parameter.isfinite().all()) for parameter in parameters):
                return "an update was not finite"
            if not any(torch.equal(*pair) for pair in zip(before, parameters, strict=True)):
                return ""
    return f"it left parameters as they were in {TRIES} updates"
