"""An optimizer made of one elementwise rule, written once for eager and compiled steps."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Number = float | Tensor


class Rule(Protocol):
    """How one tensor is updated from its gradient and its state, element by element.

    A rule may have ``update_rows(parameter, gradient, state, numbers) -> None`` besides, which does in place what
    `update` does, with a tensor for each number that is spread over the parameter: rows of many runs are updated at
    once so. It may leave anything in the gradient.
    """

    def slots(self, group: Mapping[str, Any], /) -> tuple[str, ...]:
        """Names of the state tensors that a parameter of this group needs; each starts at zero."""
        ...

    def numbers(self, group: Mapping[str, Any], k: int, /) -> tuple[float, ...]:
        """The numbers of a parameter's update ``k`` (from 1), worked out in double precision."""
        ...

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Sequence[Number], /
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """New parameter and new state, changing nothing; this form is traced into compiled steps.

        Args:
            parameter: any shape.
            gradient: same shape.
            state: tensors of that shape, in the order of `slots`.
            numbers: what `numbers` gave; floats, or 0-d tensors in a compiled step.
        """
        ...

    def update_all(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        states: list[list[Tensor]],
        group: Mapping[str, Any],
        k: int,
        /,
    ) -> bool:
        """Make the same update in place for a whole list in one operation; False where that cannot be done.

        Args:
            parameters: dense tensors of one dtype and device.
            gradients: theirs, laid out in memory as they are.
            states: for each slot, a tensor for each parameter.
            group: the group's numbers.
            k: which update it is, from 1, the same for all.
        """
        ...


class States(UserDict[Tensor, dict[str, Any]]):
    """State by parameter; ``changes`` counts how often an entry was set or removed."""

    def __init__(self) -> None:
        self.changes = 0
        super().__init__()

    def __setitem__(self, parameter: Tensor, state: dict[str, Any]) -> None:
        self.changes += 1
        super().__setitem__(parameter, state)

    def __delitem__(self, parameter: Tensor) -> None:
        self.changes += 1
        super().__delitem__(parameter)


@dataclass(slots=True)
class _Bound:
    """What a group's update found out and the next one can rely on while nobody changes the group.

    Args:
        parameters: the group's, all of one number format and device, each with a gradient so far.
        strides: how each lies in memory.
        states: the state of each.
        count: the updates that each has made.
        names: the rule's slots.
        owner: where the states are held.
        changes: how often it had changed.
    """

    parameters: list[Tensor]
    strides: list[tuple[int, ...]]
    states: list[dict[str, Any]]
    count: int
    names: tuple[str, ...]
    owner: States
    changes: int


class ElementwiseOptimizer:
    """Applies a `Rule` to every parameter that has a gradient.

    It offers what `torch.optim.Optimizer` offers and the core uses. It does not derive from that class, whose
    constructor imports the compiler (a second of start-up) and whose ``step`` costs more than the update itself
    of a small model.

    Args:
        params: parameter groups; dicts with ``params`` and whatever overrides the defaults.
        rule: the update.
        defaults: the numbers of every group, such as ``lr``.

    Raises:
        ValueError: if there is no parameter.
    """

    def __init__(self, params: Iterable[dict[str, Any]], rule: Rule, **defaults: Any) -> None:
        self.rule = rule
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = [{**defaults, **group} for group in params]
        if not any(group["params"] for group in self.param_groups):
            raise ValueError("there is no parameter to optimize")
        self.state = States()
        self._bound: dict[int, _Bound] = {}

    def state_of(self, parameter: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        """The parameter's state, made at its first use: ``step``, and the rule's slots at zero."""
        state = self.state.get(parameter)
        if state is None:
            # The memory layout is the parameter's, which operations over raw memory rely on.
            state = self.state[parameter] = {"step": 0}
            for name in self.rule.slots(group):
                state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Make one update; parameters without a gradient are left alone.

        Raises:
            ValueError: for a sparse gradient.
        """
        loss = closure() if closure is not None else None
        with torch.no_grad():
            for group in self.param_groups:
                self._update(group)
        return loss

    def _update(self, group: dict[str, Any]) -> None:
        names, bound = self.rule.slots(group), self._bound.get(id(group))
        gradients = None if bound is None else self._gradients(bound, group, names)
        if bound is None or gradients is None:
            self._update_unbound(group, names)
            return
        count = bound.count = bound.count + 1
        for state in bound.states:
            state["step"] = count
        slots = [[state[name] for state in bound.states] for name in names]
        self.apply(bound.parameters, gradients, slots, group, count)

    def _gradients(self, bound: _Bound, group: Mapping[str, Any], names: tuple[str, ...]) -> list[Tensor] | None:
        """The gradients of a group of which what is bound still holds; else ``None``."""
        count, parameters = bound.count, group["params"]
        if (
            bound.owner is not self.state
            or bound.changes != bound.owner.changes
            or bound.names != names
            or len(parameters) != len(bound.parameters)
        ):
            return None
        gradients = []
        for parameter, own, stride, state in zip(
            parameters, bound.parameters, bound.strides, bound.states, strict=True
        ):
            gradient = parameter.grad
            if parameter is not own or gradient is None or state["step"] != count:
                return None
            if gradient.layout is not torch.strided:  # `_update_unbound` says so
                return None
            gradients.append(gradient if gradient.stride() == stride else torch.empty_like(parameter).copy_(gradient))
        return gradients

    def _update_unbound(self, group: dict[str, Any], names: tuple[str, ...]) -> None:
        parameters: list[Tensor] = []
        gradients: list[Tensor] = []
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.layout is not torch.strided:
                raise ValueError("the gradient is sparse, which this optimizer does not take")
            parameters.append(parameter)
            same = gradient.stride() == parameter.stride()
            gradients.append(gradient if same else torch.empty_like(parameter).copy_(gradient))
        # Parameters that joined later, or of another number format or device: those of one kind are updated together.
        kinds: dict[tuple[int, torch.dtype, torch.device], list[int]] = {}
        states = [self.state_of(parameter, group) for parameter in parameters]
        for place, (parameter, state) in enumerate(zip(parameters, states, strict=True)):
            for name in names:  # a number that was 0 so far may be scheduled: momentum, say
                if name not in state:
                    state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["step"] += 1
            kinds.setdefault((state["step"], parameter.dtype, parameter.device), []).append(place)
        for (count, *_), places in kinds.items():
            slots = [[states[i][name] for i in places] for name in names]
            self.apply([parameters[i] for i in places], [gradients[i] for i in places], slots, group, count)
        self._bound.pop(id(group), None)
        if len(kinds) == 1 and len(parameters) == len(group["params"]):
            strides = [parameter.stride() for parameter in parameters]
            count = states[0]["step"]
            self._bound[id(group)] = _Bound(parameters, strides, states, count, names, self.state, self.state.changes)

    def apply(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        slots: list[list[Tensor]],
        group: dict[str, Any],
        count: int,
    ) -> None:
        """Make update ``count`` of parameters of one number format and device."""
        if self.rule.update_all(parameters, gradients, slots, group, count):
            return
        for place, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            held = [tensors[place] for tensors in slots]
            new, fresh = self.rule.update(parameter, gradient, held, self.rule.numbers(group, count))
            parameter.copy_(new)
            for old, value in zip(held, fresh, strict=True):
                old.copy_(value)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.zero_()
