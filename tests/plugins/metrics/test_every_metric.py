"""What every metric must do: the same figure whatever the batches, no wait for the device, clear refusals."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

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
    "top_k": ("classification",),
    **dict.fromkeys(("mae", "rmse", "r2"), ("regression",)),
}
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


def figure(metric: Any, outputs: Tensor, targets: Tensor, sizes: list[int] | None = None) -> float:
    metric.reset()
    for o, t in zip(outputs.split(sizes or len(outputs)), targets.split(sizes or len(targets)), strict=True):
        metric.update(o, t)
    found: float = metric.compute()
    assert type(found) is float
    return found


class NoWaiting(TorchDispatchMode):
    """Fails where a value would be brought from the device to Python or to the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        # bincount and unique wait too: they read sizes off the device.
        assert name not in {"_local_scalar_dense", "item", "nonzero", "masked_select", "bincount", "_unique2"}, name
        assert "device" not in (kwargs or {}) or kwargs["device"] is None or kwargs["device"].type == "cpu"
        return func(*args, **(kwargs or {}))


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
    assert set(NEEDS) == set(COMPONENTS)


@pytest.mark.parametrize("component", COMPONENTS.values(), ids=lambda c: c.name)
def test_refuses_data_of_another_task(component: Component) -> None:
    component.model.model_validate(dict(component.example))
    assert all(setting.help for setting in component.settings)
    for task, data in TASKS.items():
        if task not in NEEDS[component.name]:
            with pytest.raises(DataError, match=f"metric {component.name} needs .* task is {task}: use metric"):
                component.factory(data)


@pytest.mark.parametrize(("name", "task"), PAIRS)
class TestEveryMetric:
    @given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 99))
    @settings(max_examples=10, deadline=None)
    def test_batches_do_not_change_the_figure(self, name: str, task: str, sizes: list[int], seed: int) -> None:
        outputs, targets = sample(task, 4 + sum(sizes), seed)
        if name == "auroc":
            targets[:4] = torch.tensor([0.0, 1.0, 0.0, 1.0]).to(targets.dtype)
        metric = make(name, task)
        whole = figure(metric, outputs, targets)
        assert figure(metric, outputs, targets, [4, *sizes]) == pytest.approx(whole, rel=1e-12, abs=1e-15)

    def test_update_does_not_wait_for_the_device(self, name: str, task: str) -> None:
        metric = make(name, task)
        outputs, targets = sample(task)
        with NoWaiting():
            metric.update(outputs, targets)
            metric.update(outputs, targets)
        assert isinstance(metric.compute(), float)

    def test_reset_forgets_everything(self, name: str, task: str) -> None:
        metric = make(name, task)
        first = figure(metric, *sample(task, seed=1))
        figure(metric, *sample(task, seed=2))
        assert figure(metric, *sample(task, seed=1)) == first

    def test_empty_split_is_an_error(self, name: str, task: str) -> None:
        metric = make(name, task)
        with pytest.raises(DataError, match=f"metric {name} saw no sample: the split is empty"):
            metric.compute()
        metric.update(*(tensor[:0] for tensor in sample(task)))
        with pytest.raises(DataError, match=f"metric {name} saw no sample: the split is empty"):
            metric.compute()

    def test_says_which_way_is_good(self, name: str, task: str) -> None:
        metric = make(name, task)
        _, targets = sample(task)
        if task == "classification":
            perfect = 20 * torch.nn.functional.one_hot(targets, 4).float()
        else:
            perfect = 40 * targets.unsqueeze(1) - 20 if task == "binary" else targets
        better, worse = figure(metric, perfect, targets), figure(metric, *sample(task))
        assert (better > worse) is metric.higher_is_better
        assert COMPONENTS[name].capabilities["higher_is_better"] is metric.higher_is_better

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
