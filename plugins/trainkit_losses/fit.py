"""Checks that a loss fits the data, and that outputs fit targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainkit import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from trainkit import DataSpec

SUITED = {
    "classification": "cross_entropy",
    "binary": "binary",
    "regression": "mse, mae or huber",
    "tokens": "cross_entropy",
}


def need_task(data_spec: DataSpec, loss: str, *tasks: str) -> None:
    """Refuse data of another task.

    Raises:
        DataError: if the data's task is none of ``tasks``.
    """
    if data_spec.task not in tasks:
        raise DataError(
            f"loss {loss} needs data with the task {' or '.join(tasks)}, the data's task is {data_spec.task}: "
            f"use loss {SUITED[data_spec.task]}"
        )


def full_precision(outputs: Tensor) -> Tensor:
    """Return half-precision outputs as float32, whose sums and logarithms can be trusted; others as they are."""
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs


def pair(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Bring float outputs and targets to one shape, which broadcasting would do wrongly: (n, 1) and (n,) make (n, n).

    Args:
        outputs: ``(batch, outputs)``.
        targets: ``(batch, outputs)``, or ``(batch,)`` where there is one output.

    Returns:
        Both in one shape; the targets in the outputs' precision.

    Raises:
        DataError: if their shapes do not belong together.
    """
    outputs = full_precision(outputs)
    if outputs.shape != targets.shape:
        if outputs.shape != (*targets.shape, 1):
            raise DataError(
                f"outputs {tuple(outputs.shape)} do not fit targets {tuple(targets.shape)}: give (batch, outputs) for "
                "both, or targets (batch,) where the model has one output"
            )
        targets = targets.unsqueeze(-1)
    return outputs, targets.to(outputs.dtype)


def move(constant: Tensor, device: torch.device) -> Tensor:
    """Move a loss's constant to where the first batch is; losses have no device of their own.

    The first batch may be one of an evaluation: a tensor made in inference mode could not be trained with later.
    """
    with torch.inference_mode(False):
        return constant.to(device)
