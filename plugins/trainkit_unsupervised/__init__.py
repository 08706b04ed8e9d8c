"""Learning without labels: autoencoders and contrastive learning. Listing the components does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from trainkit import (
    Between,
    Component,
    Dataset,
    DataSpec,
    Nested,
    NonNegative,
    Positive,
    PositiveInt,
    hookimpl,
)
from trainkit_unsupervised.pairs import colour_jitter, linear_probe, nt_xent, resized_crop, simclr, views

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from trainkit import Loss, Metric, Problem
    from trainkit_unsupervised.drawing import Drawing
    from trainkit_unsupervised.evidence import ImportanceBound

Activation = Literal["relu", "gelu", "silu", "tanh"]
Layers = Literal["dense", "convolutional"]


def unlabelled(*, of: Annotated[Any, Nested("data")]) -> Dataset:
    """Other data without its labels: the targets of a sample are its own inputs, as the model sees them, in one row.

    It is a regression with as many outputs as a sample has numbers: losses and metrics of regressions measure how well
    samples are given back, in the inputs' own scale. What augmentation does to inputs it does not do to targets: a
    model learns to undo it (a denoising autoencoder). Splits, folds and groups are those of the other data.

    Args:
        of: the other data.

    Raises:
        DataError: if its inputs are numbers of tokens or categories, or no numbers.

    Source: Vincent et al. 2008, "Extracting and Composing Robust Features with Denoising Autoencoders", section 2.3.
    """
    from trainkit_unsupervised.labels import without_labels

    return without_labels(of)


def autoencoder(
    data_spec: DataSpec,
    /,
    *,
    latent: PositiveInt = 16,
    widths: tuple[PositiveInt, ...] = (128,),
    layers: Layers = "dense",
    activation: Activation = "relu",
) -> nn.Module:
    """Encoder to a few numbers and decoder back to the sample: ``outputs`` is the sample in one row.

    It begins with the mean of the training samples for all. Without widths it is linear, and with the loss ``mse``
    learns the subspace of the principal components (Baldi & Hornik 1989).

    Args:
        latent: numbers that a sample is described by.
        widths: of the encoder's hidden layers, the first one first; the decoder has them in reverse. Convolutional:
            channels, each layer halves height and width.
        layers: dense, or convolutional: 4x4 convolutions of stride 2, and transposed ones in the decoder.
        activation: the function after each hidden layer.

    Raises:
        DataError: if the targets are not the inputs (use data ``unlabelled``), or images cannot be halved so often.

    Source: Hinton & Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks"; initialisation of
    He et al. 2015, arXiv 1502.01852, section 2.2 (codes: variance 1 / fan-in; the decoder's head: a tenth of that
    standard deviation).
    """
    from trainkit_unsupervised.autoencoders import Autoencoder

    return Autoencoder(data_spec, latent, widths, layers, activation)


def vae(
    data_spec: DataSpec,
    /,
    *,
    widths: tuple[PositiveInt, ...] = (128,),
    layers: Layers = "dense",
    activation: Activation = "relu",
) -> nn.Module:
    """Variational autoencoder, for the loss ``elbo``, which says how many latent numbers it has.

    Outputs are the reconstruction of one draw, then the mean and the logarithm of the variance of each latent number,
    then the logarithm of the factor on the noise's variance where that is learned. In training the decoder is given a
    draw, in evaluation the mean, so that figures repeat. It begins near the prior for every sample, so almost without
    KL divergence, and with the mean of the training samples as reconstruction.

    Args:
        widths: of the encoder's hidden layers, the first one first; the decoder has them in reverse. Convolutional:
            channels, each layer halves height and width.
        layers: dense, or convolutional: 4x4 convolutions of stride 2, and transposed ones in the decoder.
        activation: the function after each hidden layer.

    Raises:
        DataError: if the targets are not the inputs (use data ``unlabelled``) or the loss asks for other outputs (use
            loss ``elbo``), or images cannot be halved so often.

    Source: Kingma & Welling 2014, "Auto-Encoding Variational Bayes", arXiv 1312.6114, section 3 and appendix C.
    """
    from trainkit_unsupervised.variational import Vae

    return Vae(data_spec, widths, layers, activation)


def elbo(
    data_spec: DataSpec,
    /,
    *,
    latent: PositiveInt = 16,
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
    noise: Positive = 0.1,
    learn_noise: bool = False,
    beta: NonNegative = 1.0,
) -> Loss:
    """Minus the bound on the logarithm of the evidence, in nats a sample: surprise at the sample, and KL divergence.

    What the decoder's draw leaves unexplained of a sample, plus ``beta`` times the divergence of the latent numbers'
    distribution from a standard normal one. A KL warm-up is a schedule: ``[[schedule.also]]`` with ``target =
    "loss.beta"``. Of real numbers the Gaussian's is a density, whose logarithm may be positive. In evaluation the
    decoder is given the mean, not a draw, so that the figure is below the bound, which the callback ``bound`` measures.

    Args:
        latent: numbers that a sample is described by.
        likelihood: gaussian, for any numbers; bernoulli, for numbers from 0 to 1, such as grey pixels.
        noise: standard deviation of the Gaussian, in units of the inputs as the model sees them: what need not be given
            back exactly. The larger it is, the less the latent numbers tell.
        learn_noise: whether the model learns one for all samples and numbers, beginning with ``noise``.
        beta: factor on the divergence: 1 is the bound; below 1 reconstructions are sharper, above 1 latent numbers are
            more independent.

    Raises:
        DataError: if the data is no regression (use data ``unlabelled``), or bernoulli meets standardised inputs.

    Source: Kingma & Welling 2014, arXiv 1312.6114, eq. 3 and appendices B and C; beta of Higgins et al. 2017,
    "beta-VAE"; KL warm-up of Bowman et al. 2016, arXiv 1511.06349, section 3.1; learned noise of Rybkin et al. 2021,
    arXiv 2006.13202, section 3.1.
    """
    from trainkit import DataError
    from trainkit_unsupervised.variational import Elbo

    if data_spec.task != "regression":
        raise DataError(
            f"loss elbo needs samples that are their own targets, the data's task is {data_spec.task}\nput the data "
            'inside: use = "unlabelled", of = { use = "..." }'
        )
    if likelihood == "bernoulli" and learn_noise:
        raise ValueError('learn_noise is for likelihood = "gaussian"; bernoulli has no noise\nleave it out')
    if likelihood == "bernoulli" and any(data_spec.input_mean):
        raise DataError(
            'likelihood = "bernoulli" needs numbers from 0 to 1, and the data is standardised\nset standardise = false '
            'in the data, or likelihood = "gaussian"'
        )
    return Elbo(data_spec.outputs, latent, likelihood, noise, learn_noise, beta)


def explained(data_spec: DataSpec, /) -> Metric:
    """Share of the whole variance of the targets that predictions explain, all outputs together; at most 1.

    Of reconstructions it is what principal components call their explained variance. An output that hardly varies
    hardly counts, where ``r2`` gives each output the same weight.

    Raises:
        DataError: if the data is not a regression; on computing, if there was no sample, or all targets are equal.
    """
    from trainkit import DataError
    from trainkit_unsupervised.figures import Explained

    if data_spec.task != "regression":
        raise DataError(
            f"metric explained needs numbers as targets (task regression), the data's task is {data_spec.task}: use "
            "metric accuracy, error or f1"
        )
    return Explained()


def bound(
    seed: int, /, *, draws: PositiveInt = 16, splits: tuple[Literal["val", "test", "train"], ...] = ("val", "test")
) -> ImportanceBound:
    """Measure how probable a variational autoencoder takes samples to be: a bound on minus the log evidence, by draws.

    Adds to the figures of an evaluation ``bound`` (nats a sample, whatever ``beta``; lower is better, and nearer to the
    truth with more draws), ``kl`` (nats, the mean divergence) and ``active`` (latent numbers that differ from sample to
    sample: of the mean a variance above 0.01). Draws are the same at each evaluation. It takes another pass over the
    split, with one more decoding for each draw.

    Args:
        draws: of each sample; 1 is the bound that training has.
        splits: what is measured; others are measured without.

    Source: Burda, Grosse & Salakhutdinov 2016, "Importance Weighted Autoencoders", arXiv 1509.00519, section 3, and
    section 5.2 for active units.
    """
    from trainkit_unsupervised.evidence import ImportanceBound

    return ImportanceBound(draws, splits, seed)


def pictures(
    data_spec: DataSpec,
    seed: int,
    /,
    *,
    columns: Annotated[int, Between(2, 32)] = 10,
    split: Literal["val", "test", "train"] = "val",
) -> Drawing:
    """Draw what an autoencoder makes of images into the run folder, after each validation: the run's page shows it.

    ``reconstructions`` has images above what they are given back as; ``walk`` goes from one image to another in equal
    steps of the latent numbers. Of a variational one also ``samples``: what draws from the prior decode to, or where
    there are two latent numbers a ``map`` of them.

    Args:
        columns: images in a row.
        split: whose images are drawn; those of train where the data has no such split. Without validation they are
            drawn once, after the test.

    Raises:
        DataError: if the samples are no images of one or three channels.
    """
    from trainkit import DataError
    from trainkit_unsupervised.drawing import Drawing

    shape = data_spec.input_shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(
            f"callback pictures needs images of one or three channels (channels, height, width), the data has {shape}\n"
            "leave it out"
        )
    return Drawing(data_spec, columns, split, seed)


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    """Find tables that belong together and are not."""
    from trainkit_unsupervised.checks import problems

    return problems(recipe)


@hookimpl
def trainkit_components() -> list[Component]:
    """List the components."""
    able = {"compiles": True}
    alone = {"lanes": False}
    return [
        Component("data", unlabelled, example={"of": {"use": "synthetic", "samples": 96, "features": [8]}}),
        Component("model", autoencoder, example={"latent": 2, "widths": [8]}, capabilities=able),
        Component("model", vae, example={"widths": [8]}, capabilities=able | alone),
        Component("loss", elbo, example={"latent": 2}, capabilities=able),
        Component("metric", explained, capabilities={"higher_is_better": True}),
        Component("callback", bound, example={"draws": 2}, figures={"bound": False, "kl": False, "active": True}),
        Component("callback", pictures, example={"columns": 4}),
        Component(
            "augmentation",
            views,
            example={"of": [{"use": "flip"}]},
            exempt={"keeps_the_form_of_a_batch": "it gives several views of each sample"},
        ),
        Component("augmentation", resized_crop, example={"least": 0.3}),
        Component("augmentation", colour_jitter, example={"brightness": 0.2}),
        Component(
            "model",
            simclr,
            example={"encoder": {"use": "mlp", "widths": [8]}, "projection": 4},
            capabilities=able | alone,
            exempt=dict.fromkeys(
                ("fits_the_data", "gradients_reach_every_parameter"),
                "it gives projections of views, not as many numbers as targets have",
            ),
        ),
        Component(
            "loss",
            nt_xent,
            example={"temperature": 0.5},
            capabilities=able | {"whole_batches": True},
        ),
        Component("callback", linear_probe, example={"samples": 64}, figures={"probe": True}),
    ]
