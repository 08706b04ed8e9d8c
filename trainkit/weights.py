"""A model's weights by name: read, exchanged for a while, and BatchNorm statistics that fit them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from trainkit.run import Run


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
