"""The updates of one call, written as a function of their batches that can be traced into one graph."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from trainkit.dataset import Batch
from trainkit.elementwise import ElementwiseOptimizer
from trainkit.evaluate import loss_weight
from trainkit.protocols import StepProgram
from trainkit.run import Run, StepResult
from trainkit.scheduled import set_values
from trainkit.uploading import filled, sent


class Traced:
    """Forward, loss, backward and update, ``updates`` times over, with scheduled numbers as a tensor.

    The parameters and their state are those that have had a gradient so far, so that one eager update comes before.

    Args:
        run: the run; its optimizer is an `ElementwiseOptimizer`.
        updates: how many.
        keep_outputs: whether `function` returns the model's outputs too.

    Raises:
        ValueError: if parameters of one group have made different numbers of updates.
    """

    def __init__(self, run: Run, updates: int, keep_outputs: bool) -> None:
        self.run = run
        self.updates = updates
        optimizer = run.optimizer
        assert isinstance(optimizer, ElementwiseOptimizer)
        self._rule = optimizer.rule
        grouped = [
            (group, [parameter for parameter in group["params"] if optimizer.state.get(parameter)])
            for group in optimizer.param_groups
        ]
        self._grouped = [(group, members) for group, members in grouped if members]
        self._members = [(group, [optimizer.state[p] for p in members]) for group, members in self._grouped]
        if any(len({state["step"] for state in states}) > 1 for _, states in self._members):
            raise ValueError("parameters of one group have made different numbers of updates")
        self._widths = [len(self._rule.numbers(group, 1)) for group, _ in self._grouped]
        self._host = array("d", bytes(8 * updates * sum(self._widths)))
        self._numbers = torch.frombuffer(self._host, dtype=torch.float64).view(updates, sum(self._widths))
        self._on_cpu = run.device.type == "cpu"
        self.function: FunctionType = self._written(keep_outputs)

    def moving(self, batches: Sequence[Batch]) -> list[Tensor]:
        """What `function` takes: inputs, targets, and the numbers of the updates that come next."""
        run, host, rule, position = self.run, self._host, self._rule, 0
        for number in range(self.updates):
            set_values(run, run.optimizer.param_groups, run.step + number)
            for group, states in self._members:
                # All members have made the same updates: each got a gradient in every one so far.
                for value in rule.numbers(group, states[0]["step"] + number + 1):
                    host[position] = value
                    position += 1
        numbers = self._numbers if self._on_cpu else sent(self._numbers, run.device)
        return [*[batch.inputs for batch in batches], *[batch.targets for batch in batches], numbers]

    def count(self) -> None:
        """Note in the optimizer's state that the updates were made."""
        for _, states in self._members:
            for state in states:
                state["step"] += self.updates

    def _written(self, keep: bool) -> FunctionType:
        run, rule, optimizer, grouped, widths = self.run, self._rule, self.run.optimizer, self._grouped, self._widths
        count, accumulate = self.updates, run.clock.accumulate
        batches = count * accumulate
        parameters = [parameter for _, members in grouped for parameter in members]
        states = [[optimizer.state[p][name] for name in rule.slots(group)] for group, ps in grouped for p in ps]
        groups_of = [number for number, (_, members) in enumerate(grouped) for _ in members]
        starts = [sum(widths[:number]) for number in range(len(widths))]
        hooks = [(impl.function, impl.argnames) for impl in reversed(run.hook.trainkit_gradients.get_hookimpls())]
        forward, loss_of, precision = run.forward, run.loss, run.precision

        def program(moving: Sequence[Tensor]) -> list[Tensor | float]:
            inputs, targets, numbers = moving[:batches], moving[batches:-1], moving[-1]
            losses, weights, outputs = [], [], []
            for update in range(count):
                members = range(update * accumulate, (update + 1) * accumulate)
                shares = [loss_weight(loss_of, targets[batch]) for batch in members]
                total = sum(shares)
                mean: Any = 0.0
                gradients: list[Tensor] = []
                for batch, share in zip(members, shares, strict=True):
                    with precision.context():
                        output = forward(inputs[batch])
                        part = loss_of(output, targets[batch])
                        part = part if accumulate == 1 else part * (share / total)
                    new = torch.autograd.grad(part, parameters)
                    gradients = [a + b for a, b in zip(gradients, new, strict=True)] if gradients else list(new)
                    mean = mean + part.detach()
                    if keep:
                        outputs.append(output.detach())
                with torch.no_grad():
                    for function, names in hooks:
                        function(*[{"run": run, "gradients": gradients}[name] for name in names])
                    for parameter, gradient, state, number in zip(
                        parameters, gradients, states, groups_of, strict=True
                    ):
                        row = numbers[update, starts[number] : starts[number] + widths[number]]
                        row = row.to(parameter.dtype) if parameter.dtype is torch.float64 else row.float()
                        fresh, kept = rule.update(parameter, gradient, state, row.unbind(0))
                        parameter.copy_(fresh)
                        for old, value in zip(state, kept, strict=True):
                            old.copy_(value)
                losses.append(mean)
                weights.append(total)
            if count == 1:  # as an eager update gives them, which are the quickest to gather
                return [losses[0], weights[0], *outputs]
            # A loss gives tensors or numbers, never both.
            shared = torch.stack(weights) if isinstance(weights[0], Tensor) else weights[0]  # type: ignore[arg-type]
            return [torch.stack(losses), shared, *outputs]

        assert isinstance(program, FunctionType)
        return program


def layout(batch: Batch) -> tuple[object, ...]:
    """What a program relies on in a batch; it is called without a look at anything but this."""
    inputs, targets = batch.inputs, batch.targets
    return inputs.shape, inputs.stride(), inputs.dtype, targets.shape, targets.stride(), targets.dtype


def _number(weight: Tensor | float, device: torch.device) -> Tensor:
    return weight.double() if isinstance(weight, Tensor) else filled((), weight, device)


def one_by_one(run: Run, eager: StepProgram, updates: Sequence[Sequence[Batch]]) -> StepResult:
    """Make several updates in single calls, told as one."""
    results = []
    for update in updates:
        results.append(eager([update]))
        run.step += results[-1].updates  # schedules and counts go by it within the call
        run.skipped += results[-1].skipped
    for result in results:
        run.step -= result.updates
        run.skipped -= result.skipped
    if len(results) == 1:
        return results[0]
    return StepResult(
        losses=torch.stack([result.losses for result in results]),
        weights=torch.stack([_number(result.weights, result.losses.device) for result in results]),
        outputs=[output for result in results for output in result.outputs],
        targets=[target for result in results for target in result.targets],
        updates=sum(result.updates for result in results),
        skipped=sum(result.skipped for result in results),
    )
