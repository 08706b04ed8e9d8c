"""Processes that train together stop together: whoever wants to stop, all do so after the same update."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainkit import checkpoint
from trainkit.errors import RunError
from trainkit.run import Run
from trainkit.signals import settle

_LISTENER = "listener."


def replicas_agree(run: Run) -> None:
    """Hold that all processes have the same weights, bit for bit: what one of them does alone would be lost.

    Raises:
        RunError: naming the first tensor that differs.
    """
    weights = checkpoint.weights_of(run.model)
    if run.sharded is not None:  # every process has other rows of the parameters
        weights = {name: tensor for name, tensor in weights.items() if name not in run.sharded.names}
    sums = torch.stack([_sum(tensor) for tensor in weights.values()]).cpu() if weights else torch.zeros(0)
    found = run.group.concatenated(sums.unsqueeze(0), [1] * run.group.size)
    for number, name in enumerate(weights):
        if not bool((found[:, number] == found[0, number]).all()):
            rank = int((found[:, number] != found[0, number]).nonzero()[0, 0])
            raise RunError(
                f"'{name}' is another in process {rank} than in process 0 after update {run.step}: the processes no "
                "longer train one model\n"
                "  a component draws from a random generator of its own, or looks at the clock or at its process; the "
                "last checkpoint is whole"
            )


def _sum(tensor: Tensor) -> Tensor:
    """A number that is another where a bit of a tensor is: its bits, each weighed by an odd number, modulo 2**64."""
    flat = tensor.detach().contiguous().reshape(-1)
    width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
    bits = (flat.to(torch.uint8) if flat.dtype is torch.bool else flat).view(width).to(torch.int64)
    odd = torch.arange(bits.numel(), device=bits.device).mul_(2).add_(1)
    return (bits * odd).sum()


class Agreement:
    """What the processes of a run agree on after each update: whether they go on.

    Where a part of the recipe may end the run after any update, they ask each other after every one. Else only signals
    can, for which one update more or less is the same: the answer is waited for after the next update, while which it
    travels.

    Args:
        run: the run, with all its hooks.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.group = run.group
        parts = (impl.plugin_name for impl in run.hook.trainkit_step_end.get_hookimpls())
        self._exact = self.group.any_of(any(not name.startswith(_LISTENER) for name in parts))
        self._flag = torch.zeros(1, dtype=torch.int32)
        self._sent: Any = None

    def stops(self, due: bool) -> bool:
        """Whether the run stops after this update; the same in every process.

        Args:
            due: whether something is due here, for which all must know it.
        """
        asked = False
        if self._sent is not None:
            self.group.end_sum(self._sent)
            self._sent, asked = None, bool(self._flag.item())
        if asked or due or self._exact:
            return self.settle()
        self._flag.fill_(int(self.run.stop_reason is not None or self.run.wish is not None))
        self._sent = self.group.begin_sum(self._flag)
        return False

    def settle(self) -> bool:
        """Let what any process wants become what all do; whether the run stops."""
        return settle(self.run)
