"""From parameter groups to one optimizer: the recipe's own, or two of them behind one face."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from torch import Tensor, nn

from trainkit.instantiate import Builder
from trainkit.parameters import parameters_of
from trainkit.protocols import Optimizer
from trainkit.routing import check_shares, parts_of, route


def batch_factor(settings: Mapping[str, Any], samples_per_update: int) -> float:
    """What ``lr_for_batch`` and ``lr_rule`` multiply every learning rate by.

    Args:
        settings: the filled ``[optimizer]`` table.
        samples_per_update: the global batch, accumulation included.

    Source: linear: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.1; arXiv 1706.02677. sqrt, for Adam
    and its relatives: Malladi et al. 2022, "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms"; arXiv
    2205.10287.
    """
    meant, rule = settings["lr_for_batch"], settings["lr_rule"] or "linear"
    if meant is None or rule == "none":
        return 1.0
    ratio = samples_per_update / meant
    return math.sqrt(ratio) if rule == "sqrt" else float(ratio)


Share = list[dict[str, Any]]


def make_parts(
    builder: Builder,
    groups: Sequence[Mapping[str, Any]],
    model: nn.Module,
    factor: float,
    exchanged: Callable[[Share], Share] = lambda share: share,
) -> Optimizer:
    """Build the recipe's optimizer, and the one for the rest where there is one.

    Each group's learning rate is multiplied by its ``lr_scale`` and by ``factor``.

    Args:
        builder: builds the optimizers.
        groups: parameter groups, as ``trainkit_parameter_groups`` gives them; of one that both optimizers share each
            gets its own part.
        model: the model, for the routing.
        factor: on the rate of every group.
        exchanged: gives the groups that an optimizer is made with in place of its own; called when all know theirs.

    Raises:
        RecipeError: if an optimizer gets no parameter, or one that it cannot take.
    """
    parts, routes = parts_of(builder.recipe), route(builder.recipe, model)
    owned = {one.parameter: one for one in parameters_of(model)}
    shares = [[own for group in groups if (own := _only(group, routes, n))["params"]] for n in range(len(parts))]
    check_shares(builder.recipe, parts, [[owned[p] for group in share for p in group["params"]] for share in shares])
    made: list[Optimizer] = []
    for part, share in zip(parts, shares, strict=True):
        optimizer: Optimizer = builder.make(*part.path, params=exchanged(share))
        _finish(optimizer, share, factor)
        if len(parts) > 1:
            for group in optimizer.param_groups:
                group["optimizer"] = part.component.name
        made.append(optimizer)
    return made[0] if len(made) == 1 else CompositeOptimizer(made)


def _only(group: Mapping[str, Any], routes: Mapping[nn.Parameter, int], number: int) -> dict[str, Any]:
    """The group with those of its parameters that go to part ``number``."""
    chosen = [(n, p) for n, p in zip(group["names"], group["params"], strict=True) if routes[p] == number]
    return {**group, "names": [name for name, _ in chosen], "params": [parameter for _, parameter in chosen]}


def _finish(optimizer: Optimizer, groups: Sequence[Mapping[str, Any]], factor: float) -> None:
    """Give the optimizer's groups their names and their rates."""
    held = optimizer.param_groups
    if len(held) == len(groups):
        for group, given in zip(held, groups, strict=True):
            group["names"] = given["names"]
            group["lr_scale"] = given.get("lr_scale", 1.0) * factor
            group["lr"] = group["lr"] * group["lr_scale"]
    else:  # an optimizer of a single group
        held[0]["names"] = [name for given in groups for name in given["names"]]
        held[0]["lr_scale"] = factor
        held[0]["lr"] = held[0]["lr"] * factor


class CompositeOptimizer:
    """Several optimizers as one, each for parameters of its own: one list of groups, one state, one step.

    Args:
        parts: the optimizers; no parameter is in two of them.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = tuple(parts)
        # The very dicts of the parts, so that whoever schedules a group's numbers reaches its optimizer.
        self.param_groups: list[dict[str, Any]] = [group for part in self.parts for group in part.param_groups]
        self.state: MutableMapping[Tensor, Any] = _States(self.parts)

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Make one update of every part, from the gradients that are there or that ``closure`` leaves."""
        loss = closure() if closure is not None else None
        for part in self.parts:
            part.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)


class _States(MutableMapping[Tensor, Any]):
    """The states of several optimizers by parameter, as one mapping."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self._parts = parts
        self._owner = {p: part for part in parts for group in part.param_groups for p in group["params"]}

    def __getitem__(self, parameter: Tensor) -> Any:
        state = self._owner[parameter].state
        if parameter not in state:  # torch's own mapping would make one
            raise KeyError(parameter)
        return state[parameter]

    def __setitem__(self, parameter: Tensor, value: Any) -> None:
        self._owner[parameter].state[parameter] = value

    def __delitem__(self, parameter: Tensor) -> None:
        del self._owner[parameter].state[parameter]

    def __iter__(self) -> Iterator[Tensor]:
        for part in self._parts:
            yield from part.state

    def __len__(self) -> int:
        return sum(len(part.state) for part in self._parts)
