"""Weights by name: read, exchanged for a while, BatchNorm statistics that fit them, and whether they are finite."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.run import Run

SMALL = 1 << 16  # numbers in a tensor that is looked at together with others


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """The model's own parameters and saved buffers by name; tied ones once, under their first name."""
    saved = model.state_dict(keep_vars=True)
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach() for name, tensor in named if name in saved}


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

    One pass over the training split in its own order, without augmentation and dropout, so that no random number is
    drawn. Each batch counts by its samples: of equal batches this is `torch.optim.swa_utils.update_bn`.

    Returns:
        Whether there are such layers.
    """
    training = run.model.training
    run.model.train()
    layers = [
        module
        for module in run.model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats and module.training
    ]  # those that stay in evaluation mode keep the statistics they have
    if not layers:
        run.model.train(training)
        return False
    before = [(layer, layer.momentum) for layer in layers]
    run.model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
    seen = 0
    try:
        with torch.no_grad(), run.precision.context():
            for batch in run.feed.evaluate("train"):
                if len(batch) == 1:  # a single sample has no variance
                    continue
                seen += len(batch)
                for layer in layers:
                    layer.momentum = len(batch) / seen
                run.model(batch.inputs)
    finally:
        for layer, momentum in before:
            layer.momentum = momentum
        run.model.train(training)
    return True


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
