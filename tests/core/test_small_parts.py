"""Device and precision, scheduled values, the exact mean over batches, and the random numbers of each purpose."""

from __future__ import annotations

import random

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional

from trainkit import MachineError, checkpoint, hookimpl
from trainkit.device import Precision, TunedConvolutions, choose_device, tunes, wants_channels_last
from trainkit.evaluate import Meter
from trainkit.run import ScheduledValue
from trainkit.scheduled import rising, values_at, warmed_up
from trainkit.seeding import seed_everything

CPU = torch.device("cpu")


def test_the_device_is_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
    assert choose_device("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    with pytest.raises(MachineError, match="there is none") as raised:
        choose_device("cuda")
    assert torch.__version__ in str(raised.value)


@pytest.mark.parametrize(("name", "chosen"), [("auto", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")])
def test_precision_on_the_cpu(name, chosen):
    precision = Precision.choose(name, CPU)
    assert precision.name == chosen
    assert precision.scaler.is_enabled() == (chosen == "float16")
    with precision.context():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == getattr(torch, chosen)


def test_the_layout_follows_the_convolutions():
    assert wants_channels_last(nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Conv2d(1, 1, 1))))
    assert not wants_channels_last(nn.Sequential(nn.Linear(1, 1), nn.Conv1d(1, 1, 1)))


@pytest.mark.parametrize("layout", ["true", "false", '"auto"'])
def test_images_reach_the_model_in_the_layout_of_its_weights(train, layout):
    seen = []

    class Look:
        @hookimpl
        def trainkit_prepare_model(self, model):
            model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].stride()[1] == 1))

    images = "data.features=[3,8,8]", "model={use='convnet', widths=[4, 8]}", "run.duration=1ep"
    finished = train(*images, f"run.channels_last={layout}", listeners=[Look()])
    assert set(seen) == {layout != "false"}
    (weight,) = (tensor for name, tensor in finished.weights.items() if tensor.shape == (8, 4, 3, 3))
    assert (weight.stride()[1] == 1) == (layout != "false")


def test_weights_that_lie_differently_have_one_hash():
    model = nn.Conv2d(3, 4, 3)
    plain = checkpoint.weights_sha256(model)
    assert checkpoint.weights_sha256(model.to(memory_format=torch.channels_last)) == plain
    model.weight.data[0, 0, 0, 0] += 1
    assert checkpoint.weights_sha256(model) != plain


def test_the_hash_tells_names_shapes_and_types_apart():
    def held(name: str, tensor: torch.Tensor) -> str:
        model = nn.Module()
        model.register_buffer(name, tensor)
        return checkpoint.weights_sha256(model)

    zeros = torch.zeros(2, 3)
    variants = [
        held("a", zeros),
        held("b", zeros),
        held("a", zeros.reshape(3, 2)),
        held("a", zeros.int()),
        held("a", torch.zeros(2, 3, 1)),
    ]
    assert len(set(variants)) == 5


def test_values_of_an_update_carry_their_labels():
    half = ScheduledValue("lr/0", 0.5, lambda t, T, events=(): 1 - t / T, 0, "lr")
    drop = ScheduledValue("lr/1", 4.0, lambda t, T, events=(): 0.1 if events else 1.0, 1, "lr")
    assert values_at((half, drop), 5, 10) == {"lr/0": 0.25, "lr/1": 4.0}
    assert values_at((half, drop), 5, 10, [(3, "drop")]) == {"lr/0": 0.25, "lr/1": 0.4}


def test_a_warmup_hands_events_on_with_the_time_of_its_body_and_no_warmup_changes_nothing():
    seen = []

    def body(t: int, T: int, events=()):
        seen.append((t, T, events))
        return 1.0

    assert warmed_up(body, 0) is body
    warmed_up(body, 3)(5, 10, [(4, "x")])
    assert seen == [(2, 7, [(1, "x")])]


def test_a_cooldown_holds_the_end_and_an_overlay_lets_the_body_run_from_the_start():
    def body(t: int, T: int, events=()):
        return t / T

    held = warmed_up(body, 2, cooldown=3)
    assert [held(t, 10) for t in (2, 6, 7, 8, 9, 10, 99)] == [0.0, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0]
    hidden = warmed_up(body, 2, overlay=True)
    assert [hidden(t, 10) for t in range(4)] == [1 / 3, 2 / 3, 0.2, 0.3]
    both = warmed_up(body, 2, overlay=True, cooldown=5)
    assert [both(t, 10) for t in (2, 5, 6)] == [0.4, 1.0, 1.0]


@pytest.mark.parametrize("shape", ["linear", "cosine", "exp"])
@pytest.mark.parametrize("start", [None, 0.01, 1.0])
def test_every_warmup_rises_from_its_start_to_one(shape, start):
    for warmup in (1, 2, 7, 100):
        rise = rising(warmup, start, shape)
        values = [rise(t) for t in range(warmup + 1)]
        assert values[0] == pytest.approx(1 / (warmup + 1) if start is None else start, rel=1e-15)
        assert values[-1] == pytest.approx(1.0, rel=1e-15)
        assert values == sorted(values)


@pytest.mark.parametrize("cuts", [[10], [3, 3, 3, 1], [1] * 10, [9, 1]])
def test_the_mean_over_batches_is_the_mean_over_samples(cuts):
    torch.manual_seed(0)
    outputs, targets = torch.randn(10, 3, dtype=torch.float64), torch.randint(0, 3, (10,))
    meter = Meter({}, functional.cross_entropy)
    for part, wanted in zip(outputs.split(cuts), targets.split(cuts), strict=True):
        meter.add(part, wanted, functional.cross_entropy(part, wanted))
    assert meter.compute()["loss"] == pytest.approx(functional.cross_entropy(outputs, targets).item(), rel=1e-14)


def test_a_metric_may_give_several_figures_and_low_precision_is_widened():
    class Several:
        higher_is_better = True

        def reset(self) -> None:
            self.types: list[torch.dtype] = []

        def update(self, outputs, targets) -> None:
            self.types.append(outputs.dtype)

        def compute(self):
            return {"a": 1, "b": 2.5}

    several = Several()
    meter = Meter({"both": several}, functional.mse_loss)
    meter.add(torch.ones(2, dtype=torch.bfloat16), torch.ones(2), torch.tensor(0.5))
    assert meter.compute() == {"loss": 0.5, "both.a": 1.0, "both.b": 2.5}
    assert several.types == [torch.float32]


def test_each_purpose_has_random_numbers_of_its_own():
    def drawn(seed: int, purpose: str) -> tuple[float, float, float]:
        seed_everything(seed, purpose)
        return random.random(), float(numpy.random.rand()), float(torch.rand(()))

    assert drawn(1, "model") == drawn(1, "model")
    assert len({drawn(seed, purpose) for seed in (1, 2, 2**40) for purpose in ("data", "model", "run")}) == 9


def test_a_regression_is_measured_in_the_units_of_the_data(train):
    data = "data={use='synthetic', task='regression', samples=192, features=[6], classes=1, batch_size=16}"
    finished = train(data, "loss={use='mse'}", "metric=[{use='rmse'}, {use='r2'}]", "run.duration=20ep")
    assert finished.report.metrics["test.r2"] > 0.5
    assert finished.run.higher_is_better("val.r2")
    assert not finished.run.higher_is_better("val.rmse")
    assert not finished.run.higher_is_better("val.loss")


@pytest.mark.parametrize(
    ("kind", "wanted", "inside"), [("cuda", True, True), ("cuda", False, False), ("cpu", True, False)]
)
def test_convolutions_are_tuned_for_as_long_as_a_run_lasts(kind, wanted, inside):
    tuned = TunedConvolutions(tunes({"tune_convolutions": wanted}, torch.device(kind)))
    for _ in range(2):  # a stack of lanes enters it at each update
        with tuned:
            assert torch.backends.cudnn.benchmark is inside
        assert torch.backends.cudnn.benchmark is False
