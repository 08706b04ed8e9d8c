"""Statistics of BatchNorm layers that are measured again: exact over all rows, whatever the batches."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from trainkit import renew_statistics

ROWS = torch.arange(100.0).reshape(100, 1)


@pytest.mark.parametrize("sizes", [[64, 36], [36, 64], [100], [1, 98, 1], [1] * 100, [99, 1], [1, 99], [2, 1, 97]])
def test_rows_weigh_the_same_in_batches_of_any_sizes(sizes):
    """torch's update_bn gives 64 rows and 36 the same weight: 56.5 in place of 49.5."""
    layer = nn.BatchNorm1d(1)
    assert renew_statistics(layer, ROWS.split(sizes))
    assert float(layer.running_mean) == pytest.approx(49.5, rel=1e-7)
    assert float(layer.running_var) == pytest.approx(float(ROWS.double().var()), rel=1e-7)


def test_images_are_pooled_over_places_and_channels_are_apart():
    images = torch.randn(10, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 3 + 7
    layer = nn.BatchNorm2d(3)
    renew_statistics(layer, images.split([7, 2, 1]))
    rows = images.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(layer.running_mean.double(), rows.mean(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(layer.running_var.double(), rows.var(1), rtol=1e-6, atol=0)


def test_small_distances_far_from_zero_are_not_lost():
    rows = 10_000 + ROWS / 100
    layer = nn.BatchNorm1d(1)
    renew_statistics(layer, rows.split([64, 36]))
    assert float(layer.running_var) == pytest.approx(float(rows.double().var()), rel=1e-3)


class Fails(nn.Module):
    """Raises at the third batch."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, inputs):
        self.count += 1
        if self.count == 3:
            raise KeyError("third")
        return inputs


def test_an_exception_leaves_modes_momentum_and_statistics_as_they_were():
    """torch's update_bn leaves momentum None and the training mode on."""
    model = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2, momentum=0.3), nn.Dropout(), Fails())
    model.eval()
    model[2].train()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(KeyError):
        renew_statistics(model, ROWS.split(20))
    assert [part.training for part in model] == [False, False, True, False]
    assert model[1].momentum == 0.3
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model[1]._forward_hooks


def test_layers_that_stay_fixed_and_those_that_are_given_nothing_keep_their_statistics():
    class Fixed(nn.BatchNorm1d):
        def train(self, mode: bool = True):
            return super().train(False)

    unused = nn.BatchNorm1d(1)
    model = nn.Sequential(Fixed(1), nn.BatchNorm1d(1))
    model[1].unused = unused
    assert renew_statistics(model, [ROWS])
    assert float(model[0].running_mean) == float(unused.running_mean) == 0.0
    assert float(model[1].running_mean) == pytest.approx(49.5, rel=1e-4)  # the fixed layer divides by sqrt(1 + eps)
    assert model.training


def test_no_batch_norm_is_said_and_nothing_is_read():
    def nothing():
        raise AssertionError
        yield

    assert not renew_statistics(nn.Linear(1, 1), nothing())


def test_momentum_of_none_stays_and_dropout_draws_nothing():
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(1, momentum=None))
    state = torch.get_rng_state()
    renew_statistics(model, ROWS.split(30))
    assert torch.equal(state, torch.get_rng_state())
    assert model[1].momentum is None
    assert float(model[1].running_mean) == pytest.approx(49.5, rel=1e-6)
