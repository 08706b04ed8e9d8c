"""What data may not be, each with one message."""

import pytest
import torch

from trainkit import DataError, Dataset, DataSpec, Split
from trainkit.errors import PluginDefect
from trainkit.feed import make_feed

SPEC = DataSpec((2,), "classification", 2, ("cat", "dog"))


def feed_of(inputs: torch.Tensor, targets: torch.Tensor, spec: DataSpec = SPEC, batch_size: int = 4) -> None:
    make_feed(Dataset(spec, {"train": Split(inputs, targets)}), batch_size=batch_size, seed=0, device="cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_row_with_a_value_that_is_not_finite_is_named(value: float) -> None:
    inputs = torch.ones(10, 2)
    inputs[7, 1] = value
    with pytest.raises(DataError, match=rf"inputs of split 'train': row 7 \(from 0\) holds {value}"):
        feed_of(inputs, torch.arange(10) % 2)


def test_target_that_is_not_finite_is_named() -> None:
    targets = torch.ones(10)
    targets[3] = float("nan")
    with pytest.raises(DataError, match=r"targets of split 'train': row 3"):
        feed_of(torch.ones(10, 2), targets, DataSpec((2,), "regression", 1))


def test_large_finite_values_pass() -> None:
    feed_of(torch.full((10, 2), 3e38), torch.arange(10) % 2)


def test_one_class_only() -> None:
    with pytest.raises(DataError, match=r"every training sample is of class 'dog'; .* at least two"):
        feed_of(torch.ones(10, 2), torch.ones(10, dtype=torch.int64))


def test_target_outside_the_classes() -> None:
    with pytest.raises(DataError, match=r"go from 0 to 2; .* must lie in 0 to 1"):
        feed_of(torch.ones(9, 2), torch.arange(9) % 3)


def test_fewer_samples_than_a_batch() -> None:
    with pytest.raises(DataError, match="3 samples, fewer than batch_size = 4; set batch_size = 3 or less"):
        feed_of(torch.ones(3, 2), torch.tensor([0, 1, 0]))
    feed_of(torch.ones(4, 2), torch.tensor([0, 1, 0, 1]))


def test_empty_training_split() -> None:
    with pytest.raises(DataError, match="training split is empty"):
        feed_of(torch.ones(0, 2), torch.ones(0, dtype=torch.int64))


def test_shape_that_the_spec_does_not_say() -> None:
    with pytest.raises(PluginDefect, match=r"shape \(2,\), but they have \(3,\)"):
        feed_of(torch.ones(8, 3), torch.arange(8) % 2)
