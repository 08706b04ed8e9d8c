"""Weights by name: read, kept apart, and averaged."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainkit import Run, weights_of

Weights = dict[str, Tensor]


def buffers_of(model: nn.Module) -> set[str]:
    """Names of the buffers."""
    return {name for name, _ in model.named_buffers()}


def saved_buffers(model: nn.Module) -> Weights:
    """Copies of the buffers that a checkpoint holds: others are in no mean."""
    buffers = buffers_of(model)
    return {name: tensor.clone() for name, tensor in weights_of(model).items() if name in buffers}


def copied(weights: Mapping[str, Tensor]) -> Weights:
    """A copy that shares no memory."""
    return {name: tensor.clone() for name, tensor in weights.items()}


def begun(weights: Mapping[str, Tensor]) -> Weights:
    """A copy to average in: 16 bits are widened to 32, since small moves would be lost in rounding."""
    half = torch.bfloat16, torch.float16
    return {name: tensor.float() if tensor.dtype in half else tensor.clone() for name, tensor in weights.items()}


def trained(run: Run) -> Weights:
    """The parameters in the optimizer's groups, by name."""
    return {
        name: parameter.detach()
        for group in run.optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }


def like(own: Weights, saved: Mapping[str, Tensor]) -> Weights:
    """Saved weights in the number format they were saved in, on the device and in the layout of the run's own.

    Raises:
        ValueError: if one has another shape, which copying might spread over the run's.
    """
    for name, tensor in own.items():
        if saved[name].shape != tensor.shape:
            raise ValueError(f"'{name}' is {tuple(saved[name].shape)}, the model's {tuple(tensor.shape)}")
    return {name: torch.empty_like(tensor, dtype=saved[name].dtype).copy_(saved[name]) for name, tensor in own.items()}


def on_device(run: Run, saved: Mapping[str, Tensor]) -> Weights:
    """Saved weights of the whole model, as `like` gives them."""
    return like(weights_of(run.model), saved)


def average_(mean: Weights, weights: Weights, share: float, copy: set[str]) -> None:
    """Move a mean towards weights, in place: ``mean + share * (weights - mean)``.

    Args:
        mean: changed in place.
        weights: of the same names.
        share: weight of ``weights``.
        copy: names of what is copied instead, beside all that is not a floating-point number.
    """
    averaged = [name for name, tensor in mean.items() if tensor.is_floating_point() and name not in copy]
    with torch.no_grad():
        for name in mean.keys() - set(averaged):
            mean[name].copy_(weights[name])
        if averaged:
            means = [mean[name] for name in averaged]
            torch._foreach_lerp_(means, [weights[name].to(mean[name].dtype) for name in averaged], share)
