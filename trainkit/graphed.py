"""A compiled function recorded as a CUDA graph: one call to the driver where each of its kernels had one.

For a small model the calls take longer than the kernels. What is recorded reads and writes fixed places in memory: what
is another tensor at each call is copied into a place of its own before, and what the function returns is copied out of
the graph's memory after. Parameters and state stay where they are; where one has moved, the graph is recorded anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Sequence[Any]]
MOST_RECORDINGS = 8  # of one function: where tensors move so often, recording costs more than it saves


def record(function: Function, arguments: Sequence[Tensor]) -> tuple[Any, Sequence[Any]]:
    """Record a call without making it: what replays it, and what it returns, in memory that each replay fills."""
    graph = torch.cuda.CUDAGraph()
    # A recording that breaks off would leave its own stream as the current one. Other threads may go on pinning memory.
    with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        returned = function(*arguments)
    return graph, returned


class Graphed:
    """Calls a function of tensors: itself at first, which makes it ready, then as a graph.

    Random numbers are drawn as the function itself would: a replay takes the generator's place and moves it on.

    Args:
        function: works in place on its arguments, returns tensors and numbers, and waits for nothing on the device.
        refuse: told, once, why it cannot be recorded; from then on the function is called as it is.
    """

    def __init__(self, function: Function, refuse: Callable[[str], None]) -> None:
        self._function = function
        self._refuse = refuse
        self._ready = False  # whether the function has been called: kernels are loaded at the first call
        self._recordings = 0
        self._refused = False
        self._graph: Any = None
        self._moving: list[tuple[list[int], list[Tensor]]] = []  # places and their tensors, by number format
        self._fixed: tuple[int, ...] = ()  # where the other arguments lie
        self._returned: Sequence[Any] = ()
        self._changed: list[int] = []  # places of the arguments that it changes

    def __call__(self, arguments: Sequence[Tensor], places: Sequence[int], same: bool) -> Sequence[Any]:
        """Call the function.

        Args:
            arguments: all of its arguments.
            places: of those that may be other tensors at each call.
            same: whether all others are known to be those of the last call.
        """
        if self._refused:
            return self._function(*arguments)
        if not self._ready:
            self._ready = True
            versions = [argument._version for argument in arguments]
            returned = self._function(*arguments)
            pairs = enumerate(zip(arguments, versions, strict=True))
            self._changed = [place for place, (argument, old) in pairs if argument._version != old]
            return returned
        stays = self._graph is not None and (same or self._fixed == _addresses(arguments, places))
        if not stays and not self._recorded(arguments, places):
            return self._function(*arguments)
        for own, into in self._moving:
            torch._foreach_copy_(into, [arguments[place] for place in own])
        self._graph.replay()
        if self._changed:  # a replay is nothing that torch would see tensors change by
            torch.autograd.graph.increment_version([arguments[place] for place in self._changed])
        return [value.clone() if isinstance(value, Tensor) else value for value in self._returned]

    def _recorded(self, arguments: Sequence[Tensor], places: Sequence[int]) -> bool:
        """Record it for arguments that lie where they do now; whether that went well."""
        self._graph, self._returned = None, ()  # its memory is free before the next one takes as much
        if self._recordings == MOST_RECORDINGS:
            return self._give_up(f"its tensors have moved in memory {self._recordings} times")
        self._recordings += 1
        fixed, moving = list(arguments), dict[torch.dtype, tuple[list[int], list[Tensor]]]()
        for place in places:
            fixed[place] = own = arguments[place].clone(memory_format=torch.preserve_format)
            numbers, tensors = moving.setdefault(own.dtype, ([], []))
            numbers.append(place)
            tensors.append(own)
        try:
            self._graph, self._returned = record(self._function, fixed)
        except Exception as error:  # nothing was executed
            said = (str(error).strip().splitlines() or ["no message"])[0]
            return self._give_up(f"{type(error).__name__}: {said}")
        self._moving, self._fixed = list(moving.values()), _addresses(arguments, places)
        return True

    def _give_up(self, why: str) -> bool:
        self._refused = True
        self._graph, self._returned, self._moving = None, (), []
        self._refuse(why)
        return False


def _addresses(arguments: Sequence[Tensor], places: Sequence[int]) -> tuple[int, ...]:
    moving = set(places)
    return tuple(argument.data_ptr() for place, argument in enumerate(arguments) if place not in moving)
