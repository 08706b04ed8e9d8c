"""Layers that join the training one after the other, from the head down."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from trainkit import RecipeError, Run, hookimpl, layers_of
from trainkit_callbacks.freezing import Freeze
from trainkit_callbacks.names import problem


class GradualUnfreeze(Freeze):
    """See `trainkit_callbacks.gradual_unfreeze`: a `freeze` whose times follow from the model's layers."""

    def __init__(self, every: int, layers: int, fix_batch_norm: bool) -> None:
        super().__init__((), {}, fix_batch_norm)
        self.every = every
        self.layers = layers

    @hookimpl
    def trainkit_prepare_model(self, run: Run, model: nn.Module) -> None:
        self.unfreeze = dict(self._times(model))
        self.match = list(self.unfreeze)
        self.last = max(self.unfreeze.values(), default=-1)
        if not self.match:
            message, cure = "the model has one layer, which is its head", "leave the callback out"
            raise RecipeError([problem(run, "gradual_unfreeze", "use", message, cure)])
        if self.last >= run.total_updates:
            deepest = len(layers_of(model).names) - 1
            message = f"every: the lowest of {deepest} layers below the head would join at update {self.last}"
            cure = f"the run has {run.total_updates}: shorten every, let more join at a time, or lengthen the run"
            raise RecipeError([problem(run, "gradual_unfreeze", "every", message, cure)])
        super().trainkit_prepare_model(run, model)

    def _times(self, model: nn.Module) -> Iterator[tuple[str, int]]:
        """Each parameter below the head, as a pattern, and the update from which on it is trained."""
        layers = layers_of(model)
        for name, _ in model.named_parameters():
            if depth := layers.depth(name):
                yield _literal(name), -(-depth // self.layers) * self.every


def _literal(name: str) -> str:
    """A pattern that matches this name alone."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)
