"""Clipping of gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from trainkit import Run, hookimpl, whole_norm
from trainkit_callbacks.names import matches, refuse_strangers


@dataclass(eq=False)  # a schedule may change its numbers
class ClipNorm:
    """See `trainkit_callbacks.clip_norm`."""

    stateless = True
    max_norm: float | Tensor
    divided: Run | None = field(default=None, init=False, repr=False)  # the run, where it has rows of gradients alone

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.divided = run if run.sharded is not None else None

    @hookimpl
    def trainkit_gradients(self, gradients: Sequence[Tensor]) -> None:
        norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
        norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
        if self.divided is not None:
            norm = whole_norm(self.divided, norm)
        # The small number is torch's: it keeps a norm of zero from dividing by zero.
        scale = (self.max_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale)


@dataclass(eq=False)  # a schedule may change its numbers
class ClipValue:
    """See `trainkit_callbacks.clip_value`."""

    stateless = True
    max_value: float | Tensor

    @hookimpl
    def trainkit_gradients(self, gradients: Sequence[Tensor]) -> None:
        for gradient in gradients:
            if isinstance(self.max_value, Tensor):  # of each lane; vmap has no quick way to clamp in place by it
                gradient.copy_(gradient.clamp(-self.max_value, self.max_value))
            else:
                gradient.clamp_(-self.max_value, self.max_value)


class AdaptiveClip:
    """See `trainkit_callbacks.agc`."""

    stateless = True  # parameters alone, found again at the start

    def __init__(self, clipping: float, eps: float, skip: Sequence[str]) -> None:
        self.clipping = clipping
        self.eps = eps
        self.skip = skip
        self.owners: list[tuple[Tensor, bool]] = []
        self.met: list[tuple[Tensor, bool]] = []
        self.divided: Run | None = None  # the run, where it has rows of parameters alone

    @hookimpl
    def trainkit_prepare_model(self, run: Run, model: nn.Module) -> None:
        refuse_strangers(run, "agc", "skip", self.skip, [name for name, _ in model.named_parameters()])

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.divided = run if run.sharded is not None else None
        self.owners = [
            (parameter, not matches(name, self.skip))
            for group in run.optimizer.param_groups
            for name, parameter in zip(group["names"], group["params"], strict=True)
        ]
        # A run that goes on may begin with a compiled step, which has a gradient for whatever has state.
        state = getattr(run.optimizer, "state", {})
        self.met = [owner for owner in self.owners if state.get(owner[0])]

    @hookimpl
    def trainkit_gradients(self, gradients: Sequence[Tensor]) -> None:
        owners = self.met
        # A compiled step has a gradient for whatever had one in an eager update, of which there is always a first.
        if not torch.compiler.is_compiling():
            owners = [owner for owner in self.owners if owner[0].grad is not None]
            if len(owners) > len(self.met):
                self.met = owners
        pairs = [
            (parameter.detach(), gradient)
            for (parameter, clipped), gradient in zip(owners, gradients, strict=True)
            if clipped
        ]
        vectors = self._of_whole_vectors([pair for pair in pairs if pair[1].dim() < 2])
        for weights, gradient in pairs:
            clip_units(weights, gradient, self.clipping, self.eps, next(vectors) if gradient.dim() < 2 else None)

    def _of_whole_vectors(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor] | None]:
        """Norms of weights and gradient of vectors, each one unit, of which other processes may have rows too."""
        if self.divided is None or not pairs:
            return iter([None] * len(pairs))
        own = [torch.linalg.vector_norm(part) for pair in pairs for part in pair]
        norms = whole_norm(self.divided, torch.stack(own))
        return iter(zip(norms[::2], norms[1::2], strict=True))


def clip_units(
    weights: Tensor, gradient: Tensor, clipping: float, eps: float, known: tuple[Tensor, Tensor] | None = None
) -> None:
    """Scale a gradient down, in place, where a unit's norm is above ``clipping`` times that of its weights.

    Args:
        weights: ``(units, ...)``; a vector or a number is one unit.
        gradient: of the shape of ``weights``.
        clipping: largest ratio of the norms.
        eps: least norm that weights count with.
        known: the norms of both, where they are not those of what is given.
    """
    of_weights, norms = known or (unit_norms(weights), unit_norms(gradient))
    limit = clipping * of_weights.clamp(min=eps)
    # The small number is the paper's own code's: it keeps a norm of zero from dividing by zero.
    gradient.mul_(torch.where(norms > limit, limit / norms.clamp(min=1e-6), 1.0))


def unit_norms(values: Tensor) -> Tensor:
    """L2 norms over all dimensions but the first, which stay with length 1; of a vector, over all of it."""
    inner = tuple(range(1, values.dim()))
    norms: Tensor = torch.linalg.vector_norm(values, dim=inner or None, keepdim=bool(inner))
    return norms
