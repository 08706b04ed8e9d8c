"""The update of all lanes as one compiled program (``compile = "step"``)."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.compilable import lacking
from trainkit.compile_cache import CompileCache, program_key
from trainkit.compiled import graphs
from trainkit.direct import OPTIONS, Direct
from trainkit.lanes.described import described
from trainkit.lanes.numbers import GradientHooks, Losses, scheduled
from trainkit.lanes.rows import Part
from trainkit.lanes.vector import Vector
from trainkit.run import Run
from trainkit.scheduled import set_values
from trainkit.uploading import sent


class Program:
    """Forward, loss, backward and update of every lane, compiled for one stack and full batches.

    Scheduled values enter as one tensor that is filled in place, so that nothing is compiled again.

    Args:
        runs: the runs, stacked.
        parts: their parameters and state.
        parameters: ``(lanes, ...)`` of the model, in its order.
        vector: the forward pass.
        losses: the training loss.
    """

    def __init__(
        self, runs: Sequence[Run], parts: Sequence[Part], parameters: Sequence[Tensor], vector: Vector, losses: Losses
    ) -> None:
        self._runs = runs
        self._parts = parts
        self.parameters = parameters
        self._loss = described(runs[0].loss)
        self._rule: Any = runs[0].optimizer.rule  # type: ignore[attr-defined]
        groups = runs[0].optimizer.param_groups
        self._widths = [len(self._rule.numbers(groups[part.group], 1)) for part in parts]
        self._host = array("d", bytes(8 * len(runs) * sum(self._widths)))
        self._numbers = torch.frombuffer(self._host, dtype=torch.float64).view(len(runs), sum(self._widths))
        self._device = runs[0].device
        self._layout: Any = None
        self._function = _written(self, parameters, vector, losses)
        self._direct: Direct | None = None
        self._cache = CompileCache(program_key(runs[0].recipe), runs[0].say)

    @property
    def parts(self) -> Sequence[Part]:
        """The parameters and state whose memory it changes."""
        return self._parts

    @property
    def lanes(self) -> int:
        """For how many lanes it is."""
        return len(self._runs)

    def take_over(self, runs: Sequence[Run], parts: Sequence[Part], losses: Losses) -> bool:
        """Go on for other runs, in the same memory; False where their loss is another."""
        if losses.numbers is not None or described(runs[0].loss) != self._loss:
            return False
        self._runs, self._parts = runs, parts
        return True

    def __call__(self, inputs: Tensor, targets: Tensor, same: bool, alike: bool) -> list[Tensor] | None:
        """Make an update; losses, and outputs ``(lanes, batch, ...)``. ``None`` where the batch has another shape.

        Args:
            inputs: as `Vector.compute` takes them.
            targets: likewise.
            same: whether the lanes share the inputs.
            alike: whether they share the targets.
        """
        layout = *[(part.shape, part.stride(), part.dtype) for part in (inputs, targets)], same, alike
        if inputs.shape[0 if same else 1] != self._runs[0].feed.batch_size:
            return None
        if self._layout is None:
            self._layout = layout
            self._same, self._alike = same, alike
            return None  # the first update is eager: it shows which layers pass their inputs on
        if layout != self._layout:
            return None
        self._fill()
        numbers = self._numbers if self._device.type == "cpu" else sent(self._numbers, self._device)
        moving = [inputs, targets, numbers]
        if self._direct is None:
            cpp = self._device.type == "cpu" and shutil.which("g++") is not None
            self._direct = Direct(self._function, {"cpp_wrapper": cpp, **OPTIONS}, graphs(self._runs[0]))
        if self._direct.ready:
            results = self._direct.direct(moving)
        else:
            with self._cache.used():
                results = self._direct.guarded(moving)
            if self._direct.fresh:
                self._cache.publish()
        for part in self._parts:
            for states in part.states:
                for state in states:
                    state["step"] += 1
        return results

    @property
    def executed(self) -> bool:
        """Whether the last call came to where tensors change."""
        return self._direct is not None and self._direct.executed

    def _fill(self) -> None:
        position, host, numbers = 0, self._host, self._rule.numbers
        for row, run in enumerate(self._runs):
            groups = run.optimizer.param_groups
            set_values(run, groups, run.step)
            for part in self._parts:
                for value in numbers(groups[part.group], part.states[row][0]["step"] + 1):
                    host[position] = value
                    position += 1


def unfit(
    runs: Sequence[Run], parts: Sequence[Part], vector: Vector, losses: Losses, hooks: GradientHooks, elementwise: bool
) -> str:
    """Why lanes cannot be updated by one program; empty if they can."""
    if vector.layers is None or vector.dropouts:
        return "only chains of linear layers and activations are compiled for lanes"
    if losses.single or hooks.any or not elementwise:
        return "the loss, the gradients or the optimizer's update of each lane are made by themselves"
    if scheduled(runs):
        return "a number outside the optimizer is scheduled"
    if any(not leaf[0].is_contiguous() for part in parts for leaf in part.leaves):
        return "a parameter lies in memory in another order"
    return lacking()


def _written(program: Program, parameters: Sequence[Tensor], vector: Vector, losses: Losses) -> Any:
    """The update as a function of inputs, targets and numbers, which can be traced into one graph."""
    parts, rule, widths = program._parts, program._rule, program._widths
    flats = [nn.Parameter(part.values) for part in parts]
    slots = [part.slots for part in parts]
    starts = [sum(widths[:number]) for number in range(len(widths))]
    layers, numbers_of_loss = vector.layers, losses.tensors()
    lanes = len(program._runs)
    # For each parameter its part, where it begins and ends there, and its shape; or the tensor of a frozen one.
    homes: list[tuple[int, int, int, tuple[int, ...]] | None] = [None] * len(parameters)
    of_leaf = {id(parameter): place for place, parameter in enumerate(parameters)}
    for number, part in enumerate(parts):
        begin = 0
        for leaf in part.leaves:
            end = begin + leaf[0].numel()
            homes[of_leaf[id(leaf)]] = number, begin, end, tuple(leaf.shape[1:])
            begin = end
    assert layers is not None
    derived = layers.derived
    wanted = [of_leaf[id(leaf)] for part in parts for leaf in part.leaves]
    counts = [len(part.leaves) for part in parts]

    def graded(own: list[Tensor], inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
        found = None
        if derived is not None:
            found = derived(
                own,
                wanted,
                inputs,
                program._same,
                (),
                lambda outputs: losses.slopes(outputs, targets, program._alike, None),
            )
        if found is None:
            outputs = layers(own, inputs, program._same, ())
            values = losses.together(outputs, targets, program._alike, numbers_of_loss)
            return outputs.detach(), values.detach(), torch.autograd.grad(values.sum(), flats)
        outputs, values, slopes = found
        gradients, begin = [], 0
        for count in counts:
            gradients.append(torch.cat([slope.reshape(lanes, -1) for slope in slopes[begin : begin + count]], 1))
            begin += count
        return outputs, values, gradients

    def update(moving: Sequence[Tensor]) -> list[Tensor]:
        inputs, targets, rows = moving
        own = []
        for home, parameter in zip(homes, parameters, strict=True):
            if home is None:
                own.append(parameter)
            else:
                number, begin, end, shape = home
                own.append(flats[number][:, begin:end].reshape(lanes, *shape))
        outputs, values, gradients = graded(own, inputs, targets)
        with torch.no_grad():
            for flat, gradient, held, start, width in zip(flats, gradients, slots, starts, widths, strict=True):
                row = rows[:, start : start + width].to(flat.dtype)
                fresh, kept = rule.update(flat, gradient, held, [row[:, place, None] for place in range(width)])
                flat.copy_(fresh)
                for old, value in zip(held, kept, strict=True):
                    old.copy_(value)
        return [values, outputs]

    written: Callable[..., Any] = update
    return written
