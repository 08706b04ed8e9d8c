"""The network for tables whose columns of words are looked up."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from trainkit import DataError, DataSpec
from trainkit_models import linear, mlp, tabular
from trainkit_models.columns import width_of

SPEC = DataSpec((4,), "regression", 1, categories=(0, 0, 3, 5))
ROWS = torch.tensor([[0.5, -1.0, 0.0, 4.0], [1.5, 2.0, 2.0, 1.0]])


def test_numbers_go_in_as_they_are_and_categories_as_their_vectors() -> None:
    model = tabular(SPEC, widths=(8,), embedding=2)
    columns = model.columns
    assert columns.features == 2 + 2 * 2
    found = columns(ROWS)
    assert torch.equal(found[:, :2], ROWS[:, :2])
    assert torch.equal(found[1, 2:], torch.cat([columns.tables[0].weight[2], columns.tables[1].weight[1]]))
    assert torch.equal(found[0, 2:4], torch.zeros(2))  # category 0 is one that was not known
    assert model(ROWS).shape == (2, 1)
    assert model.body[0].in_features == 6


def test_each_column_has_the_width_of_its_number_of_categories() -> None:
    assert [table.embedding_dim for table in tabular(SPEC).columns.tables] == [width_of(3), width_of(5)] == [3, 4]
    assert width_of(10_000_000) == 600


def test_a_category_learns_from_its_own_rows_alone() -> None:
    model = tabular(SPEC, embedding=2)
    model(ROWS).sum().backward()
    gradient = model.columns.tables[0].weight.grad
    assert gradient[1].abs().sum() == 0
    assert gradient[0].abs().sum() > 0
    assert gradient[2].abs().sum() > 0


def test_it_is_computed_for_many_lanes_at_once() -> None:
    models = [tabular(SPEC, widths=(8,)) for _ in range(3)]
    parameters, buffers = stack_module_state(models)
    found = vmap(lambda p, b: functional_call(models[0], (p, b), (ROWS,)))(parameters, buffers)
    torch.testing.assert_close(found, torch.stack([model(ROWS) for model in models]))


def test_without_categories_it_is_the_hidden_layers_alone() -> None:
    model = tabular(DataSpec((3,), "regression", 2), widths=(4,))
    assert model.columns.features == 3
    assert sum(isinstance(part, nn.Embedding) for part in model.modules()) == 0


def test_dropout_is_where_it_is_asked_for() -> None:
    model = tabular(SPEC, dropout=0.1, embedding_dropout=0.2)
    assert [part.p for part in model.modules() if isinstance(part, nn.Dropout)] == [0.2, 0.1, 0.1]


@pytest.mark.parametrize("make", [linear, mlp])
def test_models_that_would_multiply_numbers_of_categories_refuse_them(make) -> None:
    with pytest.raises(DataError, match="2 of the data's 4 columns hold categories by number: use model tabular"):
        make(SPEC)


def test_pictures_are_refused() -> None:
    with pytest.raises(DataError, match=r"needs rows of a table, the data has \(1, 8, 8\): use model mlp"):
        tabular(DataSpec((1, 8, 8), "classification", 3))
