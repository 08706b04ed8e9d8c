"""Single updates of a small network: what optimizers are held to outside of runs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from trainkit.clock import Clock
from trainkit.component import Component
from trainkit.composite import make_parts
from trainkit.errors import TrainkitError
from trainkit.instantiate import Builder
from trainkit.protocols import Optimizer, silent
from trainkit.recipe import Recipe
from trainkit.steps import Closure
from trainkit.testing.build import recipe_of
from trainkit.testing.kept import once_for_each
from trainkit.testing.sparse import Rows

PATIENT = 12  # updates; some look at several gradients before they move


def network(component: Component, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A small network that the optimizer can train, always with the same weights.

    Every other number is zero: there the smallest update is one in any number format.
    """
    generator = torch.get_rng_state()
    torch.manual_seed(5)
    try:
        if component.capabilities.get("sparse"):
            model: nn.Module = Rows(3).to(dtype)
        else:
            widths = itertools.pairwise((6, 8, 5, 3))
            layers = itertools.chain.from_iterable((nn.Linear(*pair), nn.Tanh()) for pair in widths)
            model = nn.Sequential(*list(layers)[:-1]).to(dtype)
        for parameter in model.parameters():
            parameter.data.view(-1)[::2] = 0
        return model
    finally:
        torch.set_rng_state(generator)


@dataclass
class Bench:
    """A network and its optimizer, as a run would build it from the component's example.

    Args:
        component: the optimizer, or a wrapper around the tiny recipe's own.
        model: the network.
        optimizer: what trains it.
        inside: of a wrapper, the optimizer that it wraps; of an optimizer, itself.
        lacking: names of parameters that get no gradient.
        by_closure: whether updates are given loss and gradients as a function; unset where the optimizer needs that.
        losses: every loss that was computed.
    """

    component: Component
    model: nn.Module
    optimizer: Optimizer
    inside: Optimizer
    lacking: tuple[str, ...] = ()
    by_closure: bool | None = None
    losses: list[float] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        component: Component,
        *,
        dtype: torch.dtype = torch.float32,
        frozen: Sequence[str] = (),
        scales: Mapping[str, float] | None = None,
        by_closure: bool | None = None,
    ) -> Bench:
        """Build one.

        Args:
            component: the optimizer or wrapper.
            dtype: of the network's weights.
            frozen: names of parameters that need no gradient.
            scales: names of parameters with a group of their own, and the factor on its learning rate.
            by_closure: as that of the bench.
        """
        model = network(component, dtype)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen)
        bench = cls.over(component, model, scales)
        bench.by_closure = by_closure
        return bench

    @classmethod
    def over(cls, component: Component, model: nn.Module, scales: Mapping[str, float] | None = None) -> Bench:
        """Build one over another network."""
        groups: dict[float, dict[str, Any]] = {}
        for name, parameter in model.named_parameters():
            scale = (scales or {}).get(name, 1.0)
            group = groups.setdefault(scale, {"params": [], "names": [], "lr_scale": scale})
            group["params"].append(parameter)
            group["names"].append(name)
        with told(component, f"building it over {next(model.parameters()).dtype} weights"):
            builder = _builder(component)
            optimizer = inside = make_parts(builder, list(groups.values()), model, 1.0)
            if component.kind == "wrapper":
                optimizer = builder.make("optimizer", "wrap", 0, optimizer=inside, model=model)
        return cls(component, model, optimizer, inside)

    @classmethod
    def inside_alone(cls, component: Component) -> Bench:
        """The optimizer that a wrapper is put around, without it."""
        return cls.of(_recipe(component).components[("optimizer",)])

    @property
    def names(self) -> list[str]:
        """Those of the weights that the optimizer itself trains, the first layers' first."""
        return [name for name, parameter in self.model.named_parameters() if parameter.dim() > 1]

    def weights(self) -> dict[str, Tensor]:
        """A copy of all parameters by name."""
        return {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}

    def advance(self, updates: range) -> None:
        """Make these updates; the gradients of each are the same for the same weights, whoever asks."""
        for number in updates:
            self.update(number)

    def advance_until_it_moves(self, first: int = 0, name: str = "", least: int = 1) -> int:
        """Make updates until a parameter, or any of those that the optimizer itself trains, has moved.

        Args:
            first: the first update.
            name: the parameter; ``""`` for any.
            least: so many updates are made in any case.

        Returns:
            The last update.

        Raises:
            AssertionError: if nothing has moved in `PATIENT` updates.
        """
        before, names = self.weights(), [name] if name else self.names
        for number in range(first, first + PATIENT):
            self.update(number)
            after = self.weights()
            if number >= first + least - 1 and any(not torch.equal(before[one], after[one]) for one in names):
                return number
        what = f"'{name}'" if name else f"no {before[names[0]].dtype} weight"
        said = f"{self.component.kind} '{self.component.name}'"
        raise AssertionError(f"{said}: {what} has moved in {PATIENT} updates; update every parameter of every group")

    def update(self, number: int) -> Any:
        """Make one update, and give what ``step`` gave."""
        for seed in (random.seed, numpy.random.seed, torch.manual_seed):
            seed(1000 + number)  # as a checkpoint would restore it
        closure = Closure(lambda: self._gradients(number), lambda: None)
        what = f"update {number} of {next(self.model.parameters()).dtype} weights"
        without = [name for name, own in self.model.named_parameters() if name in self.lacking or not own.requires_grad]
        if without:
            what += f", where '{without[0]}' has no gradient (grad is None),"
        by_closure = self.by_closure
        if by_closure is None:
            by_closure = bool(self.component.capabilities.get("needs_closure"))
        with told(self.component, what):
            if by_closure:
                return self.optimizer.step(closure)
            closure()
            return self.optimizer.step()

    def _gradients(self, number: int) -> Tensor:
        assert torch.is_grad_enabled(), "the closure is called without gradients; call it within torch.enable_grad()"
        self.optimizer.zero_grad()
        inputs = torch.randn(12, 6, generator=torch.Generator().manual_seed(number))
        outputs = self.model(inputs.to(next(self.model.parameters()).dtype) * (1 + number % 3))
        loss: Tensor = (outputs - 0.5).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        for name, parameter in self.model.named_parameters():
            if name in self.lacking:
                parameter.grad = None
        self.losses.append(float(loss.detach()))
        return loss.detach()


def _builder(component: Component) -> Builder:
    recipe = _recipe(component)
    builder = Builder(recipe, recipe.plugins, silent)
    builder.clock = Clock(batches_per_epoch=3, samples_per_update=16, total_updates=PATIENT)
    return builder


@once_for_each
def _recipe(component: Component) -> Recipe:
    return recipe_of(component)


@contextmanager
def told(component: Component, what: str) -> Iterator[None]:
    """Say which component raised, and at what.

    Raises:
        AssertionError: in the place of whatever is raised within.
    """
    try:
        yield
    except (TrainkitError, AssertionError) as error:
        raise AssertionError(f"{component.kind} '{component.name}': {what} failed: {error}") from error
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise AssertionError(f"{component.kind} '{component.name}': {what} raised {said}") from error


def movement(before: Mapping[str, Tensor], after: Mapping[str, Tensor], name: str) -> float:
    """How far a parameter has moved, as the root of the sum of squares."""
    return float((after[name].double() - before[name].double()).norm())
