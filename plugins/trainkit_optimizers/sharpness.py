"""Sharpness-aware minimisation: the gradient of an update is taken from the steepest point nearby."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trainkit import Optimizer, OptimizerWrapper, RunError


class SharpnessAware(OptimizerWrapper):
    """Two passes: the first says where the loss is steepest, the second gives the gradient of the update there.

    Args:
        optimizer: makes the updates; it is not given the closure.
        model: its buffers are put back after the second pass.
        rho: length of the way between the two points.
        eta: for ASAM, added to the size of every weight; ``None`` is SAM.
    """

    def __init__(self, optimizer: Optimizer, model: nn.Module, rho: float, eta: float | None = None) -> None:
        super().__init__(optimizer)
        self.model = model
        self.rho = rho
        self.eta = eta

    def step(self, closure: Callable[[], Tensor] | None = None) -> Any:
        """Make one update; the loss is that of the first pass.

        Raises:
            RunError: if there is no closure.
            ValueError: for a sparse gradient.
        """
        if closure is None:
            raise RunError(
                "sharpness-aware minimisation computes the loss twice an update, and was given no way to do it\n"
                "  a plugin that makes the step itself has to call run.optimizer.step(closure)"
            )
        random = _Random(next(self.model.parameters()).device)
        # Gradients of the first pass make no update: what clips or watches gradients is left out.
        loss = getattr(closure, "plain", closure)()
        named = [
            (name, parameter)
            for group in self.param_groups
            for name, parameter in zip(group["names"], group["params"], strict=True)
            if parameter.grad is not None
        ]
        weights = [parameter.detach().clone() for _, parameter in named]
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        try:
            with torch.no_grad():
                self._climb(named)
            random.rewind()
            closure()
        finally:
            with torch.no_grad():
                for (_, parameter), weight in zip(named, weights, strict=True):
                    parameter.copy_(weight)  # exact, which taking the way back again would not be
                for buffer, kept in buffers:
                    buffer.copy_(kept)
        self.inner_step()
        return loss

    def _climb(self, named: list[tuple[str, Tensor]]) -> None:
        """Move the weights by ``rho T^2 g / |T g|``; T is 1 for SAM. Nothing moves where the gradient is zero."""
        if not named:
            return
        slopes: list[Tensor] = []
        scales: list[Tensor | None] = []
        for name, parameter in named:
            gradient = parameter.grad
            assert gradient is not None
            if gradient.layout is not torch.strided:
                raise ValueError("the gradient is sparse, which sharpness-aware minimisation does not take")
            scale = None if self.eta is None or "weight" not in name else parameter.abs() + self.eta
            scales.append(scale)
            slopes.append(gradient if scale is None else gradient * scale)
        wide = torch.float64 if any(slope.dtype is torch.float64 for slope in slopes) else torch.float32
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(slope, dtype=wide) for slope in slopes]))
        # Decided on the device, which nothing has to wait for.
        length = torch.where(norm > 0, self.rho / norm, 0.0)
        for (_, parameter), slope, scale in zip(named, slopes, scales, strict=True):
            parameter.add_((slope if scale is None else slope * scale) * length)


class _Random:
    """Torch's random numbers from here on, to be drawn a second time."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        self._state = torch.get_rng_state()
        self._cuda_state = torch.cuda.get_rng_state(device) if self._cuda else None

    def rewind(self) -> None:
        torch.set_rng_state(self._state)
        if self._cuda_state is not None and self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda_state, self._cuda)
