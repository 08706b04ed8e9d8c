"""Models: each is made to fit the data, and ends in a linear layer called ``head`` that recipes can match.

Weights are drawn from torch's global generator, which the core seeds with the recipe's seed before it builds a model.
Listing the models does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from trainkit import Between, Component, DataSpec, Positive, PositiveInt, Resume, hookimpl

if TYPE_CHECKING:
    from torch import nn

Activation: TypeAlias = Literal["relu", "gelu", "silu", "tanh"]
# Dropping everything would leave nothing to learn from.
DropRate: TypeAlias = Annotated[float, Between(0, 1, high_open=True), Resume("changeable")]


def linear(data_spec: DataSpec, /, *, bias: bool = True) -> nn.Module:
    """One linear layer on the flattened input: softmax, logistic or linear regression.

    Args:
        bias: whether the layer adds a learned constant to each output.

    Raises:
        DataError: if a forward pass meets samples of another shape than the data's.

    Source: initialisation of LeCun et al. 1998, "Efficient BackProp", section 4.6, as `torch.nn.Linear` does it.
    """
    from trainkit_models.dense import dense
    from trainkit_models.fit import need_numbers

    need_numbers(data_spec, "linear")
    return dense(data_spec.input_shape, data_spec.outputs, bias=bias)


def mlp(
    data_spec: DataSpec,
    /,
    *,
    widths: tuple[PositiveInt, ...] = (128,),
    activation: Activation = "relu",
    dropout: DropRate = 0.0,
    norm: Literal["none", "batch", "layer"] = "none",
) -> nn.Module:
    """Flatten the input, then hidden layers of the given widths: linear, norm, activation, dropout.

    Args:
        widths: units of each hidden layer, from input to output; none makes it ``linear``.
        activation: the function after each hidden layer; gelu is the exact one, not its tanh approximation.
        dropout: share of the hidden units set to zero while training.
        norm: normalisation before each activation; it takes the place of the linear layer's bias.

    Raises:
        DataError: if a forward pass meets samples of another shape than the data's.

    Source: initialisation of He et al. 2015, arXiv 1502.01852, eq. 10; for tanh that of Glorot & Bengio 2010, eq. 16.
    """
    from trainkit_models.dense import dense
    from trainkit_models.fit import need_numbers

    need_numbers(data_spec, "mlp")
    return dense(
        data_spec.input_shape, data_spec.outputs, widths=widths, activation=activation, dropout=dropout, norm=norm
    )


def tabular(
    data_spec: DataSpec,
    /,
    *,
    widths: tuple[PositiveInt, ...] = (64, 32),
    activation: Activation = "relu",
    dropout: DropRate = 0.0,
    embedding: PositiveInt | None = None,
    embedding_dropout: DropRate = 0.0,
) -> nn.Module:
    """A network for tables: each category of a column has a vector that is learned; hidden layers as in ``mlp``.

    The data says which columns hold categories: ``csv`` with ``embed = true``. Numbers go in as they are.

    Args:
        widths: units of each hidden layer, from input to output.
        activation: the function after each hidden layer; gelu is the exact one, not its tanh approximation.
        dropout: share of the hidden units set to zero while training.
        embedding: numbers that each category is given; unset: 1.6 * categories^0.56, rounded, at most 600.
        embedding_dropout: share of the first layer's inputs, numbers too, set to zero while training.

    Raises:
        DataError: if the data is no table, or a forward pass meets samples of another shape.

    Source: Guo & Berkhahn 2016, "Entity embeddings of categorical variables", arXiv 1604.06737, section III, and
    the uniform initialisation of their code; categories that were not known begin at zero.
    """
    from trainkit_models.columns import tabular

    return tabular(
        data_spec,
        widths=widths,
        activation=activation,
        dropout=dropout,
        embedding=embedding,
        embedding_dropout=embedding_dropout,
    )


def convnet(
    data_spec: DataSpec,
    /,
    *,
    widths: tuple[PositiveInt, ...] = (32, 64, 128),
    activation: Activation = "relu",
    dropout: DropRate = 0.0,
    norm: Literal["none", "batch"] = "batch",
) -> nn.Module:
    """A small stack of 3x3 convolutions for images, halved between them, averaged over the image at the end.

    Args:
        widths: channels of each convolution; the image is halved (2x2 maximum) after each but the last.
        activation: the function after each convolution; gelu is the exact one, not its tanh approximation.
        dropout: share of the averaged features set to zero before the head while training.
        norm: normalisation before each activation; it takes the place of the convolution's bias.

    Raises:
        DataError: if the data has no images, or images too small to be halved so often; the message names the shapes.

    Source: 3x3 stacks of Simonyan & Zisserman 2015, arXiv 1409.1556, section 2.1; averaging of Lin et al. 2014, arXiv
    1312.4400, section 3.2; initialisation of He et al. 2015, arXiv 1502.01852, section 2.2, over the fan-out.
    """
    from trainkit_models.convolutional import ConvNet

    return ConvNet(data_spec, widths=widths, activation=activation, dropout=dropout, norm=norm)


def resnet(
    data_spec: DataSpec,
    /,
    *,
    depth: Literal[8, 14, 20, 32, 44, 56, 18, 34, 50] = 20,
    width: Positive = 1.0,
    shortcut: Literal["auto", "A", "B"] = "auto",
    stem: Literal["auto", "small", "imagenet"] = "auto",
    zero_init_residual: bool = False,
) -> nn.Module:
    """Residual network: depths 8 to 56 = 6n+2 are the CIFAR family, 18, 34 and 50 the ImageNet family.

    Args:
        depth: layers with weights; it also chooses the family: 8, 14, 20, 32, 44, 56 (three stages of 16, 32 and 64
            channels) or 18, 34, 50 (four stages of 64 to 512 channels; 50 has bottlenecks, strided in their 3x3).
        width: factor on the channels of every stage, rounded to whole channels.
        shortcut: where the shape changes, A takes every second pixel and pads with zero channels, B learns a 1x1
            convolution; auto is what was published: A for the CIFAR family, B for the ImageNet family.
        stem: small is one 3x3 convolution at full size, imagenet a 7x7 of stride 2 and a 3x3 maximum of stride 2; auto
            is small for images of at most 64 pixels a side.
        zero_init_residual: start the last batch norm of each block at zero, so that each block starts as its shortcut.

    Raises:
        DataError: if the data has no images, or images too small to be halved so often; the message names the shapes.

    Source: He et al. 2016, "Deep Residual Learning", arXiv 1512.03385, sections 3.3, 4.1 (options A and B) and 4.2;
    initialisation of He et al. 2015, arXiv 1502.01852, section 2.2, over the fan-out; zero gamma of Goyal et al. 2017,
    arXiv 1706.02677, section 5.1.
    """
    from trainkit_models.residual import ResNet

    return ResNet(
        data_spec, depth=depth, width=width, shortcut=shortcut, stem=stem, zero_init_residual=zero_init_residual
    )


def speednet(
    data_spec: DataSpec,
    /,
    *,
    widths: tuple[PositiveInt, ...] = (64, 256, 256),
    convolutions: Literal[2, 3] = 2,
    activation: Activation = "gelu",
    norm_momentum: Annotated[float, Between(0, 1, low_open=True)] = 0.4,
    logit_scale: Positive = 1 / 9,
    whiten_samples: PositiveInt = 5000,
    whiten_eps: Positive = 5e-4,
) -> nn.Module:
    """A convolutional network for few epochs: 2x2 patches made white by a frozen layer, then groups of convolutions.

    Each group halves the image by a 2x2 maximum. Convolutions begin as the identity as far as their channels go, norms
    learn a shift alone, the last maximum is over the whole image, and outputs are scaled down, which goes with rates
    about ten times those of other networks. The whitening layer is computed from training images as the data component
    gives them, which best are standardised; its bias is learned.

    Args:
        widths: channels of each group.
        convolutions: in each group; the last two of three have a shortcut around them.
        activation: the function between the layers; gelu is the exact one, not its tanh approximation.
        norm_momentum: share of each batch's statistics in the running ones of BatchNorm.
        logit_scale: what the head's outputs are multiplied by.
        whiten_samples: training images that the whitening layer is computed from, at equal distances over the split.
        whiten_eps: added to the eigenvalues of the patches' second moment.

    Raises:
        DataError: if the data has no images, or images too small to be halved so often; the message names the shapes.

    Source: Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", section 3, arXiv 2404.00498; three
    convolutions as for its 96 %. Whitening of Page 2018, "How to Train Your ResNet 8: Bag of Tricks".
    """
    from trainkit_models.speed import SpeedNet

    return SpeedNet(
        data_spec,
        widths=widths,
        convolutions=convolutions,
        activation=activation,
        norm_momentum=norm_momentum,
        logit_scale=logit_scale,
        whiten_samples=whiten_samples,
        whiten_eps=whiten_eps,
    )


@hookimpl
def trainkit_components() -> list[Component]:
    """List the models."""
    able = {"compiles": True}
    return [
        Component("model", linear, capabilities=able),
        Component("model", mlp, example={"widths": [128], "activation": "relu"}, capabilities=able),
        Component("model", tabular, example={"widths": [32], "embedding": 4}, capabilities=able),
        Component("model", convnet, example={"widths": [16, 32]}, capabilities=able),
        Component("model", resnet, example={"depth": 8, "width": 0.5}, capabilities=able),
        Component("model", speednet, example={"widths": [8, 16]}, capabilities=able),
    ]
