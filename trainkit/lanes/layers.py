"""Chains of simple layers for all lanes at once, without what `torch.vmap` looks for before each operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trainkit.chain import is_chain
from trainkit.lanes.derived import derived
from trainkit.lanes.dropout import Given, Masked

# Each computes a number from one number, so that it may be called with the tensors of all lanes.
ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Identity)
Layer = Callable[[Tensor, Sequence[Tensor]], Tensor]


class Layers:
    """The forward pass of a chain of linear layers, activations and dropouts.

    Args:
        model: the chain, its dropouts already `Masked`.
        numbers: of each parameter its place among those of the model, by identity.

    Attributes:
        derived: forward and backward in one; ``None`` where a layer is not known there.
    """

    def __init__(self, model: nn.Module, numbers: dict[int, int]) -> None:
        leaves = list(_leaves(model))
        self._layers = [_call(layer, numbers) for layer in leaves]
        self._masked = [layer for layer in leaves if isinstance(layer, Masked)]
        self.derived = derived(list(zip(leaves, self._layers, strict=True)), numbers)

    def __call__(self, parameters: Sequence[Tensor], inputs: Tensor, together: bool, masks: Sequence[Tensor]) -> Tensor:
        """Outputs ``(lanes, batch, ...)``.

        Args:
            parameters: ``(lanes, ...)`` in the order of the model's.
            inputs: ``(lanes, batch, ...)``, or ``(batch, ...)`` that all lanes share.
            together: whether they share them.
            masks: of the dropouts.
        """
        given = Given(masks)
        for module in self._masked:
            module.masks = given
        lanes = parameters[0].shape[0]
        outputs = inputs.expand(lanes, *inputs.shape) if together else inputs
        for layer in self._layers:
            outputs = layer(outputs, parameters)
        return outputs


def layers_of(model: nn.Module, numbers: dict[int, int]) -> Layers | None:
    """The quick forward pass of a model; ``None`` where it is more than a chain of what is known here."""
    if not is_chain(model) or any(True for _ in model.buffers()):
        return None
    leaves = list(_leaves(model))
    known = (nn.Linear, *ELEMENTWISE)
    if any(type(leaf) not in known and any(True for _ in leaf.parameters()) for leaf in leaves):
        return None
    return Layers(model, numbers)


def _leaves(model: nn.Module) -> list[nn.Module]:
    found: list[nn.Module] = []
    for module in model._modules.values():
        assert module is not None
        found += _leaves(module) if type(module) is nn.Sequential else [module]
    return found


def _call(layer: nn.Module, numbers: dict[int, int]) -> Layer:
    if type(layer) is nn.Linear:
        weight = numbers[id(layer.weight)]
        bias = None if layer.bias is None else numbers[id(layer.bias)]
        return lambda inputs, held: _linear(inputs, held[weight], None if bias is None else held[bias])
    if isinstance(layer, Masked) or type(layer) in ELEMENTWISE:
        return lambda inputs, held: layer(inputs)
    return _Unknown(layer)


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if inputs.dim() != 3:
        linear = torch.vmap(nn.functional.linear)
        return linear(inputs, weight) if bias is None else linear(inputs, weight, bias)
    turned = weight.transpose(1, 2)
    return torch.bmm(inputs, turned) if bias is None else torch.baddbmm(bias[:, None], inputs, turned)


class _Unknown:
    """A layer without tensors of its own, lane by lane; not called again where all it does is to name another shape."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._modules = list(layer.modules())
        self._views: dict[tuple[object, ...], tuple[int, ...]] = {}

    def __call__(self, inputs: Tensor, held: Sequence[Tensor]) -> Tensor:
        # What a layer does may depend on its mode, as of one that adds noise in training alone.
        case = (*inputs.shape, *inputs.stride(), inputs.dtype, *[module.training for module in self._modules])
        if case in self._views:
            return inputs.view(self._views[case])
        before = inputs._version
        outputs: Tensor = torch.vmap(self._layer)(inputs)
        ordered = inputs.is_contiguous() and outputs.is_contiguous() and outputs.numel() == inputs.numel()
        if ordered and outputs.data_ptr() == inputs.data_ptr() and inputs._version == before:
            self._views[case] = tuple(outputs.shape)
        return outputs
