"""K runs of equal structure as one vectorised model: one forward, one backward and one update for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit.device import TunedConvolutions, tunes
from trainkit.evaluate import loss_weight
from trainkit.lanes.dropout import Call, draw, dropouts_of
from trainkit.lanes.lane import Lane
from trainkit.lanes.numbers import GradientHooks, Losses
from trainkit.lanes.program import Program, unfit
from trainkit.lanes.rows import apart, part_of, quicker_at_once, stacked
from trainkit.lanes.vector import Vector
from trainkit.run import Batch, StepResult
from trainkit.scheduled import set_values
from trainkit.steps import implemented, training_loss
from trainkit.uploading import sent

PATIENCE = 4096  # updates of fewer lanes than the compiled program has, before one is compiled for them


class Stack:
    """Trains several runs together. Each run's own tensors are views of the stack; all else of a run is its own.

    Places are numbered from 0 and keep their number; only lanes that are there are computed.

    Args:
        lanes: runs of one `structure`, without an `obstacle`.
    """

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.lanes: list[Lane | None] = list(lanes)
        self.vector = Vector(lanes[0].run)
        self._tuned = TunedConvolutions(tunes(lanes[0].run.recipe["run"], lanes[0].run.device))
        self._built = False
        self._evaluated = True  # whether the model's mode may be another than that of updates
        self._calls: dict[tuple[object, ...], list[Call]] = {}
        self._eager = False  # whether compiling was tried and cannot be done
        self._program: Program | None = None
        self._kept: Program | None = None  # the last one, for as many lanes as there were then
        self._without = 0  # updates made without it since, as there were fewer lanes

    @property
    def active(self) -> list[Lane]:
        """The lanes that are there, by place."""
        return [lane for lane in self.lanes if lane is not None]

    def put(self, place: int, lane: Lane) -> None:
        """Let a lane, fresh or restored from a checkpoint, take a place that is free or new."""
        while place >= len(self.lanes):
            self.lanes.append(None)
        if self.lanes[place] is not None:
            raise ValueError(f"place {place} is taken")
        self.lanes[place] = lane
        self._built = False

    def take(self, place: int) -> Lane:
        """Take a lane out; its run has tensors of its own again."""
        lane = self.lanes[place]
        if lane is None:
            raise ValueError(f"place {place} is free")
        apart(lane.run)
        self.lanes[place] = None
        self._built = False
        return lane

    def build(self) -> None:
        """Stack the lanes that are there now; `update` and `outputs` do so by themselves."""
        self._active = self.active
        self._runs = runs = [lane.run for lane in self._active]
        first = runs[0]
        kept = self._kept if self._kept is not None and self._kept.lanes == len(runs) else None
        with torch.no_grad():
            sorts = [
                (number, places)
                for number, group in enumerate(first.optimizer.param_groups)
                for places in _kinds(group["params"])
            ]
            memory = [None] * len(sorts) if kept is None else kept.parts
            self._parts = [part_of(runs, *sort, own) for sort, own in zip(sorts, memory, strict=True)]
            trained: dict[int, Tensor] = {}
            for part in self._parts:
                group = first.optimizer.param_groups[part.group]
                for place, leaf in zip(part.places, part.leaves, strict=True):
                    trained[id(group["params"][place])] = leaf
            of_runs = [list(run.model.parameters()) for run in runs]
            held = [None] * len(of_runs[0]) if kept is None else kept.parameters
            self._parameters = [
                trained[id(own[0])] if id(own[0]) in trained else stacked(own, place)
                for own, place in zip(zip(*of_runs, strict=True), held, strict=True)
            ]
            self._buffers = [stacked(own) for own in zip(*[list(run.model.buffers()) for run in runs], strict=True)]
        self._leaves = [leaf for part in self._parts for leaf in part.leaves]
        places = {id(parameter): place for place, parameter in enumerate(self._parameters)}
        self._wanted = [places[id(leaf)] for leaf in self._leaves]
        self._held = [parameter.detach() for parameter in self._parameters]
        self._into = [view for part in self._parts for view in part.into]
        self._ones: dict[torch.dtype, Tensor] = {}
        parts = self._active[0].recipe.components.items()
        self._elementwise = any(path[0] == "optimizer" and part.capabilities.get("elementwise") for path, part in parts)
        self._at_once = [self._elementwise and quicker_at_once(first, part) for part in self._parts]
        self._dropouts = [dropouts_of(run.model) for run in runs]
        owned = [training_loss(run) for run in runs] if implemented(first, "trainkit_loss") else []
        self._losses = Losses(runs, self._active[0].recipe, owned, self._leaves[0])
        self._hooks = GradientHooks(self._active, self._leaves[0])
        self._program = None
        if first.recipe["run"]["compile"] == "step" and not self._eager:
            reason = unfit(runs, self._parts, self.vector, self._losses, self._hooks, self._elementwise)
            if reason:
                self._refuse(reason)
            elif kept is not None and kept.take_over(runs, self._parts, self._losses):
                self._program, self._without = kept, 0
            elif kept is not None or self._kept is None or len(runs) > self._kept.lanes:
                self._program = Program(runs, self._parts, self._parameters, self.vector, self._losses)
                self._kept, self._without = self._program, 0
        self._own_gradients: list[list[Tensor]] = [[] for _ in runs]
        if self._hooks.any:
            for row in range(len(runs)):
                for part in self._parts:
                    some, own, _ = part.own[row]
                    for parameter, gradient in zip(some, own, strict=True):
                        parameter.grad = gradient  # some hooks look for it there
                    self._own_gradients[row] += own
        self._built = True

    def outputs(self, inputs: Tensor) -> Tensor:
        """``(lanes, batch, ...)``: what each lane's model gives for the same inputs in evaluation mode."""
        if not self._built:
            self.build()
        self.vector.model.eval()
        self._evaluated = True
        with torch.no_grad(), self._runs[0].precision.context():
            outputs: Tensor = self.vector.compute(self._parameters, self._buffers, inputs, True)[0]
        return outputs

    def update(self, batches: Sequence[Batch]) -> list[StepResult]:
        """Make one update of every lane.

        Args:
            batches: one for each lane that is there, by place; all of one size.
        """
        first = batches[0]
        same = all(batch.inputs is first.inputs for batch in batches)
        alike = all(batch.targets is first.targets for batch in batches)
        inputs = first.inputs if same else torch.stack([batch.inputs for batch in batches])
        targets = first.targets if alike else torch.stack([batch.targets for batch in batches])
        losses, outputs = self._made(inputs, targets, same, alike, lambda: batches)
        return self._results(losses, outputs, batches, alike)

    def update_stacked(self, batch: Batch, shared: bool) -> tuple[Tensor, Tensor]:
        """Make one update of every lane; losses ``(lanes,)`` and outputs ``(lanes, batch, ...)``, detached.

        Args:
            batch: tensors ``(lanes, batch, ...)`` by place, or ``(batch, ...)`` that all lanes share.
            shared: whether they share it.
        """

        def batches() -> Sequence[Batch]:
            if shared:
                return [batch] * len(self._runs)
            parts = zip(batch.inputs.unbind(0), batch.targets.unbind(0), batch.index.unbind(0), strict=True)
            return [Batch(*part) for part in parts]

        losses, outputs = self._made(batch.inputs, batch.targets, shared, shared, batches)
        return losses.detach(), outputs.detach()

    def _made(
        self, inputs: Tensor, targets: Tensor, same: bool, alike: bool, batches: Callable[[], Sequence[Batch]]
    ) -> tuple[Tensor, Tensor]:
        with self._tuned:
            return self._updated(inputs, targets, same, alike, batches)

    def _updated(
        self, inputs: Tensor, targets: Tensor, same: bool, alike: bool, batches: Callable[[], Sequence[Batch]]
    ) -> tuple[Tensor, Tensor]:
        if not self._built:
            self.build()
        runs = self._runs
        if self._evaluated or self._program is None:  # a program is traced in the mode of updates, now or again later
            self.vector.follow(runs[0].model)
            self._evaluated = False
        if self._program is not None and (made := self._compiled(inputs, targets, same, alike)) is not None:
            return made[0], made[1]
        if self._program is None and self._kept is not None:
            self._without += 1
            if self._without == PATIENCE:
                self._kept, self._built = None, False
        for run in runs:
            set_values(run, run.optimizer.param_groups, run.step)
        masks: Sequence[Tensor] = ()
        if self.vector.dropouts and self.vector.model.training:
            masks = draw(self._calls_of(inputs if same else inputs[0]), self._active, self._dropouts)
        derived = None if self.vector.layers is None or runs[0].precision.dtype else self.vector.layers.derived
        if derived is not None:
            found = derived(
                self._held,
                self._wanted,
                inputs,
                same,
                masks,
                lambda outputs: self._losses.slopes(outputs, targets, alike, batches),
            )
            if found is not None:
                outputs, losses, gradients = found
                self._finish(gradients)
                return losses, outputs
        numbers, single = self._losses.tensors(), self._losses.single
        apart = bool(single) or self.vector.layers is not None  # the loss is computed after the outputs
        with runs[0].precision.context():
            outputs, losses = self.vector.compute(
                self._parameters,
                self._buffers,
                inputs,
                same,
                masks,
                None if apart else self._losses.one,
                () if apart else [targets, *numbers],
                () if apart else [alike, *[False] * len(numbers)],
            )
            if apart and not single:
                losses = self._losses.together(outputs, targets, alike, numbers)
            elif single:
                parts = zip(single, outputs.unbind(0), batches(), strict=True)
                losses = torch.stack([loss(output, batch) for loss, output, batch in parts])
        ones = self._ones.get(losses.dtype)
        if ones is None:
            ones = self._ones[losses.dtype] = torch.ones_like(losses)
        self._finish(torch.autograd.grad(losses, self._leaves, ones))
        return losses, outputs

    def _finish(self, gradients: Sequence[Tensor]) -> None:
        """The update that follows from gradients."""
        with torch.no_grad():
            torch._foreach_copy_(self._into, list(gradients))
            if self._hooks.any:
                self._hooks(self._into, self._own_gradients)
            self._update()

    def _compiled(self, inputs: Tensor, targets: Tensor, same: bool, alike: bool) -> list[Tensor] | None:
        """Losses and outputs of an update made by the compiled program; ``None`` where it is to be made eagerly."""
        assert self._program is not None
        try:
            return self._program(inputs, targets, same, alike)
        except Exception as error:
            if self._program.executed:
                raise
            self._refuse(str(error).strip().partition("\n")[0] or type(error).__name__)
            return None

    def _refuse(self, reason: str) -> None:
        self._program, self._kept, self._eager = None, None, True
        self._runs[0].say(f'compile = "step" is not used for lanes: {reason}; they go on eagerly with the same result')

    def _results(self, losses: Tensor, outputs: Tensor, batches: Sequence[Batch], alike: bool) -> list[StepResult]:
        weights = self._weights(batches, alike)
        found = losses.detach().unbind(0)
        if not self._runs[0].metrics:
            return [StepResult(value, weight) for value, weight in zip(found, weights, strict=True)]
        given = outputs.detach().unbind(0)
        return [
            StepResult(value, weight, (output,), (batch.targets,))
            for value, weight, output, batch in zip(found, weights, given, batches, strict=True)
        ]

    def _weights(self, batches: Sequence[Batch], alike: bool) -> list[Tensor | int]:
        loss, count = self._runs[0].loss, len(batches)
        if alike or getattr(loss, "weight", None) is None:
            return [loss_weight(loss, batches[0].targets)] * count
        return [loss_weight(loss, batch.targets) for batch in batches]

    def _calls_of(self, inputs: Tensor) -> list[Call]:
        """How the forward pass of a batch of this shape calls its dropouts, of which some may not train."""
        key = (*inputs.shape, *inputs.stride(), *[module.training for module in self.vector.dropouts])
        if key not in self._calls:
            self._calls[key] = self.vector.calls(self._runs[0], inputs)
        return self._calls[key]

    def _update(self) -> None:
        for part, at_once in zip(self._parts, self._at_once, strict=True):
            numbers: list[tuple[float, ...]] = []
            for row, run in enumerate(self._runs):
                optimizer: Any = run.optimizer
                states = part.states[row]
                count = states[0]["step"] + 1
                for state in states:
                    state["step"] = count
                group = optimizer.param_groups[part.group]
                if at_once:
                    numbers.append(optimizer.rule.numbers(group, count))
                elif self._elementwise:
                    values, gradients, slots = part.rows[row]
                    optimizer.apply([values], [gradients], [[slot] for slot in slots], group, count)
                else:
                    optimizer.apply(*part.own[row], group, count)
            if at_once:
                if numbers != part.numbers:
                    part.numbers = numbers
                    rows = sent(torch.tensor(numbers, dtype=torch.float64).to(part.values.dtype), part.values.device)
                    part.columns = list(rows.T[:, :, None])
                rule: Any = self._runs[0].optimizer.rule  # type: ignore[attr-defined]
                # A hook's gradients are its own.
                gradient = part.gradients.clone() if self._hooks.any else part.gradients
                rule.update_rows(part.values, gradient, part.slots, part.columns)


def _kinds(parameters: Sequence[Tensor]) -> list[list[int]]:
    """Places of the parameters by number format."""
    found: dict[torch.dtype, list[int]] = {}
    for place, parameter in enumerate(parameters):
        found.setdefault(parameter.dtype, []).append(place)
    return list(found.values())
