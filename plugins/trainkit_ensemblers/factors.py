"""Layers whose weights are shared by members, each of which multiplies them by factors of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainkit import DataSpec
from trainkit_ensemblers.several import Several, check_plain, replace, sizes_of


class Factored(nn.Module):
    """A linear or convolutional layer for all members at once.

    Member i computes ``s_i * layer(r_i * inputs) + b_i``, which is the layer with ``W * (s_i r_i^T)``.

    Args:
        layer: the layer whose weights are shared; its bias becomes each member's own.
        members: how many.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, members: int) -> None:
        super().__init__()
        inputs, outputs = sizes_of(layer)
        self.members = members
        self.inputs, self.outputs = inputs, outputs
        self.ones = (1,) * (2 if isinstance(layer, nn.Conv2d) else 0)  # height and width, which factors do not have
        self.layer = layer
        # In one row, as norms and biases are, which no weight decay pulls to zero and no matrix optimizer takes.
        self.r = nn.Parameter(_signs(members * inputs))
        self.s = nn.Parameter(_signs(members * outputs))
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().repeat(members))
        layer.bias = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(members * batch, inputs, ...)`` to ``(members * batch, outputs, ...)``, member after member."""
        scaled = self._by_member(inputs, self.r, self.inputs, True)
        outputs = self._by_member(self.layer(scaled), self.s, self.outputs, True)
        return outputs if self.bias is None else self._by_member(outputs, self.bias, self.outputs, False)

    def _by_member(self, values: Tensor, numbers: Tensor, count: int, factor: bool) -> Tensor:
        apart = values.reshape(self.members, -1, *values.shape[1:])
        numbers = numbers.view(self.members, 1, *[1] * (apart.dim() - 3 - len(self.ones)), count, *self.ones)
        return (apart * numbers if factor else apart + numbers).flatten(0, 1)


class SharedWeights(Several):
    """A model whose layers are `Factored`; every sample goes through all members."""

    def each(self, inputs: Tensor) -> Tensor:
        """What each member gives, ``(members, batch, outputs)``."""
        repeated = inputs.repeat(self.members, *[1] * (inputs.dim() - 1))
        outputs: Tensor = self.net(repeated)
        return outputs.reshape(self.members, -1, *outputs.shape[1:])


def with_factors(net: nn.Module, spec: DataSpec, members: int) -> SharedWeights:
    """Give every linear and convolutional layer of a model factors for each member; see `batch_ensemble`."""
    check_plain(net, "batch_ensemble")
    # A list, since the modules are replaced on the way.
    layers = [(name, part) for name, part in net.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    if not layers:
        raise ValueError(
            "the model in 'of' has no linear and no convolutional layer that members could share\n"
            "  choose a model that has, such as mlp or convnet"
        )
    if layers[0][0] == "":  # the model is one layer
        net = nn.Sequential(net)
        layers = [("0", layers[0][1])]
    for name, layer in layers:
        replace(net, name, Factored(layer, members))
    return SharedWeights(net, members, spec)


def _signs(count: int) -> Tensor:
    return torch.randint(0, 2, (count,)).float() * 2 - 1
