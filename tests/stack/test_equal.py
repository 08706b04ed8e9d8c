"""A run trained among others as a lane is the run that it is alone."""

from __future__ import annotations

import pytest
import torch

from trainkit.lanes.stack import Stack

IMAGES = 'data={use="synthetic", samples=80, features=[3, 8, 8], batch_size=16}'
BATCH_NORM = 'model={use="mlp", widths=[8], norm="batch"}'


def agree(found, expected, rel: float, abs: float = 0.0, losses: int | None = None) -> None:
    """Losses and weights of lanes are those of the runs alone, in relation to the largest of a tensor."""
    for lane, alone in zip(found, expected, strict=True):
        assert len(lane.losses) == len(alone.losses) > 0
        assert lane.losses[:losses] == pytest.approx(alone.losses[:losses], rel=rel)
        if losses is None:
            for name, tensor in alone.weights.items():
                scale = float(tensor.abs().max()) or 1.0
                torch.testing.assert_close(lane.weights[name], tensor, rtol=0, atol=rel * scale + abs)


OPTIMIZERS = {
    "sgd": 'optimizer={{use="sgd", lr={}, momentum=0.{}, weight_decay=0.0{}}}',
    "nesterov": 'optimizer={{use="sgd", lr={}, momentum=0.{}, nesterov=true, weight_decay=0.0{}}}',
    "adam": 'optimizer={{use="adam", lr={}, betas=[0.{}, 0.99], weight_decay=0.0{}}}',
    "adamw": 'optimizer={{use="adamw", lr={}, betas=[0.{}, 0.99], weight_decay=0.0{}}}',
    "rmsprop": 'optimizer={{use="rmsprop", lr={}, momentum=0.{}, weight_decay=0.0{}}}',
    "lion": 'optimizer={{use="lion", lr={}, betas=[0.{}, 0.99], weight_decay=0.0{}}}',
    "radam": 'optimizer={{use="radam", lr={}, betas=[0.{}, 0.99], weight_decay=0.0{}}}',
    "lars": 'optimizer={{use="lars", lr={}, momentum=0.{}, weight_decay=0.0{}}}',
    "lamb": 'optimizer={{use="lamb", lr={}, betas=[0.{}, 0.99], weight_decay=0.0{}}}',
}


def lanes_of(optimizer: str, *more: str) -> list[list[str]]:
    """Three runs with other numbers, schedules and seeds each."""
    schedules = ['schedule={use="cosine"}', 'schedule={use="exponential", rate=0.9}', 'schedule={use="constant"}']
    return [
        [f"seed={i}", OPTIMIZERS[optimizer].format(0.01 * (i + 1), 7 + i, i + 1), schedules[i], *more] for i in range(3)
    ]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_epochs_are_those_of_the_runs_alone(trainer, optimizer: str) -> None:
    lanes, epochs = lanes_of(optimizer), 4 if optimizer in ("radam", "lars", "lamb", "nesterov") else 20
    found = trainer.together(*lanes, epochs=epochs, double=True)
    expected = [trainer.alone(*some, epochs=epochs, double=True) for some in lanes]
    agree(found, expected, rel=1e-10)
    for lane, alone in zip(found, expected, strict=True):
        ours, theirs = lane.run.optimizer, alone.run.optimizer
        for mine, other in zip(ours.param_groups, theirs.param_groups, strict=True):
            assert {k: v for k, v in mine.items() if k != "params"} == {k: v for k, v in other.items() if k != "params"}
            for p, q in zip(mine["params"], other["params"], strict=True):
                assert ours.state[p].keys() == theirs.state[q].keys()
                assert ours.state[p]["step"] == theirs.state[q]["step"] == 8 * epochs


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
def test_in_float32_the_first_updates_agree_to_1e_5(trainer, optimizer: str) -> None:
    lanes = lanes_of(optimizer)
    found = trainer.together(*lanes)
    agree(found, [trainer.alone(*some) for some in lanes], rel=1e-5, losses=10)


MODELS = {
    "batch norm": [BATCH_NORM],
    "dropout": ['model={use="mlp", widths=[8, 8], norm="layer", dropout=0.3}'],
    "convnet": [IMAGES, 'model={use="convnet", widths=[4, 8], dropout=0.2}'],
    "plain convnet": [IMAGES, 'model={use="convnet", widths=[4, 8], norm="none"}'],
    "resnet": [IMAGES, 'model={use="resnet", depth=8, width=0.25}'],
    "mixup": [IMAGES, 'data.augment=[{use="mixup"}]', 'model={use="convnet", widths=[4]}'],
    "averaging": ["model=averaging"],
    "tied": ["model=tied"],
    "ema": ['callback=[{use="ema", decay=0.9}]'],
    "agc": ['callback=[{use="agc", clipping=0.05}]'],
    "noise": ['callback=[{use="gradient_noise", eta=0.01}]'],
    "lookahead": ['callback=[{use="lookahead", every="3ba"}]'],
    "accuracy": ['metric=[{use="accuracy"}]'],
    "weights of classes": ["loss.class_weights=[1.0, 2.0, 0.5]"],
}


@pytest.mark.parametrize("model", MODELS)
def test_lanes_of_every_kind_of_model(trainer, model: str) -> None:
    lanes = [[f"seed={i}", f"optimizer.lr={0.05 * (i + 1)}", *MODELS[model]] for i in range(3)]
    found = trainer.together(*lanes, epochs=4, double=True)
    agree(found, [trainer.alone(*some, epochs=4, double=True) for some in lanes], rel=1e-10)
    found = trainer.together(*lanes)
    agree(found, [trainer.alone(*some) for some in lanes], rel=1e-5, losses=10)


DIFFERING = {
    "dropout": lambda i: [f'model={{use="mlp", widths=[8], dropout=0.{i + 1}}}'],
    "smoothing": lambda i: [f"loss.label_smoothing=0.{i}"],
    "smoothing and weights": lambda i: [f"loss.label_smoothing=0.{i}", "loss.class_weights=[1.0, 2.0, 0.5]"],
    "smoothing of mixed": lambda i: [f"loss.label_smoothing=0.{i}", IMAGES, 'data.augment=[{use="mixup"}]'],
    "a loss without the capability": lambda i: [f'loss={{use="sharp", power={i}.5}}'],
    "clip_norm": lambda i: [f'callback=[{{use="clip_norm", max_norm=0.{i + 1}}}]'],
    "clips": lambda i: [
        f'callback=[{{use="clip_value", max_value=0.0{i + 1}}}, {{use="clip_norm", max_norm=0.{i + 1}}}]'
    ],
    "clip and noise": lambda i: [f'callback=[{{use="gradient_noise"}}, {{use="clip_norm", max_norm=0.{i + 1}}}]'],
    "scheduled smoothing": lambda i: [
        f"loss.label_smoothing=0.{i + 1}",
        'schedule.also=[{target="loss.label_smoothing", use="linear"}]',
    ],
    "order of the data": lambda i: ["data.data_seed=1"],
}


@pytest.mark.parametrize("what", DIFFERING)
def test_numbers_may_differ(trainer, what: str) -> None:
    lanes = [[f"seed={i}", *DIFFERING[what](i)] for i in range(3)]
    found = trainer.together(*lanes, epochs=3, double=True)
    agree(found, [trainer.alone(*some, epochs=3, double=True) for some in lanes], rel=1e-10)
    if what != "order of the data":
        assert len({tuple(lane.losses) for lane in found}) == 3


def test_lanes_of_one_order_share_their_batches(trainer) -> None:
    lanes = [trainer.lane("optimizer.lr=0.1"), trainer.lane("optimizer.lr=0.2")]
    stack = Stack(lanes)
    batches = list(lanes[0].run.feed.train(0))
    losses = [[float(result.losses) for result in stack.update([batch, batch])] for batch in batches]
    alone = [trainer.alone("optimizer.lr=0.1", epochs=1), trainer.alone("optimizer.lr=0.2", epochs=1)]
    for number, trained in enumerate(alone):
        assert [row[number] for row in losses] == pytest.approx(trained.losses, rel=1e-5)
