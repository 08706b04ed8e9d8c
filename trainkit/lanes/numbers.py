"""Numbers that differ between lanes, as tensors: those of a loss, or of an object whose hook changes gradients."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit.lanes.described import described
from trainkit.lanes.lane import Lane, as_if_alone
from trainkit.recipe import Recipe
from trainkit.run import Batch, Run
from trainkit.uploading import sent

Slopes = tuple[Tensor, Tensor]


def names_of(part: object) -> list[str]:
    """The fractional numbers that an object holds."""
    return [name for name, value in getattr(part, "__dict__", {}).items() if isinstance(value, float)]


def scheduled(runs: Sequence[Run]) -> bool:
    """Whether any run has a schedule for a number outside the optimizer's groups."""
    return any(value.group is None for run in runs for value in run.schedules)


def alike(parts: Sequence[object]) -> bool:
    """Whether objects are equal, numbers and all."""
    first = described(parts[0])
    return all(described(part) == first for part in parts[1:])


def with_numbers(part: Any, names: Sequence[str], values: Sequence[Tensor]) -> Any:
    """A copy of an object that holds tensors for its numbers."""
    changed = copy.copy(part)
    vars(changed).update(zip(names, values, strict=True))
    return changed


class Numbers:
    """The numbers of one object of each lane, as tensors ``(lanes,)``.

    Args:
        parts: the object of each lane.
        like: gives number format and device.
        fixed: whether they stay as they are.
    """

    def __init__(self, parts: Sequence[object], like: Tensor, fixed: bool) -> None:
        self.names = names_of(parts[0])
        self._parts = parts
        self._like = like
        self._fixed = fixed
        self._held: list[Tensor] | None = None

    def tensors(self) -> list[Tensor]:
        """One for each name."""
        if self._held is None or not self._fixed:
            rows = [[getattr(part, name) for part in self._parts] for name in self.names]
            like = self._like
            self._held = [sent(torch.tensor(row, dtype=like.dtype), like.device) for row in rows]
        return self._held


class GradientHooks:
    """Lets the runs' hooks change the gradients: all lanes in one go where the components can, else lane by lane.

    Args:
        lanes: the lanes.
        like: gives number format and device.
    """

    def __init__(self, lanes: Sequence[Lane], like: Tensor) -> None:
        runs, recipe = [lane.run for lane in lanes], lanes[0].recipe

        def labels(capability: str) -> set[str]:
            parts = [(path, recipe.components[path]) for path in recipe.order]
            return {f"{path[0]}.{path[1]}.{part.name}" for path, part in parts if part.capabilities.get(capability)}

        able = labels("lanes")
        hooks = [list(reversed(run.hook.trainkit_gradients.get_hookimpls())) for run in runs]
        self.any = bool(hooks[0])
        self._lanes = lanes
        # What can be part of a compiled step draws no random numbers.
        self._quiet = {impl.plugin_name for impl in hooks[0]} <= able | labels("compiles")
        self._together: list[tuple[Callable[..., Any], Any, Numbers]] | None = None
        if all(impl.plugin_name in able and tuple(impl.argnames) == ("gradients",) for impl in hooks[0]):
            fixed = not scheduled(runs)
            self._together = [
                (impls[0].function.__func__, impls[0].plugin, Numbers([impl.plugin for impl in impls], like, fixed))
                for impls in zip(*hooks, strict=True)
            ]

    def __call__(self, stacked: list[Tensor], own: Sequence[list[Tensor]]) -> None:
        """Change the gradients in place.

        Args:
            stacked: ``(lanes, ...)`` for each parameter.
            own: the views of each lane.
        """
        if self._together is None:
            for lane, gradients in zip(self._lanes, own, strict=True):
                with contextlib.nullcontext() if self._quiet else as_if_alone(lane):
                    lane.run.hook.trainkit_gradients(run=lane.run, gradients=gradients)
            return
        for function, plugin, numbers in self._together:

            def one(gradients: list[Tensor], values: list[Tensor], of: Any = (function, plugin, numbers)) -> Tensor:
                change, part, named = of
                change(with_numbers(part, named.names, values), gradients)
                return gradients[0]

            torch.vmap(one)(stacked, numbers.tensors())


class Losses:
    """The training loss of every lane.

    Args:
        runs: the runs.
        recipe: the recipe of the first.
        owned: for each run its training loss, where a plugin has one; else none.
        like: gives number format and device.
    """

    def __init__(
        self, runs: Sequence[Run], recipe: Recipe, owned: Sequence[Callable[..., Tensor]], like: Tensor
    ) -> None:
        parts = [run.loss for run in runs]
        fixed = not scheduled(runs)
        able = any(path[0] == "loss" and part.capabilities.get("lanes") for path, part in recipe.components.items())
        self._first = parts[0]
        self.numbers: Numbers | None = None
        self.single = list(owned)
        if owned or (fixed and alike(parts)):
            return
        if able:
            self.numbers = Numbers(parts, like, fixed)
        else:
            self.single = [lambda outputs, batch, loss=part: loss(outputs, batch.targets) for part in parts]

    def tensors(self) -> list[Tensor]:
        """What `one` is given beside the targets."""
        return [] if self.numbers is None else self.numbers.tensors()

    def one(self, outputs: Tensor, given: list[Tensor]) -> Tensor:
        """The loss of one lane, within vmap: of its outputs, targets and numbers."""
        if self.numbers is None:
            return self._first(outputs, given[0])
        loss: Tensor = with_numbers(self._first, self.numbers.names, given[1:])(outputs, given[0])
        return loss

    def slopes(
        self, outputs: Tensor, targets: Tensor, alike: bool, batches: Callable[[], Sequence[Batch]] | None
    ) -> Slopes:
        """The loss of every lane ``(lanes,)``, and the slope of each at its lane's outputs, shaped as these are.

        Args:
            outputs: ``(lanes, batch, ...)``, which take no gradient.
            targets: as `together` takes them.
            alike: likewise.
            batches: gives those of each lane; not needed where all losses are computed together.
        """
        sloped = None if self.single or self.numbers is not None else getattr(self._first, "sloped", None)
        if sloped is not None and outputs.dim() == 3:
            made = sloped(outputs, targets.expand(len(outputs), *targets.shape) if alike else targets)
            if made is not None:
                each, slopes = made
                return each.mean(1), slopes.div_(each.shape[1])
        outputs = outputs.detach().requires_grad_()
        if self.single:
            assert batches is not None
            parts = zip(self.single, outputs.unbind(0), batches(), strict=True)
            losses = torch.stack([loss(output, batch) for loss, output, batch in parts])
        else:
            losses = self.together(outputs, targets, alike, self.tensors())
        (found,) = torch.autograd.grad(losses, [outputs], torch.ones_like(losses))
        return losses.detach(), found

    def together(self, outputs: Tensor, targets: Tensor, alike: bool, numbers: Sequence[Tensor]) -> Tensor:
        """The loss of every lane ``(lanes,)``, of outputs ``(lanes, batch, ...)``.

        Args:
            outputs: the outputs.
            targets: ``(lanes, batch, ...)``, or ``(batch, ...)`` that all lanes share.
            alike: whether they share them.
            numbers: what `tensors` gave.
        """
        each = getattr(self._first, "each", None)
        if each is not None and self.numbers is None:
            lanes, samples = outputs.shape[:2]
            if alike:
                targets = targets.expand(lanes, *targets.shape)
            values: Tensor = each(outputs.flatten(0, 1), targets.flatten(0, 1))
            return values.view(lanes, samples).mean(1)
        call = torch.vmap(self.one, in_dims=(0, [None if alike else 0, *[0] * len(numbers)]))
        losses: Tensor = call(outputs, [targets, *numbers])
        return losses
