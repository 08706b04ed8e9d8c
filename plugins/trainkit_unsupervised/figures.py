"""How much of samples is given back."""

from __future__ import annotations

from torch import Tensor

from trainkit import DataError


class Explained:
    """Explained share of the whole variance: 1 - squared errors / squared distances of targets from their mean."""

    higher_is_better = True

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.seen = 0
        self.errors: Tensor | None = None
        self.spread: Tensor | None = None
        self.mean: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Take in outputs ``(batch, outputs)`` and targets of the same shape, or ``(batch,)`` for one output."""
        if outputs.numel() != targets.numel() or len(outputs) != len(targets):
            raise DataError(
                f"outputs {tuple(outputs.shape)} do not fit targets {tuple(targets.shape)}: give (batch, outputs) for "
                "both, or targets (batch,) where the model has one output"
            )
        new = len(outputs)
        if not new:
            return
        outputs, targets = outputs.double().reshape(new, -1), targets.double().reshape(new, -1)
        errors = (outputs - targets).square().sum(0)
        mean = targets.mean(0)
        spread = (targets - mean).square().sum(0)
        if self.errors is not None and self.spread is not None and self.mean is not None:
            # Chan, Golub & LeVeque 1983, eq. 2.1: sums of squares about the mean join without cancellation.
            apart, share = mean - self.mean, new / (self.seen + new)
            errors = errors + self.errors
            spread = spread + self.spread + apart.square() * (self.seen * share)
            mean = self.mean + apart * share
        self.errors, self.spread, self.mean = errors, spread, mean
        self.seen += new

    def compute(self) -> float:
        """Give the explained share.

        Raises:
            DataError: if no sample was seen, or all were equal.
        """
        if self.errors is None or self.spread is None:
            raise DataError(
                "metric explained saw no sample: the split is empty, give it samples or do not evaluate on it"
            )
        errors, spread = float(self.errors.sum()), float(self.spread.sum())
        if spread == 0:
            raise DataError("metric explained has nothing to explain: every target is the same; leave it out")
        return 1 - errors / spread
