"""Norms over what several processes have rows of."""

from __future__ import annotations

from torch import Tensor

from trainkit.run import Run


def whole_norm(run: Run, norms: Tensor) -> Tensor:
    """L2 norms of whole tensors, from those of the rows that this process has.

    Where every process has whole parameters and gradients (``run.sharded`` is ``None``) that is what they are already.
    Else it is collective: every process calls it alike. Nothing waits for the device.

    Args:
        run: the run.
        norms: of any shape, each number the norm of this process's rows of something.
    """
    if run.sharded is None:
        return norms
    return run.group.sum_(norms.double().square()).sqrt().to(norms.dtype)
