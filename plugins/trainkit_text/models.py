"""Models of text. Listing them does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

from trainkit import Between, Component, DataSpec, PositiveInt, Resume

if TYPE_CHECKING:
    from torch import nn

# Dropping everything would leave nothing to learn from.
DropRate: TypeAlias = Annotated[float, Between(0, 1, high_open=True), Resume("changeable")]


def gpt(
    data_spec: DataSpec,
    /,
    *,
    layers: PositiveInt = 4,
    heads: PositiveInt = 4,
    width: PositiveInt = 128,
    dropout: DropRate = 0.0,
    attention_dropout: DropRate = 0.0,
    tied: bool = True,
    bias: bool = True,
) -> nn.Module:
    """A transformer that reads tokens from left to right and says at each what comes next: GPT-2.

    Its context, the longest text that it sees at once, is that of the data's samples. A new one gives every token about
    the same chance.

    Args:
        layers: blocks of attention and a hidden layer four times as wide.
        heads: of each attention; a divisor of the width.
        width: numbers that stand for a token between the blocks.
        dropout: share set to zero while training, of the embeddings and of what each half of a block adds.
        attention_dropout: share of the attention's weights set to zero while training; runs that have it cannot be
            trained together as lanes, and the quickest kernels of CPUs do not know it.
        tied: whether the head's matrix is that of the token embeddings.
        bias: whether linear layers and norms add a learned constant; the head never does.

    Raises:
        DataError: if the data is not of tokens.

    Source: Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", section 4.1; Radford et
    al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3 (norms before each half of a block, one
    more at the end, initial weights of what is added up scaled by 1 / sqrt(2 layers)); tied weights of Press & Wolf
    2017, arXiv 1608.05859.
    """
    from trainkit_text.transformer import Transformer

    return Transformer(
        data_spec,
        layers=layers,
        heads=heads,
        width=width,
        dropout=dropout,
        attention_dropout=attention_dropout,
        tied=tied,
        bias=bias,
    )


def models() -> list[Component]:
    """The models, as components."""
    return [
        Component("model", gpt, example={"layers": 2, "heads": 2, "width": 16}, capabilities={"compiles": True}),
    ]
