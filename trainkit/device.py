"""Where a run computes, and in which number format."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainkit.errors import MachineError

# Images of one batch of evaluation on the CPU, in the number format of convolutions; half and twice as many are within
# 5 % of the time (ResNet-8).
IMAGE_BYTES = 512 << 10
LEAST_IMAGES, MOST_IMAGES = 8, 2048


PLAIN = ("float32", "float64")  # number formats of the weights themselves, without autocast


def choose_device(name: str, number: int | None = None) -> torch.device:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device.

    Args:
        name: the setting.
        number: which of the machine's devices, where several processes share it.

    Raises:
        MachineError: if cuda is asked for and there is none, or fewer than processes.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        why = "this torch is built without CUDA" if torch.version.cuda is None else "no CUDA device is visible"
        raise MachineError(
            f'[run] device = "cuda": there is none ({why}; torch {torch.__version__})\n'
            '  write device = "auto" to use the CPU where there is no CUDA, or run on a machine that has it'
        )
    if name == "cuda" and number is not None:
        if number >= torch.cuda.device_count():
            raise MachineError(
                f"there are {torch.cuda.device_count()} CUDA devices here, and process {number + 1} has none\n"
                '  start as many processes on a machine as it has devices, or write device = "cpu"'
            )
        return torch.device("cuda", number)
    return torch.device(name)


def choose_eval_batch_size(input_shape: Sequence[int], precision: Precision) -> int | None:
    """How many images go through a model fastest; ``None`` for other samples and devices.

    On a processor what counts is that activations, many times the size of the inputs, stay in its caches.
    """
    if precision.device.type != "cpu" or len(input_shape) != 3:
        return None
    number = precision.dtype.itemsize if precision.dtype is not None else 4
    fitting = max(1, IMAGE_BYTES // max(1, number * math.prod(input_shape)))
    return min(max(1 << (fitting.bit_length() - 1), LEAST_IMAGES), MOST_IMAGES)


@dataclass(frozen=True)
class Precision:
    """The number format of forward and backward.

    Args:
        name: ``float32``, ``float64``, ``bfloat16`` or ``float16``.
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

    @property
    def dtype(self) -> torch.dtype | None:
        """What autocast makes of the inputs of products; ``None`` where there is no autocast."""
        return None if self.name in PLAIN else getattr(torch, self.name)

    def context(self) -> contextlib.AbstractContextManager[Any]:
        """What forward and loss run in."""
        if self.name in PLAIN:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


class TunedConvolutions:
    """While it lasts, cuDNN tries its algorithms on each new shape of a convolution and keeps to the quickest.

    Args:
        wanted: whether to; else nothing changes.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._before = False

    def __enter__(self) -> None:
        if self._wanted:
            self._before = torch.backends.cudnn.benchmark
            torch.backends.cudnn.benchmark = True

    def __exit__(self, *error: object) -> None:
        if self._wanted:
            torch.backends.cudnn.benchmark = self._before


def tunes(settings: Mapping[str, Any], device: torch.device) -> bool:
    """Whether the settings of ``[run]`` ask for tuned convolutions on a device that has them."""
    return bool(settings.get("tune_convolutions")) and device.type == "cuda"


def wants_channels_last(model: nn.Module) -> bool:
    """Whether the layout pays: the model has 2-d convolutions."""
    return any(isinstance(module, nn.Conv2d) for module in model.modules())
