"""Each contract of losses catches a loss that breaks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.testing.mutants import Mutant, lacking
from trainkit import Component, DataError, DataSpec, Loss
from trainkit.testing import LossContract


class Squares:
    """Half the mean of squares, with all that a loss may have."""

    def differences(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs = outputs if outputs.dtype is torch.float64 else outputs.float()
        return outputs - targets.reshape(outputs.shape)

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        return self.each(outputs, targets).mean()

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.differences(outputs, targets).square().mean(-1)

    def sloped(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.each(outputs, targets), 2 * self.differences(outputs, targets) / outputs.shape[-1]

    def weight(self, targets: Tensor) -> Tensor:
        return torch.tensor(float(len(targets)))


class Wide(Squares):
    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        return self.each(outputs, targets)


class Summed(Squares):
    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        return self.each(outputs, targets).sum()


class Flat(Squares):
    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        return super().__call__(outputs.detach(), targets) + 0 * outputs.sum()


class Overflowing(Squares):
    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.differences(outputs, targets).cosh().log().mean(-1)


class Counting(Squares):
    calls = 0

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        self.calls += 1
        return super().__call__(outputs, targets) * self.calls


class InPlace(Squares):
    def differences(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sub_(targets.reshape(outputs.shape))


class Coarse(Squares):
    def differences(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs - targets.reshape(outputs.shape).to(outputs.dtype)


class TwiceEach(Squares):
    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        return super().__call__(outputs, targets) / 2


class Steep(Squares):
    def sloped(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.each(outputs, targets), 2 * self.differences(outputs, targets)


class Constant(Squares):
    def weight(self, targets: Tensor) -> Tensor:
        return torch.tensor(1.0)


class Looking(Squares):
    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        found = super().__call__(outputs, targets)
        return found if found > 0 else found * 0


class Curt(Squares):
    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        try:
            outputs.sum().item()
        except RuntimeError:
            raise RuntimeError from None
        return super().__call__(outputs, targets)


class OnCpu(Squares):
    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().each(outputs, targets) * torch.ones(len(outputs))


class Twofold(Squares):
    """Squares of two guesses of each target, of which the first is what is predicted."""

    def __init__(self, spec: DataSpec) -> None:
        self.targets = spec.outputs
        self.outputs = 2 * spec.outputs

    def differences(self, outputs: Tensor, targets: Tensor) -> Tensor:
        targets = targets.reshape(*outputs.shape[:-1], self.targets)
        return super().differences(outputs, torch.cat((targets, targets), -1))

    def predictions(self, outputs: Tensor) -> Tensor:
        return outputs[..., : self.targets]

    def equal(self, targets: Tensor) -> Tensor:
        return targets.reshape(len(targets), -1).mean(0).repeat(2).expand(len(targets), -1)


class Vague(Twofold):
    def predictions(self, outputs: Tensor) -> Tensor:
        return outputs


class OfOneLane(Twofold):
    def predictions(self, outputs: Tensor) -> Tensor:
        return outputs[:, : self.targets]


class Peeping(Twofold):
    def equal(self, targets: Tensor) -> Tensor:
        return targets.reshape(len(targets), -1).repeat(1, 2)


def twofold(kind: type[Any]) -> Component:
    def factory(data_spec: DataSpec, /) -> Loss:
        """Compare two guesses with each number."""
        if data_spec.task != "regression":
            raise DataError(f"needs numbers to predict, the task is {data_spec.task}")
        found: Loss = kind(data_spec)
        return found

    return Component("loss", factory, f"of_{kind.__name__.lower()}")


def loss(kind: type[Any], **capabilities: bool) -> Component:
    def factory(data_spec: DataSpec, /) -> Loss:
        """Compare numbers."""
        if data_spec.task != "regression":
            raise DataError(f"needs numbers to predict, the task is {data_spec.task}")
        found: Loss = kind()
        return found

    return Component("loss", factory, f"of_{kind.__name__.lower()}", capabilities=capabilities)


def brusque() -> Component:
    def factory(data_spec: DataSpec, /) -> Loss:
        """Know nothing but numbers."""
        made: dict[str, Loss] = {"regression": Squares()}
        return made[data_spec.task]

    return Component("loss", factory, "brusque")


HEALTHY = loss(Squares, compiles=True)
MUTANTS = [
    Mutant(LossContract, name, defect, HEALTHY, because)
    for name, defect, because in (
        ("refuses_other_data_in_words", brusque(), "raises on a table of 5 classes; raise DataError"),
        ("gives_a_scalar", loss(Wide), r"gives shape \(12,\); give the mean"),
        ("is_the_mean_over_samples", loss(Summed), "3 batches make .* together they are"),
        ("is_differentiable", loss(Flat), "its gradient is zero"),
        ("is_finite_on_extremes", loss(Overflowing), "outputs of 10000: gives inf"),
        ("remembers_nothing", loss(Counting), "at first, .* after other batches"),
        ("leaves_its_arguments_alone", loss(InPlace), "changes outputs or targets in place"),
        ("is_computed_in_float32_at_least", loss(Coarse), "torch.bfloat16 of bfloat16 outputs"),
        ("each_is_the_loss_of_each_sample", loss(TwiceEach), "each is not the loss of each sample alone"),
        ("sloped_is_the_gradient_of_each", loss(Steep), "gives other gradients than those of each"),
        ("weighs_batches_by_their_targets", loss(Constant), "1.0 and 1.0 of two batches, and 1.0 of both"),
        ("gives_each_lane_its_own_loss", loss(Looking), "torch.vmap: .*declare lanes: False"),
        ("gives_each_lane_its_own_loss", loss(Curt), "torch.vmap: no message; declare lanes: False"),
        ("compiles_as_declared", loss(Looking, compiles=True), "declares compiles, and cannot be traced"),
        ("runs_on_any_device_without_waiting", loss(OnCpu), "does not work on a device whose values it cannot see"),
    )
] + [
    Mutant(LossContract, name, twofold(defect), twofold(Twofold), because)
    for name, defect, because in (
        ("says_what_outputs_predict", Vague, r"predictions \(3, 12, 2\) of 3 lanes .* metrics take \(12, 1\) of each"),
        ("says_what_outputs_predict", OfOneLane, "metrics take|differ for several lanes"),
        ("equal_outputs_know_nothing", Peeping, "differs between samples"),
    )
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_contract_catches(mutant: Mutant, tmp_path: Path) -> None:
    mutant.check(tmp_path)


def test_no_contract_lacks_a_planted_defect() -> None:
    assert not lacking(LossContract, MUTANTS)
