"""What the factory of each kind must return, looked at when a component is built: a wrong object is told at once."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from trainkit.component import Component
from trainkit.dataset import Dataset
from trainkit.ensembler import Ensembler
from trainkit.errors import PluginDefect
from trainkit.manager import Plugins
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


# By kind: how many arguments the function takes that a factory returns.
_ARGUMENTS: Mapping[str, int] = {"augmentation": 2, "loss": 2, "schedule": 3}


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # it is written in another language
        pass
    return True


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
        count = _ARGUMENTS.get(component.kind)
        if count is None or takes(built, count):
            return ""
        return f"the factory gave a function of {inspect.signature(built)}, not {expected}"
    if built is None:
        return f"the factory gave nothing (None), not {expected}; does it end without return?"
    names = expected.partition(": ")[2].split(", ")
    lacks = [name for name in names if name and not hasattr(built, name)]
    some = f"; it lacks {', '.join(lacks)}" if 0 < len(lacks) < len(names) else ""
    return f"the factory gave an object of {type(built).__name__}, not {expected}{some}"


def defect(plugins: Plugins, component: Component, doing: str, wrong: str) -> PluginDefect:
    """What to raise where a component of a plugin is not what its kind says.

    Args:
        plugins: the plugins that supply it.
        component: the component.
        doing: what the core was doing, such as ``building [loss] mine``.
        wrong: what is wrong, such as ``the factory gave nothing``.
    """
    owner = plugins.owner(component)
    return PluginDefect(
        f"{owner} while {doing}: {wrong}\n"
        f"  its factory is at {component.origin}\n"
        f"  this is a defect of {owner.distribution}"
    )
