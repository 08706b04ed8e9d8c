"""Noise on gradients."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainkit import Run, hookimpl


@dataclass(eq=False)  # a schedule may change its numbers
class GradientNoise:
    """See `trainkit_callbacks.gradient_noise`.

    It cannot be compiled: traced, one update's noise would be that of every update.
    """

    stateless = True  # the noise is a function of seed and update
    seed: int
    eta: float
    gamma: float

    @hookimpl
    def trainkit_gradients(self, run: Run, gradients: Sequence[Tensor]) -> None:
        deviation = (self.eta / (1 + run.step) ** self.gamma) ** 0.5
        generator = torch.Generator(run.device)
        generator.manual_seed(seed_of(self.seed, run.step))
        for gradient in gradients:
            noise = torch.empty_like(gradient, memory_format=torch.contiguous_format).normal_(generator=generator)
            gradient.add_(noise, alpha=deviation)


def seed_of(seed: int, step: int) -> int:
    """What the generator of one update starts from: neighbouring updates have nothing in common."""
    text = f"gradient_noise/{seed}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
