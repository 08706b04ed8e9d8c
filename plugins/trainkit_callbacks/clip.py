"""Clipping of gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainkit import hookimpl


@dataclass(frozen=True)
class ClipNorm:
    """See `trainkit_callbacks.clip_norm`."""

    max_norm: float

    @hookimpl
    def trainkit_gradients(self, gradients: Sequence[Tensor]) -> None:
        norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
        norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
        # The small number is torch's: it keeps a norm of zero from dividing by zero.
        scale = (self.max_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale)
