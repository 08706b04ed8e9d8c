"""Nothing waits for the device between two log lines; tests/core/test_cuda.py asks a CUDA device the same."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest
import torch

from tests.core.no_waiting import META, on_meta, waits, watched
from trainkit.evaluate import Meter, outputs_of
from trainkit.lanes.lane import Lane
from trainkit.lanes.stack import Stack
from trainkit.manager import Plugins

IMAGES = "data.features=[3,16,16]", "model={use='resnet', depth=8}"
CLIP = '[[callback]]\nuse = "clip_norm"\nmax_norm = 1.0\n'
# torch's own, which ask for their counters: each says so in its page.
ASKING = {"adafactor", "asgd", "lbfgs"}


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("schedule={use='cosine', warmup='1ep'}", "optimizer={use='adamw'}"),
        ("loss.class_weights=[1.0, 2.0, 3.0]", "run.accumulate=2", "optimizer.momentum=0.9"),
        ("run.microbatch=4", "model.dropout=0.2"),
    ],
    ids=str,
)
def test_updates_are_handed_out_without_waiting(load, plugins, tmp_path, monkeypatch, changes) -> None:
    """While results are held back, and where they are taken in."""
    monkeypatch.setattr("trainkit.tally.FOLD_EVERY", 5)
    assert waits(load(*changes, more=CLIP), plugins, tmp_path) == []


@pytest.mark.parametrize("name", ["random_crop", "flip", "cutout", "mixup", "cutmix"])
def test_augmentations_run_on_the_device(load, plugins, tmp_path, name) -> None:
    assert waits(load(*IMAGES, f"data.augment=[{{use='{name}'}}]"), plugins, tmp_path) == []


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _own(kind: str) -> list[tuple[str, str]]:
    """Name and table of what our own plugins have of a kind."""
    plugins, found = Plugins(), []
    for name, (part, *_) in plugins.components(kind).items():
        if plugins.owner(part).name in (f"{kind}s", f"{kind}es", "data"):
            found.append((name, _toml({"use": name, **(part.example or {})})))
    return sorted(found)


@pytest.mark.parametrize(("name", "table"), [one for one in _own("optimizer") if one[0] != "sparse_adam"])
def test_optimizers_do_not_wait(load, plugins, tmp_path, name, table) -> None:
    recipe = load(f"optimizer={table}")
    if name in ASKING:
        with pytest.raises(RuntimeError, match="item"):
            waits(recipe, plugins, tmp_path)
    else:
        assert waits(recipe, plugins, tmp_path) == []


@pytest.mark.parametrize(("name", "table"), _own("callback"))
def test_callbacks_do_not_wait(load, plugins, tmp_path, name, table) -> None:
    if name in ("distil", "test_time_augmentation"):
        pytest.skip("it needs an ensemble, or images")
    if name == "gradient_noise":
        pytest.skip("it has a generator on the device, and the meta device has none")
    changes = ("data.task=binary", "loss={use='binary'}", "metric=[]") if name == "threshold" else ()
    assert waits(load(f"callback=[{table}]", *changes), plugins, tmp_path) == []


@pytest.mark.parametrize(("name", "table"), _own("loss"))
def test_losses_do_not_wait(load, plugins, tmp_path, name, table) -> None:
    task = {"binary": "binary", "cross_entropy": "classification", "focal": "classification", "nll": "classification"}
    changes = (f"loss={table}", f"data.task={task.get(name, 'regression')}", "metric=[]")
    assert waits(load(*changes), plugins, tmp_path) == []


_OF_NUMBERS = {
    "mse": ("mae", "r2", "rmse"),
    "gaussian_nll": ("coverage", "density_nll", "interval_width"),
    "quantile": ("coverage", "interval_width", "pinball"),
}


@pytest.mark.parametrize("loss", ["cross_entropy", *_OF_NUMBERS])
def test_metrics_do_not_wait(load, plugins, tmp_path, loss) -> None:
    numbers = {name for names in _OF_NUMBERS.values() for name in names}
    tables = [
        table
        for name, table in _own("metric")
        if (name in _OF_NUMBERS[loss] if loss in _OF_NUMBERS else name not in numbers)
    ]
    changes = ("data.task=regression",) if loss in _OF_NUMBERS else ()
    levels = ", levels=[0.05, 0.1, 0.5, 0.9, 0.95]" if loss == "quantile" else ""
    recipe = load(f"loss={{use='{loss}'{levels}}}", f"metric=[{', '.join(tables)}]", *changes)
    assert len(tables) >= 3
    assert waits(recipe, plugins, tmp_path) == []
    run = on_meta(recipe, plugins, tmp_path)
    meter = Meter(dict(run.metrics), run.loss)

    def evaluate() -> None:
        for batch, outputs in outputs_of(run, run.feed.evaluate("val"), 38):
            meter.add(outputs, batch.targets, run.loss(outputs, batch.targets))

    evaluate()  # losses move their constants with the first batch
    assert watched(evaluate) == []
    with pytest.raises((RuntimeError, NotImplementedError)):  # the figures alone are waited for
        meter.compute()


@pytest.mark.parametrize("changes", [(), (*IMAGES, "data.samples=96")], ids=["mlp", "resnet"])
def test_lanes_do_not_wait(load, plugins, tmp_path, changes) -> None:
    """Runs whose rates follow a schedule: every update has numbers of its own for each of them."""
    lanes = []
    for rate in (0.1, 0.2):
        recipe = load(*changes, f"optimizer.lr={rate}", "schedule={use='cosine', warmup='1ep'}", more=CLIP)
        lanes.append(Lane(on_meta(recipe, plugins, tmp_path), recipe))
    stack = Stack(lanes)

    def update(count: int) -> None:
        for batches in islice(zip(*(lane.run.feed.train(0) for lane in lanes), strict=True), count):
            stack.update(batches)
            for lane in lanes:
                lane.run.step += 1

    update(2)
    assert watched(lambda: update(4)) == []


def test_what_waits_is_seen() -> None:
    """The watching itself: what would wait on a device is noted, or refused there."""
    values = torch.ones(3)
    assert "torch.tensor" in watched(lambda: torch.tensor([1.0, 2.0], device=META))[0]
    assert "_to_copy" in watched(lambda: values.to(META))[0]
    assert watched(lambda: values.to(META, non_blocking=True)) == []
    assert watched(lambda: torch.ones(3, device=META) * 2.0) == []
    for asks in (torch.Tensor.item, torch.Tensor.nonzero, torch.Tensor.cpu, float):
        with pytest.raises((RuntimeError, NotImplementedError)):
            asks(torch.ones((), device=META))
