"""A convolution that makes patches of images white: its outputs are uncorrelated, and of equal variance."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional


def second_moment(images: Iterable[Tensor], size: int) -> Tensor:
    """The mean of ``p p^T`` over all square patches ``p`` of images.

    Args:
        images: batches ``(batch, channels, height, width)``.
        size: side of a patch in pixels.

    Returns:
        ``(channels * size * size, channels * size * size)`` float64, on the processor.
    """
    total: Tensor | float = 0.0
    count = 0
    for batch in images:
        patches = functional.unfold(batch.double(), size)  # (batch, channels * size * size, places)
        total = total + torch.einsum("bip,bjp->ij", patches, patches).cpu()
        count += patches.shape[0] * patches.shape[2]
    if not isinstance(total, Tensor):
        raise ValueError("there is no image to make patches of")
    return total / count


def whitening_filters(moment: Tensor, shape: tuple[int, int, int], eps: float) -> Tensor:
    """Filters whose outputs are white where patches have this second moment, and the negative of each.

    Args:
        moment: as `second_moment` gives it.
        shape: ``(channels, size, size)`` of a patch.
        eps: added to each eigenvalue, so that directions in which patches hardly differ are not blown up.

    Returns:
        ``(2 * channels * size * size, channels, size, size)`` float64; the strongest direction first.

    Source: Page 2018, "How to Train Your ResNet 8: Bag of Tricks"; with both signs, Jordan 2024, section 3.2,
    arXiv 2404.00498.
    """
    values, vectors = torch.linalg.eigh(moment)
    directions = vectors.T.flip(0)
    # An eigenvector's sign is anybody's choice: the largest entry decides, on every machine alike.
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    filters = (directions * largest.sign() / (values.flip(0)[:, None] + eps).sqrt()).reshape(-1, *shape)
    return torch.cat([filters, -filters])
