"""Lanes updated by one compiled program."""

from __future__ import annotations

import pytest
import torch

from trainkit.lanes.stack import Stack

COMPILED = 'run.compile="step"'
# The import of torch's compiler, not the code here, uses what torch itself deprecates.
pytestmark = [pytest.mark.compiler, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", ['optimizer={use="sgd", lr=0.1, momentum=0.9}', 'optimizer={use="adamw", lr=0.01}']
)
def test_compiled_lanes_are_the_runs_alone(trainer, optimizer: str) -> None:
    schedules = ['schedule={use="cosine"}', "seed=5", 'schedule={use="exponential", rate=0.9}']
    rates = [f"optimizer.lr={0.01 * (number + 1)}" for number in range(3)]
    lanes = [trainer.lane(f"seed={i}", optimizer, rates[i], schedules[i], COMPILED, double=True) for i in range(3)]
    stack = Stack(lanes)
    found = trainer.stacked(stack, 2)
    assert stack._program is not None
    assert stack._program._direct is not None
    assert stack._program._direct.ready
    for number, lane in enumerate(found):
        alone = trainer.alone(f"seed={number}", optimizer, rates[number], schedules[number], epochs=2, double=True)
        assert lane.losses == pytest.approx(alone.losses, rel=1e-10)
        for name, tensor in alone.weights.items():
            torch.testing.assert_close(lane.weights[name], tensor, rtol=1e-10, atol=1e-12)
        steps = {state["step"] for state in lane.run.optimizer.state.values()}
        assert steps == {16}


@pytest.mark.parametrize(
    "change",
    [
        'model={use="mlp", widths=[8], dropout=0.2}',
        'callback=[{use="clip_norm", max_norm=1.0}]',
        'model={use="mlp", widths=[8], norm="batch"}',
    ],
)
def test_what_cannot_be_compiled_goes_on_eagerly_and_says_so(trainer, change: str) -> None:
    lanes = [trainer.lane(f"seed={i}", change, COMPILED) for i in range(2)]
    said: list[str] = []
    lanes[0].run.say = said.append
    found = trainer.stacked(Stack(lanes), 1)
    (line,) = said
    assert line.startswith('compile = "step" is not used for lanes: ')
    for number, lane in enumerate(found):
        assert lane.losses == pytest.approx(trainer.alone(f"seed={number}", change, epochs=1).losses, rel=1e-5)


@pytest.mark.slow
def test_a_program_serves_the_lanes_that_come_later(trainer) -> None:
    """Fewer lanes go on eagerly; as many as before take over the program and its memory, wherever they come from."""
    rates = [0.05, 0.1, 0.2, 0.3]
    lanes = [trainer.lane(f"seed={i}", f"optimizer.lr={rates[i]}", COMPILED, double=True) for i in range(4)]
    stack = Stack(lanes[:3])
    trainer.stacked(stack, 1)
    program, memory = stack._program, stack._parts[0].values.data_ptr()
    assert program is not None
    assert stack.take(0) is lanes[0]
    trainer.stacked(stack, 1)
    assert stack._program is None
    stack.put(3, lanes[3])
    direct = program._direct
    trainer.stacked(stack, 2)
    assert stack._program is program
    assert program._direct is direct
    assert direct is not None
    assert direct.ready
    assert stack._parts[0].values.data_ptr() == memory
    for i, epochs in enumerate((1, 4, 4, 2)):
        alone = trainer.alone(f"seed={i}", f"optimizer.lr={rates[i]}", epochs=epochs, double=True)
        for name, tensor in alone.weights.items():
            torch.testing.assert_close(lanes[i].run.model.state_dict()[name], tensor, rtol=1e-10, atol=1e-12)
        for p, q in zip(lanes[i].run.model.parameters(), alone.run.model.parameters(), strict=True):
            mine, other = lanes[i].run.optimizer.state[p], alone.run.optimizer.state[q]
            assert mine["step"] == other["step"]
            torch.testing.assert_close(mine["momentum_buffer"], other["momentum_buffer"], rtol=1e-10, atol=1e-12)
