"""Rows of tables whose columns of words are looked up: each category has a vector that is learned."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainkit import DataError
from trainkit_models.dense import dense
from trainkit_models.fit import check_sample_shape

if TYPE_CHECKING:
    from trainkit import DataSpec
    from trainkit_models import Activation


class Columns(nn.Module):
    """Puts in place of each category's number a vector of its own, behind the columns of numbers.

    Args:
        categories: how many categories each column has; 0 for numbers. Category 0 is one that was not known.
        widths: of the vectors of each column that has categories.
    """

    def __init__(self, categories: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.columns = len(categories)
        places = [place for place, count in enumerate(categories) if count]
        plain = [place for place, count in enumerate(categories) if not count]
        self.register_buffer("plain", torch.tensor(plain, dtype=torch.int64), persistent=False)
        self.places = tuple(places)
        self.tables = nn.ModuleList(
            nn.Embedding(categories[place], width) for place, width in zip(places, widths, strict=True)
        )
        self.features = len(plain) + sum(widths)
        for table in self.tables:
            assert isinstance(table, nn.Embedding)
            nn.init.uniform_(table.weight, -0.05, 0.05)
            nn.init.zeros_(table.weight[0])  # of a category that is not known nothing is said

    plain: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(batch, columns)`` to ``(batch, features)``."""
        check_sample_shape(inputs, (self.columns,))
        looked_up = [table(inputs[:, place].long()) for place, table in zip(self.places, self.tables, strict=True)]
        return torch.cat([inputs[:, self.plain], *[part.to(inputs.dtype) for part in looked_up]], 1)


def width_of(categories: int) -> int:
    """How many numbers a category of so many is given, unless a recipe says it.

    Source: the rule of thumb of fastai's tabular models (https://docs.fast.ai/tabular.model.html, ``emb_sz_rule``).
    """
    width: float = 1.6 * categories**0.56
    return min(600, round(width))


def tabular(
    data_spec: DataSpec,
    *,
    widths: tuple[int, ...],
    activation: Activation,
    dropout: float,
    embedding: int | None,
    embedding_dropout: float,
) -> nn.Module:
    """Columns looked up, then hidden layers and a head; see `trainkit_models.tabular`."""
    if len(data_spec.input_shape) != 1:
        raise DataError(f"model tabular needs rows of a table, the data has {data_spec.input_shape}: use model mlp")
    categories = data_spec.categories or (0,) * data_spec.input_shape[0]
    columns = Columns(categories, [embedding or width_of(count) for count in categories if count])
    chain = dense((columns.features,), data_spec.outputs, widths=widths, activation=activation, dropout=dropout)
    parts: OrderedDict[str, nn.Module] = OrderedDict(columns=columns)
    if embedding_dropout:
        parts["drop"] = nn.Dropout(embedding_dropout)
    return nn.Sequential(parts | {name: part for name, part in chain.named_children() if name != "rows"})
