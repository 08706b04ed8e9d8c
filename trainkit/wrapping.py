"""An optimizer around another one: what every wrapper shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from trainkit.protocols import Optimizer


class OptimizerWrapper:
    """An optimizer that changes what another one does; by itself it changes nothing.

    Groups and state are those of the inner optimizer, so that schedules, logs and checkpoints see one optimizer. What a
    wrapper keeps of a parameter stands in the same state under names of its own, `slots`, and is saved and loaded by
    the parameter's name with the rest. The inner optimizer never meets these names: many take a state that is not empty
    for one that they have made.

    Args:
        optimizer: the inner optimizer, with all its groups.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The inner optimizer's groups."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.optimizer.param_groups = groups

    @property
    def state(self) -> Any:
        """The inner optimizer's state, with the wrapper's own slots."""
        return self.optimizer.state

    @state.setter
    def state(self, state: Any) -> None:
        self.optimizer.state = state

    def step(self, closure: Callable[[], Tensor] | None = None) -> Any:
        """Make one update, as the inner optimizer makes it."""
        return self.inner_step(closure)

    def inner_step(self, closure: Callable[[], Tensor] | None = None) -> Any:
        """Let the inner optimizer make its update, without showing it the wrapper's slots."""
        state, held = self.state, []
        if self.slots:
            for group in self.param_groups:
                for parameter in group["params"]:
                    own = state.get(parameter)
                    if own and (kept := {name: own.pop(name) for name in self.slots if name in own}):
                        held.append((parameter, kept))
                        if not own:
                            del state[parameter]
        try:
            return self.optimizer.step(closure) if closure is not None else self.optimizer.step()
        finally:
            for parameter, kept in held:
                self.state.setdefault(parameter, {}).update(kept)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad(set_to_none=set_to_none)
