"""Each contract of metrics catches a metric that breaks it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tests.testing.mutants import Mutant, lacking
from trainkit import Component, DataError, DataSpec, Metric
from trainkit.testing import MetricContract


class Distance:
    """Mean distance of outputs and targets."""

    higher_is_better = False

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.seen = 0

    def reset(self) -> None:
        self.total, self.seen = None, 0

    def distances(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets.reshape(outputs.shape)).double().abs().mean(-1)

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        self.add(self.distances(outputs, targets).sum(), len(outputs))

    def add(self, part: Tensor, seen: int) -> None:
        self.total = part if self.total is None else self.total + part
        self.seen += seen

    @staticmethod
    def update_lanes(metrics: Sequence[Distance], outputs: Tensor, targets: Tensor) -> None:
        for metric, *row in zip(metrics, outputs, targets, strict=True):
            metric.update(*row)

    def compute(self) -> float:
        assert self.total is not None
        return self.total.item() / self.seen


class Tensors(Distance):
    def compute(self) -> Any:
        assert self.total is not None
        return self.total / self.seen


class OfMeans(Distance):
    """The mean of the batches' means."""

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        self.add(self.distances(outputs, targets).mean(), 1)


class Lasting(Distance):
    def reset(self) -> None:
        """Keep what was seen."""


class Halving(Distance):
    def compute(self) -> float:
        assert self.total is not None
        self.total = self.total / 2
        return super().compute()


class Upside(Distance):
    higher_is_better = True


class InPlace(Distance):
    def distances(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sub_(targets.reshape(outputs.shape)).double().abs().mean(-1)


class Adding(Distance):
    def add(self, part: Tensor, seen: int) -> None:
        self.total = part if self.total is None else self.total.add_(part)
        self.seen += seen


class Hiding(Distance):
    """Gathers in something that no checkpoint holds."""

    def __init__(self) -> None:
        super().__init__()
        self.held: set[int] = set()

    def reset(self) -> None:
        super().reset()
        self.held = set()

    def add(self, part: Tensor, seen: int) -> None:
        super().add(part, seen)
        if part.device.type == "cpu":
            self.held = {*self.held, round(float(part) * 1e6)}

    def compute(self) -> float:
        return float(sum(self.held))


class Shared(Distance):
    """Gathers for all of its kind."""

    sums: ClassVar[dict[str, Any]] = {"total": 0.0, "seen": 0}

    def reset(self) -> None:
        self.sums.update(total=0.0, seen=0)

    def add(self, part: Tensor, seen: int) -> None:
        self.sums["total"] = self.sums["total"] + part
        self.sums["seen"] += seen

    def compute(self) -> float:
        return float(self.sums["total"]) / int(self.sums["seen"])


class Mixing(Distance):
    @staticmethod
    def update_lanes(metrics: Sequence[Distance], outputs: Tensor, targets: Tensor) -> None:
        for metric in metrics:
            metric.update(outputs[0], targets[0])


class Waiting(Distance):
    def add(self, part: Tensor, seen: int) -> None:
        super().add(torch.tensor(part.item(), dtype=torch.float64), seen)


def metric(kind: type[Any], higher: bool = False) -> Component:
    def factory(data_spec: DataSpec, /) -> Metric:
        """Compare numbers."""
        if data_spec.task != "regression":
            raise DataError(f"needs numbers to predict, the task is {data_spec.task}")
        found: Metric = kind()
        return found

    name = f"of_{kind.__name__.lower()}"
    return Component("metric", factory, name, capabilities={"higher_is_better": higher})


def silent() -> Component:
    def factory(data_spec: DataSpec, /) -> Metric:
        """Refuse without a word."""
        if data_spec.task != "regression":
            raise TypeError
        return Distance()

    return Component("metric", factory, "silent", capabilities={"higher_is_better": False})


HEALTHY = metric(Distance)
MUTANTS = [
    Mutant(MetricContract, name, defect, HEALTHY, because)
    for name, defect, because in (
        ("refuses_other_data_in_words", silent(), "raises on a table of 5 classes; raise DataError"),
        ("gives_finite_numbers", metric(Tensors), "it must give a finite float"),
        ("does_not_depend_on_batches", metric(OfMeans), "gather sums and counts in update"),
        ("reset_forgets_everything", metric(Lasting), r"after other samples and reset\(\)"),
        ("compute_only_looks", metric(Halving), r"where compute\(\) was also called before"),
        ("says_which_way_is_good", metric(Upside, True), "higher_is_better = True is the other way round"),
        ("says_which_way_is_good", metric(Upside), r"declare capabilities=\{'higher_is_better': True\}"),
        ("leaves_its_arguments_alone", metric(InPlace), "changes outputs or targets in place"),
        ("bears_inference_mode", metric(Adding), "add without changing in place"),
        ("is_continued_within_an_interval", metric(Hiding), "; held cannot be saved"),
        ("is_copied_whole", metric(Shared), "in attributes of the object, not of the class"),
        ("counts_lanes_apart", metric(Mixing), "by update_lanes, .* by update"),
        ("update_runs_on_any_device_without_waiting", metric(Waiting), "values it cannot see"),
    )
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_contract_catches(mutant: Mutant, tmp_path: Path) -> None:
    mutant.check(tmp_path)


def test_no_contract_lacks_a_planted_defect() -> None:
    assert not lacking(MetricContract, MUTANTS)
