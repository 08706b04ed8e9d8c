"""Each contract of models catches a model that breaks it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.testing.mutants import Mutant, lacking
from trainkit import Component, DataError, DataSpec
from trainkit.testing import ModelContract


class Plain(nn.Module):
    """Two layers with BatchNorm between them."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Linear(features, 8)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.hidden(inputs))
        return found

    def hidden(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.norm(self.body(inputs)).tanh()
        return found


class Narrow(Plain):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs)[:, :1]


class Dice(Plain):
    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        with torch.no_grad():
            self.head.weight += random.SystemRandom().random()


class OfBatch(Plain):
    """Normalises by the batch when it is measured, too."""

    def hidden(self, inputs: Tensor) -> Tensor:
        found = super().hidden(inputs)
        return found - found.mean(0)


class Forgetful(Plain):
    """What forward uses is in no checkpoint."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        self.calls = 0

    def hidden(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return super().hidden(inputs) * (1 + self.calls)


class Spare(Plain):
    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        self.unused = nn.Linear(3, 3)


class InPlace(Plain):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs.clamp_(-1, 1))


class Single(Plain):
    def hidden(self, inputs: Tensor) -> Tensor:
        return super().hidden(inputs) + torch.ones(8, dtype=torch.float32).to(inputs.device)


class Left(Plain):
    """Keeps a tensor that no ``to(device)`` finds."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        self.shift = torch.ones(8)

    def hidden(self, inputs: Tensor) -> Tensor:
        return super().hidden(inputs) + self.shift.to(inputs.dtype)


class Looking(Plain):
    def hidden(self, inputs: Tensor) -> Tensor:
        found = super().hidden(inputs)
        return found if found.sum() > -1e9 else -found


def model(kind: type[Any], **capabilities: bool) -> Component:
    def factory(data_spec: DataSpec, /) -> nn.Module:
        """Take tables."""
        if len(data_spec.input_shape) != 1:
            raise DataError(f"needs tables, the data has {data_spec.input_shape}")
        found: nn.Module = kind(data_spec.input_shape[0], data_spec.outputs)
        return found

    return Component("model", factory, f"of_{kind.__name__.lower()}", capabilities=capabilities)


def brusque() -> Component:
    def factory(data_spec: DataSpec, /) -> nn.Module:
        """Know nothing but tables."""
        if len(data_spec.input_shape) != 1:
            raise KeyError(data_spec.input_shape)
        return Plain(data_spec.input_shape[0], data_spec.outputs)

    return Component("model", factory, "brusque")


HEALTHY = model(Plain, compiles=True)
MUTANTS = [
    Mutant(ModelContract, name, defect, HEALTHY, because)
    for name, defect, because in (
        ("refuses_other_data_in_words", brusque(), "raises on grey images of 10 classes; raise DataError"),
        ("fits_the_data", model(Narrow), r"gives \(8, 1\); give \(batch, outputs\), \(8, 5\) here"),
        ("same_seed_same_weights", model(Dice), r"other weights from the same seed \(head.weight\)"),
        ("evaluation_looks_at_each_sample_alone", model(OfBatch), "depend on the others of its batch"),
        ("its_state_is_its_weights", model(Forgetful), "loaded weights give other outputs"),
        ("gradients_reach_every_parameter", model(Spare), "no gradient reaches unused.weight, unused.bias"),
        ("leaves_its_inputs_alone", model(InPlace), "changes its inputs"),
        ("computes_in_the_dtype_it_is_given", model(Single), "make new tensors of the inputs' dtype"),
        ("moves_to_any_device_whole", model(Left), "does not work on a device whose values it cannot see"),
        ("lanes_equal_one_after_another", model(Looking), "cannot be stacked: .*declare capabilities"),
        ("compiles_as_declared", model(Looking, compiles=True), "cannot be traced as one graph"),
    )
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_contract_catches(mutant: Mutant, tmp_path: Path) -> None:
    mutant.check(tmp_path)


def test_no_contract_lacks_a_planted_defect() -> None:
    assert not lacking(ModelContract, MUTANTS)
