"""Which runs can be lanes, and which can share a stack."""

from __future__ import annotations

import random

import numpy
import pytest
import torch

from trainkit.lanes.fit import obstacle, structure

ABLE = [
    [],
    ["optimizer=adamw"],
    ["optimizer=lamb"],
    ['model={use="mlp", widths=[8], norm="batch", dropout=0.2}'],
    ["data.features=[3, 8, 8]", 'model={use="convnet", widths=[4]}'],
    ["model=averaging"],
    ["model=tied"],
    ['callback=[{use="ema"}, {use="clip_norm", max_norm=1.0}, {use="agc"}]'],
    ['schedule={use="cosine"}'],
]


@pytest.mark.parametrize("changes", ABLE, ids=str)
def test_most_runs_can_be_lanes(trainer, changes: list[str]) -> None:
    lane = trainer.lane(*changes)
    before = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    weights = {name: tensor.clone() for name, tensor in lane.run.model.state_dict().items()}
    assert obstacle(lane.recipe, lane.run) == ""
    assert before == (random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    for name, tensor in lane.run.model.state_dict().items():
        assert torch.equal(tensor, weights[name])


UNABLE = {
    "model=noisy": "the model or the loss draws random numbers in a way of its own",
    "model=choosing": "the model or the loss cannot be computed for several lanes at once (RuntimeError",
    "model=idle": "unused gets no gradient",
    "model=hooked": "a hook is set on layer (Linear)",
    "optimizer=lbfgs": "lbfgs calls the loss itself, as often as it likes",
    'optimizer.wrap=[{use="lookahead"}]': "the update of lookahead is no rule",
    'optimizer={use="sgd_hd", lr=0.1}': "the update of sgd_hd is no rule",
    "run.accumulate=2": "accumulate puts several batches into an update",
    "run.microbatch=4": "microbatch takes each batch in parts",
    'run.nonfinite="skip"': 'nonfinite = "skip" decides on single updates',
    'run.compile="model"': 'compile = "model" compiles one model by itself',
    'callback=[{use="freeze", match=["body.*"]}]': "callback freeze says that it cannot take part in lanes",
}


# The import of torch's compiler, not the code here, uses what torch itself deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
@pytest.mark.parametrize("change", UNABLE)
def test_what_cannot_be_a_lane_is_said(trainer, change: str) -> None:
    lane = trainer.lane(change)
    assert obstacle(lane.recipe, lane.run).startswith(UNABLE[change])


def test_a_momentum_that_is_zero_for_a_while_is_an_obstacle(trainer) -> None:
    lane = trainer.lane(
        'schedule.also=[{target="momentum", use="linear", end=0.0, base=0.5, warmup="1ep", warmup_start=0.0}]'
    )
    assert "is scheduled and 0 for a while" in obstacle(lane.recipe, lane.run)


NUMBERS = [
    ["optimizer.lr=0.3"],
    ["optimizer.momentum=0.5"],
    ["seed=9"],
    ['schedule={use="cosine"}'],
    ["loss.label_smoothing=0.2"],
]
MORE = [
    ["optimizer.nesterov=true"],
    ["optimizer.momentum=0.0"],
    ["model.widths=[9]"],
    ['model={use="mlp", widths=[8], activation="tanh"}'],
    ["data.batch_size=8"],
    ["data.drop_last=true"],
    ["loss=weighing"],
    ['loss={use="weighing", power=2.0}'],
    ["optimizer=adamw"],
    ["loss.class_weights=[1.0, 2.0, 0.5]"],
    ['callback=[{use="clip_norm", max_norm=1.0}]'],
    ['metric=[{use="accuracy"}]'],
    *[
        [f'model={{use="scaling", how="{how}", factor={factor}}}']
        for how in ("partial", "closure", "default", "method", "array", "lambda")
        for factor in (1.0, 2.0)
    ],
    ["loss=scaled"],
    ['loss={use="scaled", factor=2.0}'],
]


def test_runs_that_differ_in_numbers_share_a_stack(trainer) -> None:
    lanes = [trainer.lane(*changes) for changes in ([], *NUMBERS)]
    assert len({structure(lane.recipe, lane.run) for lane in lanes}) == 1
    lanes = [trainer.lane(f'model={{use="mlp", widths=[8], dropout={rate}}}') for rate in (0.1, 0.2)]
    assert len({structure(lane.recipe, lane.run) for lane in lanes}) == 1
    lanes = [trainer.lane(f'callback=[{{use="clip_norm", max_norm={norm}}}]') for norm in (0.1, 0.2)]
    assert len({structure(lane.recipe, lane.run) for lane in lanes}) == 1
    noise = 'callback=[{use="gradient_noise"}, {use="agc"}]'
    lanes = [trainer.lane(f"seed={seed}", noise) for seed in (1, 2)]
    assert len({structure(lane.recipe, lane.run) for lane in lanes}) == 1


def test_runs_that_differ_in_more_do_not(trainer) -> None:
    lanes = [trainer.lane(*changes) for changes in ([], *MORE)]
    assert len({structure(lane.recipe, lane.run) for lane in lanes}) == len(lanes)
    for changes, lane in zip(([], *MORE), lanes, strict=True):  # and the same again is the same
        again = trainer.lane("seed=9", *changes)
        assert structure(again.recipe, again.run) == structure(lane.recipe, lane.run), changes


def test_runs_whose_losses_are_computed_lane_by_lane_share_a_stack_whatever_numbers_they_hold(trainer) -> None:
    lanes = [trainer.lane(f'loss={{use="sharp", power={power}}}') for power in (1.0, 2.0)]
    assert len({structure(lane.recipe, lane.run) for lane in lanes}) == 1


PARTS = [
    *[f'model={{use="{name}"}}' for name in ("mlp", "linear", "averaging", "tied", "loud")],
    *[f'model={{use="{name}"}}\ndata.features=[3, 8, 8]' for name in ("convnet", "resnet")],
    *[f"optimizer={name}" for name in ("adadelta", "adagrad", "adam", "adamax", "adamw", "lamb", "lion")],
    *[f"optimizer={name}" for name in ("nadam", "nadamw", "radam", "rmsprop")],
    'model={use="linear"}\nloss={use="nll"}',
    'data.task="binary"\nloss={use="binary"}',
    *[f'data.task="regression"\nloss={{use="{name}"}}' for name in ("mse", "mae", "huber")],
    *[f'callback=[{{use="{name}"}}]' for name in ("agc", "gradient_centralization", "norms", "gradient_noise")],
    *[f'optimizer={{use="{name}", lr=0.1}}' for name in ("lars", "sgdw")],
]


@pytest.mark.parametrize("part", PARTS)
def test_runs_with_equal_parts_share_a_stack(trainer, part: str) -> None:
    lanes = [trainer.lane(*part.splitlines(), f"seed={seed}") for seed in (1, 2)]
    assert len({structure(lane.recipe, lane.run) for lane in lanes}) == 1
