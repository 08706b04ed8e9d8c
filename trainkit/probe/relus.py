"""Units that never answer: outputs of ReLUs that are zero for all of many samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trainkit.probe.subject import parts

SAMPLES = 512
_AT_ONCE = 128
# As functions, and as methods of tensors; what modules call is among them.
_RELUS = ("relu", "relu_", "relu6")
_CLAMPS = ("clamp", "clamp_", "clamp_min", "clamp_min_", "threshold", "threshold_", "hardtanh", "hardtanh_")


@dataclass
class Units:
    """The units behind one ReLU.

    Args:
        name: the module within which it is called, and which call of the model's it is.
        awake: ``(units,)``, whether each has been above zero.
    """

    name: str
    awake: Tensor

    @property
    def dead(self) -> float:
        """The share of units that never were above zero."""
        return float((~self.awake).double().mean())


class _Watch(TorchFunctionMode):
    """Sees every ReLU, whether a module or a function computes it."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self.units: list[Units] = []
        self.calls = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if isinstance(result, Tensor) and result.dim() > 1 and _is_relu(name, args, kwargs or {}):
            awake = _awake(result)
            if self.calls == len(self.units):
                self.units.append(Units(f"ReLU {self.calls + 1} ({self.names[-1] or 'model'})", awake))
            else:
                self.units[self.calls].awake |= awake
            self.calls += 1
        return result


def _is_relu(name: str, args: tuple[Any, ...], given: Mapping[str, Any]) -> bool:
    """Whether what is below zero becomes zero."""
    if name in _RELUS:
        return True
    least = args[1] if len(args) > 1 else given.get("min", given.get("threshold", given.get("min_val")))
    return name in _CLAMPS and isinstance(least, int | float) and least == 0


def _awake(values: Tensor) -> Tensor:
    """Which units are above zero for any sample: channels of images, else numbers of the last dimension."""
    unit = 1 if values.dim() == 4 else values.dim() - 1
    return (values > 0).transpose(0, unit).flatten(1).any(1)


def units_of(model: nn.Module, inputs: Tensor) -> list[Units]:
    """What the ReLUs of a model do with samples, in the order of their calls."""
    names = [""]
    watch = _Watch(names)
    with torch.no_grad(), _named(model, names):
        for part in parts(inputs, _AT_ONCE):
            watch.calls = 0
            with watch:
                model(part)
    return watch.units


@contextmanager
def _named(model: nn.Module, names: list[str]) -> Iterator[None]:
    """Keep the name of the innermost module that is at work last in a list."""
    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: names.append(name)))
        handles.append(module.register_forward_hook(lambda *_: _drop(names)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _drop(names: list[str]) -> None:
    names.pop()


def shares(units: Iterable[Units]) -> dict[str, float]:
    """The share of dead units by ReLU."""
    return {one.name: one.dead for one in units}
