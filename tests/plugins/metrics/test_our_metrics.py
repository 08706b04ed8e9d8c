"""What our metrics do beyond what every metric must: clear refusals, no library that is not needed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

import trainkit_metrics
from trainkit import Component, DataError, DataSpec

COMPONENTS = {component.name: component for component in trainkit_metrics.trainkit_components()}
TASKS = {
    "classification": DataSpec((5,), "classification", 4),
    "binary": DataSpec((5,), "binary", 1),
    "regression": DataSpec((5,), "regression", 2, target_mean=(3.0, -1.0), target_std=(2.0, 5.0)),
}
NEEDS = {
    **dict.fromkeys(("accuracy", "error", "f1", "ece", "auroc"), ("classification", "binary")),
    **dict.fromkeys(("balanced_accuracy", "average_precision"), ("classification", "binary")),
    "top_k": ("classification",),
    **dict.fromkeys(("mae", "rmse", "r2"), ("regression",)),
}
# What is given the outputs of a loss of distributions has tests of its own beside these.
OF_OUTPUTS = dict.fromkeys(("coverage", "interval_width", "pinball", "density_nll"), ("regression",))
PAIRS = [(name, task) for name, tasks in NEEDS.items() for task in tasks]


def make(name: str, task: str) -> Any:
    return COMPONENTS[name].factory(TASKS[task], **COMPONENTS[name].example)


def sample(task: str, count: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    if task == "regression":
        targets = torch.randn(count, 2, generator=draw)
        return targets + torch.randn(count, 2, generator=draw), targets
    outputs = 2 * torch.randn(count, 4 if task == "classification" else 1, generator=draw)
    if task == "binary":
        return outputs, (torch.rand(count, generator=draw) < 0.4).float()
    return outputs, torch.randint(4, (count,), generator=draw)


def figure(metric: Any, outputs: Tensor, targets: Tensor) -> float:
    metric.reset()
    metric.update(outputs, targets)
    found: float = metric.compute()
    assert type(found) is float
    return found


def test_listing_the_metrics_does_not_import_torch() -> None:
    code = "import sys, trainkit_metrics as m; m.trainkit_components(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_auroc_imports_a_library() -> None:
    code = (
        "import sys, trainkit_metrics as m; from trainkit import DataSpec; d = DataSpec((5,), 'classification', 9)\n"
        "[c.factory(d) for c in m.trainkit_components() if c.name in ('accuracy', 'error', 'f1', 'ece', 'top_k')]\n"
        "sys.exit('sklearn' in sys.modules or 'torchmetrics' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tables_of_this_file_name_every_metric() -> None:
    assert set(NEEDS) | set(OF_OUTPUTS) == set(COMPONENTS)


@pytest.mark.parametrize("component", COMPONENTS.values(), ids=lambda c: c.name)
def test_refuses_data_of_another_task(component: Component) -> None:
    given = [None] * (len(component.given) - 1)
    for task, data in TASKS.items():
        if task not in (NEEDS | OF_OUTPUTS)[component.name]:
            with pytest.raises(DataError, match=f"metric {component.name} needs .* task is {task}: use metric"):
                component.factory(data, *given)


@pytest.mark.parametrize(("name", "task"), PAIRS)
class TestEveryMetric:
    def test_empty_split_is_an_error(self, name: str, task: str) -> None:
        metric = make(name, task)
        with pytest.raises(DataError, match=f"metric {name} saw no sample: the split is empty"):
            metric.compute()
        metric.update(*(tensor[:0] for tensor in sample(task)))
        with pytest.raises(DataError, match=f"metric {name} saw no sample: the split is empty"):
            metric.compute()

    def test_half_precision_and_inference_mode_are_taken(self, name: str, task: str) -> None:
        metric = make(name, task)
        outputs, targets = sample(task)
        with torch.inference_mode():
            metric.update(outputs.bfloat16(), targets)
        metric.update(outputs.bfloat16(), targets)
        assert metric.compute() == pytest.approx(figure(metric, outputs.bfloat16().float(), targets))

    def test_refuses_outputs_that_do_not_fit(self, name: str, task: str) -> None:
        metric = make(name, task)
        outputs, targets = sample(task)
        for wrong in (outputs[:1], outputs[:, :1].expand(-1, 3), outputs[:, 0]):
            with pytest.raises(DataError, match="do not fit targets"):
                metric.update(wrong, targets)
