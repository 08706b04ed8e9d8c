"""The three points of schedule-free methods: gradients are taken at y, z is the newest iterate, x the average.

The model holds y while it trains. The library's own ``eval()`` and ``train()`` move the weights to x and back, which
rounds: a run would depend on how often it is measured. Here x is worked out apart and exchanged with y, which comes
back bit for bit.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping
from typing import Any

import schedulefree
import torch
from torch import Tensor

from trainkit import Metrics, Optimizer, Run, check_bridge, exchanged, hookimpl, renew_batch_norm, weights_of
from trainkit_schedulefree import VERSION


class Points:
    """What the library's optimizers need of a run; stands before one of them among the bases of a class."""

    param_groups: list[dict[str, Any]]
    state: Any

    # Set on the object once there is something to keep.
    _training = False
    _held: Mapping[str, Tensor] | None = None
    _held_at = -1

    def averages(self) -> dict[Tensor, Tensor]:
        """x of each parameter that has been updated, as the library's ``eval()`` works it out."""
        found = {}
        for group in self.param_groups:
            beta = group["betas"][0] if "betas" in group else group["momentum"]
            for parameter in group["params"]:
                if (z := self.state.get(parameter, {}).get("z")) is not None:
                    found[parameter] = parameter.detach().lerp(z, 1 - 1 / beta)
        return found

    def weights(self, run: Run) -> Mapping[str, Tensor]:
        """x by parameter name, and the buffers with BatchNorm statistics measured there; worked out once an update."""
        if self._held is None or self._held_at != run.position:
            averages = self.averages()
            named = {name: averages[own] for name, own in run.model.named_parameters() if own in averages}
            buffers = {name for name, _ in run.model.named_buffers()}
            weights = named | {name: own.clone() for name, own in weights_of(run.model).items() if name in buffers}
            with exchanged(run.model, weights):
                if renew_batch_norm(run):
                    weights |= {name: own.clone() for name, own in weights_of(run.model).items() if name in buffers}
            self._held, self._held_at = weights, run.position
        return self._held

    @hookimpl
    def trainkit_run_start(self) -> None:
        self._training = True

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run: Run) -> Generator[None, Metrics, Metrics]:
        if not self._training:  # of a finished run, whose weights are x already
            return (yield)
        with exchanged(run.model, self.weights(run)):
            return (yield)

    @hookimpl
    def trainkit_save(self, run: Run) -> Mapping[str, Any]:
        return {"weights": dict(self.weights(run))}

    @hookimpl
    def trainkit_restore(self, run: Run, state: Mapping[str, Any]) -> None:
        self._held = None
        if self._training:  # a run that goes on does so at y, which the model holds
            return
        with torch.no_grad():
            for name, tensor in weights_of(run.model).items():
                if name in state["weights"]:
                    tensor.copy_(state["weights"][name])


def make(name: str, factory: Callable[..., Any], params: list[dict[str, Any]], settings: dict[str, Any]) -> Optimizer:
    """Build one of the library's optimizers, ready for training.

    Args:
        name: the library's class.
        factory: the component's factory, whose defaults must be the library's.
        params: the parameter groups.
        settings: all settings.

    Raises:
        MachineError: if the installed library is not what this was written for.
    """
    wrapped = getattr(schedulefree, name)
    parameters = inspect.signature(factory).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def ready(groups: list[dict[str, Any]], **settings: Any) -> Any:
        optimizer = _class(wrapped)(groups, **settings)
        optimizer.train()  # steps are refused before; there is nothing yet that it could move
        return optimizer

    check_bridge("schedulefree", VERSION, wrapped, defaults, lambda groups: ready(groups, **defaults))
    optimizer: Optimizer = ready(params, **settings)
    return optimizer


def _class(wrapped: type) -> Any:
    return type(wrapped.__name__, (Points, wrapped), {"__doc__": wrapped.__doc__})
