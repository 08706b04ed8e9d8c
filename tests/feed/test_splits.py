"""Splits, standardisation and fingerprints."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit import DataError, fingerprint, split_by_fraction, standardise


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=6),
    val=st.floats(0.05, 0.4),
    test=st.floats(0.05, 0.4),
    seed=st.integers(0, 5),
)
def test_each_class_is_split_alike(counts: list[int], val: float, test: float, seed: int) -> None:
    targets = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    try:
        parts = split_by_fraction(targets, {"val": val, "test": test}, seed)
    except DataError:
        assert min(val, test) * len(targets) < len(counts) + 1
        return
    assert torch.cat(list(parts.values())).sort().values.tolist() == list(range(len(targets)))
    for label, count in enumerate(counts):
        inside = {name: int((targets[part] == label).sum()) for name, part in parts.items()}
        assert inside["train"] >= 1
        assert abs(inside["val"] - val * count) <= 1.5 + (count < 5)
        assert abs(inside["test"] - test * count) <= 1.5 + (count < 5)


def test_totals_are_what_was_asked_for() -> None:
    parts = split_by_fraction(torch.arange(1797) % 10, {"val": 0.1, "test": 0.2}, 0)
    assert {name: len(part) for name, part in parts.items()} == {"train": 1258, "val": 180, "test": 359}


def test_split_is_a_function_of_the_seed() -> None:
    targets = torch.arange(100) % 4
    one, again, other = (split_by_fraction(targets, {"val": 0.2}, seed)["val"].tolist() for seed in (0, 0, 1))
    assert one == again != other
    assert one == sorted(one)


def test_float_targets_are_split_at_random() -> None:
    parts = split_by_fraction(torch.linspace(0, 1, 100), {"test": 0.25}, 0)
    assert len(parts["test"]) == 25
    assert list(parts) == ["train", "test"]


def test_nothing_left_and_nothing_chosen() -> None:
    with pytest.raises(DataError, match=r"val = 0\.5, test = 0\.5 leave nothing"):
        split_by_fraction(torch.arange(10), {"val": 0.5, "test": 0.5}, 0)
    with pytest.raises(DataError, match=r"val = 0\.1 of 3 samples is none; set val = 0"):
        split_by_fraction(torch.arange(3).float(), {"val": 0.1}, 0)


@pytest.mark.parametrize("shape", [(500, 4), (50, 3, 5, 7), (400,)])
def test_standardised_training_inputs_have_mean_0_and_deviation_1(shape: tuple[int, ...]) -> None:
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 1000
    result = standardise(inputs)(inputs)
    around = [dim for dim in range(len(shape)) if dim != 1]
    assert result.dtype == torch.float32
    assert result.mean(around).abs().max() < 1e-3
    assert (result.std(around, correction=0) - 1).abs().max() < 1e-3


def test_constant_features_become_zero() -> None:
    inputs = torch.cat((torch.full((20, 1), 0.1), torch.arange(20.0)[:, None]), 1)
    result = standardise(inputs)(inputs)
    assert result[:, 0].abs().max() < 1e-6
    assert result.isfinite().all()


def test_standardiser_travels_to_workers() -> None:
    inputs = torch.arange(12.0).view(6, 2)
    fitted = standardise(inputs)
    assert torch.equal(pickle.loads(pickle.dumps(fitted))(inputs), fitted(inputs))


def test_fingerprint_sees_names_types_shapes_and_bytes() -> None:
    values = torch.arange(6)
    marks = {
        fingerprint({"a": values}),
        fingerprint({"b": values}),
        fingerprint({"a": values.int()}),
        fingerprint({"a": values.view(2, 3)}),
        fingerprint({"a": values + 1}),
    }
    assert len(marks) == 5
    assert fingerprint({"a": values.numpy()}) == fingerprint({"a": values}) in marks
    assert fingerprint({"a": np.arange(12)[::2]}) == fingerprint({"a": torch.arange(12)[::2]})
