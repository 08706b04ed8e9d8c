"""How one update is executed: eager, through a plugin's hook, or with a closure; `compiled` holds the compiled one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit.chain import chained
from trainkit.errors import NotFinite, RunError
from trainkit.evaluate import loss_weight
from trainkit.hooking import wrong_answer
from trainkit.protocols import StepProgram
from trainkit.run import Batch, Run, StepResult
from trainkit.scheduled import set_values

# From the scale that a run begins with it takes 26 updates in a row to come here. Source: fairseq's min_loss_scale.
LEAST_SCALE = 1e-4
SKIPS_IN_A_ROW = 100  # a run that skips for so long will not recover by itself


def implemented(run: Run, name: str) -> Callable[..., Any] | None:
    """The hook if anyone implements it, else ``None``, so that an empty hook costs nothing in the loop."""
    caller = getattr(run.hook, name)
    return caller if caller.get_hookimpls() else None


def training_loss(run: Run) -> Callable[[Tensor, Batch], Tensor]:
    """The loss of a training batch: a plugin's if one owns it, else the recipe's."""
    hook, loss = implemented(run, "trainkit_loss"), run.loss
    if hook is None:
        return lambda outputs, batch: loss(outputs, batch.targets)

    def owned(outputs: Tensor, batch: Batch) -> Tensor:
        value = hook(run=run, outputs=outputs, batch=batch)
        if value is None:
            return loss(outputs, batch.targets)
        if not isinstance(value, Tensor):
            raise wrong_answer(run.hook.trainkit_loss, repr(value), "a tensor")
        return value

    return owned


def backward(loss: Tensor) -> None:
    """``loss.backward()`` without its preamble, which costs as much as a small layer."""
    if _RUN_BACKWARD is None:
        loss.backward()  # type: ignore[no-untyped-call]
        return
    key = loss.dtype, loss.device
    one = _ONES.get(key)
    if one is None:
        one = _ONES[key] = torch.ones((), dtype=loss.dtype, device=loss.device)
    _RUN_BACKWARD((loss,), (one,), False, False, (), allow_unreachable=True, accumulate_grad=True)


_ENGINE = getattr(torch.autograd.Variable, "_execution_engine", None)
_RUN_BACKWARD = getattr(_ENGINE, "run_backward", None)  # not documented; a version of torch may lack it
_ONES: dict[tuple[torch.dtype, torch.device], Tensor] = {}  # constants, made at their first use


class EagerStep:
    """Forward, loss, backward and update, one update a call.

    With accumulation each batch counts by what its mean loss was divided by, so that the gradient is that of one
    batch with all their samples.

    Args:
        run: the run.
        keep_outputs: whether the results carry outputs for training metrics.
    """

    updates_per_call = 1

    def __init__(self, run: Run, keep_outputs: bool) -> None:
        self.run = run
        self.keep_outputs = keep_outputs
        self.loss = training_loss(run)
        self.gradients_hook = implemented(run, "trainkit_gradients")
        self.skip = run.recipe["run"]["nonfinite"] == "skip"
        self.before: list[tuple[Tensor, Tensor]] = []  # buffers before an update that may be left out
        self.scaler = run.precision.scaler
        self.plain = run.precision.name == "float32" and not self.gradients_hook and not self.skip
        self.parameters: list[Tensor] = [p for group in run.optimizer.param_groups for p in group["params"]]

    def __call__(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        """Make the updates of one call, as `StepProgram` says."""
        run = self.run
        (batches,) = updates
        set_values(run, run.optimizer.param_groups, run.step)
        if self.skip:
            self.before = [(buffer, buffer.clone()) for buffer in run.model.buffers()]
        result = self._gradients_of(batches)
        if self.plain:
            run.optimizer.step()
        elif not self._careful_update(result.losses):
            result.updates, result.skipped = 0, 1
        return result

    def _gradients_of(self, batches: Sequence[Batch]) -> StepResult:
        """Leave the gradients of one update in the parameters; only they and what a forward pass counts change."""
        for parameter in self.parameters:  # autograd then hands over its own tensors: no zeroing, no adding
            parameter.grad = None
        if len(batches) > 1:
            return self._accumulate(batches)
        run, batch = self.run, batches[0]
        with run.precision.context():
            outputs = run.forward(batch.inputs)
            loss = self.loss(outputs, batch)
        backward(self.scaler.scale(loss))
        return self._result(loss, outputs, batch)

    def _result(self, loss: Tensor, outputs: Tensor, batch: Batch) -> StepResult:
        weight = loss_weight(self.run.loss, batch.targets)
        if self.keep_outputs:
            return StepResult(loss.detach(), weight, (outputs.detach(),), (batch.targets,))
        return StepResult(loss.detach(), weight)

    def _accumulate(self, batches: Sequence[Batch]) -> StepResult:
        run = self.run
        weights = [loss_weight(run.loss, batch.targets) for batch in batches]
        total = sum(weights)
        mean, outputs = None, []
        for batch, weight in zip(batches, weights, strict=True):
            with run.precision.context():
                output = run.forward(batch.inputs)
                part = self.loss(output, batch) * (weight / total)
            backward(self.scaler.scale(part))
            mean = part.detach() if mean is None else mean + part.detach()
            outputs.append(output.detach())
        assert mean is not None
        result = StepResult(mean, total)
        if self.keep_outputs:
            result.outputs, result.targets = outputs, [batch.targets for batch in batches]
        return result

    def _careful_update(self, losses: Tensor) -> bool:
        """Unscale, let hooks change the gradients, and update; False where the update is left out."""
        optimizer: Any = self.run.optimizer
        scaled = self.scaler.is_enabled()
        if scaled:
            self.scaler.unscale_(optimizer)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        finite = True
        if self.skip and not scaled:
            # This waits for the device at each update: the policy has to decide before the weights change.
            # It puts back what a forward pass has counted, such as BatchNorm's statistics, too.
            finite = self.agreed(bool(torch.stack([part.isfinite().all() for part in (losses, *gradients)]).all()))
        if finite:
            if self.gradients_hook is not None:
                self.gradients_hook(run=self.run, gradients=gradients)
            if scaled:
                before = self.scaler.get_scale()
                self.scaler.step(optimizer)
                self.scaler.update()
                finite = self.scaler.get_scale() >= before
                if self.scaler.get_scale() < LEAST_SCALE:
                    raise NotFinite(
                        f"the loss scale of float16 came down to {before:g} at update {self.run.step}, and gradients "
                        "were not finite at any scale\n"
                        '  use precision = "bfloat16" or "float32", or lower the learning rate'
                    )
            else:
                optimizer.step()
        if not finite:
            for buffer, held in self.before:
                buffer.copy_(held)
        self.run.skipped_in_a_row = 0 if finite else self.run.skipped_in_a_row + 1
        if self.run.skipped_in_a_row >= SKIPS_IN_A_ROW:
            raise RunError(
                f"{SKIPS_IN_A_ROW} updates in a row had gradients that are not finite, up to update {self.run.step}\n"
                '  lower the learning rate, add [[callback]] use = "clip_norm", or use precision = "float32"'
            )
        return finite

    def agreed(self, finite: bool) -> bool:
        """Whether everything is finite, from what this process has found; gradients are alike in all."""
        return finite


class PlainStep(EagerStep):
    """As `EagerStep`, for runs in float32 where nothing comes between gradients and update.

    With one loader batch an update it does nothing but what a loop by hand does; a small model notices each call more.
    """

    def __init__(self, run: Run, keep_outputs: bool) -> None:
        super().__init__(run, keep_outputs)
        self.model, self.chain = run.forward, chained(run.forward)

    def __call__(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        """Make the updates of one call, as `StepProgram` says."""
        batches = updates[0]
        if len(batches) != 1:
            return super().__call__(updates)
        run, batch = self.run, batches[0]
        set_values(run, run.optimizer.param_groups, run.step)
        for parameter in self.parameters:
            parameter.grad = None
        outputs = (self.chain if run.forward is self.model else run.forward)(batch.inputs)
        loss = self.loss(outputs, batch)
        backward(loss)
        run.optimizer.step()
        return self._result(loss, outputs, batch)


def eager_step(run: Run, keep_outputs: bool) -> EagerStep:
    """The step that does the least of what the run needs."""
    step = EagerStep(run, keep_outputs)
    return PlainStep(run, keep_outputs) if step.plain else step


class Closure:
    """What an optimizer calls for loss and gradients, as often as it needs them.

    ``closure()`` gives the gradients as ``trainkit_gradients`` changes them. ``closure.plain()`` leaves that hook out,
    for gradients that no update is made with, such as those that say where the loss is steepest.
    """

    def __init__(self, compute: Callable[[], Tensor], change: Callable[[], None]) -> None:
        self.plain = compute
        self._change = change

    def __call__(self) -> Tensor:
        """Compute loss and gradients, ready for an update."""
        loss = self.plain()
        self._change()
        return loss


class ClosureStep:
    """For optimizers that call the loss again themselves, such as L-BFGS."""

    updates_per_call = 1

    def __init__(self, run: Run, keep_outputs: bool) -> None:
        self.run = run
        self.keep_outputs = keep_outputs
        self.loss = training_loss(run)
        self.gradients_hook = implemented(run, "trainkit_gradients")

    def __call__(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        """Make the updates of one call, as `StepProgram` says."""
        run = self.run
        (batches,) = updates
        set_values(run, run.optimizer.param_groups, run.step)
        weights, total = self.weights(batches)
        first: list[Tensor] = []
        outputs: list[Tensor] = []

        def compute() -> Tensor:
            run.optimizer.zero_grad()
            mean = torch.zeros((), device=run.device)
            for batch, weight in zip(batches, weights, strict=True):
                with self.computing(batch):
                    with run.precision.context():
                        output = run.forward(batch.inputs)
                        part = self.loss(output, batch) * (weight / total)
                    backward(part)
                mean = mean + part.detach()
                if not first and self.keep_outputs:
                    outputs.append(output.detach())
            mean = self.join(mean)
            if not first:  # the loss before the update, as every other step reports it
                first.append(mean)
            return mean

        def change() -> None:
            if self.gradients_hook is not None:
                held = [p.grad for group in run.optimizer.param_groups for p in group["params"] if p.grad is not None]
                self.gradients_hook(run=run, gradients=held)

        run.optimizer.step(Closure(compute, change))
        result = StepResult(first[0], total)
        if self.keep_outputs:
            result.outputs, result.targets = self.seen(outputs, batches)
        return result

    # What several processes do in another way.

    def weights(self, batches: Sequence[Batch]) -> tuple[list[Any], Any]:
        """What each batch's mean loss was divided by, and the sum of that."""
        weights: list[Any] = [loss_weight(self.run.loss, batch.targets) for batch in batches]
        return weights, sum(weights)

    def computing(self, batch: Batch) -> contextlib.AbstractContextManager[None]:
        """What forward and backward pass of a batch run in."""
        return contextlib.nullcontext()

    def join(self, mean: Tensor) -> Tensor:
        """Called once the gradients are there: the mean loss that counts."""
        return mean

    def seen(self, outputs: Sequence[Tensor], batches: Sequence[Batch]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Outputs and targets as the training metrics take them in."""
        return outputs, [batch.targets for batch in batches]


class HookStep:
    """For a plugin that makes the update itself (``trainkit_train_step``)."""

    updates_per_call = 1

    def __init__(self, run: Run, fallback: StepProgram) -> None:
        self.run = run
        self.hook = run.hook.trainkit_train_step
        self.fallback = fallback

    def __call__(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        """Make the updates of one call, as `StepProgram` says."""
        run = self.run
        set_values(run, run.optimizer.param_groups, run.step)
        result: StepResult | None = self.hook(run=run, batches=updates[0])
        return self.fallback(updates) if result is None else result
