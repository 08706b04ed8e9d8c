"""An optimizer made of one elementwise rule, written once for eager, flat and compiled use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

Number = float | Tensor


class Rule(Protocol):
    """How one tensor is updated from its gradient and its state, element by element.

    Because each element depends on itself alone, the core may hand over many parameters as one flat tensor, or trace
    the rule into a compiled step.
    """

    def init(self, parameter: Tensor, group: Mapping[str, Any], /) -> dict[str, Tensor]:
        """State tensors of the parameter's shape before its first update."""
        ...

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], group: Mapping[str, Any], k: Number, /
    ) -> None:
        """Change ``parameter`` and ``state`` in place.

        Args:
            parameter: any shape.
            gradient: same shape; may be overwritten.
            state: what `init` made.
            group: the group's numbers; each a float, or a 0-d tensor inside a compiled step.
            k: which update of this parameter it is, from 1; a float, or a 0-d float32 tensor inside a compiled step.
        """
        ...


class ElementwiseOptimizer:
    """Applies a `Rule` to every parameter that has a gradient.

    It offers what `torch.optim.Optimizer` offers and the core uses. It does not derive from that class, whose
    constructor imports the compiler (over a second of start-up).

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
        """The parameter's state, made at its first use: ``step`` and the rule's tensors."""
        state = self.state.get(parameter)
        if state is None:
            state = self.state[parameter] = {"step": 0.0, **self.rule.init(parameter, group)}
        return state

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Make one update; parameters without a gradient are left alone."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state_of(parameter, group)
                    state["step"] += 1.0
                    self.rule.update(parameter, parameter.grad, state, group, state["step"])
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.zero_()


def add_scaled_(target: Tensor, other: Tensor, factor: Number) -> Tensor:
    """``target += factor * other`` in place, for a factor that is a number or a 0-d tensor."""
    if isinstance(factor, Tensor):
        return target.add_(other * factor)
    return target.add_(other, alpha=factor)
