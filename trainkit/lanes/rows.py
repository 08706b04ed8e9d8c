"""Where the tensors of all lanes lie: one row a lane, so that each run's own tensors are views of its row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.elementwise import ElementwiseOptimizer
from trainkit.run import Run

ROW = 16384  # numbers of a row that is updated with the others at once; less for rules of many operations


@dataclass
class Part:
    """The parameters of one group and number format, one row of numbers a lane.

    Args:
        group: index of the optimizer's group.
        places: of the parameters, in that group.
        values: ``(lanes, numbers)``, the parameters one after the other, each as it lies in memory.
        gradients: of the same shape.
        slots: for each slot of the optimizer's rule, of the same shape.
        leaves: for each parameter ``(lanes, ...)``, views of ``values`` that take gradients.
        into: for each parameter the view of ``gradients``.
        names: the rule's slots.
        rows: for each lane its row of ``values``, of ``gradients`` and of each slot.
        states: for each lane the optimizer's state of each parameter.
        own: for each lane its parameters, the view of ``gradients`` of each, and for each slot that of each parameter.
        numbers: the rule's numbers of the last update, for each lane; empty before it and where each row has its own.
        columns: for each of these numbers ``(lanes, 1)``.
    """

    group: int
    places: list[int]
    values: Tensor
    gradients: Tensor
    slots: list[Tensor]
    leaves: list[Tensor]
    into: list[Tensor]
    names: tuple[str, ...]
    rows: list[tuple[Tensor, Tensor, list[Tensor]]] = field(default_factory=list)
    states: list[list[dict[str, Any]]] = field(default_factory=list)
    own: list[tuple[list[Tensor], list[Tensor], list[list[Tensor]]]] = field(default_factory=list)
    numbers: list[tuple[float, ...]] = field(default_factory=list)
    columns: list[Tensor] = field(default_factory=list)


def seen_as(flat: Tensor, begin: int, like: Tensor) -> Tensor:
    """What lies in ``flat`` ``(lanes, numbers)`` from ``begin`` on, as ``(lanes, *like.shape)``, laid out like that."""
    return flat.as_strided((flat.shape[0], *like.shape), (flat.stride(0), *like.stride()), begin)


def packed(tensors: Sequence[Sequence[Tensor]]) -> tuple[Tensor, list[Tensor]]:
    """Copy the tensors of each lane into one row; give all rows, and a view of them for each tensor."""
    first = tensors[0]
    begins, end = [], 0
    for tensor in first:
        begins.append(end)
        end += tensor.numel()
    flat = torch.empty((len(tensors), end), dtype=first[0].dtype, device=first[0].device)
    views = [seen_as(flat, begin, tensor) for begin, tensor in zip(begins, first, strict=True)]
    for row, own in enumerate(tensors):
        for view, tensor in zip(views, own, strict=True):
            view[row].copy_(tensor.detach())
    return flat, views


def part_of(runs: Sequence[Run], group: int, places: list[int], memory: Part | None = None) -> Part:
    """Stack some parameters of one group, and make those of each run, and their state, views of the stack.

    Args:
        runs: the runs.
        group: index of the optimizer's group.
        places: of the parameters, in that group.
        memory: of as many runs, whose memory is taken; what is in it may be the runs' own.
    """
    groups: list[dict[str, Any]] = [run.optimizer.param_groups[group] for run in runs]
    parameters = [[own["params"][place] for place in places] for own in groups]
    optimizers: list[Any] = [run.optimizer for run in runs]
    states = [
        [optimizer.state_of(parameter, own) for parameter in some]
        for optimizer, own, some in zip(optimizers, groups, parameters, strict=True)
    ]
    names = tuple(optimizers[0].rule.slots(groups[0]))
    for some, owned in zip(parameters, states, strict=True):
        for parameter, state in zip(some, owned, strict=True):
            for name in names:  # as the optimizer itself does where a number was 0 so far
                if name not in state:
                    state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    values, seen = packed(parameters)
    slots, seen_slots = [], []
    for name in names:
        flat, views = packed([[state[name] for state in owned] for owned in states])
        slots.append(flat)
        seen_slots.append(views)
    if memory is not None:
        for kept, flat in zip([memory.values, *memory.slots], [values, *slots], strict=True):
            kept.copy_(flat)
        values, slots = memory.values, memory.slots
        seen, *seen_slots = [
            [seen_as(flat, int(view.storage_offset()), view[0]) for view in seen] for flat in [values, *slots]
        ]
    gradients = torch.zeros_like(values)
    into, begin = [], 0
    for parameter in parameters[0]:
        into.append(seen_as(gradients, begin, parameter))
        begin += parameter.numel()
    part = Part(group, places, values, gradients, slots, [view.detach().requires_grad_() for view in seen], into, names)
    for row, (some, owned) in enumerate(zip(parameters, states, strict=True)):
        for number, (parameter, state) in enumerate(zip(some, owned, strict=True)):
            parameter.data = seen[number][row]
            for name, views in zip(names, seen_slots, strict=True):
                state[name] = views[number][row]
        part.rows.append((values[row], gradients[row], [slot[row] for slot in slots]))
        part.own.append((some, [view[row] for view in into], [[state[name] for state in owned] for name in names]))
        part.states.append(owned)
    return part


def quicker_at_once(run: Run, part: Part) -> bool:
    """Whether the rule updates all rows by few operations in less time than it takes row by row.

    On a processor the one kernel of each row is the quicker way where there are few rows or long ones.
    """
    optimizer: Any = run.optimizer
    kind = type(optimizer.rule)
    if type(optimizer).apply is not ElementwiseOptimizer.apply or not hasattr(kind, "update_rows"):
        return False
    lanes, numbers = part.values.shape
    return part.values.device.type != "cpu" or (lanes >= 8 and numbers <= (ROW if len(part.slots) < 2 else ROW // 4))


def stacked(tensors: Sequence[Tensor], memory: Tensor | None = None) -> Tensor:
    """One tensor ``(lanes, ...)``, of which each run's own tensor becomes a view; no gradient goes there."""
    with torch.no_grad():
        _, (view,) = packed([[tensor] for tensor in tensors])
        if memory is not None:
            view = memory.copy_(view)
    for row, tensor in enumerate(tensors):
        tensor.data = view[row]
    return view


def apart(run: Run) -> None:
    """Give a run tensors of its own again, which share memory with no other run's."""
    model: nn.Module = run.model
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.detach().clone(memory_format=torch.preserve_format)
    for parameter in model.parameters():
        parameter.grad = None
    for state in run.optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, Tensor):
                state[name] = value.clone(memory_format=torch.preserve_format)
