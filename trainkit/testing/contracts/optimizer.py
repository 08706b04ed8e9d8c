"""What every optimizer keeps, whatever its method: single updates of a small network, and whole runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainkit import checkpoint
from trainkit.component import Component
from trainkit.hooking import has_hooks
from trainkit.snapshot import optimizer_state, settings_of
from trainkit.stateful import optimizers_in
from trainkit.testing.ended import identical
from trainkit.testing.in_runs import InRunsContract
from trainkit.testing.kept import once_for_each
from trainkit.testing.updates import PATIENT, Bench, movement


class OptimizerContract(InRunsContract):
    """An optimizer moves what has a gradient, by the numbers of its group, and keeps its state by parameter."""

    kind = "optimizer"

    def test_moves_every_parameter(self, component: Component) -> None:
        """Every parameter that has gradients moves within a few updates, and stays finite."""
        before, after = network_weights(component), trained(component)[0]
        for name, weight in after.items():
            assert weight.isfinite().all(), f"{said(component)}: '{name}' is not finite after {PATIENT} updates"
            assert not torch.equal(weight, before[name]), (
                f"{said(component)}: '{name}' has not moved in {PATIENT} updates; update every parameter of every group"
            )

    def test_keeps_its_state_plain(self, component: Component) -> None:
        """What it keeps are tensors, numbers, text, lists and tables: a checkpoint holds them, and gives them back."""
        _, bench = trained(component)
        parts = {f"hooks {number}": part for number, part in enumerate(optimizers_in(bench.optimizer)) if saves(part)}
        kept = {
            "state": optimizer_state(bench.optimizer),
            "groups": settings_of(bench.optimizer.param_groups),
            **{label: part.trainkit_save() for label, part in parts.items() if not _wants_a_run(part)},
        }
        for label, state in kept.items():
            try:
                again = reloaded(state, label)
            except (TypeError, ValueError) as error:
                raise AssertionError(
                    f"{said(component)}: no checkpoint can hold its state: {error}; turn it into such data after each "
                    "step, or into what trainkit_save gives"
                ) from error
            difference = other_after_loading(state, again, label)
            assert not difference, f"{said(component)}: {difference}; keep what comes back from JSON as it was"
        loose = [key for key in bench.optimizer.state if not isinstance(key, Tensor)]
        assert not loose or any(map(saves, parts.values())), (
            f"{said(component)}: state[{loose[0]!r}] belongs to no parameter, so that checkpoints do not hold it; save "
            "it by trainkit_save and trainkit_restore"
        )

    def test_leaves_frozen_parameters_alone(self, component: Component) -> None:
        """A parameter that needs no gradient keeps its bytes, has no state, and does not disturb the others."""
        frozen = network_names(component)[0]
        bench = Bench.of(component, frozen=(frozen,))
        before = bench.weights()
        bench.advance_until_it_moves()
        assert identical(before[frozen], bench.weights()[frozen]), (
            f"{said(component)}: '{frozen}' is frozen and has moved; pass over what has no gradient (grad is None)"
        )
        held = optimizer_state(bench.optimizer).get(frozen) or {}
        tensors = sorted(key for key, value in held.items() if isinstance(value, Tensor))
        assert not tensors, (
            f"{said(component)}: '{frozen}' is frozen and has state ({', '.join(tensors)}); make the state of a "
            "parameter at its first gradient"
        )

    def test_leaves_alone_what_has_no_gradient(self, component: Component) -> None:
        """A parameter whose gradient is missing at an update keeps its bytes there, and moves again afterwards."""
        bench = Bench.of(component)
        name = bench.names[1]
        bench.advance(range(2))
        bench.lacking, before = (name,), bench.weights()
        for number in (2, 3):
            bench.update(number)
            assert identical(before[name], bench.weights()[name]), (
                f"{said(component)}: '{name}' has no gradient at update {number} and has moved; pass over what has "
                "none (grad is None), its weight decay and momentum included"
            )
        bench.lacking = ()
        bench.advance_until_it_moves(4, name)

    def test_takes_a_closure(self, component: Component) -> None:
        """A step that is given the loss as a function makes the update of a bare step, or calls it as it needs."""
        bench = Bench.of(component, by_closure=True)
        if component.capabilities.get("needs_closure"):
            before = bench.weights()
            bench.advance(range(PATIENT))
            assert any(not torch.equal(before[name], weight) for name, weight in bench.weights().items()), (
                f"{said(component)}: it needs a closure and moves nothing with one"
            )
            return
        other = Bench.of(component, by_closure=False)
        for number in range(4):
            loss = bench.update(number)
            assert bench.losses, f"{said(component)}: step(closure) does not call the closure"
            assert loss is not None, f"{said(component)}: step(closure) gave nothing; return what the closure gave"
            assert float(loss) == bench.losses.pop(0), (
                f"{said(component)}: step(closure) gave {loss} instead of the loss; return what the closure gave"
            )
            other.update(number)
        name = first_difference(bench.weights(), other.weights())
        assert not name, (
            f"{said(component)}: step(closure) does not make the update of a bare step, in '{name}'; call the closure "
            "first, within torch.enable_grad(), and use the gradients that it leaves"
        )

    def test_forgets_gradients(self, component: Component) -> None:
        """``zero_grad`` leaves no gradient behind."""
        bench = Bench.of(component)
        bench.update(0)
        bench.optimizer.zero_grad()
        left = [name for name, own in bench.model.named_parameters() if own.grad is not None and own.grad.any()]
        assert not left, f"{said(component)}: after zero_grad() '{left[0]}' still has a gradient"

    def test_keeps_the_rates_of_groups_apart(self, component: Component) -> None:
        """A group whose rate is a thousandth moves less in an update than with the full rate."""
        for word in ("one_lr", "single_group"):
            if component.capabilities.get(word):
                pytest.skip(f"it declares {word}: no recipe can give it groups with rates of their own")
        first, name = network_names(component)[:2]
        full, scaled = Bench.of(component), Bench.of(component, scales={name: 1e-3})
        start = full.weights()
        last = full.advance_until_it_moves(0, name)  # the way there is the same: nothing has moved
        scaled.advance(range(last + 1))
        whole, small = (movement(start, bench.weights(), name) for bench in (full, scaled))
        assert small < whole, (
            f"{said(component)}: with a thousandth of its rate '{name}' has moved by {small:g}, with all of it by "
            f"{whole:g}; read group['lr'] of each group"
        )
        whole, other = (movement(start, bench.weights(), first) for bench in (full, scaled))
        assert other >= 0.1 * whole, (
            f"{said(component)}: where '{name}' has a thousandth of the rate '{first}', in another group, has moved by "
            f"{other:g} instead of {whole:g}; read group['lr'] of each group"
        )

    def test_follows_a_schedule(self, component: Component) -> None:
        """A rate that is set in the groups before an update acts on that update."""
        if component.capabilities.get("own_lr"):
            pytest.skip("it declares own_lr: no schedule may set its rate")
        steady, falling = Bench.of(component), Bench.of(component)
        for bench in (steady, falling):
            bench.advance(range(3))
        before = steady.weights()
        for group in falling.optimizer.param_groups:
            group["lr"] *= 1e-3
        last = steady.advance_until_it_moves(3)
        falling.advance(range(3, last + 1))
        whole, small = (sum(movement(before, one.weights(), name) for name in before) for one in (steady, falling))
        assert small < whole, (
            f"{said(component)}: with a thousandth of the rate an update moves the weights by {small:g}, with all of "
            f"it by {whole:g}; read group['lr'] at every step, or declare own_lr"
        )

    def test_trains_bfloat16_weights(self, component: Component) -> None:
        """Weights of bfloat16 move, stay finite, and stay bfloat16."""
        trains(component, torch.bfloat16)

    def test_trains_float64_weights(self, component: Component) -> None:
        """Weights of float64 move, stay finite, and stay float64."""
        trains(component, torch.float64)

    def test_is_elementwise_as_declared(self, component: Component) -> None:
        """Declared ``elementwise``, a number moves alike in whatever tensor it lies."""
        if not component.capabilities.get("elementwise"):
            pytest.skip("it does not declare elementwise")
        whole, parts = ends(component, 12), ends(component, 5, 7)
        furthest = float((whole - parts).abs().max())
        assert torch.allclose(whole, parts, rtol=1e-12, atol=0), (
            f"{said(component)}: it declares elementwise, and a number moves by {furthest:g} otherwise where it lies "
            "in another tensor; leave elementwise out: it lets updates of many tensors be made as one"
        )


def said(component: Component) -> str:
    """How messages begin."""
    return f"{component.kind} '{component.name}'"


def network_names(component: Component) -> list[str]:
    """Those of the weights that the optimizer itself trains."""
    return trained(component)[1].names


@once_for_each
def network_weights(component: Component) -> dict[str, Tensor]:
    """The weights before any update."""
    return Bench.of(component).weights()


@once_for_each
def trained(component: Component) -> tuple[dict[str, Tensor], Bench]:
    """The weights after many updates, and the bench; nobody changes it."""
    bench = Bench.of(component)
    bench.advance(range(PATIENT))
    return bench.weights(), bench


def trains(component: Component, dtype: torch.dtype) -> None:
    """See that weights of a type are trained."""
    bench = Bench.of(component, dtype=dtype)
    bench.advance_until_it_moves(least=4)
    for name, weight in bench.weights().items():
        assert weight.dtype == dtype, (
            f"{said(component)}: '{name}' was {dtype} and is {weight.dtype} after an update; change weights in place"
        )
        assert weight.isfinite().all(), f"{said(component)}: '{name}' of {dtype} is not finite after a few updates"


def first_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> str:
    """The name of the first tensor that is not the same; ``""`` where all are."""
    return next((name for name, tensor in one.items() if not identical(tensor, other[name])), "")


def saves(part: Any) -> bool:
    """Whether an optimizer has hooks that save what belongs to no parameter."""
    return has_hooks(part) and hasattr(part, "trainkit_save")


def _wants_a_run(part: Any) -> bool:
    code = getattr(part.trainkit_save, "__code__", None)
    return code is None or "run" in code.co_varnames[: code.co_argcount]


def reloaded(state: Any, label: str) -> Any:
    """The state as it comes back from a checkpoint.

    Raises:
        TypeError: naming the place of what no checkpoint can hold.
    """
    tensors: dict[str, Tensor] = {}
    plain = json.loads(json.dumps(checkpoint.split_state(state, label, tensors), allow_nan=False))
    data = checkpoint.from_safetensors(bytearray(checkpoint.to_safetensors(tensors)))
    return checkpoint.join_state(plain, data)


def other_after_loading(state: Any, again: Any, at: str) -> str:
    """The first thing that is another one after it was saved and loaded; a tuple may be a list then."""
    if isinstance(state, Tensor):
        return "" if isinstance(again, Tensor) and identical(state, again) else f"{at} is another tensor when loaded"
    if isinstance(state, dict):
        found = [other_after_loading(state[key], again.get(key), f"{at}/{key}") for key in state]
        return next(filter(None, found), "")
    if isinstance(state, list | tuple):
        if len(state) != len(again):
            return f"{at} has another length when loaded"
        found = [other_after_loading(*pair, f"{at}/{i}") for i, pair in enumerate(zip(state, again, strict=True))]
        return next(filter(None, found), "")
    same = type(state) is type(again) and (state == again or (state != state and again != again))
    return "" if same else f"{at} is {state!r}, and {again!r} when loaded"


def ends(component: Component, *sizes: int) -> Tensor:
    """Where 12 numbers come to in matrices of these sizes, each with the same gradients in any of them."""
    start = torch.linspace(-1, 1, 12, dtype=torch.float64)[:, None]
    model = nn.ParameterDict(
        {f"part{n}": nn.Parameter(part.clone()) for n, part in enumerate(torch.split(start, list(sizes)))}
    )
    optimizer = Bench.over(component, model).optimizer
    for number in range(10):
        gradients = torch.sin(torch.arange(12, dtype=torch.float64) * (number + 1))[:, None]
        for part, gradient in zip(model.values(), torch.split(gradients, list(sizes)), strict=True):
            part.grad = gradient.clone()
        optimizer.step()
    return torch.cat([part.detach() for part in model.values()])
