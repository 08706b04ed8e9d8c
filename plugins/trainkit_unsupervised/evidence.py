"""How probable a variational autoencoder takes samples to be."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit import Metrics, Run, cut_short, hookimpl
from trainkit_unsupervised.variational import Elbo, Vae, full, within

ACTIVE = 0.01  # variance of a latent number's mean over samples, Burda et al. 2016, section 5.2


class ImportanceBound:
    """See `trainkit_unsupervised.bound`."""

    stateless = True  # draws are made anew from the seed

    def __init__(self, draws: int, splits: Sequence[str], seed: int) -> None:
        self.draws = draws
        self.splits = splits
        self.seed = seed

    @hookimpl(wrapper=True, trylast=True)  # within those that exchange the weights
    def trainkit_evaluate(self, run: Run, split: str) -> Generator[None, Metrics, Metrics]:
        figures = yield
        return figures | self.measure(run, split) if split in self.splits else figures

    def measure(self, run: Run, split: str) -> Metrics:
        """The figures of a split, with the weights that the model has now."""
        model, loss = of_a_vae(run)
        chance = torch.Generator().manual_seed(self.seed)
        bounds: list[Tensor] = []
        divergences: list[Tensor] = []
        means: list[Tensor] = []
        with evaluating(run):
            for batch in run.feed.evaluate(split):
                cut_short(run)
                mean, log_variance = model.posterior(batch.inputs)
                weights = []
                for _ in range(self.draws):
                    noise = torch.randn(mean.shape, generator=chance).to(mean.device)
                    codes = mean + noise.to(mean.dtype) * (within(log_variance) / 2).exp()
                    outputs = model.outputs(codes, mean, log_variance)
                    # log p(x | z) + log p(z) - log q(z | x); the constants of both normals cancel
                    ratio = (noise.square() - full(codes).square() + within(full(log_variance))).sum(1) / 2
                    weights.append((ratio - loss.surprise(outputs, batch.targets)).double())
                bounds.append(torch.stack(weights).logsumexp(0) - math.log(self.draws))
                divergences.append(loss.divergence(outputs).sum(1).double())
                means.append(full(mean))
        if not means:
            return {}
        spread = torch.cat(means).var(0, correction=0)
        return {
            "bound": -float(torch.cat(bounds).mean()),
            "kl": float(torch.cat(divergences).mean()),
            "active": float((spread > ACTIVE).sum()),
        }


def of_a_vae(run: Run) -> tuple[Vae, Elbo]:
    """The run's model and loss."""
    model, loss = run.model, run.loss
    assert isinstance(model, Vae)
    assert isinstance(loss, Elbo)
    return model, loss


@contextlib.contextmanager
def evaluating(run: Run) -> Iterator[Any]:
    """Evaluation mode, without gradients, in the run's precision; training mode is put back."""
    training = run.model.training
    run.model.eval()
    try:
        with torch.no_grad(), run.precision.context():
            yield
    finally:
        run.model.train(training)
