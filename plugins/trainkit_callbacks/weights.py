"""Weights by name: read, kept apart, averaged, and put in the model's place for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from trainkit import Run

Weights = dict[str, Tensor]


def weights_of(model: nn.Module) -> Weights:
    """The model's own parameters and saved buffers by name; tied ones once, under their first name."""
    saved = model.state_dict(keep_vars=True)
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach() for name, tensor in named if name in saved}


def buffers_of(model: nn.Module) -> set[str]:
    """Names of the buffers."""
    return {name for name, _ in model.named_buffers()}


def copied(weights: Mapping[str, Tensor]) -> Weights:
    """A copy that shares no memory."""
    return {name: tensor.clone() for name, tensor in weights.items()}


def begun(weights: Mapping[str, Tensor]) -> Weights:
    """A copy to average in: 16 bits are widened to 32, since small moves would be lost in rounding."""
    half = torch.bfloat16, torch.float16
    return {name: tensor.float() if tensor.dtype in half else tensor.clone() for name, tensor in weights.items()}


def on_device(run: Run, saved: Mapping[str, Tensor]) -> Weights:
    """Saved weights in the number format they were saved in, on the device and in the layout of the run's model."""
    return {
        name: torch.empty_like(tensor, dtype=saved[name].dtype).copy_(saved[name])
        for name, tensor in weights_of(run.model).items()
    }


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


@contextlib.contextmanager
def exchanged(model: nn.Module, weights: Weights) -> Iterator[None]:
    """Let the model hold other weights for a while; its own come back bit for bit."""
    own = weights_of(model)
    kept = copied(own)
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
    layers = [
        module
        for module in run.model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    if not layers:
        return False
    training = run.model.training
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
