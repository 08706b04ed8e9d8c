"""Encoders, decoders, and the autoencoder made of them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainkit import DataError, Run, hookimpl

if TYPE_CHECKING:
    from trainkit import DataSpec
    from trainkit_unsupervised import Activation, Layers

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


CENTRED_ON = 5000  # training samples, at equal distances over the split
_SMALL = 0.1  # of the usual standard deviation, of heads: a new model says almost the same of every sample


class Centred(nn.Module):
    """A model whose decoder begins with the mean of the training samples, whatever it is given."""

    decoder: nn.Sequential

    @hookimpl
    def trainkit_prepare_model(self, run: Run) -> None:
        """Set the last bias, unless it has been learned elsewhere."""
        bias = self.decoder[-1].bias if isinstance(self.decoder[-1], nn.Linear) else self.decoder[-2].bias
        assert isinstance(bias, Tensor)
        if bool(bias.any()):
            return
        targets = run.feed.spread("train", CENTRED_ON).targets
        equal = getattr(run.loss, "equal", None)  # what a loss with other outputs calls the mean
        mean = targets.float().mean(0) if equal is None else equal(targets)[0, : targets[0].numel()]
        with torch.no_grad():
            bias.copy_(mean.reshape(len(bias), -1).mean(1))  # of images by channel


class Autoencoder(Centred):
    """See `trainkit_unsupervised.autoencoder`."""

    def __init__(
        self, data_spec: DataSpec, latent: int, widths: tuple[int, ...], layers: Layers, activation: Activation
    ) -> None:
        super().__init__()
        numbers = need_own_inputs(data_spec, "autoencoder")
        if data_spec.outputs != numbers:
            raise DataError(
                f"model autoencoder gives the {numbers} numbers of a sample, and the loss asks for "
                f"{data_spec.outputs}: use loss mse, mae or huber, or model vae with loss elbo"
            )
        self.encoder, self.decoder = both_ways(data_spec.input_shape, latent, widths, layers, activation)

    def encode(self, inputs: Tensor) -> Tensor:
        """Describe samples ``(batch, ...)`` by ``(batch, latent)``."""
        codes: Tensor = self.encoder(inputs)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Give samples ``(batch, numbers)`` for codes ``(batch, latent)``."""
        rows: Tensor = self.decoder(codes)
        return rows

    def forward(self, inputs: Tensor) -> Tensor:
        """Give samples ``(batch, ...)`` back as ``(batch, numbers)``."""
        return self.decode(self.encode(inputs))


def need_own_inputs(data_spec: DataSpec, model: str) -> int:
    """Return how many numbers a sample has.

    Raises:
        DataError: if the targets cannot be the inputs.
    """
    numbers = math.prod(data_spec.input_shape)
    if data_spec.task != "regression" or data_spec.outputs < numbers:
        raise DataError(
            f"model {model} gives samples back, so that targets are the {numbers} numbers of a sample; the data's task "
            f'is {data_spec.task} with {data_spec.outputs} outputs\nput the data inside: use = "unlabelled", of = {{ '
            'use = "..." }'
        )
    return numbers


def both_ways(
    shape: tuple[int, ...],
    latent: int,
    widths: tuple[int, ...],
    layers: Layers,
    activation: Activation,
    codes: int | None = None,
) -> tuple[nn.Sequential, nn.Sequential]:
    """Make an encoder ``(batch, *shape)`` to ``(batch, codes)`` and a decoder ``(batch, latent)`` to rows.

    Args:
        shape: of one sample.
        latent: numbers that the decoder is given.
        widths: of hidden layers, or channels.
        layers: dense or convolutional.
        activation: after each hidden layer.
        codes: numbers that the encoder gives; as many as ``latent`` if not given.

    Raises:
        DataError: if images are needed and the data has none, or they cannot be halved so often.
    """
    make = _dense if layers == "dense" else _convolutional
    encoder, decoder = make(shape, latent, widths, activation, latent if codes is None else codes)
    for part in (encoder, decoder):
        weighted = [module for module in part if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
        for module in weighted[:-1]:
            _start(module, gain=1 if activation == "tanh" else math.sqrt(2))
        _start(weighted[-1], gain=1 if part is encoder and codes is None else _SMALL)
    return encoder, decoder


def _dense(
    shape: tuple[int, ...], latent: int, widths: tuple[int, ...], activation: Activation, codes: int
) -> tuple[nn.Sequential, nn.Sequential]:
    def chain(sizes: list[int]) -> list[nn.Module]:
        made: list[nn.Module] = []
        for size, after in pairwise(sizes):
            made += [nn.Linear(size, after), _ACTIVATIONS[activation]()]
        return made[:-1]

    numbers = math.prod(shape)
    encoder = nn.Sequential(nn.Flatten(), *chain([numbers, *widths, codes]))
    return encoder, nn.Sequential(*chain([latent, *reversed(widths), numbers]))


def _convolutional(
    shape: tuple[int, ...], latent: int, widths: tuple[int, ...], activation: Activation, codes: int
) -> tuple[nn.Sequential, nn.Sequential]:
    if len(shape) != 3:
        raise DataError(
            f'convolutional layers need images (channels, height, width), the data has {shape}\nwrite layers = "dense"'
        )
    if not widths:
        raise DataError(
            'widths = [] leaves no convolution\ngive the channels of one layer at least, or layers = "dense"'
        )
    channels, height, width = shape
    halved = 2 ** len(widths)
    if height % halved or width % halved:
        raise DataError(
            f"{len(widths)} convolutions halve images {len(widths)} times, and {height}x{width} cannot be\n"
            "give fewer widths, or other images"
        )
    small = (widths[-1], height // halved, width // halved)
    encoder: list[nn.Module] = []
    decoder: list[nn.Module] = [nn.Linear(latent, math.prod(small)), _ACTIVATIONS[activation](), nn.Unflatten(1, small)]
    path = [channels, *widths]
    for before, after in pairwise(path):
        encoder += [nn.Conv2d(before, after, 4, stride=2, padding=1), _ACTIVATIONS[activation]()]
    for before, after in pairwise(path[::-1]):
        decoder += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), _ACTIVATIONS[activation]()]
    encoder += [nn.Flatten(), nn.Linear(math.prod(small), codes)]
    return nn.Sequential(*encoder), nn.Sequential(*decoder[:-1], nn.Flatten())


def _start(module: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, gain: float) -> None:
    """Draw the weights with a standard deviation of gain / sqrt(fan-in); biases begin at 0."""
    weight = module.weight
    if isinstance(module, nn.ConvTranspose2d):  # each output sees a quarter of the 4x4 kernel of every channel
        fan_in = weight.shape[0] * weight[0, 0].numel() // 4
    else:
        fan_in = weight[0].numel()
    nn.init.normal_(weight, std=gain / math.sqrt(fan_in))
    assert module.bias is not None
    nn.init.zeros_(module.bias)
