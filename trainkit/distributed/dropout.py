"""Dropout that is the same for every number of processes: each draws for the whole batch, and takes its own rows.

What is drawn comes from the generator that all processes share, in the order of one process. The classes of the layers
change and nothing else, as with BatchNorm.

Source: Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Draws:
    """What the dropout layers of a model share: the batch at hand, and how far its numbers are drawn."""

    def __init__(self) -> None:
        self.own = (0, 0)  # the first row and the one after the last that are this process's
        self.whole = 0  # of so many; 0 outside of updates
        self.state = torch.empty(0)  # of the generator that all processes share
        self._generator = torch.Generator()

    def __deepcopy__(self, memo: dict[int, Any]) -> Draws:
        return self  # a copy of a model that is trained is trained on the same batches

    @contextlib.contextmanager
    def of(self, own: tuple[int, int], whole: int, state: Tensor) -> Iterator[None]:
        """Let the layers draw for a batch of so many rows; afterwards ``state`` is where the generator then stands."""
        self.own, self.whole, self.state = own, whole, state
        try:
            yield
        finally:
            self.whole = 0

    def kept(self, shape: tuple[int, ...], like: Tensor, share: float) -> Tensor:
        """What is kept of a tensor of that shape, and scaled so that its mean stays; the generator goes on."""
        form = torch.contiguous_format
        if like.dim() == 4 and not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last):
            form = torch.channels_last
        whole = torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=form)
        if like.device.type == "cpu":
            self._generator.set_state(self.state)
            whole.bernoulli_(share, generator=self._generator).div_(share)
            self.state = self._generator.get_state()
            return whole
        mine = torch.cuda.get_rng_state(like.device)
        torch.cuda.set_rng_state(self.state, like.device)
        whole = functional.dropout(whole.fill_(1), 1 - share, True)  # its kernel draws in an order of its own
        self.state = torch.cuda.get_rng_state(like.device)
        torch.cuda.set_rng_state(mine, like.device)
        return whole


class SharedDropout(nn.Dropout):
    """`torch.nn.Dropout` of the rows that a process has of a batch, as one process would draw it."""

    draws: Draws

    def forward(self, input: Tensor) -> Tensor:
        """Leave out; where rows are no samples, by numbers of this process alone."""
        draws = self.draws
        first, end = draws.own
        if not (self.training and draws.whole and 0 < self.p < 1) or input.shape[0] % (end - first):
            return super().forward(input)
        each = input.shape[0] // (end - first)  # rows of a sample, such as its tokens
        kept = draws.kept((draws.whole * each, *input.shape[1:]), input, 1 - self.p)[first * each : end * each]
        return input.mul_(kept) if self.inplace else input * kept


def share_draws(model: nn.Module) -> Draws | None:
    """Let the dropout layers of a model draw for whole batches; what they share, if there are any."""
    layers = [layer for layer in model.modules() if type(layer) is nn.Dropout]
    if not layers:
        return None
    draws = Draws()
    for layer in layers:
        layer.__class__ = SharedDropout
        layer.draws = draws  # type: ignore[assignment]
    return draws
