"""BatchNorm over the batch of all processes, on any device; exact for shares of different sizes.

Torch's own `SyncBatchNorm` is for CUDA alone. Here the classes of the layers change and nothing else: names,
parameters, buffers and whoever refers to a layer stay as they are, and a layer that evaluates does what it did.

Source: Ioffe & Szegedy 2015, "Batch Normalization", arXiv:1502.03167, algorithm 1 and its gradient, with sums over all
processes in place of those over one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.distributed.group import ONE, Group


class Exchange:
    """What the BatchNorms of a model share: whom they sum with, and whether this process has samples at all.

    Args:
        group: the processes.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self.padding = False
        self.outside: Callable[[nn.Module, Tensor], Tensor] = together  # what a compiled model calls
        self.measuring = False  # whether an evaluation takes its share of batches, as an update always does

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let the layers look at this process's rows alone for a while, which others need not know of."""
        held = self.group, self.padding
        self.group, self.padding = ONE, False
        try:
            yield
        finally:
            self.group, self.padding = held

    def __deepcopy__(self, memo: dict[int, Any]) -> Exchange:
        return self  # a copy of a model sums with the same processes


class _Normalised(torch.autograd.Function):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` with mean and variance of the batch of all processes.

    Made of torch's own kernels, which go over the samples as seldom as for one process.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        about: Tensor | None,
        eps: float,
        exchange: Exchange,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give what is normalised, and mean, biased variance and count ``(channels,)``, ``(channels,)``, ``()``.

        Args:
            ctx: keeps what the gradient needs.
            inputs: ``(samples, channels, ...)``.
            weight: ``(channels,)``
            bias: ``(channels,)``
            about: ``(channels,)``, about the mean, and the same in every process.
            eps: added to the variance.
            exchange: whom to sum with.
        """
        kind = torch.float64 if inputs.dtype is torch.float64 else torch.float32
        unused = inputs.new_zeros(inputs.shape[1], dtype=kind)  # says that sums of half floats are wider
        mean, var = torch.batch_norm_update_stats(inputs, unused, unused.clone(), 0.0)
        own = 0 if exchange.padding else inputs.numel() // inputs.shape[1]
        # Squares of means far from zero lose digits, but of so many, and of what is left of a mean, none that matter.
        mean, var = mean.double() - (0 if about is None else about), var.double()
        sums = torch.cat([mean, var + mean.square(), mean.new_ones(1)]).mul_(own)
        exchange.group.sum_(sums if own else sums.zero_())
        count = sums[-1]
        mean, square = (sums[:-1] / count).chunk(2)
        var = (square - mean.square()).clamp_(min=0).to(kind)
        mean = (mean + (0 if about is None else about)).to(kind)
        wide = None if weight is None else weight.to(kind)
        normalised = torch.batch_norm(
            inputs, wide, None if bias is None else bias.to(kind), mean, var, False, 0.0, eps, False
        )
        ctx.save_for_backward(inputs, weight, mean, var, count)
        ctx.eps, ctx.exchange, ctx.padding = eps, exchange, exchange.padding
        ctx.mark_non_differentiable(mean, var, count)
        return normalised, mean, var, count

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        """``w * scale * (g - mean(g) - y * mean(g * y))`` for y without weight and bias, means as in `forward`."""
        inputs, weight, mean, var, count = ctx.saved_tensors
        wide = None if weight is None else weight.to(mean.dtype)
        found, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], inputs, wide, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([by_weight, by_bias]).double()
        if ctx.padding:  # its row is none of those that mean and variance come from
            sums.zero_()
            found.zero_()
        ctx.exchange.group.sum_(sums)
        if not ctx.padding:
            scale = (var + ctx.eps).rsqrt() * (1 if wide is None else wide)
            slope, start = (sums / count).to(mean.dtype) * scale
            found -= torch.batch_norm(inputs, slope, start, mean, var, False, 0.0, ctx.eps, False)
        own = (None, None) if weight is None else (by_weight.to(weight.dtype), by_bias.to(weight.dtype))
        return found, *own, None, None, None


class _Synced:
    """Mixed into a BatchNorm: in training its statistics are those of all processes."""

    exchange: Exchange

    def forward(self: Any, inputs: Tensor) -> Tensor:
        """Normalise; one process, or evaluation, as the layer always did."""
        measured = self.running_mean is None and self.exchange.measuring  # it has only the batch's statistics
        if self.exchange.group.size == 1 or not (self.training or measured):
            found: Tensor = super().forward(inputs)  # type: ignore[misc]
            return found
        if torch.compiler.is_compiling():
            apart: Tensor = self.exchange.outside(self, inputs)
            return apart
        return together(self, inputs)


def together(layer: Any, inputs: Tensor) -> Tensor:
    """Normalise by the batch of all processes, and let the layer's statistics follow it."""
    layer._check_input_dim(inputs)
    normalised, mean, var, count = _Normalised.apply(  # type: ignore[no-untyped-call]
        inputs, layer.weight, layer.bias, layer.running_mean, layer.eps, layer.exchange
    )
    if inputs.numel() <= inputs.shape[1] and layer.training and float(count) <= 1:  # as the layer itself says it
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {inputs.shape}")
    if layer.track_running_stats and layer.running_mean is not None:
        with torch.no_grad():
            layer.num_batches_tracked.add_(1)
            share = layer.momentum
            if share is None:  # as wide as what it weighs; nobody waits for the device
                share = (1.0 / layer.num_batches_tracked.double()).to(layer.running_mean.dtype)
            unbiased = var * (count / (count - 1).clamp(min=1))
            layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), share)
            layer.running_var.lerp_(unbiased.to(layer.running_var.dtype), share)
    given: Tensor = normalised
    return given


class SyncedBatchNorm1d(_Synced, nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` over the batch of all processes."""


class SyncedBatchNorm2d(_Synced, nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` over the batch of all processes."""


class SyncedBatchNorm3d(_Synced, nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d` over the batch of all processes."""


SYNCED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SyncedBatchNorm1d,
    nn.BatchNorm2d: SyncedBatchNorm2d,
    nn.BatchNorm3d: SyncedBatchNorm3d,
}


def batch_norms(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers whose statistics are those of a batch, by name."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            yield name, module


def exchange_of(model: nn.Module) -> Exchange | None:
    """What the BatchNorms of a model share, if they sum with other processes."""
    found = (getattr(module, "exchange", None) for _, module in batch_norms(model))
    return next((exchange for exchange in found if isinstance(exchange, Exchange)), None)


def measured_together(model: nn.Module, batches: Iterable[Any]) -> Iterator[Any]:
    """The same shares of batches, of each of which the BatchNorms know whether it stands for samples at all.

    While they go through the model, layers that keep no statistics look at the batches of all processes.
    """
    exchange = exchange_of(model)
    if exchange is None:
        yield from batches
        return
    exchange.measuring = True
    try:
        for batch in batches:
            exchange.padding = batch.padding
            yield batch
    finally:
        exchange.measuring = exchange.padding = False


def synchronise(model: nn.Module, group: Group, compiled: bool = False) -> list[str]:
    """Let the BatchNorms of a model sum over all processes.

    Args:
        model: changed in place.
        group: the processes.
        compiled: whether the model will be compiled: what is summed stays outside of its graphs, which know neither of
            other processes nor of batches that one of them has no share of.

    Returns:
        Names of those that are of another class, whose statistics stay those of each process's share.
    """
    exchange, others = Exchange(group), []
    if compiled:
        exchange.outside = torch.compiler.disable(together)  # type: ignore[no-untyped-call]
    for name, module in batch_norms(model):
        kind = SYNCED.get(type(module))
        if kind is None:
            others.append(name)
            continue
        module.__class__ = kind
        module.exchange = exchange  # type: ignore[assignment]
    return others
