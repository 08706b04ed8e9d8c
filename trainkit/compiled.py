"""Forward, loss, backward and update as one compiled program, several updates a call (``compile = "step"``)."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit.dataset import Batch
from trainkit.elementwise import ElementwiseOptimizer
from trainkit.evaluate import loss_weight
from trainkit.recipe import Recipe
from trainkit.run import Run, StepResult
from trainkit.scheduled import set_values
from trainkit.steps import EagerStep, implemented

# Unrolled updates make the program, and the time to compile it, longer; above this size the arithmetic of one update
# outweighs what is saved between two.
SMALL_MODEL = 1_000_000
FEWEST, MOST = 6, 12


def choose_updates_per_call(run: Run, intervals: Sequence[int]) -> int:
    """How many updates one call makes: what leaves the fewest over at the end of an interval.

    Args:
        run: the run.
        intervals: updates between two logs, evaluations, saves and epoch ends, where a call has to end.
    """
    if sum(parameter.numel() for parameter in run.model.parameters()) > SMALL_MODEL:
        return 1
    shortest = min(intervals)
    if shortest < FEWEST:
        return max(1, shortest)
    return min(range(MOST, FEWEST - 1, -1), key=lambda count: shortest % count)


def untraceable(recipe: Recipe, run: Run) -> str:
    """Why the gradients' way to the optimizer cannot be part of a compiled step; empty if it can."""
    able = {
        f"{path[0]}.{path[1]}.{recipe.components[path].name}"
        for path in recipe.order
        if recipe.components[path].capabilities.get("compiles")
    }
    for impl in run.hook.trainkit_gradients.get_hookimpls():
        if impl.plugin_name not in able or impl.wrapper or impl.hookwrapper:
            name = impl.plugin_name.split(".", 2)[-1]  # the label of a built object is kind, number and name
            return f"{name} takes part in the gradients of each update and does not say that it can be compiled"
    return ""


class CompiledStep:
    """Makes ``updates_per_call`` updates in one compiled program; what does not fit it is made eagerly.

    Both ways share parameters and optimizer state, so batches of another shape and what is left over at the end of an
    epoch change nothing but speed. The first call of a run is eager: it shows which parameters get a gradient.

    Scheduled values enter as one tensor that is filled in place, so that nothing is compiled again.

    Args:
        run: the run; its optimizer must be an `ElementwiseOptimizer`.
        keep_outputs: whether the results carry outputs for training metrics.
        updates_per_call: updates in one program.
        obstacle: what of the recipe's parts cannot be compiled, as far as the run itself does not show it.
    """

    def __init__(self, run: Run, keep_outputs: bool, updates_per_call: int, obstacle: str = "") -> None:
        self.run = run
        self.keep_outputs = keep_outputs
        self.updates_per_call = updates_per_call
        self.eager = EagerStep(run, keep_outputs)
        self._program: Any = None
        self._compiled = False
        self._shape: Any = None
        self._reason = self._obstacle() or obstacle
        if self._reason:
            self._give_up(self._reason)

    def _obstacle(self) -> str:
        """Why this run cannot be compiled as a whole; empty if it can."""
        if not isinstance(self.run.optimizer, ElementwiseOptimizer):
            return "the optimizer's update cannot be traced"
        if implemented(self.run, "trainkit_loss") is not None:
            return "a plugin computes the loss in a hook"
        if outside := [value.label for value in self.run.schedules if value.group is None]:
            # Numbers outside the optimizer's groups are burnt into a program.
            return f"{outside[0]} is scheduled"
        if zero := self._sometimes_zero():
            return f"{zero} is scheduled and 0 for a while, and the update another with it"
        if not hasattr(_dynamo_config(), "trace_autograd_ops"):
            return f"torch {torch.__version__} cannot trace gradients; 2.13 can"
        return ""

    def _sometimes_zero(self) -> str:
        """A scheduled number, such as momentum, that is 0 at some updates, which then need less state."""
        run, optimizer = self.run, self.run.optimizer
        assert isinstance(optimizer, ElementwiseOptimizer)
        rule = optimizer.rule
        for value in run.schedules:
            if value.group is None or value.name == "lr":
                continue
            group = optimizer.param_groups[value.group]
            if rule.slots({**group, value.name: 0.0}) == rule.slots({**group, value.name: 0.5}):
                continue
            if not all(value.at(t, run.schedule_updates) for t in range(run.total_updates)):
                return value.label
        return ""

    def _give_up(self, reason: str) -> None:
        self._reason = reason
        self._program = None
        self.run.say(f'compile = "step" is not used: {reason}; the run goes on eagerly with the same result')

    def __call__(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        """Make the updates of one call, as `StepProgram` says."""
        shape = [batch.inputs.shape for update in updates for batch in update]
        if self._shape is None and len(updates[0][0]) == self.run.feed.batch_size:
            # The first batch of a run is a full one; a continued run may begin with a short one.
            self._shape = shape[0]
        if not self.run.position:
            return self._eagerly(updates)
        fits = len(updates) == self.updates_per_call and all(part == self._shape for part in shape)
        full = len(shape) == len(updates) * self.run.clock.accumulate
        if self._reason or not (fits and full):
            return self._eagerly(updates)
        try:
            return self._in_one(updates)
        except Exception as error:
            if self._compiled:
                raise
            # Compiling fails before anything is executed, so no update is lost or made twice.
            self._give_up(f"{type(error).__name__}: {_cause(error)}")
            return self._eagerly(updates)

    def _eagerly(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        results = []
        for update in updates:
            results.append(self.eager([update]))
            self.run.step += results[-1].updates  # schedules and counts go by it within the call
            self.run.skipped += results[-1].skipped
        for result in results:
            self.run.step -= result.updates
            self.run.skipped -= result.skipped
        if len(results) == 1:
            return results[0]
        return StepResult(
            losses=torch.stack([result.losses for result in results]),
            weights=torch.stack([torch.as_tensor(result.weights, dtype=torch.float64) for result in results]),
            outputs=[output for result in results for output in result.outputs],
            targets=[target for result in results for target in result.targets],
            updates=sum(result.updates for result in results),
            skipped=sum(result.skipped for result in results),
        )

    def _in_one(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        run, optimizer = self.run, self.run.optimizer
        if self._program is None:
            self._program = self._make()
        position = 0
        for number in range(self.updates_per_call):
            set_values(run, optimizer.param_groups, run.step + number)
            for group, members in self._members:
                # All members have made the same updates: each got a gradient in every one so far.
                count = optimizer.state[members[0]]["step"] + number + 1
                for value in self._rule.numbers(group, count):
                    self._host[position] = value
                    position += 1
        batches = [batch for update in updates for batch in update]
        inputs = torch.stack([batch.inputs for batch in batches])
        targets = [batch.targets for batch in batches]
        numbers = self._numbers if run.device.type == "cpu" else self._numbers.to(run.device, non_blocking=True)
        if self._compiled:
            losses, weights, outputs = self._program(inputs, torch.stack(targets), numbers)
        else:
            with _dynamo_config().patch(trace_autograd_ops=True):
                losses, weights, outputs = self._program(inputs, torch.stack(targets), numbers)
            self._compiled = True
        for _, members in self._members:
            for parameter in members:
                optimizer.state[parameter]["step"] += self.updates_per_call
        if not self.keep_outputs:
            return StepResult(losses, weights, updates=self.updates_per_call)
        return StepResult(losses, weights, outputs, targets, self.updates_per_call)

    def _make(self) -> Any:
        """Write the program of one call, ready to be traced."""
        run, optimizer = self.run, self.run.optimizer
        assert isinstance(optimizer, ElementwiseOptimizer)
        rule = self._rule = optimizer.rule
        self._members = [
            (group, [parameter for parameter in group["params"] if optimizer.state.get(parameter)])
            for group in optimizer.param_groups
        ]
        self._members = [(group, members) for group, members in self._members if members]
        if any(len({optimizer.state[p]["step"] for p in members}) > 1 for _, members in self._members):
            raise ValueError("parameters of one group have made different numbers of updates")
        parameters = [parameter for _, members in self._members for parameter in members]
        states = [[optimizer.state[p][name] for name in rule.slots(group)] for group, ps in self._members for p in ps]
        widths = [len(rule.numbers(group, 1)) for group, _ in self._members]
        count, accumulate = self.updates_per_call, run.clock.accumulate
        self._host = array("d", bytes(8 * count * sum(widths)))
        self._numbers = torch.frombuffer(self._host, dtype=torch.float64).view(count, sum(widths))
        groups_of = [number for number, (_, members) in enumerate(self._members) for _ in members]
        starts = [sum(widths[:number]) for number in range(len(widths))]
        hooks = [(impl.function, impl.argnames) for impl in reversed(run.hook.trainkit_gradients.get_hookimpls())]
        forward, loss_of, precision, keep = run.forward, run.loss, run.precision, self.keep_outputs

        def program(inputs: Tensor, targets: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor | float, list[Tensor]]:
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
            # A loss gives tensors or numbers, never both.
            shared = torch.stack(weights) if isinstance(weights[0], Tensor) else weights[0]  # type: ignore[arg-type]
            return torch.stack(losses), shared, outputs

        # With the C++ wrapper the calls between kernels are compiled too, and compiling is faster.
        cpp = run.device.type == "cpu" and shutil.which("g++") is not None
        return torch.compile(program, fullgraph=True, dynamic=False, options={"cpp_wrapper": cpp})


def _cause(error: Exception) -> str:
    """What the compiler says, in one line; its first line alone often names the back end and not the fault."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        return f"{lines[0]} {lines[1]}"
    return lines[0] if lines else "no message"


def _dynamo_config() -> Any:
    import torch._dynamo

    return torch._dynamo.config
