"""Weights by name: read, exchanged for a while, BatchNorm statistics that fit them, and whether they are finite."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainkit.dataset import Batch
from trainkit.distributed.batchnorm import batch_norms, exchange_of
from trainkit.distributed.sharding import rows_here
from trainkit.run import Run

SMALL = 1 << 16  # numbers in a tensor that is looked at together with others


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """The model's own parameters and saved buffers by name; tied ones once, under their first name.

    Of parameters that are divided among processes (``strategy = "fsdp"``) it is the rows that this one has.
    """
    saved = model.state_dict(keep_vars=True)
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: rows_here(tensor.detach()) for name, tensor in named if name in saved}


@contextlib.contextmanager
def exchanged(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the model hold other weights for a while, as many as there are; its own come back bit for bit."""
    own = {name: tensor for name, tensor in weights_of(model).items() if name in weights}
    kept = {name: tensor.clone() for name, tensor in own.items()}
    try:
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(weights[name])
        yield
    finally:
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(kept[name])


def renew_batch_norm(run: Run) -> bool:
    """Measure the statistics of all BatchNorm layers again, with the weights that the model holds now.

    One pass over the training split in its own order, without augmentation; see `renew_statistics`. Of several
    processes each computes its share, where the layers look at whole batches in training too.

    Returns:
        Whether there are such layers.
    """
    exchange = exchange_of(run.model)
    together = all(getattr(layer, "exchange", None) is exchange for _, layer in batch_norms(run.model))
    with run.precision.context():
        if exchange is None or not together:
            return renew_statistics(run.model, (batch.inputs for batch in run.feed.evaluate("train")))
        return _renewed(run.model, run.feed.evaluate("train", run.group.share))


def renew_statistics(module: nn.Module, inputs: Iterable[Tensor]) -> bool:
    """Measure the statistics of a module's BatchNorm layers again, in place, in one pass.

    A layer's new statistics are mean and unbiased variance over all rows that it was given, as if they had come in one
    batch: rows weigh equally, whatever the batches' sizes. As in training, a layer passes on what it has normalised by
    the batch at hand. Dropout is off, so that no random number is drawn. Layers that stay in evaluation mode when the
    module is put into training mode keep the statistics they have. All modes are as before in the end; after an error
    the statistics are too.

    Args:
        module: on the device of the inputs.
        inputs: the batches, each ``(batch, ...)``.

    Returns:
        Whether there are such layers.

    Source: Izmailov et al. 2018, arXiv 1803.05407, algorithm 1, last line; pooled as in Chan, Golub & LeVeque 1979,
    "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances".
    """
    exchange = exchange_of(module)
    with contextlib.nullcontext() if exchange is None else exchange.alone():
        return _renewed(module, (Batch(rows, rows, rows) for rows in inputs))


def _renewed(module: nn.Module, batches: Iterable[Batch]) -> bool:
    modes = {part: part.training for part in module.modules()}
    try:
        module.train()
        layers = [
            part
            for part in module.modules()
            if isinstance(part, _BatchNorm) and part.track_running_stats and part.training
        ]
        if not layers:
            return False
        module.eval()
        _measure(module, layers, batches)
        return True
    finally:
        for part, mode in modes.items():
            part.training = mode


def _measure(module: nn.Module, layers: Sequence[_BatchNorm], batches: Iterable[Batch]) -> None:
    pooled, exchange = [_Pooled(layer) for layer in layers], exchange_of(module)
    hooks = [layer.register_forward_hook(part.add) for layer, part in zip(layers, pooled, strict=True)]
    try:
        for layer in layers:
            layer.train()
            layer.momentum = 1.0  # what it holds after a batch are then the batch's own statistics
        with torch.no_grad():
            for batch in _with_company(batches):
                for part in pooled:
                    part.batch = batch
                if exchange is not None:
                    exchange.padding = batch.padding
                module(batch.inputs)
        for part in pooled:
            part.keep()
    except BaseException:
        for part in pooled:
            part.undo()
        raise
    finally:
        if exchange is not None:
            exchange.padding = False
        for hook in hooks:
            hook.remove()
        for part in pooled:
            part.layer.momentum = part.momentum


class _Pooled:
    """Mean and variance over all rows that a layer is given, batch by batch."""

    def __init__(self, layer: _BatchNorm) -> None:
        self.layer = layer
        self.momentum = layer.momentum
        self.before = [buffer.clone() for buffer in layer.buffers()]
        self.batch: Batch  # what is going through the module
        self.rows = self.batches = 0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0  # summed squares of the distances from the mean

    def add(self, layer: nn.Module, given: tuple[Tensor, ...], outputs: Tensor) -> None:
        """Take in a batch that the layer has just normalised."""
        held = self.layer
        assert held.running_mean is not None
        assert held.running_var is not None
        # A share of a batch has its statistics; a sample has as many rows in each.
        rows = given[0].numel() // held.num_features * _samples(self.batch) // len(self.batch)
        mean, variance = held.running_mean.double(), held.running_var.double()
        total, apart = self.rows + rows, mean - self.mean
        self.mean = self.mean + apart * (rows / total)
        self.squares = self.squares + variance * (rows - 1) + apart.square() * (self.rows * rows / total)
        self.rows, self.batches = total, self.batches + 1

    def keep(self) -> None:
        """Let the layer have the statistics; one that was given nothing keeps those that it had."""
        if not self.rows:
            return
        assert self.layer.running_mean is not None
        assert self.layer.running_var is not None
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.squares, Tensor)
        self.layer.running_mean.copy_(self.mean)
        self.layer.running_var.copy_(self.squares / (self.rows - 1))
        if self.layer.num_batches_tracked is not None:
            self.layer.num_batches_tracked.fill_(self.batches)

    def undo(self) -> None:
        """Give the layer back the statistics that it had."""
        with torch.no_grad():
            for buffer, own in zip(self.layer.buffers(), self.before, strict=True):
                buffer.copy_(own)


def _with_company(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches, a single sample joined to the batch before or after it: alone it has no variance."""
    ready: Batch | None = None
    held: Batch | None = None
    for batch in batches:
        if held is None:
            held = batch
        elif _samples(held) == 1:
            held = _joint(held, batch)
        else:
            if ready is not None:
                yield ready
            ready, held = held, batch
    if ready is not None and held is not None and _samples(held) == 1:
        ready, held = _joint(ready, held), None
    yield from (batch for batch in (ready, held) if batch is not None)


def _samples(batch: Batch) -> int:
    """How many samples a batch has in all processes."""
    return batch.whole or len(batch)


def _joint(one: Batch, other: Batch) -> Batch:
    """Two batches as one; what stands for no sample is left out where there is one."""
    parts = [batch for batch in (one, other) if not batch.padding] or [one]
    inputs = torch.cat([batch.inputs for batch in parts])
    whole = _samples(one) + _samples(other)
    return Batch(inputs, inputs, inputs, whole=whole, padding=one.padding and other.padding)


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first tensor that holds NaN or infinity; empty if none does."""
    # A sum is finite only if every number in it is, and is made in one pass; small tensors together, since one test for
    # all costs no more than for each.
    parts: dict[Any, list[Tensor]] = {}
    for name, tensor in tensors.items():
        dtype = tensor.dtype
        if dtype.is_floating_point and (count := tensor.numel()):
            parts.setdefault((dtype, tensor.device) if count <= SMALL else name, []).append(tensor)
    with torch.no_grad():
        sums = [(_joined(part) if len(part) > 1 else part[0]).sum() for part in parts.values()]
    if all(math.isfinite(number) for number in sums):
        return ""
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    return next((name for name, tensor in floating.items() if not bool(tensor.isfinite().all())), "")


def _joined(tensors: list[Tensor]) -> Tensor:
    # One call for what reshaping each and `torch.cat` do in several.
    joined: Tensor = torch._utils._flatten_dense_tensors(tensors)  # type: ignore[no-untyped-call]
    return joined
