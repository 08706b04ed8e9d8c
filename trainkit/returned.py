"""What the factory of each kind must return, looked at when a component is built: a wrong object is told at once."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from trainkit.component import Component
from trainkit.dataset import Dataset
from trainkit.ensembler import Ensembler
from trainkit.protocols import Metric, Optimizer, Reaction
from trainkit.trial import Searcher


def _is_module(built: object) -> bool:
    torch = sys.modules.get("torch")  # who has made a module has imported it
    return torch is not None and isinstance(built, torch.nn.Module)


def _is_a(protocol: type) -> Callable[[object], bool]:
    return lambda built: isinstance(built, protocol)


def _is_executor(built: object) -> bool:
    """Whether it has an executor's methods; its slots it need not know before it is opened."""
    return all(callable(getattr(built, name, None)) for name in ("open", "submit", "wait", "stop", "close"))


# By kind: what it is, and whether an object is one.
_EXPECTED: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "data": ("a trainkit.Dataset", _is_a(Dataset)),
    "augmentation": ("a function of (batch, draw), as trainkit.Augmentation says", callable),
    "model": ("a torch.nn.Module", _is_module),
    "loss": ("a function of (outputs, targets), as trainkit.Loss says", callable),
    "metric": ("a trainkit.Metric: higher_is_better, reset, update, compute", _is_a(Metric)),
    "optimizer": ("a trainkit.Optimizer: param_groups, state, step, zero_grad", _is_a(Optimizer)),
    "wrapper": ("a trainkit.Optimizer: param_groups, state, step, zero_grad", _is_a(Optimizer)),
    "schedule": ("a function of (t, T, events), as trainkit.Schedule says", callable),
    "reaction": ("a trainkit.Reaction: observe, react, describe, save, restore", _is_a(Reaction)),
    "callback": ("an object with hooks", lambda built: built is not None),
    "logger": ("an object with hooks", lambda built: built is not None),
    "searcher": ("a trainkit.Searcher: begin, ask, took, tell", _is_a(Searcher)),
    "ensembler": ("a trainkit.Ensembler: gather, add, fit, predict, members, state, load_state", _is_a(Ensembler)),
    "executor": ("a trainkit.Executor: open, submit, wait, stop, close", _is_executor),
}


def wrong_object(component: Component, built: Any) -> str:
    """What is wrong with the object that a component's factory has returned; ``""`` where nothing is.

    Args:
        component: the component.
        built: what its factory gave.
    """
    expected, fits = _EXPECTED[component.kind]
    if inspect.isclass(built):
        return f"the factory gave the class {built.__name__} itself, not {expected}; it must return an object of it"
    if fits(built):
        return ""
    shown = "nothing (None)" if built is None else f"an object of {type(built).__name__}"
    return f"the factory gave {shown}, not {expected}" + ("; does it end without return?" if built is None else "")
