"""The variational autoencoder, and the bound on the logarithm of the evidence that it is trained by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainkit import DataError
from trainkit_unsupervised.autoencoders import Centred, both_ways, need_own_inputs

if TYPE_CHECKING:
    from trainkit import DataSpec
    from trainkit_unsupervised import Activation, Layers

# Logarithms of variances stay within these, so that variance and precision are finite in float32.
LOG_VARIANCE = 20.0
_LOG_2PI = math.log(2 * math.pi)


class Draw(nn.Module):
    """Draws latent numbers in training, and gives their mean in evaluation."""

    def forward(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Codes ``(batch, latent)`` of means and logarithms of variances, both of that shape."""
        if not self.training:
            return mean
        return mean + torch.randn_like(mean) * (within(log_variance) / 2).exp()


class Vae(Centred):
    """See `trainkit_unsupervised.vae`.

    Attributes:
        latent: numbers that a sample is described by.
        log_noise: logarithm of the factor on the noise's variance, where it is learned.
    """

    def __init__(self, data_spec: DataSpec, widths: tuple[int, ...], layers: Layers, activation: Activation) -> None:
        super().__init__()
        numbers = need_own_inputs(data_spec, "vae")
        self.latent, learned = divmod(data_spec.outputs - numbers, 2)
        if self.latent < 1:
            raise DataError(
                f"model vae gives the {numbers} numbers of a sample, and mean and variance of latent ones; "
                f"{data_spec.outputs} outputs leave no room for those: use loss elbo"
            )
        self.encoder, self.decoder = both_ways(
            data_spec.input_shape, self.latent, widths, layers, activation, codes=2 * self.latent
        )
        self.draw = Draw()
        self.log_noise = nn.Parameter(torch.zeros(1)) if learned else None

    def posterior(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latent numbers, both ``(batch, latent)``."""
        mean, log_variance = self.encoder(inputs).chunk(2, dim=-1)
        return mean, log_variance

    def encode(self, inputs: Tensor) -> Tensor:
        """Describe samples ``(batch, ...)`` by the mean ``(batch, latent)``."""
        return self.posterior(inputs)[0]

    def decode(self, codes: Tensor) -> Tensor:
        """Give samples ``(batch, numbers)`` for codes ``(batch, latent)``; logits where the likelihood has such."""
        rows: Tensor = self.decoder(codes)
        return rows

    def outputs(self, codes: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
        """What the loss is given of codes ``(batch, latent)`` and of the distribution that they are drawn from."""
        parts = [self.decode(codes), mean, log_variance]
        if self.log_noise is not None:
            parts.append(self.log_noise.expand(codes.shape[0], 1))
        return torch.cat(parts, dim=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Give ``(batch, numbers + 2 latent)``, and one more where noise is learned."""
        mean, log_variance = self.posterior(inputs)
        return self.outputs(self.draw(mean, log_variance), mean, log_variance)


@dataclass(eq=False)  # a schedule may change its numbers
class Elbo:
    """See `trainkit_unsupervised.elbo`.

    Args:
        numbers: of a sample.
        latent: numbers that describe it.
        likelihood: of a sample given the reconstruction.
        noise: standard deviation of the Gaussian.
        learned: whether the model's last output is the logarithm of the factor on its variance.
        beta: factor on the divergence.
    """

    numbers: int
    latent: int
    likelihood: Literal["gaussian", "bernoulli"]
    noise: float
    learned: bool
    beta: float

    @property
    def outputs(self) -> int:
        """Numbers that the model is to give for a sample."""
        return self.numbers + 2 * self.latent + self.learned

    def predictions(self, outputs: Tensor) -> Tensor:
        """The reconstruction ``(..., numbers)`` in outputs that begin with it."""
        rows = outputs[..., : self.numbers]
        return rows.sigmoid() if self.likelihood == "bernoulli" else rows

    def details(self, outputs: Tensor) -> dict[str, Tensor]:
        """Mean and standard deviation of the latent numbers, both ``(batch, latent)``."""
        mean, log_variance = self.latents(outputs)
        return {"latent": mean, "latent_std": (within(log_variance) / 2).exp()}

    def equal(self, targets: Tensor) -> Tensor:
        """Outputs that give every sample the mean of all and the prior."""
        rows = targets.float().reshape(len(targets), -1)
        mean = rows.mean(0, keepdim=True)
        if self.likelihood == "bernoulli":
            mean = mean.clamp(1e-6, 1 - 1e-6).logit()
        parts = [mean.expand_as(rows), rows.new_zeros(len(rows), 2 * self.latent + self.learned)]
        return torch.cat(parts, dim=1)

    def latents(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latent numbers, both ``(..., latent)``."""
        end = self.numbers + self.latent
        return outputs[..., self.numbers : end], outputs[..., end : end + self.latent]

    def divergence(self, outputs: Tensor) -> Tensor:
        """KL divergence of each latent number from the standard normal, ``(..., latent)`` nats."""
        mean, log_variance = (full(part) for part in self.latents(outputs))
        log_variance = within(log_variance)
        return (mean.square() + log_variance.exp() - 1 - log_variance) / 2

    def surprise(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Minus the logarithm of the likelihood of each sample, ``(...,)`` nats; a density for real numbers."""
        outputs = full(outputs)
        rows = outputs[..., : self.numbers]
        targets = targets.reshape(rows.shape).to(rows.dtype)
        if self.likelihood == "bernoulli":
            return functional.binary_cross_entropy_with_logits(rows, targets, reduction="none").sum(-1)
        squares = (rows - targets).square().sum(-1)
        surprise = squares / (2 * self.noise**2)
        if self.learned:
            log_factor = within(outputs[..., -1])
            surprise = surprise * (-log_factor).exp() + self.numbers / 2 * log_factor
        return surprise + self.numbers * (math.log(self.noise) + _LOG_2PI / 2)

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sample, ``(batch,)``."""
        return self.surprise(outputs, targets) + self.beta * self.divergence(outputs).sum(-1)

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Give the mean over samples."""
        if outputs.shape[-1] != self.outputs:
            raise DataError(
                f"loss elbo needs {self.outputs} outputs a sample, and the model gives {tuple(outputs.shape)}: use "
                "model vae"
            )
        return self.each(outputs, targets).mean()


def full(values: Tensor) -> Tensor:
    """Half-precision values as float32; others as they are."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def within(log_variance: Tensor) -> Tensor:
    """Logarithms of variances, kept within bounds."""
    return log_variance.clamp(-LOG_VARIANCE, LOG_VARIANCE)
