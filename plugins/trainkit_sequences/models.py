"""Models of sequences. Listing them does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from trainkit import Between, Component, DataError, DataSpec, NonNegativeInt, PositiveInt, Resume

if TYPE_CHECKING:
    from torch import nn


def lstm(
    data_spec: DataSpec,
    /,
    *,
    width: PositiveInt = 64,
    layers: PositiveInt = 1,
    bidirectional: bool = False,
    dropout: Annotated[float, Between(0, 1, high_open=True), Resume("changeable")] = 0.0,
    pool: Literal["last", "mean"] = "last",
    continues: NonNegativeInt = 0,
) -> nn.Module:
    """Long short-term memory over sequences (channels, steps), or over rows of tokens.

    It classifies sequences, forecasts series, and gives one answer for each step where the task is tokens. Of sequences
    of uneven lengths it reads the steps that there are.

    Args:
        width: units of a layer, and of an embedded token.
        layers: one after the other.
        bidirectional: a second layer beside each one reads from the end; not where tokens are to be predicted.
        dropout: share of the units set to zero while training, between layers and before the head.
        pool: what the head is given: the last step's units, or their mean over the steps.
        continues: how many of the first channels the outputs are forecasts of: each sample is seen about its own mean,
            to which the outputs are added, and to them a linear forecast; a series with a trend needs it. 0: none.

    Raises:
        DataError: if the data has no sequences; the message names the shapes.

    Source: Hochreiter & Schmidhuber 1997; forget gates, and bias 1 of them, of Gers et al. 2000; orthogonal recurrent
    weights of Saxe et al. 2014, arXiv 1312.6120; dropout of Zaremba et al. 2014, arXiv 1409.2329; `continues` of Lai et
    al. 2018, arXiv 1703.07015, section 3.6.
    """
    from trainkit_sequences.recurrent import LSTM

    return LSTM(
        data_spec,
        width=width,
        layers=layers,
        bidirectional=bidirectional,
        dropout=dropout,
        pool=pool,
        continues=continues,
    )


def tcn(
    data_spec: DataSpec,
    /,
    *,
    widths: tuple[PositiveInt, ...] = (32, 32, 32),
    kernel: Annotated[int, Between(2)] = 3,
    dropout: Annotated[float, Between(0, 1, high_open=True), Resume("changeable")] = 0.0,
    pool: Literal["last", "mean"] = "last",
    continues: NonNegativeInt = 0,
) -> nn.Module:
    """Temporal convolutional network over sequences (channels, steps), or over rows of tokens.

    Residual blocks of two causal convolutions whose dilation doubles from block to block: the last step has seen
    ``1 + 2 * (kernel - 1) * (2 ** blocks - 1)`` steps. It does what ``lstm`` does, and its steps are computed at once.

    Args:
        widths: channels of each block.
        kernel: steps that a convolution looks at.
        dropout: share of the channels set to zero while training, after each convolution.
        pool: what the head is given: the last step's channels, or their mean over the steps.
        continues: how many of the first channels the outputs are forecasts of: each sample is seen about its own mean,
            to which the outputs are added, and to them a linear forecast; a series with a trend needs it. 0: none.

    Raises:
        DataError: if the data has no sequences; the message names the shapes.

    Source: Bai et al. 2018, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence
    Modeling", section 3, arXiv 1803.01271; initialisation of He et al. 2015, arXiv 1502.01852, eq. 10; `continues` of
    Lai et al. 2018, arXiv 1703.07015, section 3.6.
    """
    from trainkit_sequences.temporal import TCN

    if not widths:
        raise DataError("model tcn needs a block at least: write widths = [32]")
    return TCN(data_spec, widths=widths, kernel=kernel, dropout=dropout, pool=pool, continues=continues)


def models() -> list[Component]:
    """The models of this plugin."""
    return [
        Component("model", lstm, example={"width": 8}, capabilities={"lanes": False}),
        Component("model", tcn, example={"widths": [8, 8]}, capabilities={"compiles": True}),
    ]
