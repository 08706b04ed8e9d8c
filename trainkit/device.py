"""Where a run computes, and in which number format."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainkit.errors import MachineError


def choose_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device.

    Raises:
        MachineError: if cuda is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        why = "this torch is built without CUDA" if torch.version.cuda is None else "no CUDA device is visible"
        raise MachineError(
            f'[run] device = "cuda": there is none ({why}; torch {torch.__version__})\n'
            '  write device = "auto" to use the CPU where there is no CUDA, or run on a machine that has it'
        )
    return torch.device(name)


@dataclass(frozen=True)
class Precision:
    """The number format of forward and backward.

    Args:
        name: ``float32``, ``bfloat16`` or ``float16``.
        device: where the run computes.
        scaler: the loss scaler of float16; a disabled one else.
    """

    name: str
    device: torch.device
    scaler: torch.amp.GradScaler

    @classmethod
    def choose(cls, name: str, device: torch.device) -> Precision:
        """Resolve ``auto``: float32 on the CPU, bfloat16 autocast on CUDA."""
        if name == "auto":
            name = "bfloat16" if device.type == "cuda" else "float32"
        # A scale of 2**16 overflows small models at once; the scaler would skip updates until it has come down.
        scaler = torch.amp.GradScaler(device.type, enabled=name == "float16", init_scale=2.0**12)
        return cls(name, device, scaler)

    def context(self) -> contextlib.AbstractContextManager[Any]:
        """What forward and loss run in."""
        if self.name == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.name))


def wants_channels_last(model: nn.Module) -> bool:
    """Whether the layout pays: the model has 2-d convolutions."""
    return any(isinstance(module, nn.Conv2d) for module in model.modules())
