"""Networks that give a policy and a value."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainkit import DataError, DataSpec

_ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


class ActorCritic(nn.Module):
    """See `trainkit_rl.actor_critic`; gives ``(batch, actions + 1)``, the value last."""

    def __init__(self, data_spec: DataSpec, widths: Sequence[int], activation: str) -> None:
        super().__init__()
        if data_spec.task != "classification" or data_spec.outputs < 2:
            raise DataError(
                f"model actor_critic chooses among actions, and the data's task is {data_spec.task} with "
                f"{data_spec.outputs} outputs: use it with [data] gym and [loss] ppo or reinforce"
            )
        self.policy = _chain(data_spec.input_shape, widths, data_spec.outputs - 1, activation, 0.01)
        self.value = _chain(data_spec.input_shape, widths, 1, activation, 1.0)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map observations ``(batch, ...)`` to preferences of actions and the value, ``(batch, actions + 1)``."""
        return torch.cat((self.policy(inputs), self.value(inputs)), -1)


def _chain(shape: Sequence[int], widths: Sequence[int], outputs: int, activation: str, gain: float) -> nn.Sequential:
    chain = nn.Sequential(nn.Flatten()) if len(shape) != 1 else nn.Sequential()
    features = math.prod(shape)
    for width in widths:
        chain.append(_linear(features, width, math.sqrt(2)))
        chain.append(_ACTIVATIONS[activation]())
        features = width
    return chain.append(_linear(features, outputs, gain))


def _linear(features: int, outputs: int, gain: float) -> nn.Linear:
    layer = nn.Linear(features, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
