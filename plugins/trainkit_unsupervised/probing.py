"""What a linear classifier makes of a representation."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from trainkit import Metrics, Run, hookimpl
from trainkit_unsupervised.contrastive import SimClr
from trainkit_unsupervised.evidence import evaluating

AT_ONCE = 256  # samples that go through the encoder together


class LinearProbe:
    """See `trainkit_unsupervised.pairs.linear_probe`."""

    stateless = True

    def __init__(self, classes: int, samples: int, strength: float, splits: Sequence[str]) -> None:
        self.classes = classes
        self.samples = samples
        self.strength = strength
        self.splits = splits

    @hookimpl(wrapper=True, trylast=True)  # within those that exchange the weights
    def trainkit_evaluate(self, run: Run, split: str) -> Generator[None, Metrics, Metrics]:
        figures = yield
        if split not in self.splits or not run.feed.spec.sizes.get(split):
            return figures
        return figures | {"probe": self.measure(run, split)}

    def measure(self, run: Run, split: str) -> float:
        """The accuracy on a split; nan where the model says something that is not finite."""
        inputs, classes = self._represented(run, "train")
        given, truth = self._represented(run, split)
        if not (inputs.isfinite().all() and given.isfinite().all()):
            return math.nan
        taken = fitted(inputs, one_hot(classes, self.classes).double(), self.strength, given).argmax(1)
        return float((taken == truth).double().mean())

    def _represented(self, run: Run, split: str) -> tuple[Tensor, Tensor]:
        """Representations ``(samples, features)`` float64 and classes of samples of a split."""
        model = run.model
        assert isinstance(model, SimClr)
        batch = run.feed.spread(split, self.samples)
        with evaluating(run):
            rows = torch.arange(len(batch)).chunk(-(-len(batch) // AT_ONCE))
            parts = [model.represent(batch.inputs[part].to(run.device)).double().cpu() for part in rows]
        return torch.cat(parts).flatten(1), batch.targets.reshape(len(batch)).long().cpu()


def fitted(inputs: Tensor, targets: Tensor, strength: float, given: Tensor) -> Tensor:
    """What ridge regression, fitted to samples in one step, predicts for others.

    Args:
        inputs: ``(samples, features)`` float64, which are standardised first.
        targets: ``(samples, outputs)`` float64.
        strength: of the ridge, for each sample.
        given: ``(others, features)``.

    Returns:
        ``(others, outputs)``.
    """
    middle, spread = inputs.mean(0), inputs.std(0, correction=0).clamp_min(1e-12)
    inputs, given = (inputs - middle) / spread, (given - middle) / spread
    mean = targets.mean(0)
    ridge = strength * len(inputs) * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    weights = torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ (targets - mean))
    found: Tensor = mean + given @ weights
    return found
