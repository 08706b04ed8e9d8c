"""Lanes come and go, and none of them notices the others."""

from __future__ import annotations

import random

import numpy
import pytest
import torch
from torch import Tensor

from trainkit.lanes import stack as stack_module
from trainkit.lanes.dropout import Call, draw, dropouts_of
from trainkit.lanes.lane import as_if_alone
from trainkit.lanes.stack import Stack
from trainkit.snapshot import capture

DROPOUT = 'model={use="mlp", widths=[8, 8], dropout=0.3}'
IMAGES = ['data={use="synthetic", samples=80, features=[3, 8, 8], batch_size=16}', 'model={use="convnet", widths=[4]}']
MODELS = {"mlp": [], "dropout": [DROPOUT], "batch norm": ['model={use="mlp", norm="batch"}'], "convnet": IMAGES}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Bit for bit, NaN and all."""
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor.nan_to_num(7.0), expected[name].nan_to_num(7.0)), name


def held(lane) -> dict[str, Tensor]:
    """Weights, buffers and optimizer state of a lane's run."""
    run = lane.run
    found = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    for name, parameter in run.model.named_parameters():
        for slot, value in run.optimizer.state[parameter].items():
            found[f"{name} {slot}"] = value.clone() if isinstance(value, Tensor) else torch.tensor(value)
    return found


@pytest.mark.parametrize("model", MODELS)
def test_a_lane_that_diverges_changes_no_bit_of_the_others(trainer, model: str) -> None:
    def train(rate: str) -> list[dict[str, Tensor]]:
        changes = [["seed=1"], ["seed=2", f"optimizer.lr={rate}"], ["seed=3"]]
        lanes = [trainer.lane(*some, *MODELS[model]) for some in changes]
        trainer.stacked(Stack(lanes), 2)
        return [held(lane) for lane in lanes]

    wild, calm = train("1e30"), train("0.1")
    assert not all(tensor.isfinite().all() for tensor in wild[1].values())
    same(wild[0], calm[0])
    same(wild[2], calm[2])


@pytest.mark.parametrize("model", MODELS)
def test_a_lane_among_more_or_fewer_others_is_nearly_the_same(trainer, model: str) -> None:
    """Not always bit for bit: the kernels of matrix products choose their way by the number of matrices."""

    def train(number: int) -> list[float]:
        lanes = [trainer.lane(f"seed={i}", *MODELS[model]) for i in range(number)]
        return trainer.stacked(Stack(lanes), 1)[0].losses

    expected = pytest.approx(train(8), rel=1e-5)
    assert train(1) == expected
    assert train(3) == expected


def test_lanes_are_taken_and_put(trainer) -> None:
    rates = [0.05, 0.1, 0.2, 0.3]

    def lane(number: int):
        return trainer.lane(f"seed={number}", f"optimizer.lr={rates[number]}", DROPOUT, double=True)

    lanes = [lane(number) for number in range(3)]
    stack = Stack(lanes)
    trainer.stacked(stack, 1)
    out = stack.take(1)
    assert out is lanes[1]
    assert [None if lane is None else lane.run.seed for lane in stack.lanes] == [0, None, 2]
    before = held(out)
    late = lane(3)
    trainer.stacked(stack, 1)
    same(held(out), before)
    stack.put(1, late)
    assert stack.active == [lanes[0], late, lanes[2]]
    with as_if_alone(out):
        trainer.on(out, 2)  # goes on alone
    trainer.stacked(stack, 1)
    for lane, number, epochs in ((lanes[0], 0, 3), (out, 1, 3), (lanes[2], 2, 3), (late, 3, 1)):
        alone = trainer.alone(f"seed={number}", f"optimizer.lr={rates[number]}", DROPOUT, epochs=epochs, double=True)
        for name, tensor in alone.weights.items():
            torch.testing.assert_close(lane.run.model.state_dict()[name], tensor, rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="place 1 is taken"):
        stack.put(1, out)
    stack.take(1)
    with pytest.raises(ValueError, match="place 1 is free"):
        stack.take(1)


def test_a_checkpoint_of_a_lane_is_that_of_the_run_alone(trainer) -> None:
    """Weights, state, counts and the states of the random generators."""
    changes = [["seed=1", DROPOUT], ["seed=2", DROPOUT, "optimizer.lr=0.3"]]
    lanes = [trainer.lane(*some, double=True) for some in changes]
    trainer.stacked(Stack(lanes), 2)
    for lane, some in zip(lanes, changes, strict=True):
        with as_if_alone(lane):
            tensors, state = capture(lane.run, {})
        alone = trainer.lane(*some, double=True)
        with as_if_alone(alone):
            trainer.on(alone, 2)
            expected, as_told = capture(alone.run, {})
        assert tensors.keys() == expected.keys()
        for name, tensor in expected.items():
            if name.startswith("random"):
                assert torch.equal(tensors[name], tensor), name
            else:
                torch.testing.assert_close(tensors[name], tensor, rtol=1e-10, atol=1e-12)
        assert {key: state[key] for key in state} == as_told


def test_the_random_numbers_of_a_lane_are_its_own(trainer) -> None:
    lane, other = trainer.lane("seed=1"), trainer.lane("seed=2")

    def numbers() -> tuple[float, float, float]:
        return random.random(), numpy.random.rand(), float(torch.rand(()))

    with as_if_alone(lane):
        expected = [numbers(), numbers()]
    again = trainer.lane("seed=1")
    torch.manual_seed(4)
    before = torch.get_rng_state()
    with as_if_alone(again):
        first = numbers()
    with as_if_alone(other):
        others = numbers()
    with as_if_alone(again):
        second = numbers()
    assert torch.equal(torch.get_rng_state(), before)
    assert [first, second] == expected
    assert others not in expected


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("kind", [torch.nn.Dropout, torch.nn.Dropout2d])
def test_masks_are_those_of_dropout_itself(trainer, rate: float, kind) -> None:
    lane = trainer.lane()
    module = torch.nn.Sequential(kind(rate))
    ones = torch.ones(6, 5, 3, 4).contiguous(memory_format=torch.channels_last)
    shape = ones.shape if kind is torch.nn.Dropout else (6, 5, 1, 1)
    stride = torch.empty_like(ones).stride() if kind is torch.nn.Dropout else torch.empty(shape).stride()
    call = Call(0, tuple(shape), stride, ones.dtype, ones.device)
    for _ in range(2):
        with as_if_alone(lane):
            expected, after = module(ones), torch.get_rng_state()
            lane.put()
        # The generator goes on where dropout left it.
        before = lane.generator.get_state()
        (mask,) = draw([call], [lane], [dropouts_of(module)])
        assert torch.equal(mask[0].expand_as(ones), expected)
        assert torch.equal(lane.generator.get_state(), after)
        assert rate in (0.0, 1.0) or not torch.equal(before, after)


def test_outputs_are_those_of_each_model_in_evaluation_mode(trainer) -> None:
    model = 'model={use="mlp", norm="batch", dropout=0.5}'
    lanes = [trainer.lane(f"seed={i}", model, double=True) for i in range(3)]
    stack = Stack(lanes)
    trainer.stacked(stack, 1)
    before = [held(lane) for lane in lanes]
    (batch, *_) = lanes[0].run.feed.evaluate("val")
    found = stack.outputs(batch.inputs.double())
    for lane, output in zip(lanes, found, strict=True):
        lane.run.model.eval()
        torch.testing.assert_close(output, lane.run.model(batch.inputs.double()), rtol=1e-12, atol=1e-12)
    for lane, tensors in zip(lanes, before, strict=True):
        same(held(lane), tensors)


def test_evaluating_between_updates_changes_nothing(trainer) -> None:
    lanes = [trainer.lane(f"seed={i}", DROPOUT) for i in range(2)]
    stack = Stack(lanes)
    (inputs, *_) = next(lanes[0].run.feed.evaluate("val"))
    for _ in range(2):
        trainer.stacked(stack, 1)
        stack.outputs(inputs)
        for lane in lanes:
            lane.run.model.eval()
            lane.run.model(inputs)
            lane.run.model.train()
    others = [trainer.lane(f"seed={i}", DROPOUT) for i in range(2)]
    trainer.stacked(Stack(others), 2)
    for lane, other in zip(lanes, others, strict=True):
        same(held(lane), held(other))


def test_a_layer_that_does_nothing_in_evaluations_alone_is_still_called_in_updates(trainer) -> None:
    lanes = [trainer.lane(f"seed={i}", "model=loud", double=True) for i in range(2)]
    stack = Stack(lanes)
    (batch, *_) = lanes[0].run.feed.train(0)
    for inputs in (batch.inputs, batch.inputs[:4]):  # the samples of each batch of an epoch
        stack.outputs(inputs.double())
    for found, number in zip(trainer.stacked(stack, 2), range(2), strict=True):
        alone = trainer.alone(f"seed={number}", "model=loud", double=True)
        assert found.losses == pytest.approx(alone.losses, rel=1e-12)
    (batch, *_) = lanes[0].run.feed.train(0)
    for lane, output in zip(lanes, stack.outputs(batch.inputs.double()), strict=True):
        lane.run.model.eval()
        torch.testing.assert_close(output, lane.run.model(batch.inputs.double()), rtol=1e-12, atol=1e-12)


def test_a_dropout_that_stops_leaves_the_masks_of_the_others_as_they_are(trainer) -> None:
    def stop(lane) -> None:
        dropouts_of(lane.run.model)[0].eval()

    lanes = [trainer.lane(f"seed={i}", DROPOUT, double=True) for i in range(2)]
    stack = Stack(lanes)
    trainer.stacked(stack, 1)
    for lane in lanes:
        stop(lane)
    found = trainer.stacked(stack, 1)
    for number in range(2):
        alone = trainer.lane(f"seed={number}", DROPOUT, double=True)
        with as_if_alone(alone):
            trainer.on(alone, 1)
            stop(alone)
            expected = trainer.on(alone, 1)
        assert found[number].losses == pytest.approx(expected.losses, rel=1e-10)


def test_a_program_is_traced_in_the_mode_of_updates(trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be traced, or traced again, at its first call after an evaluation."""
    modes: list[bool] = []

    class Noting:
        executed = False

        def __init__(self, runs, parts, parameters, vector, losses) -> None:
            self.lanes, self.parts, self.parameters, self.vector = len(runs), parts, parameters, vector

        def __call__(self, *batch) -> None:
            modes.append(all(module.training for module in self.vector.model.modules()))

    monkeypatch.setattr(stack_module, "Program", Noting)
    monkeypatch.setattr(stack_module, "unfit", lambda *given: "")
    lanes = [trainer.lane(f"seed={i}", "model=loud", 'run.compile="step"') for i in range(2)]
    stack = Stack(lanes)
    (batch, *_) = lanes[0].run.feed.train(0)
    stack.update([batch] * 2)
    stack.outputs(batch.inputs)
    assert not stack.vector.model.training
    stack.update([batch] * 2)
    assert modes == [True, True]


def test_a_program_is_given_up_for_one_of_fewer_lanes_after_many_updates_on_end(
    trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    class Noting:
        executed = False

        def __init__(self, runs, parts, parameters, vector, losses) -> None:
            made.append(len(runs))
            self.lanes, self.parts, self.parameters = len(runs), parts, parameters

        def take_over(self, runs, parts, losses) -> bool:
            return True

        def __call__(self, *batch) -> None:
            return None

    monkeypatch.setattr(stack_module, "Program", Noting)
    monkeypatch.setattr(stack_module, "unfit", lambda *given: "")
    monkeypatch.setattr(stack_module, "PATIENCE", 3)
    lanes = [trainer.lane(f"seed={i}", 'run.compile="step"') for i in range(3)]
    stack = Stack(lanes)
    (batch, *_) = lanes[0].run.feed.train(0)

    def update(times: int) -> None:
        for _ in range(times):
            stack.update([batch] * len(stack.active))

    update(1)
    for _ in range(2):  # two updates without a lane, and one with it again
        lane = stack.take(0)
        update(2)
        stack.put(0, lane)
        update(1)
    assert made == [3]
    stack.take(0)
    update(3)
    assert made == [3]
    update(1)
    assert made == [3, 2]
