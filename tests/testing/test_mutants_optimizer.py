"""Each contract of optimizers, and of wrappers, catches one that breaks it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.testing.mutants import Mutant, lacking
from trainkit import Component, Optimizer, OptimizerWrapper
from trainkit.testing import OptimizerContract, WrapperContract


class Momentum(torch.optim.Optimizer):
    """Descent with momentum."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.05})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = self.loss(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if self.takes(parameter):
                    self.update(parameter, self.velocity(parameter), self.rate(group))
        return loss

    def loss(self, closure: Any) -> Any:
        if closure is None:
            return None
        with torch.enable_grad():
            return closure()

    def takes(self, parameter: Tensor) -> bool:
        return parameter.grad is not None

    def velocity(self, parameter: Tensor) -> Tensor:
        found: Tensor = self.state[parameter].setdefault("velocity", torch.zeros_like(parameter))
        return found

    def rate(self, group: Mapping[str, Any]) -> Any:
        return group["lr"]

    def update(self, parameter: Tensor, velocity: Tensor, rate: float) -> None:
        if parameter.grad is not None:
            velocity.mul_(0.9).add_(parameter.grad)
        parameter.add_(velocity, alpha=-rate)


class OfMatrices(Momentum):
    def takes(self, parameter: Tensor) -> bool:
        return super().takes(parameter) and parameter.dim() > 1


class WithObjects(Momentum):
    def velocity(self, parameter: Tensor) -> Tensor:
        self.state[parameter]["seen"] = {"weights"}
        return super().velocity(parameter)


class Loose(Momentum):
    def velocity(self, parameter: Tensor) -> Tensor:
        self.state["updates"] = self.state.get("updates", 0) + 1
        return super().velocity(parameter)


class Decaying(Momentum):
    """Takes its decay off every parameter."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.mul_(0.99)
        return loss


class Prepared(Momentum):
    """Makes state for every parameter."""

    def takes(self, parameter: Tensor) -> bool:
        self.velocity(parameter)
        return super().takes(parameter)


class Rolling(Momentum):
    """Lets a parameter roll on where its gradient is missing."""

    def takes(self, parameter: Tensor) -> bool:
        return super().takes(parameter) or parameter in self.state


class Deaf(Momentum):
    def loss(self, closure: Any) -> Any:
        return None


class Silent(Momentum):
    def loss(self, closure: Any) -> Any:
        super().loss(closure)


class Blind(Momentum):
    def loss(self, closure: Any) -> Any:
        return None if closure is None else closure()


class Late(Momentum):
    """Asks for the gradients of the next update, when it has made this one."""

    def step(self, closure: Any = None) -> Any:
        super().step()
        return self.loss(closure)


class Keeping(Momentum):
    def zero_grad(self, set_to_none: bool = True) -> None:
        pass


class OfFirstGroup(Momentum):
    def rate(self, group: Mapping[str, Any]) -> Any:
        return self.param_groups[0]["lr"]


class OfLastGroup(Momentum):
    def rate(self, group: Mapping[str, Any]) -> Any:
        return self.param_groups[-1]["lr"]


class Steady(Momentum):
    """Reads its rate once."""

    def rate(self, group: Mapping[str, Any]) -> Any:
        return self.state[group["params"][0]].setdefault("rate", group["lr"])


class InSingles(Momentum):
    """Keeps its velocity in float32."""

    def velocity(self, parameter: Tensor) -> Tensor:
        found: Tensor = self.state[parameter].setdefault("velocity", torch.zeros(parameter.shape))
        return found.lerp_(parameter.grad, 0.1)


class Normed(Momentum):
    def update(self, parameter: Tensor, velocity: Tensor, rate: float) -> None:
        super().update(parameter, velocity, rate / (1e-3 + float(parameter.grad.norm())))


class Elsewhere(Momentum):
    """Keeps its velocity where no checkpoint looks."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.held: dict[Tensor, Tensor] = {}

    def velocity(self, parameter: Tensor) -> Tensor:
        return self.held.setdefault(parameter, torch.zeros_like(parameter))


class Lucky(Momentum):
    """Draws numbers that no seed knows."""

    def rate(self, group: Mapping[str, Any]) -> Any:
        return group["lr"] * (1 + int.from_bytes(os.urandom(4), "big") / 2**32)


class Talking(Momentum):
    def step(self, closure: Any = None) -> Any:
        print("an update")
        return super().step(closure)


def optimizer(made: Callable[[Any], Optimizer], **capabilities: bool) -> Component:
    def build(params: list[dict[str, Any]], /) -> Optimizer:
        return made(params)

    return Component("optimizer", build, made.__name__.lower(), capabilities=capabilities)


ASKING = optimizer(Momentum, needs_closure=True)
OPTIMIZERS = [
    ("moves_every_parameter", OfMatrices, "'0.bias' has not moved in 12 updates"),
    ("keeps_its_state_plain", WithObjects, "no checkpoint can hold its state: .*seen: set"),
    ("keeps_its_state_plain", Loose, r"state\['updates'\] belongs to no parameter"),
    ("leaves_frozen_parameters_alone", Decaying, "'0.weight' is frozen and has moved"),
    ("leaves_frozen_parameters_alone", Prepared, r"'0.weight' is frozen and has state \(velocity\)"),
    ("leaves_alone_what_has_no_gradient", Rolling, "'2.weight' has no gradient at update 2 and has moved"),
    ("takes_a_closure", Deaf, "does not call the closure"),
    ("takes_a_closure", Silent, "gave nothing; return what the closure gave"),
    ("takes_a_closure", Blind, "the closure is called without gradients; call it within"),
    ("takes_a_closure", Late, "does not make the update of a bare step"),
    ("forgets_gradients", Keeping, "still has a gradient"),
    ("keeps_the_rates_of_groups_apart", OfFirstGroup, r"read group\['lr'\] of each group"),
    ("keeps_the_rates_of_groups_apart", OfLastGroup, "in another group, has moved by"),
    ("follows_a_schedule", Steady, r"read group\['lr'\] at every step"),
    ("trains_bfloat16_weights", InSingles, "update 0 of torch.bfloat16 weights raised RuntimeError"),
    ("trains_float64_weights", InSingles, "update 0 of torch.float64 weights raised RuntimeError"),
    ("resumes_bit_for_bit", Elsewhere, r"in self.state\[parameter\] or the groups"),
    ("gives_the_same_for_the_same_seed", Lucky, "a second run of the same recipe is another one"),
    ("prints_nothing", Talking, "it prints 'an update"),
]


class Halved(OptimizerWrapper):
    """Halves every update, and keeps a mean of the weights."""

    slots = ("mean",)

    def step(self, closure: Any = None) -> Any:
        before = [(p, p.detach().clone()) for group in self.param_groups for p in group["params"]]
        loss = self.inner_step(closure)
        with torch.no_grad():
            for parameter, old in before:
                if self.takes(parameter):
                    parameter.lerp_(old, self.share(parameter, old))
                    self.keep(parameter)
        return loss

    def takes(self, parameter: Tensor) -> bool:
        return parameter.grad is not None

    def share(self, parameter: Tensor, old: Tensor) -> float:
        return 0.5

    def keep(self, parameter: Tensor) -> None:
        own = self.state.setdefault(parameter, {})
        own.setdefault("mean", parameter.detach().clone()).lerp_(parameter, 0.1)


class Held(Halved):
    """Puts vectors back to where they were."""

    def share(self, parameter: Tensor, old: Tensor) -> float:
        return 0.5 if parameter.dim() > 1 else 1.0


class Listed(Halved):
    def keep(self, parameter: Tensor) -> None:
        self.state.setdefault(parameter, {})["mean"] = {"weights"}


class DecayingAll(Halved):
    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.mul_(0.99)
        return loss


class DeafHalved(Halved):
    def step(self, closure: Any = None) -> Any:
        return super().step()


class KeepingHalved(Halved):
    def zero_grad(self, set_to_none: bool = True) -> None:
        pass


class OneRate(Halved):
    def step(self, closure: Any = None) -> Any:
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] = rates[0]
        loss = super().step(closure)
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate
        return loss


class SteadyHalved(Halved):
    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def step(self, closure: Any = None) -> Any:
        for group, rate in zip(self.param_groups, self.rates, strict=True):
            group["lr"] = rate
        return super().step(closure)


class HalvedInSingles(Halved):
    def keep(self, parameter: Tensor) -> None:
        own = self.state.setdefault(parameter, {})
        own.setdefault("mean", torch.zeros(parameter.shape)).lerp_(parameter, 0.1)


class HalvedByNorm(Halved):
    def share(self, parameter: Tensor, old: Tensor) -> float:
        return 1 / (1 + float((parameter - old).norm()))


class HalvedElsewhere(Halved):
    """Draws the weights to a mean that no checkpoint holds."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self.means: dict[Tensor, Tensor] = {}

    def keep(self, parameter: Tensor) -> None:
        mean = self.means.setdefault(parameter, parameter.detach().clone())
        parameter.lerp_(mean.lerp_(parameter, 0.1), 0.1)


class LuckyHalved(Halved):
    def share(self, parameter: Tensor, old: Tensor) -> float:
        return int.from_bytes(os.urandom(4), "big") / 2**33


class TalkingHalved(Halved):
    def step(self, closure: Any = None) -> Any:
        print("a half")
        return super().step(closure)


class OwnGroups(Halved):
    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self.groups = [dict(group) for group in optimizer.param_groups]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.groups = groups


class Unnamed(Halved):
    slots = ()


def wrapper(made: Callable[[Any], Optimizer], **capabilities: bool) -> Component:
    def build(optimizer: Optimizer, model: nn.Module, /) -> Optimizer:
        return made(optimizer)

    return Component("wrapper", build, made.__name__.lower(), capabilities=capabilities)


WRAPPERS = [
    ("moves_every_parameter", Held, "'0.bias' has not moved in 12 updates"),
    ("keeps_its_state_plain", Listed, "no checkpoint can hold its state: .*mean: set"),
    ("leaves_frozen_parameters_alone", DecayingAll, "'0.weight' is frozen and has moved"),
    ("leaves_alone_what_has_no_gradient", DecayingAll, "'2.weight' has no gradient at update 2 and has moved"),
    ("takes_a_closure", DeafHalved, "does not call the closure"),
    ("forgets_gradients", KeepingHalved, "still has a gradient"),
    ("keeps_the_rates_of_groups_apart", OneRate, r"read group\['lr'\] of each group"),
    ("follows_a_schedule", SteadyHalved, r"read group\['lr'\] at every step"),
    ("trains_bfloat16_weights", HalvedInSingles, "update 0 of torch.bfloat16 weights raised RuntimeError"),
    ("trains_float64_weights", HalvedInSingles, "update 0 of torch.float64 weights raised RuntimeError"),
    ("resumes_bit_for_bit", HalvedElsewhere, "under a name of its slots"),
    ("gives_the_same_for_the_same_seed", LuckyHalved, "a second run of the same recipe is another one"),
    ("prints_nothing", TalkingHalved, "it prints 'a half"),
    ("has_the_groups_of_the_optimizer_inside", OwnGroups, "its param_groups are not those of the optimizer"),
    ("hides_its_state_from_the_optimizer_inside", Unnamed, "the optimizer inside meets the wrapper's mean"),
]

MUTANTS = [
    *(Mutant(OptimizerContract, test, optimizer(made), optimizer(Momentum), why) for test, made, why in OPTIMIZERS),
    Mutant(OptimizerContract, "takes_a_closure", optimizer(Deaf, needs_closure=True), ASKING, "moves nothing with one"),
    Mutant(
        OptimizerContract,
        "is_elementwise_as_declared",
        optimizer(Normed, elementwise=True),
        optimizer(Momentum, elementwise=True),
        "it declares elementwise",
    ),
    *(Mutant(WrapperContract, test, wrapper(made), wrapper(Halved), why) for test, made, why in WRAPPERS),
    Mutant(
        WrapperContract,
        "is_elementwise_as_declared",
        wrapper(HalvedByNorm, elementwise=True),
        wrapper(Halved, elementwise=True),
        "it declares elementwise",
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_contract_catches(mutant: Mutant, tmp_path: Path) -> None:
    mutant.check(tmp_path)


def test_no_contract_lacks_a_planted_defect() -> None:
    assert not lacking([OptimizerContract, WrapperContract], MUTANTS)
