"""Building the library's optimizers, and what some of them need so that a checkpoint can hold their state."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_optimizer
import torch
from torch import Tensor

from trainkit import Optimizer, Run, check_bridge, hookimpl
from trainkit_kozistr import facts
from trainkit_kozistr.entries import Entry
from trainkit_kozistr.table import VERSION


def make(entry: Entry, params: list[dict[str, Any]], settings: dict[str, Any]) -> Optimizer:
    """Build an optimizer.

    Args:
        entry: which one.
        params: the parameter groups.
        settings: all settings of the bridge.

    Raises:
        ValueError: if the library refuses the settings or the parameters.
        MachineError: if the installed library is not what the table was made from.
    """
    if entry.name in facts.REFUSED:
        why, cure = facts.REFUSED[entry.name]
        raise ValueError(f"it {why}\n  {cure or 'choose another optimizer'}")
    wrapped = pytorch_optimizer.load_optimizer(entry.name)
    trial = entry.defaults | dict(entry.example)
    check_bridge(
        "pytorch_optimizer",
        VERSION,
        wrapped,
        entry.defaults,
        lambda groups: _built(entry, wrapped, groups, trial),
        ndims=(2, 2) if "min_ndim" in entry.capabilities else (2, 1),
        closure=entry.name in facts.CLOSURE,
    )
    if entry.name in facts.MATRICES:
        _only_matrices(entry, params)
    try:
        optimizer = _built(entry, wrapped, params, settings)
    except Exception as error:  # the library has errors of its own for settings that it refuses
        raise ValueError(str(error)) from error
    for group in params:
        # Settings that stand in no group are read from the optimizer, and silently not from a group.
        shared = [name for name in entry.settings if name in group and name not in optimizer.defaults]
        if shared and entry.name not in facts.MUON:
            raise ValueError(f"it has one '{shared[0]}' for all groups\n  leave it out of [[optimizer.group]]")
    made: Optimizer = optimizer
    return made


def _built(entry: Entry, wrapped: Any, params: list[Any], settings: Mapping[str, Any]) -> Any:
    given = {name: value for name, value in settings.items() if value is not inspect.Parameter.empty}
    if entry.name in facts.MUON:
        params = [{**group, "use_muon": True} for group in params]
    elif entry.name in facts.SINGLE_GROUP:
        params = [parameter for group in params for parameter in group["params"]]
    adapted = {*facts.LOOSE, *facts.ATTRIBUTES, *facts.CONSTANTS, *facts.QUEUES, *facts.NUMBERED, *facts.RELAID}
    if entry.name in adapted:
        wrapped = type(wrapped.__name__, (Adapted, wrapped), {"__doc__": wrapped.__doc__, "kozistr": entry.name})
    return wrapped(params, **given)


def _only_matrices(entry: Entry, params: list[dict[str, Any]]) -> None:
    for group in params:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            if parameter.dim() != 2:
                raise ValueError(f"it takes matrices alone, and '{name}' has the shape {tuple(parameter.shape)}")


class Adapted:
    """Makes what an optimizer keeps plain between updates; stands before the library's class among the bases.

    Groups and state then hold tensors, numbers, text, lists and tables alone, and what belongs to no parameter is saved
    by hooks.
    """

    kozistr: str
    param_groups: list[dict[str, Any]]
    state: Any

    def __init__(self, params: list[Any], **settings: Any) -> None:
        super().__init__(params, **settings)  # type: ignore[call-arg]
        names = facts.CONSTANTS.get(self.kozistr, ())
        self._constants = [{name: group.pop(name) for name in names} for group in self.param_groups]

    def step(self, closure: Callable[[], Tensor] | None = None) -> Any:
        """Make one update."""
        for group, constants in zip(self.param_groups, self._constants, strict=True):
            group.update(constants)
        self._each_state(self._live)
        try:
            return super().step(closure)  # type: ignore[misc]
        finally:
            self._each_state(self._plain)
            for group, constants in zip(self.param_groups, self._constants, strict=True):
                for name in constants:
                    del group[name]

    def _each_state(self, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
        if self.kozistr in facts.QUEUES + facts.NUMBERED + facts.RELAID:
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter in self.state:
                        change(self.state[parameter], group)

    def _live(self, state: dict[str, Any], group: dict[str, Any]) -> None:
        if isinstance(queue := state.get("grad_queue"), list):
            state["grad_queue"] = deque(queue, maxlen=group["keep_num"])
        if self.kozistr in facts.NUMBERED and "momentum_buffer" in state:
            state["momentum_buffer"] = {float(beta): tensor for beta, tensor in state["momentum_buffer"].items()}

    def _plain(self, state: dict[str, Any], group: dict[str, Any]) -> None:
        if isinstance(queue := state.get("grad_queue"), deque):
            state["grad_queue"] = list(queue)
        if self.kozistr in facts.NUMBERED and "momentum_buffer" in state:
            state["momentum_buffer"] = {repr(beta): tensor for beta, tensor in state["momentum_buffer"].items()}
        if self.kozistr in facts.RELAID:
            for name, held in state.items():
                if isinstance(held, list):
                    state[name] = [part.contiguous() if isinstance(part, Tensor) else part for part in held]

    @hookimpl
    def trainkit_save(self) -> Mapping[str, Any] | None:
        loose = {key: value for key, value in self.state.items() if isinstance(key, str)}
        attributes = {name: _detached(getattr(self, name)) for name in facts.ATTRIBUTES.get(self.kozistr, ())}
        return {"state": loose, "attributes": attributes} if loose or attributes else None

    @hookimpl
    def trainkit_restore(self, run: Run, state: Mapping[str, Any]) -> None:
        self.state.update(state["state"])
        for name in facts.ATTRIBUTES.get(self.kozistr, ()):  # no others, whatever a stranger's checkpoint names
            value = state["attributes"][name]
            setattr(self, name, value.to(run.device) if isinstance(value, Tensor) else value)


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else value
