"""Forward and loss of all lanes at once: one model's code, called under `torch.vmap` with the tensors of every lane."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.lanes.dropout import MASKED, Call, Calls, Given, Masked
from trainkit.lanes.layers import layers_of
from trainkit.run import Run


class Vector:
    """A model without weights of its own, which computes with those of all lanes.

    Args:
        run: one of the runs; its model's structure is every lane's.
    """

    def __init__(self, run: Run) -> None:
        self.model: nn.Module = copy.deepcopy(run.model)
        self._parameters = _homes(self.model, "_parameters")
        self._buffers = _homes(self.model, "_buffers")
        numbers = {id(parameter): number for number, parameter in enumerate(self.model.parameters())}
        for module in self.model.modules():
            for parameter in module._parameters.values():
                if parameter is not None:
                    parameter.data = parameter.new_empty(0)
            if type(module) in MASKED:
                module.__class__ = MASKED[type(module)]
        self.dropouts = [module for module in self.model.modules() if isinstance(module, Masked)]
        self.layers = layers_of(self.model, numbers)

    def follow(self, model: nn.Module) -> None:
        """Take over which modules train, from a lane's model."""
        for own, other in zip(self.model.modules(), model.modules(), strict=True):
            vars(own)["training"] = other.training

    def compute(
        self,
        parameters: Sequence[Tensor],
        buffers: Sequence[Tensor],
        inputs: Tensor,
        together: bool,
        masks: Sequence[Tensor] = (),
        then: Callable[[Tensor, Any], Any] | None = None,
        more: Sequence[Tensor] = (),
        shared: Sequence[bool] = (),
    ) -> Any:
        """Outputs ``(lanes, batch, ...)``, and what comes ``then``; buffers are changed in place.

        Args:
            parameters: ``(lanes, ...)`` in the order of ``model.parameters()``.
            buffers: ``(lanes, ...)`` in the order of ``model.buffers()``.
            inputs: ``(lanes, batch, ...)``, or ``(batch, ...)`` that all lanes share.
            together: whether the lanes share the inputs.
            masks: for each call of a dropout in the forward's order ``(lanes, ...)``.
            then: called with a lane's outputs and its part of ``more``; what it gives is returned beside the outputs.
            more: tensors for ``then``.
            shared: which of them all lanes share.
        """

        if self.layers is not None and then is None:
            outputs = self.layers(parameters, inputs, together, masks)
            return outputs, outputs

        def one(
            own: list[Tensor], held: list[Tensor], given: Tensor, drawn: list[Tensor], extra: list[Tensor]
        ) -> tuple[Any, ...]:
            outputs = self._forward(own, held, given, drawn)
            changed = self._exchanged(held)
            return outputs, (outputs if then is None else then(outputs, extra)), changed

        sides = [None if common else 0 for common in shared]
        call = torch.vmap(one, in_dims=(0, 0, None if together else 0, 0, sides), randomness="error")
        try:
            outputs, value, changed = call(list(parameters), list(buffers), inputs, list(masks), list(more))
        finally:
            self._leave()
        with torch.no_grad():
            for place, new in zip(self._places, changed, strict=True):
                buffers[place].copy_(new)
        return outputs, value

    def _forward(self, own: list[Tensor], held: list[Tensor], given: Tensor, drawn: list[Tensor]) -> Tensor:
        self._hold(own, held)
        return self.called(given, drawn)

    def called(self, given: Tensor, masks: Sequence[Tensor] | Calls) -> Tensor:
        """Call the model with the tensors that it holds now; each dropout takes the next mask."""
        if self.dropouts:
            source = masks if isinstance(masks, Calls) else Given(masks)
            for module in self.dropouts:
                module.masks = source
        outputs: Tensor = self.model(given)
        return outputs

    def calls(self, run: Run, inputs: Tensor) -> list[Call]:
        """In which order a run's forward pass calls which dropouts, and with what.

        Args:
            run: the run; nothing of it changes.
            inputs: a batch, ``(batch, ...)``.
        """
        noted = Calls(self.dropouts)
        own = [parameter.detach() for parameter in run.model.parameters()]
        held = [buffer.clone() for buffer in run.model.buffers()]
        if run.forward is not run.model and inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        try:
            with torch.no_grad(), run.precision.context():
                self._hold(own, held)
                self.called(inputs, noted)
        finally:
            self._leave()
        return noted.found

    def _hold(self, own: list[Tensor], held: list[Tensor]) -> None:
        for homes, tensors in ((self._parameters, own), (self._buffers, held)):
            for place, tensor in zip(homes, tensors, strict=True):
                for home, name in place:
                    home[name] = tensor

    def _exchanged(self, held: list[Tensor]) -> list[Tensor]:
        """Buffers that the forward pass has put others in the place of."""
        found = [homes[0][0][homes[0][1]] for homes in self._buffers]
        self._places = [place for place, new in enumerate(found) if new is not held[place]]
        return [found[place].detach() for place in self._places]

    def _leave(self) -> None:
        """Hold no tensors that are gone with the call."""
        for homes in (*self._parameters, *self._buffers):
            for home, name in homes:
                home[name] = None


Home = list[tuple[dict[str, Any], str]]


def _homes(model: nn.Module, kind: str) -> list[Home]:
    """For each tensor of a model, in its order, every place where a module holds it: tied weights have several."""
    found: dict[int, Home] = {}
    for module in model.modules():
        held: dict[str, Any] = getattr(module, kind)
        for name, tensor in held.items():
            if tensor is not None:
                found.setdefault(id(tensor), []).append((held, name))
    return list(found.values())
