"""An optimizer made of one elementwise rule, written once for eager and compiled steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

Number = float | Tensor


class Rule(Protocol):
    """How one tensor is updated from its gradient and its state, element by element."""

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
        self.state: dict[Tensor, dict[str, Any]] = {}

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
        parameters: list[Tensor] = []
        gradients: list[Tensor] = []
        states: list[dict[str, Any]] = []
        count, alike = 0, True
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.layout is not torch.strided:
                raise ValueError("the gradient is sparse, which this optimizer does not take")
            if gradient.stride() != parameter.stride():
                gradient = torch.empty_like(parameter).copy_(gradient)
            state = self.state.get(parameter) or self.state_of(parameter, group)
            state["step"] += 1
            alike = alike and (not parameters or state["step"] == count) and parameter.dtype is group["params"][0].dtype
            count = state["step"]
            parameters.append(parameter)
            gradients.append(gradient)
            states.append(state)
        if alike:
            self._apply(parameters, gradients, states, group)
            return
        # Parameters that joined later, or of another number format: those of one kind are still updated together.
        kinds: dict[tuple[int, torch.dtype], list[int]] = {}
        for place, (parameter, state) in enumerate(zip(parameters, states, strict=True)):
            kinds.setdefault((state["step"], parameter.dtype), []).append(place)
        for places in kinds.values():
            some = [parameters[i] for i in places], [gradients[i] for i in places], [states[i] for i in places]
            self._apply(*some, group)

    def _apply(
        self, parameters: list[Tensor], gradients: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]
    ) -> None:
        """Update parameters of one number format that have all made the same number of updates."""
        if not parameters:
            return
        count, names = states[0]["step"], self.rule.slots(group)
        if names and names[-1] not in states[0]:  # a number that was 0 so far is scheduled: momentum, say
            for parameter, state in zip(parameters, states, strict=True):
                for name in names:
                    state.setdefault(name, torch.zeros_like(parameter, memory_format=torch.preserve_format))
        slots = [[state[name] for state in states] for name in names]
        if self.rule.update_all(parameters, gradients, slots, group, count):
            return
        for parameter, gradient, state in zip(parameters, gradients, states, strict=True):
            held = [state[name] for name in names]
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
