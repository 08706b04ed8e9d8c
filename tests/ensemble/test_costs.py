"""What models cost: counted by hand, and what a model that cannot be watched gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from trainkit.dataset import DataSpec
from trainkit.ensemble import costs
from trainkit.ensemble.costs import latency_ms, multiplications, of_inference, of_training, parameters
from trainkit.ensemble.together import Together
from trainkit.ensembler import Cost, Member

CPU = torch.device("cpu")


def test_layers_are_counted_as_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10)
    ).eval()
    assert multiplications(model, torch.randn(1, 3, 8, 8)) == 3 * 8 * 9 * 64 + 8 * 64 * 10
    assert parameters([model]) == 3 * 8 * 9 + 8 + 16 + 8 * 64 * 10 + 10


def test_attention_is_counted() -> None:
    attention = nn.MultiheadAttention(16, 2, batch_first=True).eval()

    class Seen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, inputs: Tensor) -> Tensor:
            found: Tensor = self.attention(inputs, inputs, inputs, need_weights=False)[0]
            return found

    fused = torch.backends.mha.get_fastpath_enabled()
    projections, products = 4 * 5 * 16 * 16, 2 * 5 * 5 * 16
    assert multiplications(Seen(), torch.randn(1, 5, 16)) == projections + products
    assert torch.backends.mha.get_fastpath_enabled() == fused


def test_members_together_cost_what_each_does() -> None:
    models = [nn.Sequential(nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 4)).eval() for _ in range(3)]
    together = Together(models).eval().requires_grad_(False)
    assert multiplications(together, torch.randn(1, 12)) == 3 * (12 * 30 + 30 * 4)
    assert parameters(models) == 3 * (12 * 30 + 30 + 30 * 4 + 4)


def test_shared_weights_count_once() -> None:
    first = nn.Linear(3, 3)
    assert parameters([first, nn.Sequential(first, nn.Linear(3, 1))]) == 12 + 4


def test_what_cannot_be_watched_is_not_counted() -> None:
    class Refuses(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            raise RuntimeError("not this way")

    assert multiplications(Refuses(), torch.randn(1, 3)) is None


def test_latency_is_that_of_one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Counts(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            calls.append(len(inputs))
            return inputs

    ticks = iter(range(10**6))
    monkeypatch.setattr(costs.time, "perf_counter", lambda: float(next(ticks)))
    assert latency_ms(Counts(), torch.zeros(8, 1)) == 1000 / 8, "a tick is a second, and each round here is one tick"
    assert calls == [8] * (2 + 1 + 7)


def test_a_model_comes_back_to_where_it_was_and_small_data_is_repeated() -> None:
    model = nn.Linear(3, 2)
    found = of_inference(model, [model], torch.randn(5, 3), CPU)
    assert found["parameters"] == 8
    assert found["macs"] == 6
    assert set(found["latency_ms"]) == {"1", "64"}
    assert all(took > 0 for took in found["latency_ms"].values())
    assert next(model.parameters()).device == CPU


def member(name: str, updates: int, folder: str | None = None) -> Member:
    cost = Cost(updates, updates / 10, updates / 100)
    place = None if folder is None else Path(folder)
    return Member(name, nn.Identity(), {}, DataSpec((1,), "regression", 1), cost=cost, folder=place)


def test_checkpoints_of_one_run_are_one_training() -> None:
    of_one = [member("a at 1", 100, "a"), member("a at 2", 200, "a"), member("b", 50, "b")]
    assert of_training(of_one) == Cost(250, 25.0, 2.5)
    assert of_training([member("x", 100), member("y", 100)]) == Cost(200, 20.0, 2.0)
