"""A decoder-only transformer: each position sees those before it, and says what comes next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainkit import DataError
from trainkit_text.attending import attend

if TYPE_CHECKING:
    from trainkit import DataSpec

# Radford et al. 2019, in the code that was published with it: of every matrix, and of the table of positions.
SPREAD = 0.02
SPREAD_OF_POSITIONS = 0.01


class Seen:
    """Keys and values of the tokens that one attention has seen, ``(batch, heads, tokens, width of a head)``."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def with_more(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take in those of more tokens, and give all."""
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


class Attention(nn.Module):
    """Each position takes from itself and those before it, by several heads.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2; arXiv 1706.03762.
    """

    def __init__(self, width: int, heads: int, bias: bool, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query_key_value = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, inputs: Tensor, seen: Seen | None = None) -> Tensor:
        """Map ``(batch, positions, width)`` to the same; with ``seen`` the positions come after those."""
        batch, positions, width = inputs.shape
        parts = self.query_key_value(inputs).view(batch, positions, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        before = 0
        if seen is not None:
            key, value = seen.with_more(key, value)
            before = key.shape[2] - positions
        mask = None
        if before and positions > 1:
            mask = torch.ones(positions, before + positions, dtype=torch.bool, device=inputs.device).tril(before)
        mixed = attend(query, key, value, mask, self.dropout if self.training else 0.0, causal=not before)
        outputs: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, positions, width))
        return outputs


class Block(nn.Module):
    """Attention, then a hidden layer four times as wide, each on a normalised copy and added to what came in.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3, for the place of
    the norms; Hendrycks & Gimpel 2016, arXiv 1606.08415, for the tanh approximation of gelu.
    """

    def __init__(self, width: int, heads: int, bias: bool, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, bias=bias)
        self.attention = Attention(width, heads, bias, attention_dropout)
        self.norm = nn.LayerNorm(width, bias=bias)
        self.hidden = nn.Linear(width, 4 * width, bias=bias)
        self.out = nn.Linear(4 * width, width, bias=bias)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, inputs: Tensor, seen: Seen | None = None) -> Tensor:
        """Map ``(batch, positions, width)`` to the same; with ``seen`` the positions come after those."""
        inputs = inputs + self.dropout(self.attention(self.attention_norm(inputs), seen))
        hidden = functional.gelu(self.hidden(self.norm(inputs)), approximate="tanh")
        outputs: Tensor = inputs + self.dropout(self.out(hidden))
        return outputs


class Transformer(nn.Module):
    """Embeddings of tokens and of their positions, blocks, a norm, and a head for the token that comes next.

    Args:
        data_spec: of the task ``tokens``; its positions are the longest text that the model sees at once.
    """

    def __init__(
        self,
        data_spec: DataSpec,
        *,
        layers: int,
        heads: int,
        width: int,
        dropout: float,
        attention_dropout: float,
        tied: bool,
        bias: bool,
    ) -> None:
        super().__init__()
        if data_spec.task != "tokens" or len(data_spec.input_shape) != 1:
            raise DataError(
                f"model gpt is for tokens, and the data's task is {data_spec.task} with samples {data_spec.input_shape}"
                "\nuse data text, or another model"
            )
        if width % heads:
            raise ValueError(
                f"width = {width} cannot be divided among heads = {heads}\nwrite a width that is a multiple of it"
            )
        self.context = data_spec.input_shape[0]
        self.tokens = nn.Embedding(data_spec.outputs, width)
        self.positions = nn.Embedding(self.context, width)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.blocks = nn.ModuleList(Block(width, heads, bias, dropout, attention_dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=bias)
        self.head = nn.Linear(width, data_spec.outputs, bias=False)
        self._start()
        if tied:
            self.head.weight = self.tokens.weight

    def _start(self) -> None:
        """Draw the weights: 0.02, 0.01 for positions, less by the square root of their number for what is added up.

        Source: Radford et al. 2018 (GPT), section 4.1, and 2019 (GPT-2), section 2.3, with its published code.
        """
        added = SPREAD / math.sqrt(2 * len(self.blocks))
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=added if name.endswith(".out") else SPREAD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.tokens.weight, std=SPREAD)
        nn.init.normal_(self.positions.weight, std=SPREAD_OF_POSITIONS)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map tokens ``(batch, positions)`` int64 to scores ``(batch, positions, outputs)`` of those that follow each.

        There may be fewer positions than the data's samples have, and not more.
        """
        if inputs.dim() != 2 or not 0 < inputs.shape[1] <= self.context or inputs.is_floating_point():
            raise DataError(
                f"the model was built for tokens (batch, {self.context}) or fewer, got inputs {tuple(inputs.shape)} "
                f"of {inputs.dtype}: give it whole numbers of such a shape"
            )
        hidden = self.dropout(self.tokens(inputs) + self.positions.weight[: inputs.shape[1]])
        for block in self.blocks:
            hidden = block(hidden)
        outputs: Tensor = self.head(self.norm(hidden))
        return outputs

    def following(self, tokens: Tensor, state: tuple[Tensor, list[Seen]] | None = None) -> tuple[Tensor, object]:
        """Scores of the token that comes next, as `trainkit.Continues` says.

        What has been computed for a text's tokens is kept while they fit the context. Of longer ones the model sees
        the last ``context``, whose positions are others with each token more, and computes them anew.
        """
        whole, seen = (tokens, None) if state is None else (torch.cat([state[0], tokens], dim=1), state[1])
        if whole.shape[1] > self.context:
            whole = whole[:, -self.context :]
            return self(whole)[:, -1], (whole, seen or [])
        if seen is None:
            seen = [Seen() for _ in self.blocks]
        before = whole.shape[1] - tokens.shape[1]
        hidden = self.dropout(self.tokens(tokens) + self.positions.weight[before : whole.shape[1]])
        for block, own in zip(self.blocks, seen, strict=True):
            hidden = block(hidden, own)
        return self.head(self.norm(hidden[:, -1])), (whole, seen)
